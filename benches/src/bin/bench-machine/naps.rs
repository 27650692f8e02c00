//! Guests that sleep and wake, beside a twin that QEMU saves into a plain file, in turns.

use anyhow::{Result, ensure};
use medley_benches::interrupt;
use medley_benches::plain;
use medley_benches::rows::{Goal, Row};
use medley_session::Began;

use crate::workspace::{Best, Workspace, console_of, timed};

/// A guest that naps.
struct Guest {
    name: &'static str,
    memory_mib: u32,
    /// MiB of its memory that do not compress.
    random_mib: u32,
    goals: Goals,
}

/// What is asked of it.
enum Goals {
    /// At most so many times the peer.
    Ratio(f64),
    /// At most so many seconds for the session as a whole.
    Seconds(f64),
}

const GUESTS: [Guest; 3] = [
    Guest {
        name: "512 MiB, a quarter random",
        memory_mib: 512,
        random_mib: 128,
        goals: Goals::Ratio(2.0),
    },
    Guest {
        name: "512 MiB, mostly zeros",
        memory_mib: 512,
        random_mib: 0,
        goals: Goals::Ratio(2.0),
    },
    Guest {
        name: "tiny X guest",
        memory_mib: 192,
        random_mib: 0,
        goals: Goals::Seconds(0.6),
    },
];

/// Every guest.
pub fn rows(workspace: &Workspace, rounds: u32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for guest in &GUESTS {
        rows.extend(nap(workspace, guest, rounds)?);
    }
    Ok(rows)
}

fn nap(workspace: &Workspace, guest: &Guest, rounds: u32) -> Result<Vec<Row>> {
    let folder = format!("nap-{}-{}", guest.memory_mib, guest.random_mib);
    let begin = || workspace.begin(&folder, guest.memory_mib);
    let fill = format!(
        "mkdir -p /fill && mount -t tmpfs none /fill && \
         dd if=/dev/urandom of=/fill/random bs=1M count={}",
        guest.random_mib
    );

    let mut session = begin()?;
    let recipe = workspace.twin(&session)?;
    session.machine().start()?;
    let mut console = console_of(&session)?;
    console.ready()?;
    console.run(&fill)?;
    let mut twin = recipe.start()?;
    let mut twins_console = twin.console()?;
    twin.go()?;
    twins_console.ready()?;
    twins_console.run(&fill)?;
    drop((console, twins_console));

    let file = workspace.path("plain.state");
    let [mut stood, mut slept, mut woke] = [Best::NONE; 3];
    let [mut saved, mut durable, mut resumed] = [Best::NONE; 3];
    let (mut state, mut sealed) = (0, 0);
    for _ in 0..rounds {
        interrupt::go_on()?;
        let (nap, time) = timed(|| session.sleep().map_err(|failed| failed.1.into()))?;
        slept.take(time);
        stood.take(nap.took);
        (state, sealed) = (nap.state_bytes, nap.file_bytes);

        let ((), time) = timed(|| twin.save(&file))?;
        let ((), more) = timed(|| Ok(std::fs::File::open(&file)?.sync_all()?))?;
        saved.take(time);
        durable.take(time + more);
        drop(twin);

        let (awake, time) = timed(|| {
            let session = begin()?;
            session.machine().resume()?;
            Ok(session)
        })?;
        woke.take(time);
        session = awake;
        ensure!(session.began() == Began::Resumed, "it did not wake");

        let (awake, time) = timed(|| recipe.resume(&file))?;
        resumed.take(time);
        twin = awake;
        console_of(&session)?.run("true")?;
        twin.console()?.run("true")?;
    }
    drop(twin);
    session.end()?;
    let plain_bytes = file.metadata()?.len();
    std::fs::remove_file(&file)?;

    let of = guest.name;
    let row = |what: &str, time: Best| Row::new(format!("{what}, {of}"), time.seconds(), "s");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let whole = |row: Row| match guest.goals {
        Goals::Seconds(most) => row.goal(Goal::AtMost(most)),
        Goals::Ratio(_) => row,
    };
    let beside = |row: Row, peer: Best| {
        let row = row.against(plain::NAME, peer.seconds());
        match guest.goals {
            Goals::Ratio(most) => row.goal(Goal::RatioAtMost(most)),
            Goals::Seconds(most) => row.goal(Goal::AtMost(most)),
        }
    };
    let synced = "QEMU, plain file, synced";
    Ok(vec![
        beside(
            row("save until sealed, durable and tied to its disk", stood),
            saved,
        ),
        row("the same beside a peer that syncs", stood).against(synced, durable.seconds()),
        whole(row("fall asleep, until all processes are gone", slept)),
        beside(row("wake, from nothing until it runs", woke), resumed),
        Row::new(format!("state, {of}"), mib(state), "MiB").against(plain::NAME, mib(plain_bytes)),
        Row::new(format!("size of the file, {of}"), mib(sealed), "MiB")
            .against(plain::NAME, mib(plain_bytes)),
    ])
}
