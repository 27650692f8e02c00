//! A machine's specification in libvirt's words: a pure function of it. Nothing in it is secret.

use crate::maker::Maker;
use crate::xml::{Element, element, sayable};
use medley_hypervisor::{
    Accelerator, Boot, DiskEndpoint, Error, ErrorKind, MachineSpec, OnReset, Result, Serial,
};
use std::path::Path;
use std::time::Duration;

/// What our element in a domain's metadata is called.
pub(crate) const NAMESPACE: &str = "urn:medley:machine:1";

/// How a domain differs from one of the same specification.
pub(crate) struct Circumstances<'a> {
    pub uuid: &'a str,
    pub maker: Maker,
    pub emulator: &'a Path,
    pub accelerator: Accelerator,
    /// The disk may wait for its server.
    pub reconnects: bool,
    /// It waits for the state of another.
    pub incoming: bool,
}

/// What an emulated processor is better without: the same as in QEMU's own command line.
const SLOWER: [&str; 3] = ["erms", "fsrm", "la57"];

/// The domain. The specification must have been validated.
pub(crate) fn domain(spec: &MachineSpec, how: &Circumstances<'_>) -> Result<Element> {
    check(spec)?;
    let (kind, cpu, without) = match how.accelerator {
        Accelerator::Kvm => ("kvm", "host-passthrough", &[][..]),
        Accelerator::Tcg => ("qemu", "maximum", &SLOWER[..]),
    };
    let reboot = match spec.on_reset {
        OnReset::Restart => "restart",
        OnReset::Stop => "destroy",
    };
    // Names are unique among all machines of a host, whoever made them.
    let name = format!("{} {}", spec.name, how.uuid);
    Ok(element("domain")
        .with("type", kind)
        .with("xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
        .child(element("name").text(name))
        .child(element("uuid").text(how.uuid))
        .child(element("title").text(&spec.name))
        .child(element("metadata").child(how.maker.element(&spec.name)))
        .child(element("memory").with("unit", "MiB").text(spec.memory_mib))
        .children(shared_memory(spec))
        .child(element("vcpu").text(spec.cpus))
        .child(os(&spec.boot))
        .child(
            element("features")
                .child(element("acpi"))
                .child(element("apic")),
        )
        .child(
            element("cpu")
                .with("mode", cpu)
                .children(without.iter().map(|name| {
                    element("feature")
                        .with("policy", "disable")
                        .with("name", name)
                })),
        )
        .child(element("clock").with("offset", "utc"))
        .child(element("on_poweroff").text("destroy"))
        .child(element("on_reboot").text(reboot))
        .child(element("on_crash").text("destroy"))
        .child(devices(spec, how))
        .child(command_line(how.incoming)))
}

/// What no XML can say.
fn check(spec: &MachineSpec) -> Result<()> {
    let cmdline = match &spec.boot {
        Boot::Kernel { cmdline, .. } => cmdline.as_str(),
        Boot::Disk => "",
    };
    let export = match &spec.disk {
        DiskEndpoint::NbdUnix { export, .. } => export.as_str(),
        _ => "",
    };
    for (field, text) in [("boot.cmdline", cmdline), ("disk.export", export)] {
        if !sayable(text) {
            let operation = format!("machine specification, {field}");
            let detail = "it holds a control character, which libvirt cannot take";
            return Err(Error::new(ErrorKind::BadSpec, operation, detail));
        }
    }
    Ok(())
}

/// Another process works in the guest's memory.
fn shared_memory(spec: &MachineSpec) -> Option<Element> {
    matches!(spec.disk, DiskEndpoint::VhostUserBlk { .. }).then(|| {
        element("memoryBacking")
            .child(element("source").with("type", "memfd"))
            .child(element("access").with("mode", "shared"))
    })
}

fn os(boot: &Boot) -> Element {
    let kind = element("type")
        .with("arch", "x86_64")
        .with("machine", "q35");
    let os = element("os").child(kind.text("hvm"));
    match boot {
        Boot::Disk => os.child(element("boot").with("dev", "hd")),
        Boot::Kernel {
            kernel,
            initrd,
            cmdline,
        } => os
            .child(element("kernel").text(kernel.display()))
            .children(
                initrd
                    .as_ref()
                    .map(|path| element("initrd").text(path.display())),
            )
            .child(element("cmdline").text(cmdline)),
    }
}

fn devices(spec: &MachineSpec, how: &Circumstances<'_>) -> Element {
    let controller = |kind, model| {
        element("controller")
            .with("type", kind)
            .with("model", model)
    };
    element("devices")
        .child(element("emulator").text(how.emulator.display()))
        .child(controller("usb", "none"))
        .child(disk(&spec.disk, how.reconnects))
        .children(serial(&spec.serial))
        .children(spec.channels.iter().map(|channel| {
            let target = element("target").with("type", "virtio");
            listening("channel", &channel.socket).child(target.with("name", &channel.name))
        }))
        .child(
            element("memballoon")
                .with("model", "virtio")
                .with("autodeflate", "on")
                .with("freePageReporting", "on"),
        )
        .child(
            element("rng")
                .with("model", "virtio")
                .child(element("backend").with("model", "builtin")),
        )
        .child(element("panic").with("model", "isa"))
}

fn disk(disk: &DiskEndpoint, reconnects: bool) -> Element {
    let target = element("target").with("dev", "vda").with("bus", "virtio");
    let driver = element("driver").with("name", "qemu").with("type", "raw");
    match disk {
        DiskEndpoint::NbdUnix {
            socket,
            export,
            reconnect,
        } => {
            // A guest that sees a failed write remounts read-only or worse: it is halted instead.
            let driver = driver
                .with("cache", "writeback")
                .with("error_policy", "stop")
                .with("rerror_policy", "stop")
                .with("discard", "unmap")
                .with("detect_zeroes", "off");
            let host = element("host").with("transport", "unix");
            let mut source = element("source").with("protocol", "nbd").with("tls", "no");
            if !export.is_empty() {
                source = source.with("name", export);
            }
            let patient = (reconnects && *reconnect >= Duration::from_secs(1)).then(|| {
                let seconds = reconnect.as_secs().min(u64::from(i32::MAX.unsigned_abs()));
                element("reconnect").with("delay", seconds)
            });
            element("disk")
                .with("type", "network")
                .with("device", "disk")
                .child(driver)
                .child(
                    source
                        .child(host.with("socket", socket.display()))
                        .children(patient),
                )
                .child(target)
        }
        DiskEndpoint::VhostUserBlk { socket, queues } => {
            let reconnect = element("reconnect")
                .with("enabled", "yes")
                .with("timeout", 1);
            let source = element("source")
                .with("type", "unix")
                .with("path", socket.display());
            element("disk")
                .with("type", "vhostuser")
                .with("device", "disk")
                .child(driver.with("queues", queues))
                .child(source.child(reconnect))
                .child(target)
        }
        // The back end's capabilities know of no other.
        _ => element("disk"),
    }
}

fn serial(serial: &Serial) -> Option<Element> {
    let path = |path: &Path| path.display().to_string();
    match (&serial.socket, &serial.log) {
        (None, None) => None,
        (None, Some(log)) => Some(
            element("serial").with("type", "file").child(
                element("source")
                    .with("path", path(log))
                    .with("append", "off"),
            ),
        ),
        (Some(socket), log) => Some(
            listening("serial", socket).children(
                log.as_ref()
                    .map(|log| element("log").with("file", path(log)).with("append", "off")),
            ),
        ),
    }
}

fn listening(kind: &'static str, socket: &Path) -> Element {
    let source = element("source")
        .with("mode", "bind")
        .with("path", socket.display());
    element(kind).with("type", "unix").child(source)
}

/// What libvirt has no words for: the slot into which network cards are plugged, out of the way of
/// libvirt's own; and that the machine's state comes from our pipe.
fn command_line(incoming: bool) -> Element {
    let slot = r#"{"driver":"pcie-root-port","id":"slot0","chassis":200,"slot":200}"#;
    let incoming = ["-incoming", "defer"].into_iter().filter(|_| incoming);
    let words = ["-device", slot].into_iter().chain(incoming);
    element("qemu:commandline").children(words.map(|word| element("qemu:arg").with("value", word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use medley_hypervisor::{Channel, Network};
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// What the package libvirt-daemon or libvirt0 of every distribution brings.
    const SCHEMA: &str = "/usr/share/libvirt/schemas/domain.rng";

    fn spec() -> MachineSpec {
        let disk = DiskEndpoint::nbd_unix("/run/d<&'\".sock", "x & y");
        MachineSpec::new("office 1.0", disk, "/")
    }

    fn xml(spec: &MachineSpec, accelerator: Accelerator, incoming: bool) -> String {
        let how = Circumstances {
            uuid: "6a3b2a3e-5f0e-4d2c-9a64-0b1d7c8f1e11",
            maker: Maker::ourselves(),
            emulator: Path::new("/usr/bin/qemu-system-x86_64"),
            accelerator,
            reconnects: true,
            incoming,
        };
        domain(spec, &how).unwrap().to_string()
    }

    /// libvirt's own schema takes it.
    fn valid(xml: &str) {
        assert!(
            Path::new(SCHEMA).exists(),
            "this test needs {SCHEMA}, of libvirt's packages"
        );
        let mut lint = Command::new("xmllint")
            .args(["--noout", "--relaxng", SCHEMA, "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this test needs xmllint, from the package libxml2-utils");
        lint.stdin
            .take()
            .unwrap()
            .write_all(xml.as_bytes())
            .unwrap();
        let output = lint.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}\n{xml}");
    }

    #[test]
    #[ignore = "needs libvirt's schemas: cargo xtask test --only hypervisor"]
    fn every_domain_fits_libvirts_own_schema() {
        // The oldest schemas know of no disk that waits.
        let at_once = |mut spec: MachineSpec| {
            if let DiskEndpoint::NbdUnix { reconnect, .. } = &mut spec.disk {
                *reconnect = Duration::ZERO;
            }
            spec
        };
        valid(&xml(&at_once(spec()), Accelerator::Tcg, false));
        let full = MachineSpec {
            disk: DiskEndpoint::vhost_user_blk("/run/v.sock", 2),
            cpus: 2,
            boot: Boot::Kernel {
                kernel: "/boot/vmlinuz".into(),
                initrd: Some("/boot/initrd".into()),
                cmdline: "a=\"<b>\" & c".into(),
            },
            serial: Serial {
                socket: Some("/run/serial".into()),
                log: Some("/run/log".into()),
            },
            channels: vec![Channel {
                name: "org.medley.gui".into(),
                socket: "/run/gui".into(),
            }],
            network: Network::User,
            on_reset: OnReset::Stop,
            ..spec()
        };
        valid(&xml(&full, Accelerator::Kvm, true));
        let logged = MachineSpec {
            serial: Serial::log("/run/log"),
            ..spec()
        };
        valid(&xml(&at_once(logged), Accelerator::Tcg, false));
    }

    #[test]
    fn a_disk_that_fails_halts_the_guest_and_comes_back() {
        let text = xml(&spec(), Accelerator::Tcg, false);
        assert!(text.contains("error_policy=\"stop\"") && text.contains("rerror_policy=\"stop\""));
        assert!(text.contains("<reconnect delay=\"20\"/>"), "{text}");
        assert!(
            text.contains("socket=\"/run/d&lt;&amp;&#39;&#34;.sock\""),
            "{text}"
        );
        let disk = DiskEndpoint::NbdUnix {
            socket: "/d".into(),
            export: String::new(),
            reconnect: Duration::ZERO,
        };
        let text = xml(&MachineSpec { disk, ..spec() }, Accelerator::Tcg, false);
        assert!(
            !text.contains("reconnect") && !text.contains("protocol=\"nbd\" name"),
            "{text}"
        );
    }

    #[test]
    fn only_a_restored_machine_waits_for_a_state() {
        assert!(!xml(&spec(), Accelerator::Tcg, false).contains("-incoming"));
        assert!(xml(&spec(), Accelerator::Tcg, true).contains("-incoming"));
    }

    #[test]
    fn what_no_xml_can_say_is_refused() {
        let spec = MachineSpec {
            disk: DiskEndpoint::nbd_unix("/d", "bell\u{7}"),
            ..spec()
        };
        let error = check(&spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadSpec);
        assert!(error.to_string().contains("disk.export"), "{error}");
    }
}
