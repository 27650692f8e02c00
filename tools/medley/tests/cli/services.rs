//! Servers and mounts: ready when they say so, gone when they end.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::*;

#[test]
fn a_server_serves_and_leaves_nothing() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut server, line) = start(&folder, "disk serve a.vhd --nbd sock --passphrase-file pw");
        assert!(
            line.contains("nbd+unix:///?socket=/") && line.contains("read-only, encrypted"),
            "{line}"
        );
        let mut greeting = [0; 8];
        UnixStream::connect(folder.path("sock"))
            .unwrap()
            .read_exact(&mut greeting)
            .unwrap();
        assert_eq!(&greeting, b"NBDMAGIC");
        server.signal(signal);
        assert_eq!(server.code(), 0);
        assert!(!folder.has("sock") && folder.is_tidy());
    }
}

#[test]
fn the_second_who_opens_is_told() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    let (mut server, _) = start(
        &folder,
        "disk serve a.vhd --nbd sock --keep --passphrase-file pw",
    );
    let error = folder.fails(6, "disk decrypt a.vhd b.raw --passphrase-file pw");
    assert!(
        error.contains("a.vhd") && error.contains("another process"),
        "{error}"
    );
    folder.fails(6, "disk check a.vhd");
    std::fs::create_dir(folder.path("m")).unwrap();
    folder.fails(6, "disk mount a.vhd m --passphrase-file pw");
    folder.ok("disk info a.vhd");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.code(), 0);
    folder.ok("disk decrypt a.vhd b.raw --passphrase-file pw");
}

#[test]
fn a_server_in_the_background() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    let served = folder
        .json("disk serve a.vhd --nbd sock --daemon --export x --revertible --passphrase-file pw");
    let pid = served["pid"].as_u64().unwrap();
    assert!(UnixStream::connect(folder.path("sock")).is_ok());
    folder.fails(
        6,
        "disk serve a.vhd --nbd sock --daemon --passphrase-file pw",
    );
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), Signal::SIGTERM).unwrap();
    until("the server's end", || !alive(pid));
    assert!(!folder.has("sock"));
}

#[test]
fn a_virtual_machine_is_served_out_of_its_memory() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    for mode in ["", "--revertible"] {
        let (mut server, line) = start(
            &folder,
            &format!(
                "disk serve a.vhd --vhost-user sock {mode} --stats=s.json --passphrase-file pw"
            ),
        );
        assert!(line.contains("/sock (vhost-user-blk) --stats"), "{line}");
        let time = std::time::Duration::from_millis(50);
        let load = vdisk_vhost_client::Load::small(time);
        let pattern = vdisk_vhost_client::Pattern::RandomRead;
        let figures = vdisk_vhost_client::bench(folder.path("sock"), pattern, &load).unwrap();
        assert!(figures.requests > 0);
        server.signal(Signal::SIGTERM);
        assert_eq!(server.code(), 0);
        let stats: Value = serde_json::from_slice(&folder.read("s.json")).unwrap();
        assert!(
            stats["read"]["requests"].as_u64().unwrap() >= figures.requests,
            "{stats}"
        );
        std::fs::remove_file(folder.path("s.json")).unwrap();
        assert!(!folder.has("sock") && folder.is_tidy());
    }
    assert_eq!(folder.run("disk serve a.vhd").code, 2);
    assert_eq!(
        folder.run("disk serve a.vhd --nbd a --vhost-user b").code,
        2
    );
}

#[test]
fn a_mount_shows_the_disk_until_it_is_unmounted() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    let before = folder.read("a.vhd");
    let dir = folder.path("m");
    std::fs::create_dir(&dir).unwrap();
    let mounted = folder.json("disk mount a.vhd m --passphrase-file pw");
    assert_eq!(mounted["mode"], "read-only");
    assert!(folder.read("m/disk.raw") == plain(4 << 20));
    assert!(folder.read("m/disk.vhd")[..4 << 20] == plain(4 << 20)[..]);
    let status: Value = serde_json::from_slice(&folder.read("m/status.json")).unwrap();
    assert_eq!(status["read_only"], true);
    folder.fails(6, "disk mount a.vhd m --passphrase-file pw");
    folder.ok("disk unmount m");
    assert!(!is_mounted(&dir) && !alive(mounted["pid"].as_u64().unwrap()));
    folder.fails(1, "disk unmount m");
    assert!(folder.read("a.vhd") == before && folder.is_tidy());
}

#[test]
fn what_is_written_is_kept_or_forgotten_as_asked() {
    use std::os::unix::fs::FileExt;
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    std::fs::create_dir(folder.path("m")).unwrap();
    let write = |mode: &str| {
        folder.ok(&format!("disk mount a.vhd m {mode} --passphrase-file pw"));
        let file = std::fs::File::options()
            .write(true)
            .open(folder.path("m/disk.raw"))
            .unwrap();
        file.write_all_at(b"written", 1000).unwrap();
        drop(file);
        folder.ok("disk unmount m");
        folder.ok("disk decrypt a.vhd b.raw --format raw --passphrase-file pw");
        let bytes = folder.read("b.raw");
        std::fs::remove_file(folder.path("b.raw")).unwrap();
        bytes[1000..1007] == *b"written"
    };
    assert!(!write("--revertible"));
    assert!(write("--keep"));
    assert!(folder.is_tidy());
}

#[test]
fn a_signal_unmounts() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    let dir = folder.path("m");
    std::fs::create_dir(&dir).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut mount, line) = start(
            &folder,
            "disk mount a.vhd m --foreground --passphrase-file pw",
        );
        assert!(line.contains("a.vhd") && is_mounted(&dir), "{line}");
        mount.signal(signal);
        assert_eq!(mount.code(), 0);
        assert!(!is_mounted(&dir));
    }
}

#[test]
fn a_hangup_ends_a_server_unless_it_was_started_to_outlive_it() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    let args = "disk serve a.vhd --nbd sock --passphrase-file pw";
    let (mut server, _) = start(&folder, args);
    server.signal(Signal::SIGHUP);
    assert_eq!(server.code(), 0);

    let mut command = std::process::Command::new("nohup");
    command
        .arg(env!("CARGO_BIN_EXE_medley"))
        .args(args.split(' '));
    command
        .current_dir(folder.path(""))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut server = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    server.signal(Signal::SIGHUP);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(
        UnixStream::connect(folder.path("sock")).is_ok(),
        "nohup was not respected"
    );
    server.signal(Signal::SIGTERM);
    assert_eq!(server.code(), 0);
}

#[test]
fn failures_in_the_background_are_told_in_the_foreground() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    folder.write("wrong", b"not it");
    std::fs::create_dir(folder.path("m")).unwrap();
    let error = folder.fails(4, "disk mount a.vhd m --passphrase-file wrong");
    assert!(error.contains("a.vhd.luks"), "{error}");
    let error = folder.fails(2, "disk mount a.vhd nowhere --passphrase-file pw");
    assert!(error.contains("nowhere"), "{error}");
    folder.fails(2, "disk mount a.vhd . --passphrase-file pw");
    assert!(!is_mounted(&folder.path("m")));
}

#[test]
fn an_unmount_does_not_touch_what_is_not_ours() {
    let folder = Folder::new();
    let error = folder.fails(2, "disk unmount /proc");
    assert!(error.contains("proc"), "{error}");
}
