//! A desktop without a screen, a machine without a disk, and the viewer between them.
#![allow(dead_code, reason = "each test uses a part of it")]

use medley_rfb::picture::Picture;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConfigureWindowAux, ConnectionExt, EventMask, ImageFormat,
    InputFocus, MapState, Window,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

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

/// A process that ends with the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An X server with a window manager.
pub struct Desk {
    pub name: String,
    pub conn: RustConnection,
    root: Window,
    _manager: Process,
    _server: Process,
    _home: TempDir,
}

impl Desk {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"])
            .args(["-screen", "0", "1400x900x24"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed");
        let mut number = String::new();
        let output = server.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut number).unwrap();
        let server = Process(server);
        let name = format!(":{}", number.trim());
        let (conn, screen) = x11rb::connect(Some(&name)).unwrap();
        let root = conn.setup().roots[screen].root;
        let manager = Command::new("openbox")
            .arg("--sm-disable")
            .env("DISPLAY", &name)
            .env("HOME", home.path())
            .env("XDG_CONFIG_HOME", home.path())
            .env("XDG_CACHE_HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openbox is installed");
        let desk = Self {
            name,
            conn,
            root,
            _manager: Process(manager),
            _server: server,
            _home: home,
        };
        wait_for("the window manager", || {
            desk.text(desk.root, "_NET_WM_NAME");
            let check = desk.atom("_NET_SUPPORTING_WM_CHECK");
            let found = desk
                .conn
                .get_property(false, desk.root, check, AtomEnum::ANY, 0, 1);
            found.unwrap().reply().unwrap().value_len > 0
        });
        // It says that it is there a moment before it is.
        std::thread::sleep(Duration::from_millis(300));
        desk
    }

    fn atom(&self, name: &str) -> u32 {
        let cookie = self.conn.intern_atom(false, name.as_bytes()).unwrap();
        cookie.reply().unwrap().atom
    }

    pub fn text(&self, window: Window, name: &str) -> String {
        let atom = self.atom(name);
        let cookie = self
            .conn
            .get_property(false, window, atom, AtomEnum::ANY, 0, 4096);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        cookie
            .unwrap()
            .reply()
            .map_or_else(|_| String::new(), |it| text(&it.value))
    }

    /// The window that is shown with this title.
    pub fn window(&self, title: &str) -> Window {
        let mut found = None;
        wait_for(title, || {
            let mut next = vec![self.root];
            while let Some(window) = next.pop() {
                let Ok(tree) = self.conn.query_tree(window).unwrap().reply() else {
                    continue;
                };
                next.extend(tree.children);
                let attributes = self.conn.get_window_attributes(window).unwrap().reply();
                let shown = attributes.is_ok_and(|it| it.map_state == MapState::VIEWABLE);
                if shown && self.text(window, "_NET_WM_NAME") == title {
                    found = Some(window);
                }
            }
            found.is_some()
        });
        found.unwrap()
    }

    /// Where a window is on the screen: x, y, width, height.
    pub fn place(&self, window: Window) -> (i16, i16, u16, u16) {
        let size = self.conn.get_geometry(window).unwrap().reply().unwrap();
        let at = self.conn.translate_coordinates(window, self.root, 0, 0);
        let at = at.unwrap().reply().unwrap();
        (at.dst_x, at.dst_y, size.width, size.height)
    }

    /// A window as it is on the screen.
    pub fn shot(&self, window: Window) -> Vec<u32> {
        let (x, y, width, height) = self.place(window);
        let image = self
            .conn
            .get_image(ImageFormat::Z_PIXMAP, self.root, x, y, width, height, !0);
        let data = image.unwrap().reply().unwrap().data;
        let pixels = data.as_chunks::<4>().0.iter();
        pixels
            .map(|bytes| u32::from_le_bytes(*bytes) & 0x00ff_ffff)
            .collect()
    }

    pub fn focus(&self, window: Window) {
        wait_for("the keyboard", || {
            self.conn
                .set_input_focus(InputFocus::PARENT, window, x11rb::CURRENT_TIME)
                .unwrap();
            self.conn.get_input_focus().unwrap().reply().unwrap().focus == window
        });
        // The window hears of it after we do.
        std::thread::sleep(Duration::from_millis(100));
    }

    pub fn resize(&self, window: Window, width: u32, height: u32) {
        let wish = ConfigureWindowAux::new().width(width).height(height);
        self.conn.configure_window(window, &wish).unwrap();
        self.conn.flush().unwrap();
    }

    pub fn close(&self, window: Window) {
        let (protocols, delete) = (self.atom("WM_PROTOCOLS"), self.atom("WM_DELETE_WINDOW"));
        let event = ClientMessageEvent::new(32, window, protocols, [delete, 0, 0, 0, 0]);
        let mask = EventMask::NO_EVENT;
        self.conn.send_event(false, window, mask, event).unwrap();
        self.conn.flush().unwrap();
    }

    fn fake(&self, kind: u8, detail: u8, x: i16, y: i16) {
        self.conn
            .xtest_fake_input(kind, detail, 0, self.root, x, y, 0)
            .unwrap();
        self.conn.flush().unwrap();
    }

    /// A key of evdev's goes down or up.
    pub fn key(&self, code: u8, down: bool) {
        self.fake(if down { 2 } else { 3 }, code + 8, 0, 0);
    }

    pub fn tap(&self, code: u8) {
        self.key(code, true);
        self.key(code, false);
    }

    pub fn point(&self, x: i16, y: i16) {
        self.fake(6, 0, x, y);
    }

    /// The pointer moves by so much.
    pub fn nudge(&self, x: i16, y: i16) {
        self.fake(6, 1, x, y);
    }

    pub fn button(&self, number: u8, down: bool) {
        self.fake(if down { 4 } else { 5 }, number, 0, 0);
    }
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
        let process = Command::new("qemu-system-x86_64")
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
            .stdout(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 is installed");
        let process = Process(process);
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
    pub fn start(desk: &Desk, socket: &Path, workspace: &str, options: &[&str]) -> Self {
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
