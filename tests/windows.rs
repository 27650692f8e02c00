//! A guest's apps as windows of a desktop, with every part that can die dying: the presenter, the guest's agent,
//! and the machine itself, which sleeps and wakes.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use medley_tests::{Guest, READY, Workspace, run};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

const DEBIAN: &str = "MEDLEY_GUEST_DEBIAN";
/// An emulated guest on a busy host.
const LIMIT: Duration = Duration::from_secs(300);
/// Every window is back so soon, whoever died.
const BACK: Duration = Duration::from_secs(3);
const WORKSPACE: &str = "office";

/// A desktop without a screen.
struct Desktop {
    manager: Child,
    server: Child,
    display: String,
}

impl Desktop {
    fn start() -> Result<Self> {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"])
            .args(["-screen", "0", "1280x800x24"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start Xvfb")?;
        let mut number = String::new();
        let output = server.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut number)?;
        let display = format!(":{}", number.trim());
        let manager = Command::new("openbox")
            .arg("--sm-disable")
            .env("DISPLAY", &display)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start openbox")?;
        Ok(Self {
            manager,
            server,
            display,
        })
    }

    fn xdotool(&self, args: &[&str]) -> Result<String> {
        let mut xdotool = Command::new("xdotool");
        let output = xdotool.args(args).env("DISPLAY", &self.display).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Types a line.
    fn enter(&self, line: &str) -> Result<()> {
        self.xdotool(&["type", "--delay", "60", line])?;
        self.xdotool(&["key", "Return"]).map(drop)
    }

    /// The guest's windows that can be seen.
    fn windows(&self) -> Result<Vec<String>> {
        let title = format!("^\\[{WORKSPACE}\\]");
        let found = self.xdotool(&["search", "--onlyvisible", "--name", &title])?;
        Ok(found.lines().map(str::to_owned).collect())
    }

    /// Waits until there are so many; how long that took.
    fn until(&self, count: usize, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let windows = self.windows()?;
            if windows.len() == count {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > limit {
                bail!(
                    "{} windows instead of {count} after {limit:?}",
                    windows.len()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for child in [&mut self.manager, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Shown<'a> {
    workspace: &'a Workspace,
    guest: Guest,
}

impl<'a> Shown<'a> {
    fn start(workspace: &'a Workspace, desktop: &Desktop) -> Result<Self> {
        let mut boot = workspace.booting(&["--revertible", "--memory", "512", "--windows"]);
        boot.env("DISPLAY", &desktop.display);
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
    let desktop = Desktop::start()?;
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
    desktop.until(2, LIMIT)?;

    // Keys reach the window that has the keyboard.
    let first = desktop.windows()?.remove(0);
    desktop.xdotool(&["windowactivate", "--sync", &first])?;
    desktop.enter("echo typed on the host >/tmp/typed")?;
    shown
        .guest
        .run("until grep 'typed on the host' /tmp/typed; do sleep 0.3; done")?;

    hand_over(&mut shown, &workspace)?;

    // The presenter is killed.
    let presenter = shown.guest.running.child_with("medley-presenter")?;
    kill(presenter, Signal::SIGKILL)?;
    let gone = desktop.until(0, LIMIT)?;
    let presenter = desktop.until(2, BACK).context("the presenter was killed")?;

    // The agent is killed; its apps live on.
    shown.guest.run(
        "old=$(pgrep -ox medley-guest) && kill -KILL $old && sleep 1 && test $(pgrep -ox medley-guest) != $old && pgrep -c xterm",
    )?;
    let begun = Instant::now();
    let mut dark = Duration::ZERO;
    // Windows go, or are replaced in one moment; either way they are there and can be typed into.
    while begun.elapsed() < BACK {
        if desktop.windows()?.len() < 2 {
            dark = begun.elapsed();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(desktop.windows()?.len() == 2, "the agent was killed");
    let first = desktop.windows()?.remove(0);
    desktop.xdotool(&["windowactivate", "--sync", &first])?;
    desktop.enter("echo and once more >/tmp/again")?;
    shown
        .guest
        .run("until grep 'and once more' /tmp/again; do sleep 0.3; done")?;

    // The machine sleeps, and wakes.
    shown.guest.running.signal(Signal::SIGUSR1)?;
    let (status, said) = shown.guest.running.wait(LIMIT)?;
    ensure!(status.success(), "{status}\n{said}");
    desktop.until(0, LIMIT)?;
    let begun = Instant::now();
    let mut shown = Shown::start(&workspace, &desktop)?;
    shown.guest.running.wait_for("[resumed]", LIMIT)?;
    let runs = begun.elapsed();
    let woke = desktop.until(2, BACK).context("the machine has slept")?;
    shown.guest.run("pgrep -c xterm; cat /tmp/typed")?;
    println!(
        "windows back: presenter killed {presenter:?} (gone after {gone:?}); agent killed: last missing after {dark:?}; \
         woken: running {runs:?} after the command, windows {woke:?} later"
    );
    shown.guest.running.signal(Signal::SIGTERM)?;
    shown.guest.running.wait(LIMIT)?;
    desktop.until(0, LIMIT)?;
    workspace.assert_nothing_left()
}
