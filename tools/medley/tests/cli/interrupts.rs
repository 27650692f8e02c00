//! Signals in the middle of long work.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::common::*;

/// Starts it, sends the signal when it has begun to write, and returns its exit code.
fn interrupted(folder: &Folder, args: &str, signal: Signal) -> i32 {
    let mut command = folder.command(args);
    let mut child = Running(
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    // The file in the making has no name yet.
    until("the copy's beginning", || {
        child.has_open("(deleted)") || child.0.try_wait().unwrap().is_some()
    });
    child.signal(signal);
    child.code()
}

#[test]
fn an_interrupted_convert_leaves_nothing() {
    let folder = Folder::new();
    let mut file = File::create(folder.path("big.raw")).unwrap();
    for _ in 0..384 {
        file.write_all(&[7; 1 << 20]).unwrap();
    }
    drop(file);
    let args = "disk convert big.raw out.vhd --format vhd-dynamic";
    assert_eq!(interrupted(&folder, args, Signal::SIGINT), 130);
    assert_eq!(folder.names(), ["big.raw"]);
    assert!(folder.is_tidy());
}

#[test]
fn an_interrupted_encrypt_leaves_no_disk_and_no_header() {
    let folder = Folder::new();
    // All holes: nothing to read, all to write.
    File::create(folder.path("big.raw"))
        .unwrap()
        .set_len(8 << 30)
        .unwrap();
    let args = format!(
        "disk encrypt big.raw out --format raw --passphrase-file pw {}",
        CHEAP.join(" ")
    );
    assert_eq!(interrupted(&folder, &args, Signal::SIGTERM), 143);
    assert_eq!(folder.names(), ["big.raw"]);
}
