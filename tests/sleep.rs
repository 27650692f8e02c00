//! Sessions fall asleep and wake: what is kept lies nowhere in clear, everything goes on, and a state that
//! is not as it was written is refused.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hkdf::Hkdf;
use medley_sealing::{Cancel, ErrorKind, SealedFile, WrappingKey};
use medley_tests::{Guest, READY, Workspace, typed};
use nix::sys::signal::Signal;
use serde_json::Value;
use sha2::Sha256;

const TINY: &str = "MEDLEY_GUEST_TINY";
const LIMIT: Duration = Duration::from_secs(300);
/// What the guest's boot loader would tell its kernel.
const APPEND: &str =
    "root=LABEL=medley-root rw console=ttyS0 quiet nokaslr mitigations=off no_timer_check";
/// A write that is flushed before the sleep.
const FLUSH: &str = "echo flushed-before-the-sleep > /note; sync";
/// What the guest makes of pieces, and nobody outside ever writes whole.
const MARKER: [&str; 3] = [
    "a-sentence-that-",
    "only-the-memory-of-",
    "this-guest-has-held",
];

/// From power-on, through these commands.
fn booted(commands: &[&str]) -> Vec<String> {
    [vec![format!("wait {READY}")], typed(commands)].concat()
}

fn suspended(mut steps: Vec<String>) -> Vec<String> {
    steps.push("suspend".into());
    steps
}

fn codes(report: &Value) -> Vec<&str> {
    let notices = report["session"]["notices"].as_array();
    notices
        .into_iter()
        .flatten()
        .filter_map(|notice| notice["code"].as_str())
        .collect()
}

/// Files below a folder that hold one of these texts, in bytes or in UTF-16.
fn holders(folder: &Path, texts: &[&str]) -> Result<Vec<String>> {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut wanted: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    wanted.extend(
        texts
            .iter()
            .map(|text| wide(text))
            .collect::<Vec<Vec<u8>>>(),
    );
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        // What is gone by now (others share /dev/shm) holds nothing.
        let Ok(kind) = path.symlink_metadata().map(|meta| meta.file_type()) else {
            continue;
        };
        if kind.is_dir() {
            found.extend(holders(&path, texts)?);
        } else if kind.is_file() {
            let bytes = match fs::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                read => read?,
            };
            for text in &wanted {
                if bytes.windows(text.len()).any(|window| window == text) {
                    let text = String::from_utf8_lossy(text).into_owned();
                    found.push(format!("{}: {text}", path.display()));
                }
            }
        }
    }
    Ok(found)
}

/// The line that ends with this name, as `sha256sum` says it.
fn sum<'a>(console: &'a str, name: &str) -> Result<&'a str> {
    let line = console.lines().map(str::trim).find(|l| l.ends_with(name));
    line.with_context(|| format!("no sum of {name}:\n{console}"))
}

/// 512 MiB of guest, half of it noise, over this frontend.
fn sleeps_and_goes_on(over: &str) -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    workspace.extract_kernel()?;
    let (kernel, initrd) = (workspace.path("vmlinuz"), workspace.path("initrd"));
    let mut extra = vec!["--disk-over", over];
    if over == "vhost-user" {
        extra.extend(["--append", APPEND, "--kernel", kernel.to_str().unwrap()]);
        extra.extend(["--initrd", initrd.to_str().unwrap()]);
    }
    let [a, b, c] = MARKER;
    let marker = MARKER.concat();
    let mark = format!(
        "a={a}; b={b}; c={c}; for i in $(seq 2000); do echo \"$a$b$c\"; done > /tmp/marker; \
         cp /tmp/marker /marker; sync"
    );
    let memory =
        "dd if=/dev/urandom of=/tmp/noise bs=1M count=128 2>/dev/null; sha256sum /tmp/noise";
    let disk = "dd if=/dev/urandom of=/data bs=64k count=100 conv=fsync 2>/dev/null; \
                echo 3 > /proc/sys/vm/drop_caches; sha256sum /data";
    let work = "(i=0; while :; do i=$((i+1)); echo $i > /tmp/counter; usleep 50000; done) \
                >/dev/null 2>&1 & echo $! > /tmp/worker";
    let first = [&extra[..], &["--memory", "512"]].concat();
    let steps = suspended(booted(&[&mark, memory, disk, work, FLUSH]));
    let (before, report) = workspace.scripted(&first, &steps)?;
    let slept = &report["session"]["slept"];
    ensure!(
        report["exit"] == "suspended" && slept["state_bytes"].as_u64() > Some(128 << 20),
        "{report}"
    );
    println!("{over}: slept {slept}");

    // The search must be able to find.
    fs::write(
        workspace.path("tmp/found"),
        [&[0; 4095], marker.as_bytes()].concat(),
    )?;
    ensure!(holders(&workspace.path(""), &[&marker])?.len() == 1);
    fs::remove_file(workspace.path("tmp/found"))?;
    let banner = "Linux version 6.";
    let mut held = holders(&workspace.path(""), &[&marker])?;
    held.extend(holders(Path::new("/dev/shm"), &[&marker])?);
    held.extend(holders(
        &workspace.session_folder(),
        &[
            banner,
            "MEDLEY-GUEST-READY",
            "flushed-before-the-sleep",
            "root:x:0:0:",
        ],
    )?);
    ensure!(held.is_empty(), "in clear on the host: {held:?}");

    let count = format!("grep -c {a} /tmp/marker /marker; dmesg | grep -c '{banner}'");
    let works = "kill -0 $(cat /tmp/worker) && n=$(cat /tmp/counter) && sleep 2 && \
                 [ $(cat /tmp/counter) -gt $n ] && echo THE WORKER GOES ON";
    let steps = typed(&[
        works,
        "sha256sum /tmp/noise",
        "echo 3 > /proc/sys/vm/drop_caches; sha256sum /data; cat /note",
        &count,
    ]);
    // More memory is asked for than the machine has that slept.
    let again = [&extra[..], &["--memory", "600"]].concat();
    let (after, report) = workspace.scripted(&again, &steps)?;
    println!(
        "{over}: resumed in {} s",
        report["session"]["seconds_to_begin"]
    );
    ensure!(
        report["session"]["began"] == "resumed" && report["memory_mib"] == 512,
        "{report}"
    );
    ensure!(codes(&report) == ["resumed"], "{report}");
    for wanted in [
        "THE WORKER GOES ON",
        "flushed-before-the-sleep",
        "/tmp/marker:2000",
        "/marker:2000",
    ] {
        ensure!(after.contains(wanted), "no {wanted}:\n{after}");
    }
    for name in ["/tmp/noise", "/data"] {
        ensure!(
            sum(&before, name)? == sum(&after, name)?,
            "{name} is not what it was:\n{before}\n{after}"
        );
    }
    workspace.assert_nothing_left()
}

#[test]
fn guest_sleeps_unreadably_and_goes_on_over_nbd() -> Result<()> {
    sleeps_and_goes_on("nbd")
}

#[test]
fn guest_sleeps_unreadably_and_goes_on_over_vhost_user() -> Result<()> {
    sleeps_and_goes_on("vhost-user")
}

/// The key of the workspace's saved states, as docs/saved-state.md says it is made.
fn state_key(workspace: &Workspace) -> Result<WrappingKey> {
    let mut bytes = [0; 32];
    Hkdf::<Sha256>::new(None, workspace.key()?.key.as_bytes())
        .expand(b"medley machine state v1", &mut bytes)
        .unwrap();
    Ok(WrappingKey::from_bytes(&bytes))
}

/// A small session that sleeps, with a flushed write; its state.
fn asleep(extra: &[&str]) -> Result<(Workspace, Vec<u8>)> {
    let workspace = Workspace::new(TINY)?;
    let extra = [&["--memory", "192"], extra].concat();
    workspace.scripted(&extra, &suspended(booted(&[FLUSH])))?;
    let state = fs::read(workspace.session_folder().join("state"))?;
    Ok((workspace, state))
}

#[test]
fn guest_state_that_is_not_as_it_was_written_is_refused() -> Result<()> {
    let (workspace, state) = asleep(&[])?;
    let key = state_key(&workspace)?;
    let judge = |bytes: &[u8]| {
        SealedFile::from_bytes(bytes, &key).and_then(|file| file.verify(&Cancel::default()))
    };
    judge(&state)?;
    let mut bytes = state.clone();
    let last = state.len() - 1;
    let spots = (0..8)
        .chain((1..33).map(|i| last / 33 * i + i))
        .chain([last - 40, last - 1, last]);
    for at in spots {
        bytes[at] ^= 0x10;
        ensure!(
            judge(&bytes).is_err(),
            "byte {at} was changed, and nobody minds"
        );
        bytes[at] ^= 0x10;
    }
    for len in [0, 1, 100, state.len() / 2, last] {
        ensure!(judge(&state[..len]).is_err(), "{len} bytes are enough");
    }

    // The same through the command line: the machine boots from what its disk holds.
    let (_other, foreign) = asleep(&[])?;
    let refused = SealedFile::from_bytes(&foreign, &key)
        .map(drop)
        .unwrap_err();
    ensure!(refused.kind() == ErrorKind::Key, "{refused}");
    let folder = workspace.session_folder();
    let overlay = fs::read(folder.join("overlay"))?;
    let flipped = |at: usize| {
        let mut bytes = state.clone();
        bytes[at] ^= 1;
        bytes
    };
    let bad = [
        ("the first byte", flipped(0)),
        ("a byte in the middle", flipped(state.len() / 2)),
        ("a cut", state[..last].to_vec()),
    ];
    for (what, bad) in bad {
        fs::write(folder.join("overlay"), &overlay)?;
        fs::write(folder.join("state"), bad)?;
        let (console, report) =
            workspace.scripted(&["--memory", "192"], &booted(&["cat /note"]))?;
        ensure!(
            codes(&report) == ["state-refused"] && report["session"]["began"] == "boot",
            "{what}: {report}"
        );
        ensure!(
            console.contains("flushed-before-the-sleep"),
            "{what}: {console}"
        );
        ensure!(!folder.join("state").exists(), "{what} is still there");
    }

    // One of another key may be right beside another disk: it stays until somebody says otherwise.
    fs::write(folder.join("overlay"), &overlay)?;
    fs::write(folder.join("state"), &foreign)?;
    let stays = workspace.booting(&["--memory", "192"]).output()?;
    let said = String::from_utf8_lossy(&stays.stderr).into_owned();
    ensure!(
        !stays.status.success() && said.contains("--boot-anew"),
        "{said}"
    );
    ensure!(fs::read(folder.join("state"))? == foreign, "it was dropped");
    let extra = ["--memory", "192", "--boot-anew"];
    let (console, _) = workspace.scripted(&extra, &booted(&["cat /note"]))?;
    ensure!(console.contains("flushed-before-the-sleep"), "{console}");
    workspace.assert_nothing_left()
}

#[test]
fn guest_state_is_out_of_date_once_the_session_went_on() -> Result<()> {
    let (workspace, state) = asleep(&[])?;
    let went_on = typed(&["echo later > /later; sync"]);
    let (_, report) = workspace.scripted(&[], &went_on)?;
    ensure!(codes(&report) == ["resumed"], "{report}");
    fs::write(workspace.session_folder().join("state"), state)?;
    let (console, report) =
        workspace.scripted(&["--memory", "192"], &booted(&["cat /note /later"]))?;
    ensure!(codes(&report) == ["state-outdated"], "{report}");
    ensure!(
        console.contains("flushed-before-the-sleep") && console.contains("later"),
        "{console}"
    );
    workspace.assert_nothing_left()
}

#[test]
fn guest_is_heard_to_the_last_word_before_its_sleep() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    let counts = "send c i=0; while :; do i=$((i+1)); echo counted $i; done";
    let mut heard = String::new();
    let runs = [
        (vec![counts, "wait counted 500\\n", "suspend"], "began"),
        (vec!["sleep 2", "suspend"], "slept once"),
        (vec!["sleep 2", "stop"], "slept twice"),
    ];
    for (round, (steps, said)) in (0..).zip(runs) {
        let ready = (round == 0).then(|| format!("wait {READY}"));
        let steps: Vec<String> = ready
            .into_iter()
            .chain(steps.into_iter().map(String::from))
            .collect();
        let serial = workspace.path(said);
        let to = serial.to_str().context("no path")?;
        workspace.scripted(&["--memory", "192", "--serial", to], &steps)?;
        let said = fs::read_to_string(&serial)?.replace('\r', "");
        ensure!(
            said.lines().count() > 10,
            "round {round}: it said no more:\n{said}"
        );
        heard.push_str(&said);
    }
    let (_, counted) = heard.split_once("counted 1\n").context("no count")?;
    // It was stopped in the middle of the last.
    let (counted, _) = counted.rsplit_once('\n').context("no line")?;
    for (number, line) in (2..).zip(counted.lines()) {
        ensure!(
            line == format!("counted {number}"),
            "{line} came for {number}"
        );
    }
    workspace.assert_nothing_left()
}

#[test]
fn guest_writes_of_a_revertible_session_last_as_long_as_its_sleep() -> Result<()> {
    let (workspace, _) = asleep(&["--revertible"])?;
    let there = ["cat /note || echo IT IS GONE"];
    let (console, report) = workspace.scripted(&["--revertible"], &typed(&there))?;
    ensure!(codes(&report) == ["resumed"], "{report}");
    ensure!(console.contains("flushed-before-the-sleep"), "{console}");
    let extra = ["--revertible", "--memory", "192"];
    let (console, report) = workspace.scripted(&extra, &booted(&there))?;
    ensure!(report["session"]["began"] == "boot", "{report}");
    ensure!(console.contains("IT IS GONE"), "{console}");
    workspace.assert_nothing_left()
}

#[test]
fn guest_begins_from_its_kept_boot_each_time_anew() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    let extra = ["--revertible", "--keep-booted", "--memory", "192"];
    let commands = ["cat /note || echo IT IS GONE", FLUSH];
    let (_, report) = workspace.scripted(&extra, &booted(&commands))?;
    let boot = report["seconds_to_ready"].as_f64().context("not ready")?;
    for round in 0..2 {
        let (console, report) = workspace.scripted(&extra, &typed(&commands))?;
        let begin = report["session"]["seconds_to_begin"].as_f64();
        let begin = begin.context("no time")?;
        println!("boot {boot:.2} s, from the kept boot {begin:.2} s");
        ensure!(
            codes(&report) == ["from-booted"] && report["session"]["began"] == "from_booted",
            "{report}"
        );
        ensure!(console.contains("IT IS GONE"), "round {round}: {console}");
        ensure!(begin < boot / 2.0, "{begin} s is no fraction of {boot} s");
    }
    workspace.assert_nothing_left()
}

/// Asks a guest to sleep, and waits until it says why it does not.
fn refuses_to_sleep(guest: &mut Guest, why: &str) -> Result<()> {
    guest.running.signal(Signal::SIGUSR1)?;
    guest
        .running
        .wait_for("the machine does not sleep", LIMIT)?;
    guest.running.wait_for(why, LIMIT)?;
    guest
        .run("echo it runs on; dd if=/dev/urandom of=/on bs=64k count=4 conv=fsync")
        .map(drop)
}

#[test]
fn guest_runs_on_when_the_disk_is_too_full_for_its_sleep() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    fs::create_dir(workspace.session_folder())?;
    // A file system of its own, that only this session sees.
    let boot = workspace.booting(&["--memory", "192"]);
    let mut inside = Command::new("unshare");
    inside
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=40m none \"$0\" && exec \"$@\"")
        .arg(workspace.session_folder())
        .arg(boot.get_program())
        .args(boot.get_args())
        .env("TMPDIR", workspace.path("tmp"))
        .env_remove("XDG_RUNTIME_DIR");
    let mut guest = Guest::ready(inside)?;
    guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=64")?;
    refuses_to_sleep(&mut guest, "free some space")?;
    let root = format!("/proc/{}/root", guest.running.pid());
    let inside = Path::new(&root).join(workspace.session_folder().strip_prefix("/")?);
    let mut names: Vec<_> = fs::read_dir(inside)?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    names.sort();
    ensure!(
        names == ["overlay", "session.lock"],
        "left behind: {names:?}"
    );
    guest.end()
}

#[test]
fn guest_session_runs_once_at_a_time() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    let mut guest = Guest::ready(workspace.booting(&["--memory", "192"]))?;
    let second = workspace.booting(&["--memory", "192"]).output()?;
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(second.status.code() == Some(6), "{}\n{said}", second.status);
    ensure!(said.contains("the session runs already"), "{said}");
    guest.run(FLUSH)?;
    guest.end()
}

#[test]
fn guest_of_a_plain_disk_does_not_sleep_and_runs_on() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    let plain = std::env::var_os(TINY).unwrap();
    let mut boot = workspace.medley(&["boot", "--ready-marker", READY, "--memory", "192"]);
    boot.arg(plain)
        .arg("--session")
        .arg(workspace.session_folder());
    let mut guest = Guest::ready(boot)?;
    refuses_to_sleep(&mut guest, "the disk is not encrypted")?;
    guest.end()?;
    ensure!(!workspace.session_folder().join("state").exists());
    workspace.assert_nothing_left()
}
