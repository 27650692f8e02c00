//! Signals in the middle of long work.

use std::fs::File;
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
    // The file in the making has no name yet, or one that nobody sees. Only one in this folder counts: memory for
    // keys is a file without a name, too, and is there before signals are heard.
    let here = folder.path("").display().to_string();
    until("the copy's beginning", || {
        let ended = child.0.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "it ended before anybody stopped it: {ended:?}"
        );
        child.has_open(&format!("{here}#")) || child.has_open(".medley-")
    });
    child.signal(signal);
    child.code()
}

/// A disk of nothing but holes.
fn holes(folder: &Folder, size: u64) {
    let file = File::create(folder.path("big.raw")).unwrap();
    file.set_len(size).unwrap();
}

#[test]
fn an_interrupted_convert_leaves_nothing() {
    let folder = Folder::new();
    // Nothing to write, and so much to look at that nobody gets through before the signal.
    holes(&folder, 1 << 40);
    let args = "disk convert big.raw out.vhd --format vhd-dynamic";
    assert_eq!(interrupted(&folder, args, Signal::SIGINT), 130);
    assert_eq!(folder.names(), ["big.raw"]);
    assert!(folder.is_tidy());
}

#[test]
fn an_interrupted_encrypt_leaves_no_disk_and_no_header() {
    let folder = Folder::new();
    // Nothing to read, all to write.
    holes(&folder, 8 << 30);
    let args = format!(
        "disk encrypt big.raw out --format raw --passphrase-file pw {}",
        CHEAP.join(" ")
    );
    assert_eq!(interrupted(&folder, &args, Signal::SIGTERM), 143);
    assert_eq!(folder.names(), ["big.raw"]);
    // Killed without a chance to clean up, it leaves nothing that is in the way of the next try.
    assert_eq!(interrupted(&folder, &args, Signal::SIGKILL), -1);
    let mut names = folder.names();
    names.retain(|name| !(name.starts_with(".medley-") && name.ends_with(".part")));
    assert_eq!(names, ["big.raw"]);
}
