//! A cold boot, ours beside plain QEMU's; and what a session does instead that begins where a boot was
//! kept.

use anyhow::{Result, ensure};
use medley_benches::interrupt;
use medley_benches::plain;
use medley_benches::rows::{Goal, Row};
use medley_session::Began;

use crate::workspace::{Best, Workspace, console_of, timed};

const MEMORY_MIB: u32 = 192;
const FOLDER: &str = "boots";

/// Both.
pub fn rows(workspace: &Workspace, rounds: u32) -> Result<Vec<Row>> {
    let begin = || workspace.begin(FOLDER, MEMORY_MIB);
    let [mut ours, mut theirs, mut kept] = [Best::NONE; 3];
    for round in 1..=rounds {
        interrupt::go_on()?;
        let (session, time) = timed(|| {
            let session = begin()?;
            let mut console = console_of(&session)?;
            session.machine().start()?;
            console.ready()?;
            Ok(session)
        })?;
        ours.take(time);
        ensure!(session.began() == Began::Boot, "it did not boot");
        let recipe = workspace.twin(&session)?;
        if round == rounds {
            session.keep_booted()?;
        }
        session.end()?;

        let (_twin, time) = timed(|| {
            let mut twin = recipe.start()?;
            let mut console = twin.console()?;
            twin.go()?;
            console.ready()?;
            Ok(twin)
        })?;
        theirs.take(time);
    }
    for _ in 0..rounds {
        interrupt::go_on()?;
        let (session, time) = timed(|| {
            let session = begin()?;
            session.machine().resume()?;
            Ok(session)
        })?;
        kept.take(time);
        ensure!(session.began() == Began::FromBooted, "no boot was kept");
        console_of(&session)?.run("true")?;
        session.end()?;
    }
    Ok(vec![
        Row::new("cold boot until ready, tiny X guest", ours.seconds(), "s")
            .against(plain::NAME, theirs.seconds())
            .goal(Goal::RatioAtMost(1.1)),
        Row::new("revert to running, tiny X guest", kept.seconds(), "s")
            .against("our cold boot", ours.seconds())
            .goal(Goal::RatioAtMost(0.2)),
    ])
}
