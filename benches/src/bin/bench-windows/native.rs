//! What agent and presenter cost by themselves: two X servers, and no machine between them.

use std::cell::Cell;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use medley_benches::interrupt;
use medley_benches::process::{self, Killed};
use medley_benches::rows::{Goal, Row};
use medley_benches::screen::Screen;
use medley_benches::spread::Spread;

use crate::keys;
use crate::launch::launched;
use crate::painter::{HEIGHT, Painter, Seen, WIDTH};
use crate::stack::{CLASS, Programs, Stack};

/// What frames have by default, and the most they can have. There is none of no pixels to compare with; but what a
/// frame costs grows with its pixels, so that a wide one tells what a narrow one takes, far above the noise.
const BORDER: u16 = 3;
const WIDE: u16 = 64;
/// Between two repaints, of one window and the other by turns: less, and a window would be painted more often than a
/// host wants frames (60 in a second), and wait.
const STEP: Duration = Duration::from_millis(9);
/// After a repaint was seen, so that what is left of it disturbs no other.
const REST: Duration = Duration::from_millis(3);
/// Before times count.
const WARM: usize = 20;
const IDLE: Duration = Duration::from_secs(15);
const KEYS: usize = 100;
const STARTS: usize = 10;
const FLOOR: &str = "one X server";

/// How often.
#[derive(Clone, Copy)]
pub struct Counts {
    pub small: usize,
    pub full: usize,
}

/// Everything that needs no machine.
pub fn rows(programs: &Programs, counts: Counts) -> Result<Vec<Row>> {
    let floor = floor(counts)?;
    let framed = Stack::start(programs, BORDER, true)?;
    let wide = Stack::start(programs, WIDE, true)?;
    let mut rows = repaints(&framed, &wide, counts, &floor)?;
    drop(wide);
    rows.extend(idle(&framed)?);
    rows.extend(starts(&framed)?);
    rows.extend(typing(&framed, "pixels in shared memory")?);
    drop(framed);
    let stream = Stack::start(programs, BORDER, false)?;
    rows.extend(stream_rows(&stream, counts)?);
    rows.extend(typing(&stream, "pixels in the stream")?);
    Ok(rows)
}

/// The same app seen in its own X server: what the servers and the one who measures take.
fn floor(counts: Counts) -> Result<[Spread; 2]> {
    let screen = Screen::bare(1600, 1000)?;
    let mut painter = Painter::open(&screen)?;
    let watch = screen.watch(painter.window)?;
    watch.calm(Duration::from_millis(200))?;
    let seen = Seen {
        screen: &screen,
        window: painter.window,
        watch: &watch,
        border: 0,
        beyond: Cell::default(),
    };
    let mut side = [(&mut painter, seen)];
    let (small, full) = (counts.small / 4, counts.full / 4);
    let [small] = turns(&mut side, small, |painter, seen| painter.spot(seen))?;
    let [full] = turns(&mut side, full, |painter, seen| painter.whole(seen))?;
    Ok([Spread::of(small)?, Spread::of(full)?])
}

/// Repaints of every side by turns, forth and back, so that none of them always follows the same one.
fn turns<const N: usize>(
    sides: &mut [(&mut Painter, Seen); N],
    count: usize,
    repaint: impl Fn(&mut Painter, &Seen) -> Result<Duration>,
) -> Result<[Vec<Duration>; N]> {
    let mut times: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::with_capacity(count));
    let mut next = Instant::now();
    for round in 0..count + WARM {
        interrupt::go_on()?;
        for turn in 0..N {
            let at = if round % 2 == 0 { turn } else { N - 1 - turn };
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let begun = Instant::now();
            let (painter, seen) = &mut sides[at];
            let took = repaint(painter, seen)?;
            // With one window alone, its own pace.
            next = (begun + STEP * (3 - N.min(2) as u32)).max(Instant::now() + REST);
            if round >= WARM {
                times[at].push(took);
            }
        }
    }
    Ok(times)
}

/// The app in a stack's guest, shown on its host.
fn open(stack: &Stack) -> Result<(Painter<'_>, u32)> {
    let known = stack.host.apps(CLASS, &[])?;
    let painter = Painter::open(&stack.guest)?;
    let window = stack.shown(&known)?;
    Ok((painter, window))
}

fn repaints(framed: &Stack, wide: &Stack, counts: Counts, floor: &[Spread; 2]) -> Result<Vec<Row>> {
    let (mut painter, window) = open(framed)?;
    let (mut other, other_window) = open(wide)?;
    let (watch, other_watch) = (framed.host.watch(window)?, wide.host.watch(other_window)?);
    for watch in [&watch, &other_watch] {
        watch.calm(Duration::from_millis(300))?;
    }
    let mut sides = [
        (&mut painter, framed.seen(window, &watch)),
        (&mut other, wide.seen(other_window, &other_watch)),
    ];
    let mut rows = Vec::new();
    let small = turns(&mut sides, counts.small, |painter, seen| painter.spot(seen))?;
    let full = turns(&mut sides, counts.full, |painter, seen| painter.whole(seen))?;
    framed.lives()?;
    wide.lives()?;
    let beyond: u32 = sides.iter().map(|(_, seen)| seen.beyond.get()).sum();
    for (what, times, floor, middle, slowest) in [
        (
            "small repaint without a VM",
            small,
            &floor[0],
            0.6,
            Some(5.0),
        ),
        (
            "1280x800 repaint without a VM, shared memory",
            full,
            &floor[1],
            7.0,
            None,
        ),
    ] {
        let [framed, wide] = times.map(Spread::of);
        let (framed, wide) = (framed?, wide?);
        rows.extend(percentiles(what, &framed, floor, middle, slowest));
        let more = (wide.ms(50) / framed.ms(50) - 1.0) * 100.0;
        let share = more * f64::from(BORDER) / f64::from(WIDE - BORDER);
        let name = format!("{what}: what {BORDER} pixels of frame add, told from {WIDE}");
        rows.push(Row::new(name, share, "%").goal(Goal::AtMost(2.0)));
    }
    let name = "repaints that painted more than what changed";
    rows.push(Row::new(name, f64::from(beyond), "").goal(Goal::AtMost(0.0)));
    Ok(rows)
}

fn percentiles(
    what: &str,
    times: &Spread,
    floor: &Spread,
    middle: f64,
    slowest: Option<f64>,
) -> Vec<Row> {
    let row = |percent: usize| {
        Row::new(
            format!("{what}, p{percent} of {}", times.count()),
            times.ms(percent),
            "ms",
        )
        .against(FLOOR, floor.ms(percent))
    };
    let last = row(99);
    vec![
        row(50).goal(Goal::AtMost(middle)),
        row(90),
        match slowest {
            Some(slowest) => last.goal(Goal::AtMost(slowest)),
            None => last,
        },
    ]
}

/// The guest shows a window, and nothing happens.
fn idle(stack: &Stack) -> Result<Vec<Row>> {
    let parts = [stack.agent.id(), stack.presenter.id()];
    let now = || -> Result<(Duration, u64)> {
        let mut sum = (Duration::ZERO, 0);
        for part in parts {
            sum.0 += process::run_time(part)?;
            sum.1 += process::sleeps(part)?;
        }
        Ok(sum)
    };
    std::thread::sleep(Duration::from_secs(1));
    let (before, begun) = (now()?, Instant::now());
    while begun.elapsed() < IDLE {
        interrupt::go_on()?;
        std::thread::sleep(Duration::from_millis(500));
    }
    let (after, time) = (now()?, begun.elapsed().as_secs_f64());
    stack.lives()?;
    let share = (after.0 - before.0).as_secs_f64() / time * 100.0;
    let woken = (after.1 - before.1) as f64 / time;
    let pixels = f64::from(WIDTH) * f64::from(HEIGHT) * 4.0 / 1e6;
    let memory = |part| process::memory(part).map(|bytes| bytes as f64 / 1e6);
    Ok(vec![
        Row::new("idle agent and presenter", share, "% of a core").goal(Goal::AtMost(0.5)),
        // A question and an answer every five seconds, by which each knows that the other lives.
        Row::new("idle agent and presenter woken", woken, "/s").goal(Goal::AtMost(1.0)),
        Row::new(
            "presenter's memory beyond its window's pixels",
            memory(stack.presenter.id())? - pixels,
            "MB",
        )
        .goal(Goal::AtMost(30.0)),
        Row::new("agent's memory", memory(stack.agent.id())?, "MB"),
    ])
}

/// An app that is asked for, as `medley run` does, until something of it is seen; and what it takes by itself, which is
/// no smaller anywhere.
fn starts(stack: &Stack) -> Result<Vec<Row>> {
    let app = stack.app()?;
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..=STARTS {
        let ask = || stack.launch(&app);
        times.push(launched(&stack.host, CLASS, stack.border, ask)?.took);
    }
    // The first is not warm.
    let warm = Spread::of(times.split_off(1))?;
    let mut alone = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let mut xterm = stack.guest.program("xterm");
        let begun = Instant::now();
        let status = xterm.args(["-geometry", "80x24", "-e", "true"]).status()?;
        ensure!(status.success(), "xterm: {status}");
        alone.push(begun.elapsed());
    }
    let name = "app asked for until its first pixels without a VM, warm";
    Ok(vec![
        Row::new(name, warm.ms(50), "ms").goal(Goal::AtMost(300.0)),
        Row::new(
            "that app alone, from start to end",
            Spread::of(alone)?.ms(50),
            "ms",
        ),
    ])
}

/// A terminal that is typed into.
fn typing(stack: &Stack, how: &str) -> Result<Vec<Row>> {
    let known = stack.host.apps(CLASS, &[])?;
    let home = tempfile::tempdir()?;
    let mut xterm = stack.guest.program("xterm");
    xterm.args(["-geometry", "80x24", "-e", "sh"]);
    xterm
        .env("HOME", home.path())
        .env("PS1", "$ ")
        .stdin(Stdio::null());
    let _xterm = Killed::start(&mut xterm)?;
    let window = stack.shown(&known)?;
    stack.host.activate(window)?;
    stack.host.watch(window)?.calm(Duration::from_millis(500))?;
    let before = stack.relay.bytes();
    let times = Spread::of(keys::typed(&stack.host, window, stack.border, KEYS)?)?;
    stack.host.watch(window)?.calm(Duration::from_millis(200))?;
    let bytes = (stack.relay.bytes() - before) as f64 / KEYS as f64;
    Ok(vec![
        Row::new(
            format!("a keystroke on all channels, {how}"),
            bytes,
            "bytes",
        )
        .goal(Goal::AtMost(400.0)),
        Row::new(
            format!("key to pixel without a VM, {how}, p50"),
            times.ms(50),
            "ms",
        ),
    ])
}

/// Where there is no memory to share.
fn stream_rows(stack: &Stack, counts: Counts) -> Result<Vec<Row>> {
    let (mut painter, window) = open(stack)?;
    let watch = stack.host.watch(window)?;
    watch.calm(Duration::from_millis(300))?;
    let mut side = [(&mut painter, stack.seen(window, &watch))];
    let [full] = turns(&mut side, counts.full / 4, |painter, seen| {
        painter.whole(seen)
    })?;
    let full = Spread::of(full)?;
    let what = "1280x800 repaint without a VM, in the stream";
    let row = |percent| Row::new(format!("{what}, p{percent}"), full.ms(percent), "ms");
    Ok(vec![row(50), row(99)])
}
