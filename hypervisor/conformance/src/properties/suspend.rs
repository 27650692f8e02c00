//! A guest that is saved in one machine and goes on in another.

use super::life::refused;
use crate::bench::Bench;
use crate::words;
use anyhow::{Context, Result, ensure};
use medley_hypervisor::{ErrorKind, Event, MachineSpec, State};
use std::io::pipe;
use std::time::Duration;

pub fn a_guest_goes_on_in_another_machine(bench: &mut Bench<'_>) -> Result<()> {
    let (patience, quiet) = (bench.fixture.patience, bench.fixture.quiet);
    let mut guest = bench.boot(&bench.spec())?;
    let count = |said: String| said.parse::<u64>().context("a count");
    guest.console.run(words::WORK)?;
    guest.console.run(words::FILL)?;
    guest.console.run(&words::write("precious"))?;
    let sum = guest.console.run(words::SUM)?;
    bench.until("the guest's process counts", || {
        let said = guest.console.run(words::COUNT);
        Ok(said.map(drop).map_err(|error| error.to_string()))
    })?;
    let before = count(guest.console.run(words::COUNT)?)?;
    let events = guest.machine.events();
    let state = guest.save()?;
    ensure!(
        guest.machine.state() == State::Paused,
        "saved, it is {:?}",
        guest.machine.state()
    );
    ensure!(state.len() > 100_000, "the state has {} bytes", state.len());
    guest.machine.kill()?;
    let paused = events.try_iter().next();
    ensure!(
        paused == Some(Event::Paused),
        "the save was told as {paused:?}"
    );

    let machine = bench.restore(&bench.spec(), &state).context("restore")?;
    let mut console = bench.console(&*machine)?.after(&guest.console);
    ensure!(
        machine.state() == State::Paused,
        "restored, it is {:?}",
        machine.state()
    );
    let asked = console.ask(words::COUNT)?;
    console.silent(quiet)?;
    let events = machine.events();
    machine.resume()?;
    machine.wait_state(State::Running, patience)?;
    let at = count(console.answer(&asked)?)?;
    ensure!(at >= before, "the count went from {before} to {at}");
    let resumed = events.recv_timeout(patience);
    ensure!(
        resumed == Ok(Event::Resumed),
        "the resume was told as {resumed:?}"
    );
    bench.until("the guest's process goes on", || {
        let now = count(console.run(words::COUNT)?)?;
        Ok(if now > at {
            Ok(())
        } else {
            Err(format!("{now}"))
        })
    })?;
    let now = console.run(words::SUM)?;
    ensure!(
        now == sum,
        "the guest's memory is another: {now}, not {sum}"
    );
    let note = console.run(words::READ)?;
    ensure!(note == "precious", "the disk says {note:?}");
    console.run(&words::write("more"))?;
    // What was restored can be saved and restored again.
    let guest = crate::bench::Guest { machine, console };
    let state = guest.save().context("the second save")?;
    guest.machine.stop(patience)?;
    let machine = bench
        .restore(&bench.spec(), &state)
        .context("the second restore")?;
    let mut console = bench.console(&*machine)?.after(&guest.console);
    machine.resume()?;
    let now = console.run(words::SUM)?;
    ensure!(
        now == sum,
        "the guest's memory is another: {now}, not {sum}"
    );
    machine.powerdown()?;
    machine
        .wait_exit(patience)
        .context("it does not shut down")?;
    bench.nothing_left()
}

pub fn a_saved_machine_may_go_on_itself(bench: &mut Bench<'_>) -> Result<()> {
    let mut guest = bench.boot(&bench.spec())?;
    guest.console.run(words::FILL)?;
    let sum = guest.console.run(words::SUM)?;
    guest.machine.pause()?;
    for round in 0..2 {
        // The second time, whoever reads is gone: nothing is saved, and nothing is lost.
        if round == 0 {
            guest.save()?;
        } else {
            let (reader, writer) = pipe()?;
            drop(reader);
            refused(
                "saving for nobody",
                ErrorKind::State,
                guest.machine.save(writer),
            )?;
        }
        guest.machine.resume()?;
        let now = guest.console.run(words::SUM)?;
        ensure!(
            now == sum,
            "the guest's memory is another: {now}, not {sum}"
        );
    }
    guest.machine.kill()?;
    Ok(())
}

pub fn a_bad_state_is_refused_and_leaves_nothing(bench: &mut Bench<'_>) -> Result<()> {
    // Whatever the guest is at: its boot loader will do.
    let guest = bench.create(&bench.spec())?;
    guest.machine.start()?;
    std::thread::sleep(Duration::from_millis(500).min(bench.fixture.patience / 10));
    let state = guest.save()?;
    drop(guest);
    let half = &state[..state.len() / 2];
    let foreign = MachineSpec {
        memory_mib: bench.fixture.memory_mib / 2,
        ..bench.spec()
    };
    let bad = [
        ("nothing", &[][..], bench.spec()),
        ("garbage", &[7; 100_000][..], bench.spec()),
        ("half of a state", half, bench.spec()),
        ("another machine's state", &state[..], foreign),
    ];
    for (what, state, spec) in bad {
        let restored = bench.restore(&spec, state);
        ensure!(restored.is_err(), "{what} was taken for a state");
        drop(restored);
        bench.nothing_left().context(what)?;
    }
    // And it is not for the bad ones that the good one is refused.
    let machine = bench.restore(&bench.spec(), &state)?;
    ensure!(
        machine.state() == State::Paused,
        "it is {:?}",
        machine.state()
    );
    Ok(())
}
