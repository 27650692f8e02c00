//! Real guests on encrypted disks, from power-on to power-off and through every way to die in between.

mod suspend;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use medley_tests::{Running, Workspace, ends, run, typed};
use nix::sys::signal::{Signal, kill};

const TINY: &str = "MEDLEY_GUEST_TINY";
const LIMIT: Duration = Duration::from_secs(300);

fn digest(path: &Path) -> Result<String> {
    let (said, _) = run(std::process::Command::new("sha256sum").arg(path))?;
    Ok(said
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Whether a file holds `text` anywhere.
fn holds(path: &Path, text: &str) -> Result<bool> {
    let bytes = std::fs::read(path)?;
    Ok(bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes()))
}

/// The main job: a guest changes itself, and comes back as it was.
fn reverts(workspace: &Workspace) -> Result<()> {
    let before = digest(&workspace.disk())?;
    let secret = "a sentence that only this guest has ever heard";
    let write = format!(
        "echo '{secret}' > /note; sync; cat /note; dd if=/dev/urandom of=/noise bs=1M count=8; sync"
    );
    let (console, report) = workspace.session("--revertible", &[&write])?;
    ensure!(console.contains(secret), "{console}");
    ensure!(
        report["encrypted"] == true && report["mode"] == "revertible",
        "{report}"
    );
    ensure!(
        report["written_bytes"].as_u64() > Some(8 << 20),
        "the guest wrote nothing: {report}"
    );
    workspace.assert_nothing_left()?;
    ensure!(
        digest(&workspace.disk())? == before,
        "a revertible session changed its base"
    );

    let (console, _) = workspace.session(
        "--revertible",
        &["test -e /note && echo STILL THERE || echo GONE"],
    )?;
    ensure!(console.contains("GONE"), "{console}");
    ensure!(
        digest(&workspace.disk())? == before,
        "a revertible session changed its base"
    );
    ensure!(
        !holds(&workspace.disk(), "root:x:0:0:")?,
        "plaintext in the base"
    );
    workspace.assert_nothing_left()
}

#[test]
fn guest_comes_back_as_it_was() -> Result<()> {
    reverts(&Workspace::new(TINY)?)
}

#[test]
fn guest_debian_comes_back_as_it_was() -> Result<()> {
    reverts(&Workspace::new("MEDLEY_GUEST_DEBIAN")?)
}

/// A circle of units once kept one boot in ten from ever becoming ready: systemd leaves out any one of them.
#[test]
fn guest_debian_starts_its_units_in_an_order() -> Result<()> {
    let workspace = Workspace::new("MEDLEY_GUEST_DEBIAN")?;
    let look = "journalctl -b --no-pager >/tmp/log; grep -q 'Started medley-sh' /tmp/log && \
                ! grep 'ordering cycle' /tmp/log && echo NO CIRCLE";
    let (console, _) = workspace.session("--revertible", &[look])?;
    ensure!(
        console.lines().any(|line| line.trim() == "NO CIRCLE"),
        "{console}"
    );
    workspace.assert_nothing_left()
}

#[test]
fn guest_changes_stay_when_kept() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    let secret = "kept, but never in clear on the host";
    let write =
        format!("for i in $(seq 2000); do echo '{secret}'; done > /kept; sync; sha256sum /kept");
    let (first, _) = workspace.session("--keep", &[&write])?;
    ensure!(
        !holds(&workspace.disk(), secret)?,
        "plaintext of the guest in its disk"
    );
    let (second, _) = workspace.session("--keep", &["sha256sum /kept"])?;
    let sum = |console: &str| {
        console
            .lines()
            .find(|l| l.contains("/kept"))
            .map(|l| l.trim().to_owned())
    };
    ensure!(
        sum(&first).is_some() && sum(&first) == sum(&second),
        "{first}\n{second}"
    );
    run(workspace.medley(&["disk", "check"]).arg(workspace.disk()))?;
    workspace.assert_nothing_left()
}

#[test]
fn guest_loses_nothing_flushed_when_medley_is_killed() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    for round in 0..3 {
        let write = format!(
            "dd if=/dev/urandom of=/r{round} bs=64k count=40 2>/dev/null; sync; sha256sum /r* | sha256sum; \
             while :; do dd if=/dev/urandom of=/unsynced bs=64k count=16 2>/dev/null; sync; done"
        );
        let mut steps = vec![format!("send w {write}")];
        steps.push("sleep 600".into());
        let mut session = Running::start(workspace.boot("--keep", &steps)?)?;
        session.wait_for("  -", LIMIT)?;
        // Into the midst of the writes that go on.
        std::thread::sleep(Duration::from_millis(150 * (round + 1)));
        let qemu = session.qemu()?;
        session.signal(Signal::SIGKILL)?;
        ensure!(ends(qemu, Duration::from_secs(10)), "QEMU outlived medley");
        let (_, said) = session.wait(LIMIT)?;
        let flushed = said
            .lines()
            .find(|l| l.contains("  -"))
            .map(|l| l.trim().to_owned());

        run(workspace.medley(&["disk", "check"]).arg(workspace.disk()))?;
        let (console, _) = workspace.session("--revertible", &["sha256sum /r* | sha256sum"])?;
        let found = console
            .lines()
            .find(|l| l.contains("  -"))
            .map(|l| l.trim().to_owned());
        ensure!(
            flushed.is_some() && flushed == found,
            "round {round}: {flushed:?} was flushed, {found:?} is there"
        );
    }
    Ok(())
}

#[test]
fn guest_is_shut_down_when_medley_is_asked_to_end() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    let mut steps = typed(&["echo up"]);
    steps.push("sleep 600".into());
    let mut session = Running::start(workspace.boot("--revertible", &steps)?)?;
    session.wait_for("MEDLEY-END c0", LIMIT)?;
    let qemu = session.qemu()?;
    session.signal(Signal::SIGTERM)?;
    let (status, said) = session.wait(Duration::from_secs(60))?;
    ensure!(status.code() == Some(143), "{status}\n{said}");
    ensure!(ends(qemu, Duration::from_secs(1)), "QEMU outlived medley");
    workspace.assert_nothing_left()
}

#[test]
fn guest_whose_qemu_dies_is_reported_and_nothing_stays() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    let mut steps = typed(&["echo up"]);
    steps.push("sleep 600".into());
    let mut session = Running::start(workspace.boot("--keep", &steps)?)?;
    session.wait_for("MEDLEY-END c0", LIMIT)?;
    kill(session.qemu()?, Signal::SIGKILL)?;
    let (status, said) = session.wait(Duration::from_secs(60))?;
    ensure!(status.code() == Some(1), "{status}\n{said}");
    ensure!(
        said.contains("died (signal 9)"),
        "the reason is not told:\n{said}"
    );
    workspace.assert_nothing_left()?;
    // The disk is free again and sound.
    run(workspace.medley(&["disk", "check"]).arg(workspace.disk()))?;
    workspace.session("--keep", &["echo again"]).map(drop)
}

#[test]
fn guest_disk_cannot_be_booted_twice_for_writing() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    let mut steps = typed(&["echo up"]);
    steps.push("sleep 600".into());
    let mut session = Running::start(workspace.boot("--keep", &steps)?)?;
    session.wait_for("MEDLEY-END c0", LIMIT)?;
    let second = workspace.on_disk(&["boot", "--keep"]).output()?;
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(second.status.code() == Some(6), "{}\n{said}", second.status);
    ensure!(said.contains("office.vhd"), "{said}");
    session.signal(Signal::SIGTERM)?;
    session.wait(Duration::from_secs(60)).map(drop)
}

#[test]
fn guest_needs_the_right_passphrase() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    std::fs::write(workspace.path("passphrase"), "wrong")?;
    let output = workspace.on_disk(&["boot"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(4), "{}\n{said}", output.status);
    ensure!(said.contains("office.vhd.luks"), "{said}");
    workspace.assert_nothing_left()
}
