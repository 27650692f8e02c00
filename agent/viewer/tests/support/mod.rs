//! A desktop without a screen, a machine without a disk, and the viewer between them.
#![allow(dead_code, reason = "each test uses a part of it")]

use medley_desktop::{Desktop, Process, Window};
use medley_rfb::picture::Picture;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An emulated machine on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until something is so.
pub fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The desktop, across and down.
pub const SCREEN: (u16, u16) = (1400, 900);

pub fn desktop() -> Desktop {
    Desktop::start(SCREEN.0, SCREEN.1).unwrap()
}

/// Gives a window the keyboard.
pub fn focus(desk: &Desktop, window: Window) {
    desk.activate(window).unwrap();
    // The window hears of it after we do.
    std::thread::sleep(Duration::from_millis(100));
}

/// A real machine: QEMU with a BIOS that finds nothing to boot, its screen on a socket.
pub struct Machine {
    monitor: BufReader<UnixStream>,
    dir: TempDir,
    pub process: Process,
}

impl Machine {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut process = Command::new("qemu-system-x86_64");
        process
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-machine", "q35,accel=tcg", "-m", "64"])
            .args([
                "-device",
                "virtio-vga,id=screen0",
                "-device",
                "virtio-keyboard-pci",
            ])
            .args(["-device", "virtio-tablet-pci"])
            .args(["-boot", "menu=on,splash-time=60000"])
            .arg("-vnc")
            .arg(format!(
                "unix:{},display=screen0,share=force-shared,lock-key-sync=off",
                path("screen").display()
            ))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", path("qmp").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = Process::start(&mut process).unwrap();
        let mut monitor = None;
        wait_for("the machine", || {
            monitor = UnixStream::connect(path("qmp")).ok();
            monitor.is_some() && path("screen").exists()
        });
        let mut machine = Self {
            monitor: BufReader::new(monitor.unwrap()),
            dir,
            process,
        };
        machine.execute("qmp_capabilities", json!({}));
        machine
    }

    pub fn screen(&self) -> PathBuf {
        self.dir.path().join("screen")
    }

    pub fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let line = json!({"execute": command, "arguments": arguments});
        writeln!(self.monitor.get_mut(), "{line}").unwrap();
        loop {
            let mut line = String::new();
            self.monitor.read_line(&mut line).unwrap();
            let mut answer: Value = serde_json::from_str(&line).unwrap();
            assert!(answer.get("error").is_none(), "{answer}");
            if let Some(answer) = answer.get_mut("return") {
                return answer.take();
            }
        }
    }

    /// What the screen shows, by QEMU's own account.
    pub fn picture(&mut self) -> Picture {
        let file = self.dir.path().join("dump");
        self.execute("screendump", json!({"filename": file}));
        let bytes = std::fs::read(file).unwrap();
        // P6, width, height, 255, each ended by one white space; then three bytes for a pixel.
        let mut parts = bytes.splitn(5, |byte| byte.is_ascii_whitespace());
        let mut part = || parts.next().unwrap();
        let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse::<u16>().unwrap();
        assert_eq!(part(), b"P6");
        let (width, height) = (number(part()), number(part()));
        assert_eq!(part(), b"255");
        let pixels = part().as_chunks::<3>().0.iter();
        let pixels: Vec<u8> = pixels.flat_map(|[r, g, b]| [*b, *g, *r, 0]).collect();
        let mut picture = Picture::new(width, height);
        picture.put(picture.whole(), &pixels);
        picture
    }

    /// The words on its screen, out of the memory of a VGA card in text mode.
    pub fn words(&mut self) -> String {
        let line = json!({"command-line": "xp /2000hx 0xb8000"});
        let told = self.execute("human-monitor-command", line);
        let told = told.as_str().unwrap();
        let cells = told.lines().filter_map(|line| line.split_once(": "));
        let cells = cells.flat_map(|(_, cells)| cells.split_whitespace());
        let letters = cells.filter_map(|cell| u16::from_str_radix(&cell[2..], 16).ok());
        let letters: Vec<char> = letters
            .map(|cell| char::from((cell & 0x7f) as u8))
            .collect();
        let lines = letters
            .chunks(80)
            .map(|line| line.iter().collect::<String>());
        lines
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect()
    }

    pub fn wait_for_words(&mut self, words: &str) {
        wait_for(words, || self.words().contains(words));
    }
}

/// The viewer.
pub struct Viewer {
    pub process: Process,
    events: Receiver<Value>,
}

impl Viewer {
    pub fn start(desk: &Desktop, socket: &Path, workspace: &str, options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_medley-viewer"))
            .args([
                "--json",
                "--workspace",
                workspace,
                "--colour",
                "c02040",
                "--socket",
            ])
            .arg(socket)
            .args(options)
            .env("DISPLAY", &desk.name)
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self {
            process: Process(process),
            events,
        }
    }

    /// The next event of this name.
    pub fn event(&self, name: &str) -> Value {
        loop {
            let event = self.events.recv_timeout(PATIENCE);
            let event = event.unwrap_or_else(|error| panic!("{name}: {error}"));
            if event["event"] == name {
                return event;
            }
        }
    }

    /// Its exit code, once it has ended.
    pub fn code(&mut self) -> i32 {
        let mut code = None;
        wait_for("the viewer's end", || {
            code = self.process.0.try_wait().unwrap().and_then(|it| it.code());
            code.is_some()
        });
        code.unwrap()
    }
}
