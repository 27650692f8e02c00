//! With a guest, emulated: ours in a session, then xpra in the same guest without us.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, ensure};
use medley_benches::interrupt;
use medley_benches::rows::{Goal, Row};
use medley_benches::screen::Screen;
use medley_benches::server::{run, text};
use medley_benches::spread::Spread;
use tempfile::TempDir;

use crate::keys;
use crate::launch::{Launched, launched};
use crate::session::Session;
use crate::stack::CLASS;
use crate::xpra::{self, Installed, Xpra};

const APP: &str = "XTerm";
/// What frames have by default.
const BORDER: u16 = 3;
/// Launches after the first.
const WARM: usize = 8;
/// A shell that has just started still works for a while, with the little that an emulated processor does.
const SETTLED: Duration = Duration::from_secs(2);

/// What was measured of one side.
struct Side {
    cold: Duration,
    warm: Spread,
    /// Of `warm`, what the app's own start does not take.
    added: Spread,
    keys: Spread,
}

/// Both sides. `installed`: where xpra is, or why there is none.
pub fn rows(
    medley: &Path,
    guest: &Path,
    installed: Result<&Installed, &str>,
    count: usize,
) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let raw = dir.path().join("disk.raw");
    let alone;
    let (ours, recipe) = {
        let screen = Screen::managed(1280, 800)?;
        let mut session = Session::boot(medley, guest, &screen)?;
        let ours = of_session(&session, &screen, count);
        let ours = ours.with_context(|| session.said())?;
        alone = app_alone(&mut session)?;
        (ours, session.twin(&raw, dir.path())?)
    };
    let theirs = match installed {
        Ok(installed) => of_xpra(recipe, installed, guest, &dir, count),
        Err(why) => Err(anyhow!("{why}")),
    };
    interrupt::go_on()?;
    // A peer that fails costs its own rows only.
    let mut rows = compared(&ours, theirs.as_ref());
    let name = "that app alone in its guest, from start to end, best of 3";
    rows.push(Row::new(name, alone, "ms"));
    Ok(rows)
}

fn measured(
    screen: &Screen,
    class: &str,
    border: u16,
    count: usize,
    mut ask: impl FnMut() -> Result<()>,
) -> Result<Side> {
    let mut launch = || -> Result<Launched> {
        let launched = launched(screen, class, border, &mut ask)?;
        std::thread::sleep(SETTLED);
        Ok(launched)
    };
    let cold = launch()?.took;
    let (mut warm, mut added) = (Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..WARM {
        let Launched { window, took, own } = launch()?;
        warm.push(took);
        added.push(took.saturating_sub(own));
        last = Some(window);
    }
    let window = last.context("nothing was launched")?;
    let keys = keys::typed(screen, window, border, count)?;
    Ok(Side {
        cold,
        warm: Spread::of(warm)?,
        added: Spread::of(added)?,
        keys: Spread::of(keys)?,
    })
}

fn of_session(session: &Session, screen: &Screen, count: usize) -> Result<Side> {
    measured(screen, CLASS, BORDER, count, || session.launch(APP))
}

/// What the app's start costs in any case: milliseconds until one has started, shown its window and ended, asked for by
/// nobody from outside.
fn app_alone(session: &mut Session) -> Result<f64> {
    let once = "a=$(date +%s%N); DISPLAY=:0 xterm -e true 2>/dev/null; b=$(date +%s%N); echo took $(((b-a)/1000))";
    let said = session.guest(&format!(
        "su user -c 'for n in 1 2 3; do {once}; sleep 1; done'"
    ))?;
    let took = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("took ")?.parse().ok());
    let best = took.fold(f64::INFINITY, f64::min);
    ensure!(best.is_finite(), "the guest did not run it: {said}");
    Ok(best / 1e3)
}

fn of_xpra(
    recipe: medley_benches::plain::Recipe,
    installed: &Installed,
    guest: &Path,
    dir: &TempDir,
    count: usize,
) -> Result<Side> {
    let raw = dir.path().join("disk.raw");
    let mut convert = std::process::Command::new("qemu-img");
    convert.args(["convert", "-f", "vpc", "-O", "raw"]);
    run(convert.args([&text(guest), &text(&raw)]))?;
    let screen = Screen::managed(1280, 800)?;
    let mut xpra = Xpra::start(recipe, installed, &screen, dir.path())?;
    let side = measured(&screen, "xterm", 0, count, || xpra.launch());
    side.with_context(|| std::fs::read_to_string(dir.path().join("client.log")).unwrap_or_default())
}

fn compared(ours: &Side, theirs: Result<&Side, &Error>) -> Vec<Row> {
    let beside = |row: Row, value: fn(&Side) -> f64| match theirs {
        Ok(theirs) => row.against(xpra::NAME, value(theirs)),
        Err(_) => row,
    };
    let row = |name: &str, unit, value: fn(&Side) -> f64| {
        beside(Row::new(name, value(ours), unit), value)
    };
    let middle: fn(&Side) -> f64 = |side| side.keys.ms(50);
    let ahead = "key to pixel, emulated guest, p50, beside xpra";
    vec![
        row("key to pixel, emulated guest, p50", "ms", middle).goal(Goal::AtMost(15.0)),
        match theirs {
            Ok(_) => row(ahead, "ms", middle).goal(Goal::RatioAtMost(0.33)),
            Err(why) => Row::skipped(ahead, "ms", format!("no xpra here: {why:#}")),
        },
        row("key to pixel, emulated guest, p90", "ms", |side| {
            side.keys.ms(90)
        }),
        row("key to pixel, emulated guest, p99", "ms", |side| {
            side.keys.ms(99)
        }),
        row("app asked for until its first pixels, warm", "ms", |side| {
            side.warm.ms(50)
        }),
        Row::new(
            "that without the app's own start: until it runs, and from its window to pixels",
            ours.added.ms(50),
            "ms",
        )
        .goal(Goal::AtMost(300.0)),
        row("app asked for until its first pixels, cold", "ms", |side| {
            side.cold.as_secs_f64() * 1e3
        }),
    ]
}
