//! The helper as it is installed, with a bridge, a tap device and frames: in namespaces of the test's own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use medley_network::ErrorKind;
use medley_network::bridge::{Place, join};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const HELPER: &str = env!("CARGO_BIN_EXE_medley-bridge-helper");
const INSIDE: &str = "MEDLEY_TEST_IN_NAMESPACE";
const LIST: &str = "/etc/medley/bridges.acl";

/// Runs this test again in namespaces of its own, where there is a bridge and an empty `/etc`.
fn inside(test: &str) -> bool {
    if let Err(error) = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
    {
        println!("skipped {test}: no tap device can be made here, /dev/net/tun: {error}");
        return false;
    }
    if std::env::var_os(INSIDE).is_some() {
        sh(
            "ip link set lo up; ip link add br0 type bridge; ip addr add 192.0.2.1/24 dev br0; \
            ip link set br0 mtu 1400 up; mount -t tmpfs none /etc; mkdir /etc/medley; \
            echo root:x:0:0::/:/bin/sh > /etc/passwd; echo office:x:0: > /etc/group",
        );
        return true;
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("these tests need unshare, from the package util-linux");
    assert!(status.success(), "{test}, in its namespace");
    false
}

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn allow(list: &str) {
    fs::write(LIST, list).unwrap();
    fs::set_permissions(LIST, PermissionsExt::from_mode(0o644)).unwrap();
}

fn ask(bridge: &str) -> medley_network::Result<Place> {
    join(bridge, Some(Path::new(HELPER)))
}

/// A question who has 192.0.2.1, as a guest asks it behind virtio's header.
fn question() -> Vec<u8> {
    let mut frame = vec![0; 10];
    frame.extend([0xff; 6]);
    let own = [0x52, 0x54, 0, 1, 2, 3];
    frame.extend(own);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(own);
    frame.extend([192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
    frame
}

#[test]
fn frames_go_to_the_bridge_and_come_back() {
    if !inside("frames_go_to_the_bridge_and_come_back") {
        return;
    }
    allow("deny br1 everyone\nallow br0 group office # the host's address is theirs\n");
    let place = ask("br0").unwrap();
    let ports = sh("ip -o link show master br0");
    assert!(
        ports.contains(&place.interface) && ports.contains("UP"),
        "{ports}"
    );
    assert!(
        ports.contains("mtu 1400") && ports.contains("fe:"),
        "{ports}"
    );
    // A bridge forwards a moment after a port is there.
    let mut device = fs::File::from(place.device);
    let deadline = Instant::now() + Duration::from_secs(20);
    let (tell, told) = std::sync::mpsc::channel();
    let mut reader = device.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut frame = [0; 2048];
        while let Ok(length) = reader.read(&mut frame) {
            if tell.send(frame[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    let answer = loop {
        device.write_all(&question()).unwrap();
        let frame = told.recv_timeout(Duration::from_millis(300));
        // The answer to 192.0.2.7: that 192.0.2.1 is at the bridge.
        if let Ok(frame) = frame
            && frame[10..16] == [0x52, 0x54, 0, 1, 2, 3]
            && frame[22..32] == [8, 6, 0, 1, 8, 0, 6, 4, 0, 2]
        {
            break frame;
        }
        assert!(Instant::now() < deadline, "nobody answers");
    };
    assert_eq!(answer[38..42], [192, 0, 2, 1]);
    // Another's place is another device.
    let second = ask("br0").unwrap();
    assert_ne!(second.interface, place.interface);
    drop(second);
    let ports = sh("ip -o link show master br0");
    assert_eq!(ports.lines().count(), 1, "{ports}");
}

#[test]
fn what_is_refused_is_explained_and_leaves_nothing() {
    if !inside("what_is_refused_is_explained_and_leaves_nothing") {
        return;
    }
    let refused = |bridge: &str, why: &str| {
        let error = ask(bridge).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
        let taps = sh("ip -o link show");
        assert!(!taps.contains("medley"), "{why}: {taps}");
    };
    refused("br0", "there is no such list");
    allow("allow br1 everyone\n");
    refused(
        "br0",
        "does not allow you br0; ask for a line like: allow br0 user 0",
    );
    allow("allow br0 everyone\ndeny * user root\n");
    refused("br0", "line 2, denies you br0");
    allow("allow br0 everyone\nallow\n");
    refused("br0", "line 2 is no rule");
    allow("allow * everyone\n");
    refused("br7", "this host has no bridge br7");
    sh("ip link add w0 type veth");
    refused("w0", "w0 is no bridge");
    refused("lo", "the MTU of lo, as a bridge's");
    fs::set_permissions(LIST, PermissionsExt::from_mode(0o666)).unwrap();
    refused("br0", "others than root may write it");
    allow("allow * everyone\n");
    fs::set_permissions("/etc/medley", PermissionsExt::from_mode(0o777)).unwrap();
    refused("br0", "others than root may write it");
    fs::set_permissions("/etc/medley", PermissionsExt::from_mode(0o755)).unwrap();
    drop(ask("br0").unwrap());
    // Without the right, nothing is done, and it says which.
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
        .args([HELPER, "br0"])
        .stdin(OwnedFd::from(theirs))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("cap_net_admin+ep"),
        "{said}"
    );
}

#[test]
fn it_listens_to_one_argument_and_one_socket() {
    if !inside("it_listens_to_one_argument_and_one_socket") {
        return;
    }
    allow("allow * everyone\n");
    let run = |args: &[&str], stdin: Stdio| {
        let output = Command::new(HELPER)
            .args(args)
            .env("MEDLEY_BRIDGES", "/tmp")
            .env("RUST_BACKTRACE", "full")
            .stdin(stdin)
            .output()
            .unwrap();
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(output.status.code(), Some(1));
        said
    };
    assert!(run(&[], Stdio::null()).contains("one argument"));
    assert!(run(&["br0", "br0"], Stdio::null()).contains("one argument"));
    assert!(run(&["--help"], Stdio::null()).contains("letter or digit first"));
    assert!(run(&["br0"], Stdio::null()).contains("not a Unix socket"));
    assert!(run(&["br0"], Stdio::piped()).contains("not a Unix socket"));
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(run(&["br0"], OwnedFd::from(udp).into()).contains("not a Unix socket"));
    // Whoever hangs up gets nothing, and leaves nothing.
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    assert!(run(&["br0"], OwnedFd::from(theirs).into()).contains("cannot hand over"));
    assert!(!sh("ip -o link show").contains("medley"));
}

#[test]
fn what_is_handed_over_is_a_tap_device_and_closed_to_children() {
    if !inside("what_is_handed_over_is_a_tap_device_and_closed_to_children") {
        return;
    }
    allow("allow br0 user root\n");
    let place = ask("br0").unwrap();
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", place.device.as_raw_fd()));
    let about = about.unwrap();
    assert!(
        about.contains(&format!("iff:\t{}", place.interface)),
        "{about}"
    );
    let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
    assert_ne!(flags & 0o2_000_000, 0, "children would get it: {flags:o}");
}

/// As packages install it, with each of the two ways to have the right, for a user who has none.
#[test]
fn installed_either_way_it_serves_an_ordinary_user() {
    const NAME: &str = "installed_either_way_it_serves_an_ordinary_user";
    const AS_USER: &str = "MEDLEY_TEST_AS_USER";
    if let Some(helper) = std::env::var_os(AS_USER) {
        assert!(!nix::unistd::geteuid().is_root());
        let helper = Path::new(&helper);
        join("br0", Some(helper)).unwrap();
        let refused = join("br1", Some(helper)).unwrap_err();
        let words = "does not allow you br1; ask for a line like: allow br1 user 65534";
        assert!(refused.to_string().contains(words), "{refused}");
        return;
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let all = map.split_ascii_whitespace().last() == Some("4294967295");
    if !nix::unistd::geteuid().is_root() || !all {
        println!("skipped {NAME}: only root installs programs with rights");
        return;
    }
    if std::env::var_os(INSIDE).is_none() {
        if !Path::new("/dev/net/tun").exists() {
            println!("skipped {NAME}: no tap device can be made here");
            return;
        }
        let status = Command::new("unshare")
            .args(["--net", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(INSIDE, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    sh(
        "ip link set lo up; ip link add br0 type bridge; ip link set br0 up; \
        mount -t tmpfs none /etc; mkdir /etc/medley; echo nobody:x:65534:65534::/:/bin/sh > /etc/passwd",
    );
    allow("allow br0 user nobody\n");
    let folder = tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let copy = |from: &Path, name: &str, mode| {
        let to = folder.path().join(name);
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, PermissionsExt::from_mode(mode)).unwrap();
        to
    };
    let test = copy(&std::env::current_exe().unwrap(), "test", 0o755);
    let setuid = copy(Path::new(HELPER), "setuid", 0o4755);
    let mut helpers = vec![setuid];
    let capable = copy(Path::new(HELPER), "capable", 0o755);
    let set = Command::new("setcap")
        .arg("cap_net_admin+ep")
        .arg(&capable)
        .status();
    match set.is_ok_and(|status| status.success()) {
        true => helpers.push(capable),
        false => {
            println!("skipped {NAME} with a capability: setcap, of libcap2-bin, cannot set it")
        }
    }
    for helper in helpers {
        let status = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&test)
            .args(["--exact", NAME, "--nocapture"])
            .env(AS_USER, &helper)
            .status()
            .unwrap();
        assert!(status.success(), "{}", helper.display());
    }
}
