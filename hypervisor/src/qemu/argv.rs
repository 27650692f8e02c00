//! QEMU's command line: a pure function of the specification.

use crate::backend::mac_address;
use crate::{
    Accelerator, Boot, DiskEndpoint, MachineSpec, Network, OnReset, Screen, Serial, SharedFolder,
    SharedMemory,
};
use serde_json::{Value, json};
use std::os::fd::RawFd;
use std::path::Path;

/// The arguments that make this machine, stopped before its first instruction, with its monitor on
/// an inherited descriptor. The specification must have been validated.
pub(super) fn arguments(
    spec: &MachineSpec,
    accelerator: Accelerator,
    monitor: RawFd,
) -> Vec<String> {
    let mut args = Arguments(Vec::new());
    args.option("-name", format!("guest={}", spec.name));
    args.confine();
    args.accelerate(accelerator);
    args.memory(spec);
    args.option("-smp", spec.cpus.to_string());
    args.flag("-S");
    let reset = match spec.on_reset {
        OnReset::Restart => "reset",
        OnReset::Stop => "shutdown",
    };
    args.option(
        "-action",
        format!("reboot={reset},shutdown=poweroff,panic=shutdown"),
    );
    args.option("-rtc", "base=utc");

    args.option("-chardev", format!("socket,id=monitor,fd={monitor}"));
    args.option("-mon", "chardev=monitor,mode=control");

    args.boot(&spec.boot);
    args.disk(spec);
    args.serial(&spec.serial);
    args.channels(spec);
    args.balloon();
    args.network(spec);
    spec.shared_memory.iter().for_each(|it| args.shared(it));
    for (index, folder) in spec.folders.iter().enumerate() {
        args.folder(index, folder);
    }
    spec.screen.iter().for_each(|it| args.screen(it));
    args.json("-object", json!({"qom-type": "rng-builtin", "id": "rng0"}));
    args.device(json!({"driver": "virtio-rng-pci", "rng": "rng0"}));
    args.device(json!({"driver": "pvpanic"}));
    args.0
}

/// All that QEMU can emulate, but for what makes it slower: fast string instructions are emulated byte by byte, and
/// each level of page tables is walked in software. A guest is ready a fifth sooner without.
const EMULATED: &str = "max,erms=off,fsrm=off,la57=off";

/// What a machine that goes on where another was saved is told beside.
pub(super) const INCOMING: [&str; 2] = ["-incoming", "defer"];

/// Where the balloon is in QEMU's tree of objects.
pub(super) const BALLOON: &str = "/machine/peripheral/balloon0";
/// The network card's names: of the card and of what it is plugged into.
pub(super) const CARD: &str = "card0";
/// See [`CARD`].
pub(super) const NETDEV: &str = "net0";
/// What QEMU calls the descriptor of a tap device that it is handed.
pub(super) const TAP: &str = "tap0";
/// The slot on the bus that cards may be plugged into while the machine runs.
const SLOT: &str = "slot0";
/// The size that a guest's driver gives a screen which nobody has looked at yet.
const SCREEN: (u16, u16) = (1280, 800);

/// Where frames go; `None` without a network.
pub(super) fn netdev(network: &Network) -> Option<Value> {
    Some(match network {
        Network::None => return None,
        Network::User => json!({"type": "user", "id": NETDEV}),
        Network::Stream { socket } => json!({
            "type": "stream",
            "id": NETDEV,
            "server": false,
            "addr": {"type": "unix", "path": utf8(socket)},
        }),
        Network::Tap { interface } => json!({
            "type": "tap",
            "id": NETDEV,
            "ifname": interface,
            "script": "no",
            "downscript": "no",
            "vhost": false,
        }),
        Network::TapDevice(_) => json!({"type": "tap", "id": NETDEV, "fd": TAP, "vhost": false}),
    })
}

/// Whether it goes through the monitor with its descriptor, and not on the command line.
pub(super) fn is_handed(network: &Network) -> bool {
    matches!(network, Network::TapDevice(_))
}

/// The network card. No option ROM: nobody boots from it, and the ROMs are a package of their own.
pub(super) fn card(name: &str) -> Value {
    json!({
        "driver": "virtio-net-pci",
        "id": CARD,
        "netdev": NETDEV,
        "mac": mac_address(name),
        "bus": SLOT,
        "romfile": "",
    })
}

/// Whether another process works in the guest's memory.
fn shares_memory(spec: &MachineSpec) -> bool {
    matches!(spec.disk, DiskEndpoint::VhostUserBlk { .. }) || !spec.folders.is_empty()
}

/// What every QEMU of ours is told first: none of the user's or the distribution's defaults, no
/// window, and no system call that a machine has no need of.
pub(super) fn confined() -> Vec<String> {
    let mut args = Arguments(Vec::new());
    args.confine();
    args.0
}

/// The arguments for an accelerator and the processor that goes with it.
pub(super) fn accelerated(accelerator: Accelerator) -> Vec<String> {
    let mut args = Arguments(Vec::new());
    args.accelerate(accelerator);
    args.0
}

struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.0.extend([name.into(), value.into()]);
    }

    /// Options in JSON need no escaping.
    fn json(&mut self, name: &str, value: Value) {
        self.option(name, value.to_string());
    }

    fn device(&mut self, value: Value) {
        self.json("-device", value);
    }

    fn confine(&mut self) {
        self.flag("-nodefaults");
        self.flag("-no-user-config");
        self.option("-display", "none");
        self.option(
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        );
    }

    fn accelerate(&mut self, accelerator: Accelerator) {
        let (accelerator, cpu) = match accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg", EMULATED),
        };
        // The guest's memory is in no core file of QEMU's.
        self.option("-machine", "q35,dump-guest-core=off");
        self.option("-accel", accelerator);
        self.option("-cpu", cpu);
    }

    fn memory(&mut self, spec: &MachineSpec) {
        self.option("-m", format!("{}M", spec.memory_mib));
        if shares_memory(spec) {
            let bytes = u64::from(spec.memory_mib) << 20;
            let backend = "memory-backend-memfd";
            let memory = json!({"qom-type": backend, "id": "ram", "size": bytes, "share": true});
            self.json("-object", memory);
            self.option("-machine", "memory-backend=ram");
        }
    }

    /// Pages that the guest freed are the host's again, unasked; a guest that runs out of memory
    /// takes from the balloon before it kills a process.
    fn balloon(&mut self) {
        self.device(json!({
            "driver": "virtio-balloon-pci",
            "id": "balloon0",
            "deflate-on-oom": true,
            "free-page-reporting": true,
        }));
    }

    /// The slot is there without a card, so that one can come later.
    fn network(&mut self, spec: &MachineSpec) {
        let slot = json!({"driver": "pcie-root-port", "id": SLOT, "chassis": 1, "slot": 1});
        self.device(slot);
        let netdev = netdev(&spec.network).filter(|_| !is_handed(&spec.network));
        if let Some(netdev) = netdev {
            self.json("-netdev", netdev);
            self.device(card(&spec.name));
        }
    }

    /// `master`: the memory travels with the machine's state, so that it can be saved.
    fn shared(&mut self, shared: &SharedMemory) {
        self.json(
            "-object",
            json!({
                "qom-type": "memory-backend-file",
                "id": "shared0",
                "mem-path": utf8(&shared.file),
                "size": u64::from(shared.mib) << 20,
                "share": true,
            }),
        );
        self.device(json!({"driver": "ivshmem-plain", "memdev": "shared0", "master": "on"}));
    }

    fn folder(&mut self, index: usize, folder: &SharedFolder) {
        let id = format!("folder{index}");
        let path = escaped(&folder.socket);
        self.option("-chardev", format!("socket,id={id},path={path}"));
        let tag = folder.tag.as_str();
        self.device(json!({"driver": "vhost-user-fs-pci", "chardev": id, "tag": tag}));
    }

    /// A card that firmware can write text on and whose size follows the viewer's window, once the guest
    /// has a driver for it. Keys go to the PC's own keyboard until the guest has one for the other.
    /// Locks are the guest's: they are not guessed from what a viewer types. The card is named, or QEMU
    /// would take Control+Alt with a digit for itself.
    fn screen(&mut self, screen: &Screen) {
        self.device(json!({
            "driver": "virtio-vga",
            "id": "screen0",
            "xres": SCREEN.0,
            "yres": SCREEN.1,
        }));
        self.device(json!({"driver": "virtio-keyboard-pci", "id": "keyboard0"}));
        self.device(json!({"driver": "virtio-tablet-pci", "id": "pointer0"}));
        let path = escaped(&screen.socket);
        self.option(
            "-vnc",
            format!("unix:{path},display=screen0,share=force-shared,lock-key-sync=off"),
        );
    }

    fn boot(&mut self, boot: &Boot) {
        if let Boot::Kernel {
            kernel,
            initrd,
            cmdline,
        } = boot
        {
            self.option("-kernel", utf8(kernel));
            if let Some(initrd) = initrd {
                self.option("-initrd", utf8(initrd));
            }
            self.option("-append", cmdline);
        }
    }

    fn disk(&mut self, spec: &MachineSpec) {
        let mut device = match &spec.disk {
            DiskEndpoint::NbdUnix {
                socket,
                export,
                reconnect,
            } => {
                let mut node = json!({
                    "driver": "nbd",
                    "node-name": "disk0",
                    "server": {"type": "unix", "path": utf8(socket)},
                    "reconnect-delay": reconnect.as_secs().min(u32::MAX.into()),
                    "discard": "unmap",
                    "detect-zeroes": "off",
                    "cache": {"direct": false, "no-flush": false},
                });
                if !export.is_empty() {
                    node["export"] = export.as_str().into();
                }
                self.json("-blockdev", node);
                json!({
                    "driver": "virtio-blk-pci",
                    "drive": "disk0",
                    "write-cache": "on",
                    // A guest that sees a failed write remounts read-only or worse. Halted, it can go
                    // on as if nothing had been once the disk is back.
                    "rerror": "stop",
                    "werror": "stop",
                })
            }
            DiskEndpoint::VhostUserBlk { socket, queues } => {
                let path = escaped(socket);
                self.option(
                    "-chardev",
                    format!("socket,id=disk0,path={path},reconnect-ms=500"),
                );
                json!({
                    "driver": "vhost-user-blk-pci",
                    "chardev": "disk0",
                    "num-queues": queues,
                })
            }
        };
        device["id"] = "disk0-dev".into();
        if spec.boot == Boot::Disk {
            device["bootindex"] = 0.into();
        }
        self.device(device);
    }

    fn serial(&mut self, serial: &Serial) {
        let chardev = match (&serial.socket, &serial.log) {
            (None, None) => return,
            (None, Some(log)) => format!("file,id=serial0,path={}", escaped(log)),
            (Some(socket), log) => {
                let log = log
                    .as_deref()
                    .map(|log| format!(",logfile={},logappend=off", escaped(log)));
                listening("serial0", socket) + &log.unwrap_or_default()
            }
        };
        self.option("-chardev", chardev);
        self.option("-serial", "chardev:serial0");
    }

    fn channels(&mut self, spec: &MachineSpec) {
        if spec.channels.is_empty() {
            return;
        }
        self.device(json!({"driver": "virtio-serial-pci", "id": "channels"}));
        for (index, channel) in spec.channels.iter().enumerate() {
            let chardev = format!("chardev-channel{index}");
            self.option("-chardev", listening(&chardev, &channel.socket));
            self.device(json!({
                "driver": "virtserialport",
                "id": channel_id(index),
                "bus": "channels.0",
                "chardev": chardev,
                "name": channel.name,
            }));
        }
    }
}

/// The device id of a channel, which events name.
pub(super) fn channel_id(index: usize) -> String {
    format!("channel{index}")
}

fn listening(id: &str, socket: &Path) -> String {
    format!("socket,id={id},path={},server=on,wait=off", escaped(socket))
}

/// Validation refused every path that is not UTF-8.
fn utf8(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// QEMU's `key=value,…` options end a value at a comma unless it is doubled.
fn escaped(path: &Path) -> String {
    utf8(path).replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Channel;
    use std::time::Duration;

    fn spec() -> MachineSpec {
        MachineSpec::new(
            "office",
            DiskEndpoint::nbd_unix("/run/d,i\"s.sock", "x"),
            "/",
        )
    }

    fn args(spec: &MachineSpec) -> Vec<String> {
        arguments(spec, Accelerator::Tcg, 5)
    }

    fn after<'a>(args: &'a [String], option: &str) -> Vec<&'a str> {
        args.windows(2)
            .filter(|pair| pair[0] == option)
            .map(|pair| pair[1].as_str())
            .collect()
    }

    fn devices(args: &[String]) -> Vec<Value> {
        after(args, "-device")
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect()
    }

    #[test]
    fn the_machine_is_confined_and_waits() {
        let args = args(&spec());
        for flag in ["-nodefaults", "-no-user-config", "-S"] {
            assert!(args.iter().any(|arg| arg == flag), "{flag}");
        }
        assert!(after(&args, "-sandbox")[0].starts_with("on,"));
        assert_eq!(after(&args, "-chardev"), ["socket,id=monitor,fd=5"]);
        assert_eq!(after(&args, "-m"), ["512M"]);
        assert!(after(&args, "-netdev").is_empty() && after(&args, "-serial").is_empty());
    }

    #[test]
    fn the_disk_is_nbd_with_flush_and_discard() {
        let args = args(&spec());
        let node: Value = serde_json::from_str(after(&args, "-blockdev")[0]).unwrap();
        assert_eq!(
            node["server"],
            json!({"type": "unix", "path": "/run/d,i\"s.sock"})
        );
        assert_eq!(node["export"], "x");
        assert_eq!(node["reconnect-delay"], 20);
        assert_eq!(node["discard"], "unmap");
        assert_eq!(node["cache"]["no-flush"], false);
        let disk = devices(&args)
            .into_iter()
            .find(|d| d["drive"] == "disk0")
            .unwrap();
        assert_eq!(
            (disk["bootindex"].as_i64(), disk["werror"].as_str()),
            (Some(0), Some("stop"))
        );
    }

    #[test]
    fn the_default_export_is_not_named() {
        let disk = DiskEndpoint::NbdUnix {
            socket: "/d".into(),
            export: String::new(),
            reconnect: Duration::MAX,
        };
        let args = args(&MachineSpec { disk, ..spec() });
        let node: Value = serde_json::from_str(after(&args, "-blockdev")[0]).unwrap();
        assert!(node.get("export").is_none());
        assert_eq!(node["reconnect-delay"], u32::MAX);
    }

    #[test]
    fn a_vhost_user_disk_shares_the_memory() {
        let disk = DiskEndpoint::vhost_user_blk("/run/d,1", 3);
        let args = args(&MachineSpec { disk, ..spec() });
        assert!(after(&args, "-blockdev").is_empty());
        assert!(after(&args, "-machine").contains(&"memory-backend=ram"));
        let memory = after(&args, "-object")
            .into_iter()
            .map(|text| serde_json::from_str::<Value>(text).unwrap())
            .find(|object| object["id"] == "ram")
            .unwrap();
        assert_eq!(
            (memory["size"].as_u64(), memory["share"].as_bool()),
            (Some(512 << 20), Some(true))
        );
        assert!(
            after(&args, "-chardev").contains(&"socket,id=disk0,path=/run/d,,1,reconnect-ms=500")
        );
        let disk = devices(&args)
            .into_iter()
            .find(|d| d["chardev"] == "disk0")
            .unwrap();
        assert_eq!(
            (disk["num-queues"].as_i64(), disk["bootindex"].as_i64()),
            (Some(3), Some(0))
        );
    }

    #[test]
    fn every_machine_has_an_address_of_its_own() {
        let spec = |name: &str| MachineSpec {
            name: name.into(),
            network: Network::User,
            ..spec()
        };
        let mac = |name: &str| {
            let devices = devices(&args(&spec(name)));
            let card = devices.into_iter().find(|device| device["id"] == CARD);
            card.unwrap()["mac"].as_str().unwrap().to_owned()
        };
        assert_eq!(mac("office"), mac("office"));
        assert_ne!(mac("office"), mac("office2"));
        assert!(mac("office").starts_with("52:54:00:"));
    }

    #[test]
    fn an_open_tap_device_is_not_on_the_command_line() {
        let device = || crate::TapDevice::new(std::fs::File::open("/dev/null").unwrap().into());
        let network = Network::TapDevice(device());
        assert_eq!(network, network.clone());
        assert_ne!(network, Network::TapDevice(device()));
        let args = args(&MachineSpec {
            network: network.clone(),
            ..spec()
        });
        assert!(after(&args, "-netdev").is_empty());
        assert!(devices(&args).iter().all(|device| device["id"] != CARD));
        // Its descriptor has a name for QEMU instead.
        assert_eq!(netdev(&network).unwrap()["fd"], TAP);
    }

    #[test]
    fn shared_memory_and_folders_do_not_keep_a_machine_from_being_saved() {
        let spec = MachineSpec {
            shared_memory: Some(SharedMemory {
                file: "/dev/shm/pixels".into(),
                mib: 16,
            }),
            folders: vec![SharedFolder {
                tag: "inbox".into(),
                socket: "/run/i,nbox".into(),
            }],
            ..spec()
        };
        let args = args(&spec);
        let devices = devices(&args);
        let driver = |name: &str| devices.iter().find(|device| device["driver"] == name);
        assert_eq!(driver("ivshmem-plain").unwrap()["master"], "on");
        assert_eq!(driver("vhost-user-fs-pci").unwrap()["tag"], "inbox");
        assert!(after(&args, "-chardev").contains(&"socket,id=folder0,path=/run/i,,nbox"));
        // The folder's server works in the guest's memory.
        assert!(after(&args, "-machine").contains(&"memory-backend=ram"));
    }

    #[test]
    fn a_screen_brings_keyboard_and_pointer() {
        let names = ["virtio-vga", "virtio-keyboard-pci", "virtio-tablet-pci"];
        let has = |args: &[String], name: &str| devices(args).iter().any(|d| d["driver"] == name);
        let blind = args(&spec());
        assert!(after(&blind, "-vnc").is_empty());
        assert!(names.iter().all(|name| !has(&blind, name)));
        let screen = Some(Screen::new("/run/a,b.sock"));
        let args = args(&MachineSpec { screen, ..spec() });
        assert!(names.iter().all(|name| has(&args, name)));
        let vnc = after(&args, "-vnc");
        assert!(vnc[0].starts_with("unix:/run/a,,b.sock,"), "{vnc:?}");
        // No other window.
        assert_eq!(after(&args, "-display"), ["none"]);
    }

    #[test]
    fn commas_in_paths_stay_in_paths() {
        let serial = Serial {
            socket: Some("/run/a,b".into()),
            log: Some("/run/c,d".into()),
        };
        let args = args(&MachineSpec { serial, ..spec() });
        assert!(after(&args, "-chardev").contains(
            &"socket,id=serial0,path=/run/a,,b,server=on,wait=off,logfile=/run/c,,d,logappend=off"
        ));
    }

    #[test]
    fn a_kernel_replaces_the_boot_disk() {
        let boot = Boot::Kernel {
            kernel: "/boot/vmlinuz".into(),
            initrd: Some("/boot/initrd,1".into()),
            cmdline: "console=ttyS0 a=b,c".into(),
        };
        let args = args(&MachineSpec { boot, ..spec() });
        assert_eq!(after(&args, "-initrd"), ["/boot/initrd,1"]);
        assert_eq!(after(&args, "-append"), ["console=ttyS0 a=b,c"]);
        assert!(
            devices(&args)
                .iter()
                .all(|device| device.get("bootindex").is_none())
        );
    }

    #[test]
    fn channels_are_ports_of_one_bus() {
        let channel = |name: &str| Channel {
            name: name.into(),
            socket: format!("/run/{name}").into(),
        };
        let channels = vec![channel("org.medley.gui"), channel("org.medley.control")];
        let devices = devices(&args(&MachineSpec { channels, ..spec() }));
        let ports: Vec<_> = devices
            .iter()
            .filter(|device| device["driver"] == "virtserialport")
            .collect();
        assert_eq!(ports[1]["name"], "org.medley.control");
        assert_eq!(ports[1]["id"], channel_id(1));
        assert_eq!(
            devices
                .iter()
                .filter(|d| d["driver"] == "virtio-serial-pci")
                .count(),
            1
        );
    }

    #[test]
    fn accelerators_bring_their_processor() {
        let kvm = arguments(&spec(), Accelerator::Kvm, 5);
        assert_eq!(
            (after(&kvm, "-accel"), after(&kvm, "-cpu")),
            (vec!["kvm"], vec!["host"])
        );
        let tcg = args(&spec());
        assert_eq!(
            (after(&tcg, "-accel"), after(&tcg, "-cpu")),
            (vec!["tcg"], vec![EMULATED])
        );
    }
}
