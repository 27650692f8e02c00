//! From a machine's creation to its end, however that comes about.

use crate::bench::{Bench, Orphan, alive, events_until, gone, listens, sigkill};
use crate::words;
use anyhow::{Context, Result, ensure};
use medley_hypervisor::{ErrorKind, Event, Machine, MachineSpec, OnReset, State, StopReason};
use std::time::{Duration, Instant};

/// How long a machine is given to end in good order.
const GRACE: Duration = Duration::from_secs(10);

/// What a call that must fail said.
pub(super) fn refused<T>(
    what: &str,
    kind: ErrorKind,
    said: medley_hypervisor::Result<T>,
) -> Result<()> {
    match said {
        Ok(_) => anyhow::bail!("{what}: it worked, and should be refused as {kind:?}"),
        Err(error) => {
            ensure!(
                error.kind() == kind,
                "{what}: {:?}, not {kind:?}: {error}",
                error.kind()
            );
            Ok(())
        }
    }
}

fn is(machine: &dyn Machine, state: State) -> Result<()> {
    ensure!(
        machine.state() == state,
        "it is {:?}, not {state:?}",
        machine.state()
    );
    Ok(())
}

pub fn a_machine_starts_pauses_and_powers_down(bench: &mut Bench<'_>) -> Result<()> {
    let (patience, quiet) = (bench.fixture.patience, bench.fixture.quiet);
    let mut guest = bench.create(&bench.spec())?;
    let (machine, console) = (&*guest.machine, &mut guest.console);
    let events = machine.events();
    is(machine, State::Created)?;
    ensure!(
        machine.name() == "conformance",
        "it is called {}",
        machine.name()
    );
    refused("pause before the start", ErrorKind::State, machine.pause())?;
    refused(
        "power button before the start",
        ErrorKind::State,
        machine.powerdown(),
    )?;
    console.silent(quiet)?;

    machine.start()?;
    machine.wait_state(State::Running, patience)?;
    refused("a second start", ErrorKind::State, machine.start())?;
    console.ready()?;
    console.run(words::WORK)?;
    let count = |said: String| said.parse::<u64>().context("a count");

    machine.pause()?;
    is(machine, State::Paused)?;
    machine.pause().context("a second pause")?;
    refused(
        "power button while paused",
        ErrorKind::State,
        machine.powerdown(),
    )?;
    let asked = console.ask(words::COUNT)?;
    console.silent(quiet)?;
    machine.resume()?;
    machine.wait_state(State::Running, patience)?;
    machine.resume().context("a second resume")?;
    let before = count(console.answer(&asked)?)?;
    bench.until("the guest's process goes on", || {
        let now = count(console.run(words::COUNT)?)?;
        Ok(if now > before {
            Ok(())
        } else {
            Err(format!("{now}"))
        })
    })?;

    machine.powerdown()?;
    let exit = machine
        .wait_exit(patience)
        .context("the power button does nothing")?;
    ensure!(
        exit.reason == StopReason::GuestShutdown,
        "it ended so: {exit:?}"
    );
    let seen = events_until(&events, patience, |event| {
        matches!(event, Event::Stopped(_))
    })?;
    let order = [
        Event::Started,
        Event::Paused,
        Event::Resumed,
        Event::PowerDown,
        Event::Stopped(exit.clone()),
    ];
    ensure!(seen == order, "the events were {seen:?}");
    let closed = events.recv_timeout(GRACE);
    ensure!(
        closed == Err(std::sync::mpsc::RecvTimeoutError::Disconnected),
        "after the end came {closed:?}"
    );
    is(machine, State::Stopped)?;
    refused("resume after the end", ErrorKind::Ended, machine.resume())?;
    refused(
        "waiting after the end",
        ErrorKind::Ended,
        machine.wait_state(State::Running, patience),
    )?;
    ensure!(
        machine.stop(GRACE)? == exit,
        "stop after the end tells another story"
    );
    bench.nothing_left()
}

pub fn what_the_guest_flushed_survives_a_kill(bench: &mut Bench<'_>) -> Result<()> {
    let mut guest = bench.boot(&bench.spec())?;
    guest.console.run(&words::write("precious"))?;
    let began = Instant::now();
    let exit = guest.machine.kill()?;
    ensure!(exit.reason == StopReason::Killed, "it ended so: {exit:?}");
    ensure!(
        began.elapsed() < GRACE,
        "the kill took {:?}",
        began.elapsed()
    );
    bench.nothing_left()?;

    let mut guest = bench.boot(&bench.spec())?;
    let note = guest.console.run(words::READ)?;
    ensure!(note == "precious", "the disk says {note:?}");
    guest.console.run(&words::write("more"))?;
    stops(&*guest.machine, bench)?;
    Ok(())
}

/// `stop` ends the machine in good order, and in time.
fn stops(machine: &dyn Machine, bench: &Bench<'_>) -> Result<()> {
    let process = machine.process_id();
    let grace = GRACE.min(bench.fixture.patience / 2);
    let began = Instant::now();
    let exit = machine.stop(grace)?;
    let took = began.elapsed();
    ensure!(exit.reason == StopReason::Asked, "it ended so: {exit:?}");
    ensure!(took < grace, "stopping took {took:?}");
    gone(process, GRACE)?;
    bench.nothing_left()
}

pub fn a_machine_that_never_started_can_be_stopped(bench: &mut Bench<'_>) -> Result<()> {
    let guest = bench.create(&bench.spec())?;
    stops(&*guest.machine, bench)
}

pub fn a_reboot_starts_again(bench: &mut Bench<'_>) -> Result<()> {
    let mut guest = bench.boot(&bench.spec())?;
    let events = guest.machine.events();
    guest.console.ask(words::REBOOT)?;
    guest.console.ready().context("after the reboot")?;
    let reset = Event::Reset { by_guest: true };
    let seen = events_until(&events, bench.fixture.patience, |event| *event == reset)?;
    ensure!(seen == [reset], "the events were {seen:?}");
    is(&*guest.machine, State::Running)?;
    stops(&*guest.machine, bench)
}

pub fn a_reboot_ends_the_machine_if_asked(bench: &mut Bench<'_>) -> Result<()> {
    let spec = MachineSpec {
        on_reset: OnReset::Stop,
        ..bench.spec()
    };
    let mut guest = bench.boot(&spec)?;
    guest.console.ask(words::REBOOT)?;
    let exit = guest.end(bench)?;
    ensure!(
        exit.reason == StopReason::GuestReset,
        "it ended so: {exit:?}"
    );
    bench.nothing_left()
}

pub fn a_dead_hypervisor_is_seen(bench: &mut Bench<'_>) -> Result<()> {
    let guest = bench.create(&bench.spec())?;
    guest.machine.start()?;
    let Some(process) = guest.machine.process_id() else {
        return Ok(()); // nothing that could die alone
    };
    let events = guest.machine.events();
    sigkill(process);
    let exit = guest.end(bench)?;
    ensure!(exit.reason == StopReason::Died, "it ended so: {exit:?}");
    let ended = |event: &Event| matches!(event, Event::Stopped(_));
    let mut seen = events_until(&events, bench.fixture.patience, ended)?;
    // A back end that hears of its machines from elsewhere may tell of the start only now.
    seen.retain(|event| *event != Event::Started);
    ensure!(seen == [Event::Stopped(exit)], "the events were {seen:?}");
    refused(
        "pause after the end",
        ErrorKind::Ended,
        guest.machine.pause(),
    )?;
    bench.nothing_left()
}

pub fn a_dropped_machine_leaves_nothing(bench: &mut Bench<'_>) -> Result<()> {
    let guest = bench.create(&bench.spec())?;
    guest.machine.start()?;
    let (events, process) = (guest.machine.events(), guest.machine.process_id());
    ensure!(
        process.is_none_or(alive),
        "its process {process:?} is not there"
    );
    drop(guest);
    gone(process, GRACE)?;
    let ended = |event: &Event| matches!(event, Event::Stopped(_));
    let seen = events_until(&events, bench.fixture.patience, ended)?;
    let killed =
        |event: &Event| matches!(event, Event::Stopped(exit) if exit.reason == StopReason::Killed);
    ensure!(seen.last().is_some_and(killed), "the events were {seen:?}");
    ensure!(
        !listens(&bench.path("run/serial.sock")),
        "its serial port is still there"
    );
    bench.nothing_left()?;
    let orphans = bench.hypervisor.end_orphans()?;
    ensure!(orphans.is_empty(), "it has orphans: {orphans:?}");
    Ok(())
}

pub fn no_machine_outlives_its_maker_unseen(bench: &mut Bench<'_>) -> Result<()> {
    let orphan = Orphan::leave(bench.fixture)?;
    if bench.hypervisor.capabilities().dies_with_maker {
        orphan.gone(GRACE)?;
        let ended = bench.hypervisor.end_orphans()?;
        ensure!(
            ended.is_empty(),
            "they died with their maker, and were ended: {ended:?}"
        );
        return Ok(());
    }
    ensure!(
        orphan.lives(),
        "it died with its maker, which it is said not to do"
    );
    // A machine of a living maker is nobody's orphan.
    let guest = bench.create(&bench.spec())?;
    let ended = bench.hypervisor.end_orphans()?;
    ensure!(ended == ["conformance"], "ended were {ended:?}");
    orphan.gone(GRACE)?;
    is(&*guest.machine, State::Created)
}
