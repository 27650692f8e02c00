//! Machines that are saved into a pipe and go on in another QEMU; their balloon and their network.

#![cfg(target_os = "linux")]
// Clippy takes only functions marked as tests for tests, and not their helpers.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, LONG, Line};
use medley_hypervisor::{ErrorKind, Event, Hypervisor, Machine, MachineSpec, Network, State};
use std::io::ErrorKind::WouldBlock;
use std::io::{Read, Write, pipe};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

/// The machine's state, which is its whole memory.
fn save(machine: &dyn Machine) -> Vec<u8> {
    let (mut reader, writer) = pipe().unwrap();
    thread::scope(|scope| {
        let state = scope.spawn(move || {
            let mut state = Vec::new();
            reader.read_to_end(&mut state).unwrap();
            state
        });
        machine.save(writer).unwrap();
        state.join().unwrap()
    })
}

fn restore(
    bench: &Bench,
    spec: &MachineSpec,
    state: &[u8],
) -> medley_hypervisor::Result<Box<dyn Machine>> {
    let (reader, mut writer) = pipe().unwrap();
    thread::scope(|scope| {
        // Whoever does not want it to the end hangs up.
        scope.spawn(move || drop(writer.write_all(state)));
        bench.qemu.restore(spec, reader)
    })
}

#[test]
fn a_machine_goes_on_in_another_process() {
    let Some(bench) = Bench::new() else { return };
    assert!(bench.qemu.capabilities().suspend);
    let (machine, mut line) = bench.boot(&bench.spec());
    let events = machine.events();
    line.send("xr");
    line.expect("xR");
    let state = save(&*machine);
    assert_eq!(machine.state(), State::Paused);
    assert!(state.len() > 10_000, "{} bytes", state.len());
    machine.kill().unwrap();
    assert_eq!(events.iter().next(), Some(Event::Paused));

    let machine = restore(&bench, &bench.spec(), &state).unwrap();
    // Somebody was there before the state was, and nobody else gets through.
    let mut late = UnixStream::connect(bench.path("serial.sock")).unwrap();
    late.write_all(b"x").unwrap();
    let mut line = Line::of(&*machine);
    assert_eq!(machine.state(), State::Paused);
    line.send("y");
    line.expect_silence(Duration::from_millis(200));
    let events = machine.events();
    machine.resume().unwrap();
    // It neither greets again nor has it lost what it was sent.
    line.expect("y");
    line.send("r");
    line.expect("R");
    late.set_nonblocking(true).unwrap();
    let heard = late.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(heard, Err(WouldBlock));
    assert_eq!(events.try_iter().next(), Some(Event::Resumed));
    machine.stop(LONG).unwrap();
}

#[test]
fn a_serial_port_that_others_wait_for_is_no_reason_to_hang() {
    let Some(bench) = Bench::new() else { return };
    let (machine, _line) = bench.boot(&bench.spec());
    let mut waiting = Vec::new();
    let refused = loop {
        match machine.serial() {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
        assert!(waiting.len() < 10_000, "nobody was refused");
    };
    assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
    machine.stop(LONG).unwrap();
    assert_eq!(machine.serial().unwrap_err().kind(), ErrorKind::Ended);
}

#[test]
fn a_saved_machine_may_go_on_itself() {
    let Some(bench) = Bench::new() else { return };
    let (machine, mut line) = bench.boot(&bench.spec());
    machine.pause().unwrap();
    save(&*machine);
    machine.resume().unwrap();
    line.send("xr");
    line.expect("xR");
    // And be saved again.
    save(&*machine);
}

#[test]
fn a_reader_that_leaves_costs_nothing() {
    let Some(bench) = Bench::new() else { return };
    let (machine, mut line) = bench.boot(&bench.spec());
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let error = machine.save(writer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    machine.resume().unwrap();
    line.send("x");
    line.expect("x");
}

#[test]
fn a_bad_state_is_refused_and_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    let (machine, line) = bench.boot(&bench.spec());
    let state = save(&*machine);
    drop((machine, line));
    let garbage = vec![7; 100_000];
    let larger = MachineSpec {
        memory_mib: 96,
        ..bench.spec()
    };
    let cases: [(&str, &MachineSpec, &[u8]); 4] = [
        ("nothing", &bench.spec(), &[]),
        ("garbage", &bench.spec(), &garbage),
        ("half", &bench.spec(), &state[..state.len() / 2]),
        ("another machine's", &larger, &state),
    ];
    for (what, spec, state) in cases {
        let began = Instant::now();
        let error = restore(&bench, spec, state).err();
        let error = error.unwrap_or_else(|| panic!("{what} was taken"));
        assert!(
            matches!(error.kind(), ErrorKind::Ended | ErrorKind::State),
            "{what}: {error}"
        );
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        assert!(!bench.path("serial.sock").exists(), "{what}");
    }
}

#[test]
fn the_balloon_is_asked_and_tells() {
    let Some(bench) = Bench::new() else { return };
    let (machine, _line) = bench.boot(&bench.spec());
    // This guest has no driver: it keeps what it has, and tells nothing of it.
    machine.set_balloon(32).unwrap();
    let memory = machine.memory().unwrap();
    assert_eq!((memory.actual_mib, memory.available_mib), (64, None));
}

#[test]
fn a_network_comes_later() {
    let Some(bench) = Bench::new() else { return };
    let (machine, mut line) = bench.boot(&bench.spec());
    assert!(machine.set_link(true).is_err());
    machine.unplug_network().unwrap();
    let missing = Network::Tap {
        interface: "no-such-tap".into(),
    };
    let error = machine.plug_network(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    machine.plug_network(&Network::User).unwrap();
    machine.set_link(false).unwrap();
    machine.set_link(true).unwrap();
    // This guest has no driver that would let go of it: that takes a real one.
    line.send("x");
    line.expect("x");
}
