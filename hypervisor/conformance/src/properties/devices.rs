//! What is plugged into a machine, as the guest sees it.

use crate::bench::{Bench, events_until};
use crate::fixture::Transport;
use crate::words;
use anyhow::{Context, Result, ensure};
use medley_hypervisor::{Channel, DiskEndpoint, Event, MachineSpec, Network, State};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

pub fn a_dead_disk_server_halts_the_guest_and_a_new_one_heals_it(
    bench: &mut Bench<'_>,
) -> Result<()> {
    let patience = bench.fixture.patience;
    let mut guest = bench.boot(&bench.spec())?;
    guest.console.run(&words::write("precious"))?;
    let events = guest.machine.events();
    bench.server = None;
    let asked = guest.console.ask(words::READ)?;
    let seen = events_until(&events, patience, |event| *event == Event::Paused)?;
    let halted = |event: &Event| matches!(event, Event::DiskError { halted: true, .. });
    ensure!(seen.first().is_some_and(halted), "the events were {seen:?}");
    guest.machine.wait_state(State::Faulted, patience)?;

    bench.serve(Transport::Nbd)?;
    // The connection comes back by itself, in a second or so; until then the guest halts again.
    let deadline = Instant::now() + patience;
    loop {
        guest.machine.resume()?;
        let again = guest
            .machine
            .wait_state(State::Faulted, bench.fixture.quiet * 10);
        if again.is_err() {
            break;
        }
        ensure!(Instant::now() < deadline, "the disk does not come back");
    }
    // The same request: the guest never saw it fail.
    let note = guest.console.answer(&asked)?;
    ensure!(note == "precious", "the disk says {note:?}");
    guest.machine.kill()?;
    Ok(())
}

pub fn a_disk_server_that_returns_in_time_goes_unnoticed(bench: &mut Bench<'_>) -> Result<()> {
    let disk = DiskEndpoint::nbd_unix(bench.path("disk.sock"), "");
    let spec = MachineSpec {
        disk,
        ..bench.spec()
    };
    let mut guest = bench.boot(&spec)?;
    guest.console.run(&words::write("precious"))?;
    let events = guest.machine.events();
    bench.server = None;
    let asked = guest.console.ask(words::READ)?;
    std::thread::sleep(bench.fixture.quiet);
    bench.serve(Transport::Nbd)?;
    let note = guest.console.answer(&asked)?;
    ensure!(note == "precious", "the disk says {note:?}");
    let noticed: Vec<_> = events.try_iter().collect();
    ensure!(noticed.is_empty(), "the events were {noticed:?}");
    guest.machine.kill()?;
    Ok(())
}

pub fn a_guest_runs_on_a_vhost_user_disk(bench: &mut Bench<'_>) -> Result<()> {
    bench.serve(Transport::VhostUser)?;
    let spec = MachineSpec {
        disk: DiskEndpoint::vhost_user_blk(bench.path("disk.sock"), 1),
        boot: bench.direct_boot()?,
        ..bench.spec()
    };
    let mut guest = bench.boot(&spec)?;
    guest.console.run(&words::write("precious"))?;
    let note = guest.console.run(words::READ)?;
    ensure!(note == "precious", "the disk says {note:?}");
    guest.machine.stop(bench.fixture.patience)?;
    bench.nothing_left()
}

pub fn the_guest_follows_the_balloon(bench: &mut Bench<'_>) -> Result<()> {
    let patience = bench.fixture.patience;
    let all = bench.fixture.memory_mib;
    // What a guest with an X server can still live in.
    let (taken, some) = (48, 32);
    let mut guest = bench.boot(&bench.spec())?;
    let (machine, console) = (&*guest.machine, &mut guest.console);
    let events = machine.events();
    let mut free = || -> Result<u32> {
        let kib: u32 = console
            .run(words::FREE)?
            .parse()
            .context("a figure in KiB")?;
        Ok(kib >> 10)
    };
    bench.until("the guest tells of its memory", || {
        let memory = machine.memory()?;
        let told = memory.available_mib.zip(memory.total_mib);
        Ok(match told {
            Some((available, total)) if available <= total && total <= all => Ok(()),
            _ => Err(format!("{memory:?}")),
        })
    })?;
    ensure!(
        machine.memory()?.actual_mib == all,
        "{:?}",
        machine.memory()?
    );
    let before = free()?;

    machine.set_balloon(all - taken)?;
    bench.until("the balloon grows", || {
        let memory = machine.memory()?;
        Ok(if memory.actual_mib == all - taken {
            Ok(())
        } else {
            Err(format!("{memory:?}"))
        })
    })?;
    bench.until("the guest has less", || {
        let now = free()?;
        Ok(if now + some <= before {
            Ok(())
        } else {
            Err(format!("{now} of {before} MiB"))
        })
    })?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = events
            .recv_timeout(left)
            .context("no event tells of the balloon")?;
        if matches!(event, Event::Balloon { actual_mib } if actual_mib < all) {
            break;
        }
    }

    // More than it ever had is no more than that.
    machine.set_balloon(all * 2)?;
    bench.until("the balloon shrinks", || {
        let memory = machine.memory()?;
        Ok(if memory.actual_mib == all {
            Ok(())
        } else {
            Err(format!("{memory:?}"))
        })
    })?;
    let less = before - some;
    bench.until("the guest has it again", || {
        let now = free()?;
        Ok(if now > less {
            Ok(())
        } else {
            Err(format!("{now} of {before} MiB"))
        })
    })?;
    machine.kill()?;
    Ok(())
}

pub fn a_network_card_comes_and_goes(bench: &mut Bench<'_>) -> Result<()> {
    let mut guest = bench.boot(&bench.spec())?;
    let (machine, console) = (&*guest.machine, &mut guest.console);
    let mut shows = |question: &str, answer: &str| {
        bench.until(question, || {
            let said = console.run(question)?;
            Ok(if said == answer {
                Ok(())
            } else {
                Err(format!("{said:?}, not {answer}"))
            })
        })
    };
    machine.unplug_network().context("no card to unplug")?;
    for _ in 0..2 {
        shows(words::CARDS, "0")?;
        machine.plug_network(&Network::User)?;
        shows(words::CARDS, "1")?;
        shows(words::CARRIER, "1")?;
        machine.set_link(false)?;
        shows(words::CARRIER, "0")?;
        machine.set_link(true)?;
        shows(words::CARRIER, "1")?;
        machine.unplug_network()?;
    }
    shows(words::CARDS, "0")?;
    // One that takes the place of another, and one that was there from the start.
    machine.plug_network(&Network::User)?;
    machine
        .plug_network(&Network::User)
        .context("in place of another")?;
    shows(words::CARDS, "1")?;
    machine.kill()?;
    let spec = MachineSpec {
        network: Network::User,
        ..bench.spec()
    };
    let guest = bench.create(&spec)?;
    guest.machine.kill()?;
    bench.nothing_left()
}

pub fn channels_carry_bytes_both_ways(bench: &mut Bench<'_>) -> Result<()> {
    let patience = bench.fixture.patience;
    let names = ["org.medley.gui", "org.medley.control"];
    let channel = |name: &&str| Channel {
        name: (*name).into(),
        socket: bench.path("run").join(name),
    };
    let spec = MachineSpec {
        channels: names.iter().map(channel).collect(),
        ..bench.spec()
    };
    let mut guest = bench.boot(&spec)?;
    let events = guest.machine.events();
    for (index, name) in names.iter().enumerate() {
        let mut stream = UnixStream::connect(bench.path("run").join(name))?;
        stream.set_read_timeout(Some(patience))?;
        guest.console.run(&words::echo(name))?;
        let opened = Event::Channel {
            name: (*name).into(),
            open: true,
        };
        while events
            .recv_timeout(patience)
            .context("no event tells that it is open")?
            != opened
        {}

        let salt = u8::try_from(index)?;
        let sent: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8 ^ salt).collect();
        let mut writer = stream.try_clone()?;
        let (copy, mut got) = (sent.clone(), vec![0; sent.len()]);
        let sender = std::thread::spawn(move || writer.write_all(&copy));
        stream
            .read_exact(&mut got)
            .with_context(|| format!("the echo of {name}"))?;
        ensure!(got == sent, "{name} gives back something else");
        sender
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        ensure!(
            stream.read(&mut [0]).is_err(),
            "{name} gives back more than it got"
        );
    }
    guest.machine.stop(patience)?;
    bench.nothing_left()
}
