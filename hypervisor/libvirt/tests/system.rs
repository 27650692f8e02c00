//! The suite on a libvirtd of our own, as a host's administrator would run it. It has its folders
//! in a mount namespace of its own, so that it meets neither another libvirtd nor its machines.
//! Only root can do that.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use common::Kept;
use medley_conformance::Fixture;
use medley_libvirt::Libvirt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Names the daemon's socket for a process that makes a machine and dies.
const SOCKET: &str = "MEDLEY_LIBVIRT_SOCKET";

/// Mounts the daemon's folders, and becomes it.
const DAEMON: &str = r#"
for folder in /run /var/lib/libvirt /etc/libvirt; do
    mkdir -p $folder && mount -t tmpfs tmpfs $folder || exit
done
mkdir -p /var/cache/libvirt && mount --bind "$2" /var/cache/libvirt || exit
cp "$1/qemu.conf" /etc/libvirt/
exec libvirtd -f "$1/libvirtd.conf" -p "$1/libvirtd.pid"
"#;

const QEMU: &str = r#"
user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"#;

struct Daemon {
    process: Child,
    folder: TempDir,
}

impl Daemon {
    fn start() -> Daemon {
        let folder = tempfile::Builder::new()
            .prefix("medley-lv")
            .tempdir()
            .unwrap();
        let path = folder.path();
        common::with_libvirts_user(path);
        std::fs::write(path.join("qemu.conf"), QEMU).unwrap();
        let config = format!(
            "unix_sock_dir = \"{}\"\nauth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\n",
            path.display()
        );
        std::fs::write(path.join("libvirtd.conf"), config).unwrap();
        let process = Command::new("unshare")
            .args([
                "--mount",
                "--propagation=private",
                "/bin/sh",
                "-c",
                DAEMON,
                "sh",
            ])
            .args([path, &common::cache("system")])
            .stdin(Stdio::null())
            .spawn()
            .expect("this test needs unshare, from the package util-linux");
        let daemon = Daemon { process, folder };
        let deadline = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(daemon.socket()).is_err() {
            let late = "libvirtd does not listen: this test needs root";
            assert!(Instant::now() < deadline, "{late}");
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn socket(&self) -> String {
        self.folder
            .path()
            .join("libvirt-sock")
            .display()
            .to_string()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn system() -> (Kept<Option<Daemon>>, Fixture) {
    let daemon = std::env::var_os(SOCKET)
        .is_none()
        .then(|| common::on_one_processor(Daemon::start));
    let socket = match &daemon {
        Some(daemon) => daemon.socket(),
        None => std::env::var(SOCKET).unwrap(),
    };
    let uri = format!("qemu+unix:///system?socket={socket}");
    let system = Kept::new(Libvirt::open(&uri).unwrap(), daemon);
    let fixture = Fixture::tiny().with_maker_environment(SOCKET, &socket);
    (system, fixture)
}

medley_conformance::tests! {
    #[ignore = "boots guests: cargo xtask test --only hypervisor"]
    system
}

#[test]
#[ignore = "needs libvirt: cargo xtask test --only hypervisor"]
fn what_is_not_there_or_not_here_is_said() {
    let Err(error) = Libvirt::open("qemu+unix:///system?socket=/nonexistent/x") else {
        panic!("there is no such socket");
    };
    assert!(error.to_string().contains("start libvirtd"), "{error}");
    for elsewhere in ["qemu+ssh://host/system", "test:///default", "nonsense"] {
        let error = Libvirt::open(elsewhere).err().unwrap();
        assert_eq!(error.kind(), medley_hypervisor::ErrorKind::Unsupported);
    }
}
