//! A guest's apps as windows of a desktop, with every part that can die dying: the presenter, the guest's agent,
//! and the machine itself, which sleeps and wakes.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use medley_desktop::{Desktop, Window};
use medley_tests::{Guest, READY, Workspace, run};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

const DEBIAN: &str = "MEDLEY_GUEST_DEBIAN";
/// An emulated guest on a busy host.
const LIMIT: Duration = Duration::from_secs(300);
/// Every window is back so soon, whoever died.
const BACK: Duration = Duration::from_secs(3);
const WORKSPACE: &str = "office";

/// For an emulated guest, between two letters.
const PAUSE: Duration = Duration::from_millis(60);

/// The guest's windows that can be seen.
fn windows(desktop: &Desktop) -> Result<Vec<Window>> {
    let mut shown = Vec::new();
    for window in desktop.shown()? {
        if desktop
            .title(window)?
            .starts_with(&format!("[{WORKSPACE}]"))
        {
            shown.push(window);
        }
    }
    Ok(shown)
}

/// Waits until there are so many; how long that took.
fn until(desktop: &Desktop, count: usize, limit: Duration) -> Result<Duration> {
    let begun = Instant::now();
    let shown = desktop.until(&format!("{count} windows"), limit, || {
        Ok(windows(desktop)?.len() == count)
    });
    shown.with_context(|| desktop.describe())?;
    Ok(begun.elapsed())
}

/// Types a line into one of them.
fn enter(desktop: &Desktop, line: &str) -> Result<()> {
    desktop.activate(windows(desktop)?.remove(0))?;
    desktop.type_text(line, PAUSE)?;
    desktop.type_text("\n", PAUSE)
}

struct Shown<'a> {
    workspace: &'a Workspace,
    guest: Guest,
}

impl<'a> Shown<'a> {
    fn start(workspace: &'a Workspace, desktop: &Desktop) -> Result<Self> {
        let mut boot = workspace.booting(&["--revertible", "--memory", "512", "--windows"]);
        boot.env("DISPLAY", &desktop.name);
        boot.args(["--files-in", "--urls", "--urls-with"])
            .arg(workspace.path("browser"))
            .arg("--files-out")
            .arg(workspace.path("inbox"));
        Ok(Self {
            workspace,
            guest: Guest::start(boot)?,
        })
    }

    fn ask(&self, verb: &[&str], rest: &[&str]) -> Result<Value> {
        let mut command = self.workspace.medley(verb);
        command
            .arg(self.workspace.session_folder())
            .args(rest)
            .arg("--json");
        Ok(serde_json::from_str(&run(&mut command)?.0)?)
    }
}

/// A file goes each way, and an address comes.
fn hand_over(shown: &mut Shown<'_>, workspace: &Workspace) -> Result<()> {
    let letter = workspace.path("letter.txt");
    std::fs::write(&letter, "words of the host's")?;
    shown.ask(&["send"], &[letter.to_str().context("a name")?])?;
    shown
        .guest
        .run("grep -q \"words of the host's\" /home/user/Downloads/letter.txt")?;
    shown.guest.run(
        "echo words of the guest >/tmp/report.txt; chmod 644 /tmp/report.txt; \
         runuser -u user -- medley-guest send /tmp/report.txt",
    )?;
    // The guest has sent it; the inbox has it a moment later.
    until_reads(&workspace.path("inbox/report.txt"), "words of the guest\n")?;
    let program = workspace.path("browser");
    std::fs::write(&program, "#!/bin/sh\necho \"$1\" >\"$0.opened\"\n")?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, executable)?;
    shown
        .guest
        .run("runuser -u user -- medley-guest open https://example.org/page")?;
    until_reads(
        &workspace.path("browser.opened"),
        "https://example.org/page\n",
    )
}

/// Waits until a file holds that.
fn until_reads(path: &Path, words: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let read = std::fs::read_to_string(path).unwrap_or_default();
        if read == words {
            return Ok(());
        }
        ensure!(begun.elapsed() < LIMIT, "{} holds {read:?}", path.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn guest_debian_windows_come_back_whoever_died() -> Result<()> {
    let workspace = Workspace::new(DEBIAN)?;
    let desktop = Desktop::start(1280, 800)?;
    let mut shown = Shown::start(&workspace, &desktop)?;
    shown.guest.running.wait_for(READY, LIMIT)?;
    let begun = Instant::now();
    while !workspace.session_folder().join("windows.sock").exists() {
        ensure!(begun.elapsed() < LIMIT, "no socket");
        std::thread::sleep(Duration::from_millis(50));
    }
    let apps = shown.ask(&["apps", "--timeout", "300"], &[])?;
    let names: Vec<_> = apps["apps"].as_array().context("no apps")?.iter().collect();
    ensure!(names.iter().any(|app| app["name"] == "XTerm"), "{apps}");
    for _ in 0..2 {
        shown.ask(&["run", "--wait-window", "--timeout", "200"], &["XTerm"])?;
    }
    until(&desktop, 2, LIMIT)?;

    // Keys reach the window that has the keyboard.
    enter(&desktop, "echo typed on the host >/tmp/typed")?;
    shown
        .guest
        .run("until grep 'typed on the host' /tmp/typed; do sleep 0.3; done")?;

    hand_over(&mut shown, &workspace)?;

    // The presenter is killed.
    let presenter = shown.guest.running.child_with("medley-presenter")?;
    kill(presenter, Signal::SIGKILL)?;
    let gone = until(&desktop, 0, LIMIT)?;
    let presenter = until(&desktop, 2, BACK).context("the presenter was killed")?;

    // The agent is killed; its apps live on.
    shown.guest.run(
        "old=$(pgrep -ox medley-guest) && kill -KILL $old && sleep 1 && test $(pgrep -ox medley-guest) != $old && pgrep -c xterm",
    )?;
    let begun = Instant::now();
    let mut dark = Duration::ZERO;
    // Windows go, or are replaced in one moment; either way they are there and can be typed into.
    while begun.elapsed() < BACK {
        if windows(&desktop)?.len() < 2 {
            dark = begun.elapsed();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(windows(&desktop)?.len() == 2, "the agent was killed");
    enter(&desktop, "echo and once more >/tmp/again")?;
    shown
        .guest
        .run("until grep 'and once more' /tmp/again; do sleep 0.3; done")?;

    // The machine sleeps, and wakes.
    shown.guest.running.signal(Signal::SIGUSR1)?;
    let (status, said) = shown.guest.running.wait(LIMIT)?;
    ensure!(status.success(), "{status}\n{said}");
    until(&desktop, 0, LIMIT)?;
    let begun = Instant::now();
    let mut shown = Shown::start(&workspace, &desktop)?;
    shown.guest.running.wait_for("[resumed]", LIMIT)?;
    let runs = begun.elapsed();
    let woke = until(&desktop, 2, BACK).context("the machine has slept")?;
    shown.guest.run("pgrep -c xterm; cat /tmp/typed")?;
    println!(
        "windows back: presenter killed {presenter:?} (gone after {gone:?}); agent killed: last missing after {dark:?}; \
         woken: running {runs:?} after the command, windows {woke:?} later"
    );
    shown.guest.running.signal(Signal::SIGTERM)?;
    shown.guest.running.wait(LIMIT)?;
    until(&desktop, 0, LIMIT)?;
    workspace.assert_nothing_left()
}
