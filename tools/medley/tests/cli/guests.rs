//! Machines that boot from a disk: a guest of one sector.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::common::*;

const SECTOR: usize = 512;

/// Writes itself to the disk's second sector, says `wrote` (or `error`) and `ready` on the first serial
/// port, echoes what it reads there, and switches the machine off at a `q`.
fn guest() -> Vec<u8> {
    let mut code: Vec<u8> = vec![
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x70,
        0xfb, // stack, segments
        0xb8, 0x01, 0x03, 0xbb, 0x00, 0x7c, 0xb9, 0x02, 0x00, 0xb6, 0x00, 0xcd,
        0x13, // write a sector
        0xbe, 0, 0, // mov si, wrote
        0x73, 0x03, // jnc +3
        0xbe, 0, 0, // mov si, error
        0xac, 0x84, 0xc0, 0x74, 0x06, // say: lodsb; test al,al; jz echo
        0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, // out 0x3f8, al; jmp say
        0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, // echo: wait for a byte
        0xba, 0xf8, 0x03, 0xec, 0xee, 0x3c, 0x71, 0x75, 0xef, // send it back; until it is `q`
        0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd, // ACPI: off
    ];
    let wrote = 0x7c00 + code.len() as u16;
    code.extend(b"wrote\r\nready\r\n\0");
    let error = 0x7c00 + code.len() as u16;
    code.extend(b"error\r\nready\r\n\0");
    code[27..29].copy_from_slice(&wrote.to_le_bytes());
    code[32..34].copy_from_slice(&error.to_le_bytes());
    code.resize(SECTOR - 2, 0);
    code.extend([0x55, 0xaa]);
    code.resize(1 << 20, 0);
    code
}

fn folder() -> Option<Folder> {
    if skipped("MEDLEY_SKIP_GUESTS") {
        return None;
    }
    let folder = Folder::new();
    folder.write("guest.raw", &guest());
    let cheap = CHEAP.join(" ");
    folder.ok(&format!(
        "disk encrypt guest.raw a.vhd --passphrase-file pw {cheap}"
    ));
    folder.write("off", b"# off at once\nwait ready\ntype q\nsleep 30\n");
    Some(folder)
}

const BOOT: &str = "boot a.vhd --passphrase-file pw --memory 64 --accel tcg";

/// The processes that a process has started.
fn children(pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Boots and waits until the guest is ready.
fn booted(folder: &Folder, more: &str) -> (Running, i32) {
    let mut command = folder.command(&format!("{BOOT} --serial log {more}"));
    let child = Running(
        command
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    until("the guest", || {
        folder.has("log") && contains(&folder.read("log"), b"ready")
    });
    let machine = children(child.0.id());
    assert_eq!(machine.len(), 1);
    (child, machine[0])
}

#[test]
fn a_guest_boots_and_its_writes_are_forgotten_or_kept() {
    let Some(folder) = folder() else { return };
    let before = folder.read("a.vhd");
    let report = folder.json(&format!(
        "{BOOT} --script off --ready-marker ready --timeout 60"
    ));
    assert_eq!(
        (&report["mode"], &report["accelerator"]),
        (&"revertible".into(), &"TCG".into())
    );
    assert_eq!(
        (&report["exit"], &report["memory_mib"]),
        (&"guest_shutdown".into(), &64.into())
    );
    let seconds = |name: &str| report[name].as_f64().unwrap();
    assert!(
        0.0 < seconds("seconds_to_ready")
            && seconds("seconds_to_ready") <= seconds("seconds_total")
    );
    assert_eq!(report["written_bytes"], 512);
    assert!(
        folder.read("a.vhd") == before,
        "a revertible session changed the disk"
    );

    let transcript = folder.ok(&format!("{BOOT} --keep --script off"));
    assert!(transcript.contains("wrote\r\nready\r\nq"), "{transcript}");
    folder.ok("disk decrypt a.vhd b.raw --format raw --passphrase-file pw");
    let after = folder.read("b.raw");
    assert!(
        after[SECTOR..2 * SECTOR] == after[..SECTOR],
        "what the guest wrote was not kept"
    );
    assert!(folder.is_tidy());
}

#[test]
fn a_script_that_waits_in_vain_fails_with_the_line() {
    let Some(folder) = folder() else { return };
    folder.write(
        "never",
        b"wait ready\ntimeout 0.3\nwait nothing of the kind\n",
    );
    let ran = folder.run(&format!("{BOOT} --script never"));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err.contains("line 3") && ran.err.contains("nothing of the kind"),
        "{ran:?}"
    );
    folder.fails(2, &format!("{BOOT} --script pw"));
    folder.fails(1, &format!("{BOOT} --script nowhere"));
    assert!(folder.is_tidy());
}

#[test]
fn time_is_up() {
    let Some(folder) = folder() else { return };
    let ran = folder.run(&format!(
        "{BOOT} --timeout 10 --grace 0.2 --ready-marker never --serial log"
    ));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("`never` never came"), "{ran:?}");
    assert!(contains(&folder.read("log"), b"ready") && folder.is_tidy());
}

#[test]
fn signals_end_the_machine_and_leave_nothing() {
    let Some(folder) = folder() else { return };
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let (mut child, machine) = booted(&folder, "--grace 0.3");
        child.signal(signal);
        assert_eq!(child.code(), code);
        assert!(!alive(machine as u64) && folder.is_tidy());
        std::fs::remove_file(folder.path("log")).unwrap();
    }
}

#[test]
fn a_machine_that_dies_is_an_error() {
    let Some(folder) = folder() else { return };
    let (mut child, machine) = booted(&folder, "");
    kill(Pid::from_raw(machine), Signal::SIGKILL).unwrap();
    assert_eq!(child.code(), 1);
    let mut text = String::new();
    child
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(
        text.contains("the hypervisor died (signal 9)") && folder.is_tidy(),
        "{text}"
    );
}

#[test]
fn killed_itself_it_takes_the_machine_along() {
    let Some(folder) = folder() else { return };
    let (child, machine) = booted(&folder, "");
    child.signal(Signal::SIGKILL);
    until("the machine's end", || !alive(machine as u64));
    // The disk is free again.
    folder.ok(&format!("{BOOT} --script off"));
}

#[test]
fn a_missing_hypervisor_is_told_before_anything_else() {
    let Some(folder) = folder() else { return };
    let output = folder
        .command("boot a.vhd")
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("qemu-system-x86"));
}

#[test]
fn the_terminal_comes_back_as_it_was() {
    let Some(folder) = folder() else { return };
    let pty = nix::pty::openpty(None, None).unwrap();
    let flags = || tcgetattr(pty.slave.as_fd()).unwrap().local_flags;
    let before = flags();
    assert!(before.contains(LocalFlags::ICANON));
    let mut command = folder.command(&format!("{BOOT} --grace 30"));
    command
        .stdin(pty.slave.try_clone().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = Running(command.spawn().unwrap());
    let mut keys = File::from(pty.master);
    let mut out = child.0.stdout.take().unwrap();
    let mut said = Vec::new();
    while !contains(&said, b"ready\r\n") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    assert!(
        !flags().contains(LocalFlags::ICANON),
        "keys do not reach the guest one by one"
    );
    keys.write_all(b"x").unwrap();
    let mut echo = [0];
    out.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"x");
    // This guest knows no power button: the second time ends it.
    keys.write_all(&[0x1d]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(child.0.try_wait().unwrap().is_none());
    keys.write_all(&[0x1d]).unwrap();
    assert_eq!(child.code(), 0);
    assert_eq!(flags(), before);
    assert!(folder.is_tidy());
}

#[test]
fn a_console_that_nobody_reads_holds_up_no_timeout() {
    let Some(folder) = folder() else { return };
    // A pipe that is full already.
    let (_reader, writer) = nix::unistd::pipe().unwrap();
    nix::fcntl::fcntl(
        &writer,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )
    .unwrap();
    while nix::unistd::write(&writer, &[0; 4096]).is_ok() {}
    while nix::unistd::write(&writer, &[0]).is_ok() {}
    nix::fcntl::fcntl(
        &writer,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()),
    )
    .unwrap();
    let mut command = folder.command(&format!("{BOOT} --timeout 5 --grace 0.2"));
    command.stdout(writer).stderr(Stdio::null());
    let mut child = Running(command.spawn().unwrap());
    assert_eq!(child.code(), 1);
    assert!(folder.is_tidy());
}
