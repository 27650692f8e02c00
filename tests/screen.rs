//! A machine's whole screen on a desktop: somebody logs in on the guest's console through its window, reads the
//! answer there, and finds it again after the machine has slept.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use medley_desktop::Desktop;
use medley_tests::{Guest, Running, Workspace, run};
use nix::sys::signal::Signal;

const TINY: &str = "MEDLEY_GUEST_TINY";
/// An emulated guest on a busy host.
const LIMIT: Duration = Duration::from_secs(300);
const MACHINE: [&str; 6] = [
    "--revertible",
    "--memory",
    "192",
    "--desktop",
    "--label",
    "work",
];
const TITLE: &str = "^\\[work\\] desktop$";
/// A text console's letters, in pixels and in number.
const LETTER: (usize, usize) = (9, 16);
const CONSOLE: (usize, usize) = (80, 25);
const RING: usize = 3;

/// A window that `medley view` shows.
struct View {
    running: Running,
    window: String,
}

impl View {
    fn open(workspace: &Workspace, desktop: &Desktop) -> Result<Self> {
        let mut view = workspace.medley(&["view", "--json"]);
        view.arg(workspace.session_folder());
        view.env("DISPLAY", &desktop.name)
            .env_remove("WAYLAND_DISPLAY");
        let running = Running::start(view)?;
        let mut window = String::new();
        desktop.until("the screen's window", LIMIT, || {
            window = xdotool(desktop, &["search", "--onlyvisible", "--name", TITLE])?;
            window = window.trim().to_owned();
            Ok(!window.is_empty())
        })?;
        xdotool(desktop, &["windowactivate", "--sync", &window])?;
        Ok(Self { running, window })
    }

    fn enter(&self, desktop: &Desktop, line: &str) -> Result<()> {
        xdotool(desktop, &["type", "--delay", "60", line])?;
        xdotool(desktop, &["key", "Return"]).map(drop)
    }

    /// What the window shows inside of its ring, row by row of pixels; it must be as large as the console.
    fn pixels(&self, desktop: &Desktop) -> Result<Vec<Vec<u32>>> {
        // Of the window itself: xdotool counts its manager's frame twice.
        let place = desktop.place(self.window.parse()?);
        let (x, y, width, height) = place.context("the window is gone")?;
        let number = |n: i32| usize::try_from(n).context("the window is not on the screen");
        let (x, y) = (number(x)?, number(y)?);
        let size = (number(width)?, number(height)?);
        let (width, height) = (CONSOLE.0 * LETTER.0, CONSOLE.1 * LETTER.1);
        ensure!(size == (width + 2 * RING, height + 2 * RING), "{size:?}");
        let shot = desktop.shot()?;
        let row = |n: usize| {
            let start = (y + RING + n) * shot.width + x + RING;
            shot.pixels[start..start + width].to_vec()
        };
        Ok((0..height).map(row).collect())
    }

    /// The window has ended because of that.
    fn ended(mut self, why: &str) -> Result<()> {
        let (status, said) = self.running.wait(LIMIT)?;
        let why = format!("\"{why}\"");
        ensure!(status.success() && said.contains(&why), "{status}\n{said}");
        Ok(())
    }
}

fn xdotool(desktop: &Desktop, args: &[&str]) -> Result<String> {
    let output = Command::new("xdotool")
        .args(args)
        .env("DISPLAY", &desktop.name)
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The console's rows, as the guest has them.
fn console(guest: &mut Guest) -> Result<Vec<String>> {
    let said = guest.run("fold -w 80 /dev/vcs1 | sed 's/^/|/'")?;
    let rows = said.lines().filter_map(|line| line.strip_prefix('|'));
    Ok(rows.map(str::to_owned).collect())
}

/// The pixels of a word that begins a row of the console.
fn word(pixels: &[Vec<u32>], row: usize, letters: usize) -> Vec<&[u32]> {
    let rows = pixels.iter().skip(row * LETTER.1).take(LETTER.1);
    rows.map(|row| &row[..letters * LETTER.0]).collect()
}

#[test]
fn guest_tiny_is_logged_into_on_its_whole_screen_which_sleeps_and_wakes() -> Result<()> {
    let workspace = Workspace::new(TINY)?;
    let desktop = Desktop::start(1280, 800)?;
    let mut guest = Guest::ready(workspace.booting(&MACHINE))?;
    guest.run(
        "sed -i 's/^root:x:/root::/' /etc/passwd; \
         (setsid getty 38400 tty1 linux </dev/null >/dev/null 2>&1 &)",
    )?;
    guest.until("cat /dev/vcs1", "login:")?;

    let view = View::open(&workspace, &desktop)?;
    view.enter(&desktop, "root")?;
    guest.until("cat /dev/vcs1", ":/root#")?;
    view.enter(
        &desktop,
        "clear; tty >/tmp/typed; for n in 1 2; do echo seen-$((6 * 7)); echo other; done",
    )?;
    guest.until("cat /tmp/typed", "/dev/tty1")?;
    guest.until("cat /dev/vcs1", "seen-42")?;

    // The words are where the guest has them, and look like themselves and nothing else.
    let answer = "seen-42";
    let begun = Instant::now();
    let before = loop {
        let rows = console(&mut guest)?;
        let find = |word: &str| rows.iter().position(|row| row.trim_end() == word);
        let first = find(answer).with_context(|| format!("{rows:?}"))?;
        let second = rows
            .iter()
            .rposition(|row| row.trim_end() == answer)
            .context("a second")?;
        let other = find("other").context("another")?;
        let pixels = view.pixels(&desktop)?;
        let [first, second, other] =
            [first, second, other].map(|row| word(&pixels, row, answer.len()));
        let ink = first
            .iter()
            .flat_map(|row| row.iter())
            .filter(|pixel| **pixel != 0)
            .count();
        if ink > 60 && first == second && first != other {
            break pixels;
        }
        ensure!(
            begun.elapsed() < LIMIT,
            "the answer is not seen: {ink} pixels of ink\n{rows:?}"
        );
    };

    // A session that is locked shows nothing, and nothing anew.
    let folder = workspace.session_folder();
    run(workspace.medley(&["lock"]).arg(&folder))?;
    let window = view.window.parse()?;
    ensure!(!desktop.is_viewable(window), "it is locked, and shown");
    view.ended("lock")?;
    let (status, said) = Running::start({
        let mut view = workspace.medley(&["view"]);
        view.arg(&folder).env("DISPLAY", &desktop.name);
        view
    })?
    .wait(LIMIT)?;
    ensure!(
        !status.success() && said.contains("medley unlock"),
        "{status}\n{said}"
    );
    run(workspace.medley(&["unlock"]).arg(&folder))?;
    // A window does not outlive the command that opened it, however that ended.
    let mut view = View::open(&workspace, &desktop)?;
    view.running.signal(Signal::SIGKILL)?;
    view.running.wait(LIMIT)?;
    let window = view.window.parse()?;
    desktop.until("the window to go", LIMIT, || {
        Ok(!desktop.is_viewable(window))
    })?;
    let view = View::open(&workspace, &desktop)?;

    // It sleeps; without its screen it does not wake, with it the words are there again.
    guest.running.signal(Signal::SIGUSR1)?;
    let (status, said) = guest.running.wait(LIMIT)?;
    ensure!(status.success(), "{status}\n{said}");
    view.ended("machine")?;
    let mut blind = Running::start(workspace.booting(&MACHINE[..3]))?;
    let (status, said) = blind.wait(LIMIT)?;
    ensure!(
        !status.success() && said.contains("screen was true"),
        "{status}\n{said}"
    );
    let note = workspace.session_folder().join("screen.json");
    ensure!(!note.exists(), "a note of a screen that is gone");

    let mut guest = Guest::start(workspace.booting(&MACHINE))?;
    guest.running.wait_for("[resumed]", LIMIT)?;
    let view = View::open(&workspace, &desktop)?;
    let last = before.len() - 2 * LETTER.1;
    desktop.until("the words from before the sleep", LIMIT, || {
        // The cursor blinks somewhere below.
        let now = view.pixels(&desktop)?;
        Ok(now[..LETTER.1 * 4] == before[..LETTER.1 * 4] && now[last..] == before[last..])
    })?;
    view.enter(&desktop, "echo again >/tmp/typed")?;
    guest.until("cat /tmp/typed", "again")?;
    guest.end()?;
    view.ended("machine")?;
    workspace.assert_nothing_left()
}
