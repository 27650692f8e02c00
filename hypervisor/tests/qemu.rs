//! Real machines under a real QEMU: what a session relies on, in good days and bad.

#![cfg(target_os = "linux")]
// Clippy takes only functions marked as tests for tests, and not their helpers.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, Killed, LONG, alive, events_until, guests, qemu, sigkill, wait_gone};
use medley_hypervisor::qemu::Qemu;
use medley_hypervisor::{
    Accelerator, AcceleratorChoice, Boot, Channel, DiskEndpoint, ErrorKind, Event, Hypervisor,
    MachineSpec, Network, OnReset, Serial, State, StopReason,
};
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_guest_boots_pauses_and_powers_down() {
    let Some(bench) = Bench::new() else { return };
    let (machine, mut line) = bench.create(&bench.spec());
    let events = machine.events();
    assert_eq!(machine.state(), State::Created);
    assert_eq!(machine.pause().unwrap_err().kind(), ErrorKind::State);
    line.expect_silence(Duration::from_millis(200));

    machine.start().unwrap();
    assert_eq!(machine.state(), State::Running);
    assert_eq!(machine.start().unwrap_err().kind(), ErrorKind::State);
    line.expect("MEDLEY-GUEST\n");
    line.send("xr");
    line.expect("xR");

    machine.pause().unwrap();
    assert_eq!(machine.state(), State::Paused);
    machine.pause().unwrap();
    assert_eq!(machine.powerdown().unwrap_err().kind(), ErrorKind::State);
    line.send("y");
    line.expect_silence(Duration::from_millis(300));
    machine.resume().unwrap();
    assert_eq!(machine.state(), State::Running);
    line.expect("y");

    machine.powerdown().unwrap();
    let exit = machine.wait_exit(LONG).unwrap();
    assert_eq!(
        (exit.reason, exit.code),
        (StopReason::GuestShutdown, Some(0)),
        "{exit}"
    );
    let seen: Vec<Event> = events.iter().collect();
    let expected = [
        Event::Started,
        Event::Paused,
        Event::Resumed,
        Event::PowerDown,
        Event::Stopped(exit.clone()),
    ];
    assert_eq!(seen, expected);
    assert_eq!(machine.state(), State::Stopped);
    assert_eq!(machine.resume().unwrap_err().kind(), ErrorKind::Ended);
    assert_eq!(machine.stop(LONG).unwrap(), exit);
    assert!(!bench.path("serial.sock").exists());
}

#[test]
fn stop_ends_it_in_good_order_and_kill_at_once() {
    let Some(bench) = Bench::new() else { return };
    let (machine, _line) = bench.boot(&bench.spec());
    let exit = machine.stop(LONG).unwrap();
    assert_eq!(
        (exit.reason, exit.code),
        (StopReason::Asked, Some(0)),
        "{exit}"
    );

    let (machine, _line) = bench.boot(&bench.spec());
    assert_eq!(machine.kill().unwrap().reason, StopReason::Killed);
    assert!(!bench.path("serial.sock").exists());
}

#[test]
fn a_machine_that_was_never_started_can_be_stopped() {
    let Some(bench) = Bench::new() else { return };
    let (machine, _line) = bench.create(&bench.spec());
    assert_eq!(machine.stop(LONG).unwrap().reason, StopReason::Asked);
    let error = machine.wait_state(State::Running, LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ended);
}

#[test]
fn a_reboot_starts_again_or_ends_as_asked() {
    let Some(bench) = Bench::new() else { return };
    let (machine, mut line) = bench.boot(&bench.spec());
    let events = machine.events();
    line.send("b");
    line.expect("MEDLEY-GUEST\n");
    events_until(&events, |event| *event == Event::Reset { by_guest: true });
    machine.stop(LONG).unwrap();

    let spec = MachineSpec {
        on_reset: OnReset::Stop,
        ..bench.spec()
    };
    let (machine, mut line) = bench.boot(&spec);
    line.send("b");
    assert_eq!(
        machine.wait_exit(LONG).unwrap().reason,
        StopReason::GuestReset
    );
}

#[test]
fn a_kernel_gets_its_command_line_and_the_log_all_it_says() {
    let Some(bench) = Bench::new() else { return };
    let kernel = bench.path("kernel,1");
    std::fs::write(&kernel, guests::kernel()).unwrap();
    let cmdline = "root=/dev/vda quiet, \"x\"".to_owned();
    let spec = MachineSpec {
        boot: Boot::Kernel {
            kernel,
            initrd: None,
            cmdline: cmdline.clone(),
        },
        serial: Serial::log(bench.path("serial.log")),
        ..bench.spec()
    };
    let machine = bench.qemu.create(&spec).unwrap();
    machine.start().unwrap();
    assert_eq!(
        machine.wait_exit(LONG).unwrap().reason,
        StopReason::GuestShutdown
    );
    assert_eq!(
        std::fs::read_to_string(bench.path("serial.log")).unwrap(),
        cmdline
    );
}

#[test]
fn every_device_can_be_had_in_the_sandbox() {
    let Some(bench) = Bench::new() else { return };
    let channel = |name: &str| Channel {
        name: name.into(),
        socket: bench.path(name),
    };
    let spec = MachineSpec {
        cpus: 2,
        channels: vec![channel("org.medley.gui"), channel("org.medley.control")],
        network: Network::User,
        serial: Serial {
            socket: Some(bench.path("serial.sock")),
            log: Some(bench.path("serial,log")),
        },
        ..bench.spec()
    };
    let (machine, mut line) = bench.boot(&spec);
    for name in ["org.medley.gui", "org.medley.control"] {
        std::os::unix::net::UnixStream::connect(bench.path(name)).unwrap();
    }
    line.send("r");
    line.expect("R");
    machine.stop(LONG).unwrap();
    assert_eq!(
        std::fs::read_to_string(bench.path("serial,log")).unwrap(),
        "MEDLEY-GUEST\nR"
    );
    assert!(!bench.path("org.medley.gui").exists());
}

#[test]
fn qemu_killed_from_outside_is_seen() {
    let Some(bench) = Bench::new() else { return };
    let (machine, _line) = bench.boot(&bench.spec());
    let events = machine.events();
    sigkill(machine.process_id().unwrap());
    let seen = events_until(&events, |event| matches!(event, Event::Stopped(_)));
    let Some(Event::Stopped(exit)) = seen.last() else {
        panic!("{seen:?}")
    };
    assert_eq!((exit.reason, exit.signal), (StopReason::Died, Some(9)));
    let error = machine.pause().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ended);
    assert!(error.to_string().contains("signal 9"), "{error}");
    assert!(!bench.path("serial.sock").exists());
}

#[test]
fn a_dead_disk_server_halts_the_guest_and_a_new_one_heals_it() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let (machine, mut line) = bench.boot(&bench.spec());
    let events = machine.events();
    bench.kill_server();
    line.send("r");
    let seen = events_until(&events, |event| *event == Event::Paused);
    assert!(
        matches!(
            seen[0],
            Event::DiskError {
                write: false,
                halted: true,
                ..
            }
        ),
        "{seen:?}"
    );
    machine.wait_state(State::Faulted, LONG).unwrap();

    bench.start_server();
    // The connection comes back by itself, within a second or so; until then it halts again.
    let deadline = Instant::now() + LONG;
    loop {
        machine.resume().unwrap();
        if machine
            .wait_state(State::Faulted, Duration::from_secs(3))
            .is_err()
        {
            break;
        }
        assert!(Instant::now() < deadline, "the disk does not come back");
    }
    line.expect("R"); // the same request, and the guest never saw it fail
    machine.powerdown().unwrap();
    assert_eq!(
        machine.wait_exit(LONG).unwrap().reason,
        StopReason::GuestShutdown
    );
}

#[test]
fn a_disk_server_that_returns_in_time_goes_unnoticed() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let disk = DiskEndpoint::nbd_unix(bench.path("disk.sock"), "");
    let (machine, mut line) = bench.boot(&MachineSpec {
        disk,
        ..bench.spec()
    });
    let events = machine.events();
    bench.kill_server();
    line.send("r");
    line.expect_silence(Duration::from_millis(300));
    bench.start_server();
    line.expect("R");
    assert!(events.try_recv().is_err());
}

#[test]
fn a_machine_boots_from_a_vhost_user_disk() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let socket = bench.path("vhost.sock");
    let spec = MachineSpec {
        disk: DiskEndpoint::vhost_user_blk(&socket, 2),
        ..bench.spec()
    };
    let error = bench.qemu.create(&spec).err().unwrap();
    assert!(error.to_string().contains("vhost.sock"), "{error}");
    bench.start_vhost_server();
    let (machine, mut line) = bench.boot(&spec);
    line.send("r");
    line.expect("R");
    let exit = machine.stop(LONG).unwrap();
    assert_eq!(exit.reason, StopReason::Asked, "{exit}");
}

#[test]
fn stopping_with_a_dead_disk_server_does_not_hang() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let disk = DiskEndpoint::NbdUnix {
        socket: bench.path("disk.sock"),
        export: String::new(),
        reconnect: Duration::from_secs(600),
    };
    let (machine, mut line) = bench.boot(&MachineSpec {
        disk,
        ..bench.spec()
    });
    bench.kill_server();
    line.send("r");
    line.expect_silence(Duration::from_millis(300));
    let began = Instant::now();
    let exit = machine.stop(Duration::from_secs(2)).unwrap();
    assert!(
        matches!(exit.reason, StopReason::Asked | StopReason::Killed),
        "{exit}"
    );
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_dropped_machine_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    let (machine, _line) = bench.boot(&bench.spec());
    let events = machine.events();
    let pid = machine.process_id().unwrap();
    assert!(alive(pid));
    drop(machine);
    assert!(!alive(pid));
    let last = events.iter().last();
    assert!(matches!(&last, Some(Event::Stopped(exit)) if exit.reason == StopReason::Killed));
    assert!(!bench.path("serial.sock").exists());
}

/// Set for the child of `a_machine_dies_with_us`.
const CHILD: &str = "MEDLEY_TEST_CHILD";

/// The other half of the test below: makes a machine in a thread that ends, and waits.
#[test]
#[ignore = "runs only as a child of a_machine_dies_with_us"]
fn child_with_a_machine() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let Some(bench) = Bench::new() else { return };
    let (machine, _line) =
        std::thread::scope(|scope| scope.spawn(|| bench.boot(&bench.spec())).join().unwrap());
    println!("\npid={}", machine.process_id().unwrap());
    println!("server={}", bench.server_id());
    println!("folder={}", bench.folder.path().display());
    machine.wait_exit(Duration::from_secs(120));
    println!("the machine ended by itself");
}

#[test]
fn a_machine_dies_with_us() {
    if qemu().is_none() {
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "child_with_a_machine",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let mut lines = std::io::BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut field = |name: &str| {
        let mut values = lines.by_ref().map_while(|line| line.ok());
        values
            .find_map(|line| Some(line.strip_prefix(name)?.to_owned()))
            .unwrap()
    };
    let pid: u32 = field("pid=").parse().unwrap();
    let server: u32 = field("server=").parse().unwrap();
    let folder = field("folder=");
    // The thread that asked for the machine ended long ago; only the process counts.
    std::thread::sleep(Duration::from_millis(200));
    assert!(alive(pid));
    drop(child);
    wait_gone(pid);
    // The killed child could clean up nothing: its disk server and its folder are ours now.
    sigkill(server);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_absent_disk_is_an_error_in_qemus_words() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    bench.kill_server();
    let error = bench.qemu.create(&bench.spec()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Launch);
    assert!(error.to_string().contains("disk.sock"), "{error}");
    assert!(!bench.path("serial.sock").exists());
}

#[test]
fn a_missing_export_is_an_error() {
    let Some(bench) = Bench::new() else { return };
    let disk = DiskEndpoint::nbd_unix(bench.path("disk.sock"), "no such");
    let error = bench
        .qemu
        .create(&MachineSpec {
            disk,
            ..bench.spec()
        })
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Launch);
    assert!(error.to_string().contains("no such"), "{error}");
}

#[test]
fn a_qemu_that_talks_nonsense_or_nothing_is_an_error() {
    let Some(bench) = Bench::new() else { return };
    for behaviour in [
        "exit 0",
        "echo boom >&2; exit 1",
        "kill -SEGV $$",
        // Finds the monitor's descriptor in its own command line.
        "for a; do case $a in *id=monitor,fd=*) fd=${a##*fd=};; esac; done
         eval \"echo nonsense >&$fd\"; exec sleep 60",
    ] {
        let program = bench.path("fake-qemu");
        let version = "[ \"$1\" = --version ] && echo 'QEMU emulator version 10.0.2' && exit";
        std::fs::write(&program, format!("#!/bin/sh\n{version}\n{behaviour}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let began = Instant::now();
        let error = Qemu::at(&program)
            .unwrap()
            .create(&bench.spec())
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::Launch, "{behaviour}: {error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{behaviour}");
    }
}

#[test]
fn the_accelerator_is_measured_quickly_and_kept() {
    let Some(qemu) = qemu() else { return };
    let began = Instant::now();
    let measured = qemu.acceleration(AcceleratorChoice::Auto).unwrap();
    let took = began.elapsed();
    eprintln!("{measured:?} in {took:?}");
    // Both budgets and both starts; a quiet machine takes a second.
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert!(!measured.reason.is_empty());
    let began = Instant::now();
    assert_eq!(
        qemu.acceleration(AcceleratorChoice::Auto).unwrap(),
        measured
    );
    assert!(began.elapsed() < Duration::from_millis(500));
    match (
        measured.accelerator,
        qemu.acceleration(AcceleratorChoice::Kvm),
    ) {
        (Accelerator::Kvm, kvm) => assert_eq!(kvm.unwrap(), measured),
        (Accelerator::Tcg, kvm) => {
            let error = kvm.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(&measured.reason));
        }
    }
    let tcg = qemu.acceleration(AcceleratorChoice::Tcg).unwrap();
    assert_eq!(tcg.accelerator, Accelerator::Tcg);
}

#[test]
fn a_guest_runs_under_whatever_was_measured() {
    let Some(bench) = Bench::new() else { return };
    let spec = MachineSpec {
        accelerator: AcceleratorChoice::Auto,
        ..bench.spec()
    };
    let (machine, mut line) = bench.boot(&spec);
    line.send("q");
    assert_eq!(
        machine.wait_exit(LONG).unwrap().reason,
        StopReason::GuestShutdown
    );
}
