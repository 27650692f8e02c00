//! Weston without a screen: another compositor than sway, which takes less for granted. It has no seat, so that
//! nothing is typed or clicked there, and a newer shell: popups are moved, where sway 1.7 gets new ones.
use super::support::{Presenter, Sockets, wait_for};
use medley_desktop::Process;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A compositor.
pub struct Weston {
    home: TempDir,
    socket: PathBuf,
    _process: Process,
}

/// Whether this machine has it; if not, says so.
pub fn is_installed() -> bool {
    let there = Command::new("weston").arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: not installed: weston");
    }
    there
}

impl Weston {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new("weston");
        command
            .args(["--backend=headless-backend.so", "--no-config"])
            .args(["--width=800", "--height=600", "--socket=wayland-7"])
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .env("HOME", home.path())
            .env("XDG_RUNTIME_DIR", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let socket = home.path().join("wayland-7");
        let weston = Self {
            home,
            socket,
            _process: Process::start(&mut command).unwrap(),
        };
        wait_for("weston", || UnixStream::connect(&weston.socket).is_ok());
        weston
    }

    pub fn presenter(&self, guest: &Sockets, more: &[&str]) -> Presenter {
        let mut command = Presenter::command_line(guest, &["--workspace", "test"]);
        command
            .args(["--display", "wayland-7"])
            .args(more)
            .env("XDG_RUNTIME_DIR", self.home.path());
        Presenter::run(command)
    }
}
