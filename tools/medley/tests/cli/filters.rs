//! `--fault`, `--delay`, `--stats` and `--readonly`, seen by other people's clients.

use std::process::{Command, Output, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::*;

/// Whether these programs can be used; missing ones fail the test unless they may be missing.
fn peers(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let found = Command::new(program).arg("--version").output().is_ok();
        assert!(
            found || skipped("MEDLEY_SKIP_PEERS"),
            "{program} is missing: apt-get install libnbd-bin qemu-utils, or MEDLEY_SKIP_PEERS=1"
        );
        found
    })
}

/// A plain disk of 4 MiB, and a server for it with these options.
fn serve(folder: &Folder, options: &str) -> Running {
    if !folder.has("a.raw") {
        folder.write("a.raw", &plain(4 << 20));
    }
    let (server, line) = start(folder, &format!("disk serve a.raw --nbd sock {options}"));
    assert!(line.contains("nbd+unix"), "{line}");
    server
}

fn end(mut server: Running) -> i32 {
    server.signal(Signal::SIGTERM);
    server.code()
}

/// What `qemu-io` says to these commands, and whether it was content with all of them.
fn qemu_io(folder: &Folder, commands: &[&str]) -> (bool, String) {
    let mut io = Command::new("timeout");
    io.args(["-k", "5", "60", "qemu-io", "-f", "raw", "--cache=none"]);
    for command in commands {
        io.args(["-c", command]);
    }
    let uri = format!("nbd+unix:///?socket={}", folder.path("sock").display());
    said(io.arg(uri).output().unwrap())
}

fn nbdcopy(folder: &Folder, options: &[&str]) -> (bool, String) {
    let uri = format!("nbd+unix:///?socket={}", folder.path("sock").display());
    let mut copy = Command::new("timeout");
    copy.args(["-k", "5", "60", "nbdcopy"]).args(options);
    said(copy.arg(uri).arg(folder.path("copy.raw")).output().unwrap())
}

fn said(output: Output) -> (bool, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn stats(folder: &Folder, name: &str) -> Value {
    serde_json::from_slice(&folder.read(name)).unwrap()
}

#[test]
fn qemu_sees_the_writes_that_fail() {
    if !peers(&["qemu-io"]) {
        return;
    }
    let folder = Folder::new();
    let server = serve(&folder, "--revertible --fault write:nth=2,error=nospace");
    let (_, text) = qemu_io(
        &folder,
        &["write 0 4k", "write 4k 4k", "write 8k 4k", "read 4k 4k"],
    );
    assert_eq!(text.matches("wrote 4096/4096").count(), 2, "{text}");
    assert_eq!(text.matches("No space left on device").count(), 1, "{text}");
    assert!(text.contains("read 4096/4096"), "{text}");
    assert_eq!(end(server), 0);
}

#[test]
fn a_copy_fails_where_the_disk_cannot_be_read() {
    if !peers(&["nbdcopy"]) {
        return;
    }
    let folder = Folder::new();
    let server = serve(&folder, "--fault read:range=2M-3M");
    let (copied, text) = nbdcopy(&folder, &["--connections=1"]);
    assert!(!copied && text.contains("Input/output error"), "{text}");
    assert_eq!(end(server), 0);

    let server = serve(&folder, "");
    assert!(nbdcopy(&folder, &[]).0);
    assert!(folder.read("copy.raw") == plain(4 << 20));
    assert_eq!(end(server), 0);
}

#[test]
fn a_torn_write_shows_when_the_disk_is_read_again() {
    if !peers(&["qemu-io"]) {
        return;
    }
    let folder = Folder::new();
    // A lie: the client hears that all is well.
    let server = serve(&folder, "--revertible --fault write:nth=1,torn,error=none");
    let (_, text) = qemu_io(&folder, &["write -P 7 0 64k", "read -P 7 0 64k"]);
    assert!(text.contains("wrote 65536/65536"), "{text}");
    assert!(text.contains("Pattern verification failed"), "{text}");
    assert_eq!(end(server), 0);
}

#[test]
fn nothing_gets_through_after_a_power_cut_and_the_end_says_so() {
    if !peers(&["qemu-io"]) {
        return;
    }
    let folder = Folder::new();
    let server = serve(&folder, "--keep --fault write:nth=3,cut");
    let commands = [
        "write -P 1 0 4k",
        "write -P 2 4k 4k",
        "write -P 3 8k 4k",
        "write 12k 4k",
        "read 0 4k",
    ];
    let (_, text) = qemu_io(&folder, &commands);
    assert_eq!(text.matches("wrote 4096/4096").count(), 2, "{text}");
    assert!(text.matches("Input/output error").count() >= 3, "{text}");
    // The last flush came to nothing.
    assert_eq!(end(server), 1);
    let disk = folder.read("a.raw");
    assert!(disk[..4096] == [1; 4096] && disk[4096..8192] == [2; 4096]);
    assert!(disk[8192..16384] == plain(4 << 20)[8192..16384]);
}

#[test]
fn a_slow_disk_is_slow_and_statistics_show_it() {
    if !peers(&["qemu-io"]) {
        return;
    }
    let folder = Folder::new();
    let options = "--revertible --stats=above.json --delay read=50ms,write=30ms --stats=below.json";
    let server = serve(&folder, options);
    let begin = Instant::now();
    let (_, text) = qemu_io(&folder, &["read 0 4k", "read 1M 8k", "write 0 4k", "flush"]);
    assert!(begin.elapsed().as_millis() >= 130, "{text}");

    // Told when asked, and once more at the end.
    server.signal(Signal::SIGUSR1);
    until("the statistics", || {
        stats(&folder, "above.json")["write"]["requests"] == 1
    });
    assert_eq!(end(server), 0);
    let (above, below) = (stats(&folder, "above.json"), stats(&folder, "below.json"));
    assert_eq!(above["behind"], serde_json::json!([]));
    assert_eq!(below["behind"][1], "--delay=read=50ms,write=30ms");
    for (stats, slow) in [(&above, true), (&below, false)] {
        let read = &stats["read"];
        let (requests, bytes) = (
            read["requests"].as_u64().unwrap(),
            read["bytes"].as_u64().unwrap(),
        );
        assert!(
            requests >= 2 && bytes >= 12288 && read["errors"] == 0,
            "{read}"
        );
        assert_eq!(
            read["mean_us"].as_f64().unwrap() >= 50_000.0,
            slow,
            "{read}"
        );
        let rows = read["latencies"].as_array().unwrap();
        let sum: u64 = rows
            .iter()
            .map(|row| row["requests"].as_u64().unwrap())
            .sum();
        assert_eq!(sum, requests, "{read}");
        assert!(stats["flush"]["requests"].as_u64().unwrap() >= 1);
        assert_eq!(stats["write"]["bytes"], 4096);
    }
    assert!(folder.is_tidy());
}

#[test]
fn without_a_file_statistics_are_lines_on_standard_error() {
    use std::io::{BufRead, BufReader};
    let folder = Folder::new();
    folder.write("a.raw", &plain(4 << 20));
    let mut command =
        folder.command("disk serve a.raw --nbd sock --stats --delay write=1ms --stats");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Running(command.spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(server.0.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let mut told = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&told.next().unwrap().unwrap()).unwrap() };
    server.signal(Signal::SIGUSR1);
    let asked = [next(), next()];
    server.signal(Signal::SIGTERM);
    let ended = [next(), next()];
    assert_eq!(server.code(), 0);
    for [first, second] in [&asked, &ended] {
        assert_eq!(first["behind"], serde_json::json!([]));
        assert_eq!(
            second["behind"],
            serde_json::json!(["--stats", "--delay=write=1ms"])
        );
        assert_eq!(first["disk"], "a.raw");
    }
    assert!(ended[0]["seconds"].as_f64() > asked[0]["seconds"].as_f64());
}

#[test]
fn a_protected_disk_is_read_only_for_its_clients() {
    if !peers(&["qemu-io", "nbdinfo"]) {
        return;
    }
    let folder = Folder::new();
    let server = serve(&folder, "--keep --readonly");
    let uri = format!("nbd+unix:///?socket={}", folder.path("sock").display());
    let (_, text) = said(Command::new("nbdinfo").arg(uri).output().unwrap());
    assert!(text.contains("is_read_only: true"), "{text}");
    let (content, text) = qemu_io(&folder, &["write 0 4k"]);
    assert!(!content, "{text}");
    assert_eq!(end(server), 0);
    assert!(folder.read("a.raw") == plain(4 << 20));
}

#[test]
fn a_mount_in_the_background_has_filters_too() {
    use std::os::unix::fs::FileExt;
    let folder = Folder::new();
    folder.write("a.raw", &plain(4 << 20));
    std::fs::create_dir(folder.path("m")).unwrap();
    let options = "--stats=s.json --fault write:every=2,error=nospace";
    let mounted = folder.json(&format!("disk mount a.raw m --revertible {options}"));
    assert_eq!(mounted["filters"][1], "--fault=write:every=2,error=nospace");
    let file = std::fs::File::options()
        .write(true)
        .open(folder.path("m/disk.raw"))
        .unwrap();
    let errors = [0, 1, 2, 3].map(|i| {
        let written = file.write_all_at(&[1; 4096], i * 4096);
        written.err().and_then(|error| error.raw_os_error())
    });
    drop(file);
    let full = Some(nix::libc::ENOSPC);
    assert_eq!(errors, [None, full, None, full]);
    folder.ok("disk unmount m");
    let write = &stats(&folder, "s.json")["write"];
    assert_eq!(
        (&write["requests"], &write["errors"]),
        (&4.into(), &2.into())
    );
}

#[test]
fn bad_specifications_are_told_before_anything_happens() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    folder.write("there.json", b"mine");
    for (options, says) in [
        ("--fault wirte:every=2", "`wirte` is no operation"),
        ("--fault write:every=2,nth=3", "only one"),
        ("--fault write:share=5", "5%"),
        ("--delay read", "read=2ms"),
        ("--delay jitter=2ms", "before it"),
        ("--stats=there.json", "exists already"),
        ("--stats --daemon", "name a file"),
    ] {
        // No passphrase is given: none is asked for.
        let ran = folder.run(&format!("disk serve a.vhd --nbd sock {options}"));
        assert_eq!(ran.code, 2, "{options}: {ran:?}");
        assert!(ran.err.contains(says), "{options}: {ran:?}");
    }
    // A server that comes to nothing leaves no statistics.
    folder.write("sock", b"");
    folder.fails(
        2,
        "disk serve a.vhd --nbd sock --stats=s.json --passphrase-file pw",
    );
    assert!(!folder.has("s.json"));
    assert_eq!(folder.read("there.json"), b"mine");
}
