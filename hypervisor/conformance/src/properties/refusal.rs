//! What must not work, and says why.

use super::life::refused;
use crate::bench::Bench;
use anyhow::{Result, ensure};
use medley_hypervisor::{
    Boot, Channel, DiskEndpoint, ErrorKind, MachineSpec, Network, Screen, SharedFolder,
    SharedMemory,
};
use std::io::pipe;

pub fn a_bad_specification_is_refused(bench: &mut Bench<'_>) -> Result<()> {
    let with = |change: fn(&mut MachineSpec)| {
        let mut spec = bench.spec();
        change(&mut spec);
        spec
    };
    let bad = [
        ("name", with(|spec| spec.name = "<name/>".into())),
        ("memory_mib", with(|spec| spec.memory_mib = 1)),
        ("cpus", with(|spec| spec.cpus = 0)),
        (
            "run_dir",
            with(|spec| spec.run_dir = "/nonexistent/x".into()),
        ),
        (
            "disk.socket",
            with(|spec| spec.disk = DiskEndpoint::nbd_unix("x", "")),
        ),
        (
            "boot.kernel",
            with(|spec| {
                spec.boot = Boot::Kernel {
                    kernel: "/nonexistent/x".into(),
                    initrd: None,
                    cmdline: String::new(),
                }
            }),
        ),
        (
            "network.interface",
            with(|spec| {
                spec.network = Network::Tap {
                    interface: "a'b".into(),
                }
            }),
        ),
    ];
    for (field, spec) in bad {
        let made = bench.hypervisor.create(&spec);
        let words = made.as_ref().err().map(ToString::to_string);
        refused(field, ErrorKind::BadSpec, made)?;
        ensure!(
            words.is_some_and(|words| words.contains(field)),
            "{field} is not named"
        );
    }
    // A tap device of a name that nothing has.
    let missing = MachineSpec {
        network: Network::Tap {
            interface: "medley-none".into(),
        },
        ..bench.spec()
    };
    let made = bench.hypervisor.create(&missing);
    ensure!(made.is_err(), "a tap device was made up");
    bench.nothing_left()
}

pub fn an_absent_disk_is_refused(bench: &mut Bench<'_>) -> Result<()> {
    let disk = DiskEndpoint::nbd_unix(bench.path("no.sock"), "");
    let absent = MachineSpec {
        disk,
        ..bench.spec()
    };
    let made = bench.hypervisor.create(&absent);
    let words = made
        .as_ref()
        .err()
        .map(ToString::to_string)
        .unwrap_or_default();
    refused("an absent disk", ErrorKind::Launch, made)?;
    ensure!(
        words.contains("no.sock"),
        "it says {words:?}, and not which disk"
    );
    bench.nothing_left()
}

pub fn what_it_cannot_do_is_unsupported(bench: &mut Bench<'_>) -> Result<()> {
    let can = bench.hypervisor.capabilities();
    let spec = bench.spec();
    let refuse = |what: &str, spec: MachineSpec| {
        refused(what, ErrorKind::Unsupported, bench.hypervisor.create(&spec))
    };
    if !can.vhost_user_disk {
        let disk = DiskEndpoint::vhost_user_blk(bench.path("disk.sock"), 1);
        refuse(
            "a vhost-user disk",
            MachineSpec {
                disk,
                ..spec.clone()
            },
        )?;
    }
    if !can.channels {
        let channels = vec![Channel {
            name: "gui".into(),
            socket: bench.path("run/gui"),
        }];
        refuse(
            "a channel",
            MachineSpec {
                channels,
                ..spec.clone()
            },
        )?;
    }
    if !can.shared_memory {
        let file = bench.path("shared");
        std::fs::File::create(&file)?.set_len(1 << 20)?;
        let shared_memory = Some(SharedMemory { file, mib: 1 });
        refuse(
            "shared memory",
            MachineSpec {
                shared_memory,
                ..spec.clone()
            },
        )?;
    }
    if !can.shared_folders {
        let folders = vec![SharedFolder {
            tag: "home".into(),
            socket: bench.path("disk.sock"),
        }];
        refuse(
            "a shared folder",
            MachineSpec {
                folders,
                ..spec.clone()
            },
        )?;
    }
    if !can.screen {
        let screen = Some(Screen::new(bench.path("run/screen")));
        refuse(
            "a screen",
            MachineSpec {
                screen,
                ..spec.clone()
            },
        )?;
    }
    if !can.suspend {
        let (reader, _writer) = pipe()?;
        let restored = bench.hypervisor.restore(&spec, reader);
        refused("restore", ErrorKind::Unsupported, restored)?;
    }
    let guest = bench.create(&spec)?;
    let machine = &*guest.machine;
    machine.start()?;
    if !can.suspend {
        refused("save", ErrorKind::Unsupported, machine.save(pipe()?.1))?;
    }
    if !can.balloon {
        refused(
            "set the balloon",
            ErrorKind::Unsupported,
            machine.set_balloon(64),
        )?;
    }
    if !can.network_hotplug {
        let plugged = machine.plug_network(&Network::User);
        refused("plug a network", ErrorKind::Unsupported, plugged)?;
        refused(
            "unplug it",
            ErrorKind::Unsupported,
            machine.unplug_network(),
        )?;
    }
    machine.kill()?;
    bench.nothing_left()
}
