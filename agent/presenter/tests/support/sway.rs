//! A Wayland desktop of its own for each test: sway without a screen, and hands for it.
use super::support::{Presenter, Sockets, wait_for};
use medley_desktop::{Process, Shot};
use nix::unistd::{Gid, Uid, chown};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;
use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_pointer::{Axis, AxisSource, ButtonState};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::{Connection, Dispatch, EventQueue, QueueHandle, delegate_noop};
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1;
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_v1::ZwpVirtualKeyboardV1;
use wayland_protocols_wlr::virtual_pointer::v1::client::zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1;
use wayland_protocols_wlr::virtual_pointer::v1::client::zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1;

/// Nobody in particular: sway refuses to run as root.
const NOBODY: u32 = 65534;

/// Windows float where they want to be, without decorations: the screen shows theirs only.
pub const FLOATING: &str = "for_window [app_id=\".*\"] floating enable, border none\n";

/// A compositor.
pub struct Sway {
    home: TempDir,
    pub process: Process,
    /// The path of its socket.
    pub socket: PathBuf,
}

fn find(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|path| path.join(program).is_file())
}

/// Whether this machine has what these tests need; if not, says so.
pub fn is_installed() -> bool {
    let missing: Vec<_> = ["sway", "swaymsg", "grim", "wl-copy"]
        .into_iter()
        .filter(|program| !find(program))
        .collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED: not installed: {}", missing.join(", "));
    }
    missing.is_empty()
}

impl Sway {
    pub fn new(config: &str) -> Self {
        Self::start(config, None)
    }

    /// One whose monitors are windows of another: they can be closed, as a monitor is unplugged. Those of a
    /// desktop without a screen cannot.
    pub fn within(outer: &Self, config: &str) -> Self {
        Self::start(config, Some(outer))
    }

    fn start(config: &str, outer: Option<&Self>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config");
        let always = "output HEADLESS-1 resolution 800x600 position 0 0\nxwayland disable\n\
            default_floating_border none\nfocus_follows_mouse no\nseat seat0 hide_cursor 0\n";
        fs::write(&path, format!("{always}{config}")).unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let mut command = Command::new("sway");
        command.env_remove("WAYLAND_DISPLAY");
        if Uid::effective().is_root() {
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            for path in [home.path(), &path] {
                chown(path, Some(user), Some(group)).unwrap();
            }
            command.uid(NOBODY).gid(NOBODY);
        }
        match outer {
            Some(outer) => command
                .env("WLR_BACKENDS", "wayland")
                .env("WAYLAND_DISPLAY", &outer.socket),
            None => command.env("WLR_BACKENDS", "headless"),
        };
        command
            .arg("--config")
            .arg(&path)
            .env_remove("DISPLAY")
            .env_remove("SWAYSOCK")
            .env("HOME", home.path())
            .env("XDG_RUNTIME_DIR", home.path())
            .env("WLR_RENDERER", "pixman")
            .env("WLR_LIBINPUT_NO_DEVICES", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let socket = home.path().join("wayland-1");
        let sway = Self {
            home,
            process: Process::start(&mut command).unwrap(),
            socket,
        };
        wait_for("sway", || {
            UnixStream::connect(&sway.socket).is_ok() && sway.try_ask("get_outputs").is_some()
        });
        sway
    }

    fn ipc(&self) -> Option<PathBuf> {
        let mut entries = fs::read_dir(self.home.path()).ok()?;
        entries.find_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            name.starts_with("sway-ipc").then_some(path)
        })
    }

    fn try_ask(&self, what: &str) -> Option<Value> {
        let out = Command::new("swaymsg")
            .args(["--raw", "--socket"])
            .arg(self.ipc()?)
            .args(["--type", what])
            .output()
            .ok()?;
        serde_json::from_slice(&out.stdout).ok()
    }

    pub fn ask(&self, what: &str) -> Value {
        self.try_ask(what).expect("sway answers")
    }

    /// A command of sway's.
    pub fn tell(&self, words: &str) {
        let out = Command::new("swaymsg")
            .args(["--raw", "--socket"])
            .arg(self.ipc().unwrap())
            .arg(words)
            .output()
            .unwrap();
        assert!(out.status.success(), "{words}: {out:?}");
    }

    /// The desktop's windows: every node with an app's id.
    pub fn windows(&self) -> Vec<Value> {
        let (mut next, mut found) = (vec![self.ask("get_tree")], Vec::new());
        while let Some(node) = next.pop() {
            for children in ["nodes", "floating_nodes"] {
                next.extend(node[children].as_array().cloned().unwrap_or_default());
            }
            if node["app_id"].is_string() {
                found.push(node);
            }
        }
        found
    }

    /// The window with that title, once it is there.
    pub fn window(&self, title: &str) -> Value {
        let mut found = None;
        wait_for(&format!("a window called {title:?}"), || {
            found = self.windows().into_iter().find(|w| w["name"] == title);
            found.is_some()
        });
        found.unwrap()
    }

    /// Where a window's surface is on the screen: x, y, width, height.
    pub fn place(&self, title: &str) -> (i32, i32, u32, u32) {
        let window = self.window(title);
        let number = |part: &str, name: &str| window[part][name].as_i64().unwrap();
        let at = |name: &str| (number("rect", name) + number("window_rect", name)) as i32;
        let side = |name: &str| number("window_rect", name) as u32;
        (at("x"), at("y"), side("width"), side("height"))
    }

    /// Waits until a window is so large.
    pub fn sized(&self, title: &str, width: u32, height: u32) -> (i32, i32, u32, u32) {
        let mut place = (0, 0, 0, 0);
        wait_for(&format!("{title:?} with {width}x{height}"), || {
            place = self.place(title);
            (place.2, place.3) == (width, height)
        });
        place
    }

    /// What is on the screen.
    pub fn shot(&self) -> Shot {
        self.grim(&[])
    }

    pub fn grim(&self, more: &[&str]) -> Shot {
        let out = Command::new("grim")
            .args(["-t", "ppm"])
            .args(more)
            .arg("-")
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env("WAYLAND_DISPLAY", &self.socket)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        // P6, a line each for size and depth, then three bytes for a pixel.
        let mut parts = out.stdout.splitn(4, |byte| *byte == b'\n');
        assert_eq!(parts.next(), Some(&b"P6"[..]));
        let size = String::from_utf8_lossy(parts.next().unwrap()).into_owned();
        let width = size.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(parts.next(), Some(&b"255"[..]));
        let pixels = parts.next().unwrap().as_chunks::<3>().0;
        Shot {
            width,
            pixels: pixels
                .iter()
                .map(|[r, g, b]| u32::from_be_bytes([0, *r, *g, *b]))
                .collect(),
        }
    }

    /// A command of the desktop's own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_remove("DISPLAY")
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env("WAYLAND_DISPLAY", &self.socket);
        command
    }

    pub fn presenter(&self, guest: &Sockets, more: &[&str]) -> Presenter {
        let mut all = vec!["--workspace", "test", "--colour", "c02040"];
        all.extend(more);
        let mut command = Presenter::command_line(guest, &all);
        // As a session has it: the environment says where the desktop is.
        command
            .env_remove("DISPLAY")
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env("WAYLAND_DISPLAY", "wayland-1");
        Presenter::run(command)
    }

    pub fn hands(&self) -> Hands {
        Hands::new(self)
    }
}

/// A keyboard and a pointer.
pub struct Hands {
    conn: Connection,
    queue: EventQueue<Nothing>,
    keyboard: ZwpVirtualKeyboardV1,
    pointer: ZwlrVirtualPointerV1,
    began: Instant,
}

struct Nothing;

impl Dispatch<WlRegistry, GlobalListContents> for Nothing {
    fn event(
        _: &mut Self,
        _: &WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}
delegate_noop!(Nothing: ignore WlSeat);
delegate_noop!(Nothing: ignore ZwpVirtualKeyboardManagerV1);
delegate_noop!(Nothing: ignore ZwpVirtualKeyboardV1);
delegate_noop!(Nothing: ignore ZwlrVirtualPointerManagerV1);
delegate_noop!(Nothing: ignore ZwlrVirtualPointerV1);

/// German, so that a keymap can be told from the guest's own.
const KEYMAP: &str = r#"xkb_keymap {
    xkb_keycodes { include "evdev+aliases(qwertz)" };
    xkb_types { include "complete" };
    xkb_compat { include "complete" };
    xkb_symbols { include "pc+de+inet(evdev)" };
};"#;

impl Hands {
    fn new(sway: &Sway) -> Self {
        use std::io::Write;
        use std::os::fd::AsFd;
        let stream = UnixStream::connect(&sway.socket).unwrap();
        let conn = Connection::from_socket(stream).unwrap();
        let (globals, queue) = registry_queue_init::<Nothing>(&conn).unwrap();
        let qh = queue.handle();
        let seat: WlSeat = globals.bind(&qh, 1..=5, ()).unwrap();
        let keyboards: ZwpVirtualKeyboardManagerV1 = globals.bind(&qh, 1..=1, ()).unwrap();
        let keyboard = keyboards.create_virtual_keyboard(&seat, &qh, ());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(KEYMAP.as_bytes()).unwrap();
        file.write_all(&[0]).unwrap();
        keyboard.keymap(1, file.as_fd(), KEYMAP.len() as u32 + 1);
        let pointers: ZwlrVirtualPointerManagerV1 = globals.bind(&qh, 1..=2, ()).unwrap();
        let pointer = pointers.create_virtual_pointer(Some(&seat), &qh, ());
        let mut hands = Self {
            conn,
            queue,
            keyboard,
            pointer,
            began: Instant::now(),
        };
        hands.sync();
        hands
    }

    fn time(&self) -> u32 {
        self.began.elapsed().as_millis() as u32
    }

    /// Everything that was done has reached the compositor.
    pub fn sync(&mut self) {
        self.queue.roundtrip(&mut Nothing).unwrap();
        let _ = &self.conn;
    }

    /// evdev's code. Modifiers are counted by the compositor.
    pub fn key_down(&mut self, code: u32) {
        self.keyboard.key(self.time(), code, 1);
        self.sync();
    }

    pub fn key_up(&mut self, code: u32) {
        self.keyboard.key(self.time(), code, 0);
        self.sync();
    }

    pub fn key(&mut self, code: u32) {
        self.key_down(code);
        self.key_up(code);
    }

    /// Modifiers that are held and locked, as X counts them: a virtual keyboard says them itself.
    pub fn modifiers(&mut self, held: u32, locked: u32) {
        self.keyboard.modifiers(held, 0, locked, 0);
        self.sync();
    }

    pub fn point(&mut self, x: i32, y: i32) {
        self.pointer
            .motion_absolute(self.time(), x as u32, y as u32, 800, 600);
        self.pointer.frame();
        self.sync();
    }

    pub fn button(&mut self, code: u32, down: bool) {
        let state = if down {
            ButtonState::Pressed
        } else {
            ButtonState::Released
        };
        self.pointer.button(self.time(), code, state);
        self.pointer.frame();
        self.sync();
    }

    pub fn click(&mut self, x: i32, y: i32) {
        self.point(x, y);
        self.button(0x110, true);
        self.button(0x110, false);
    }

    /// Notches of a wheel, down.
    pub fn wheel(&mut self, notches: i32) {
        self.pointer.axis_source(AxisSource::Wheel);
        let length = 15.0 * f64::from(notches);
        self.pointer
            .axis_discrete(self.time(), Axis::VerticalScroll, length, notches);
        self.pointer.frame();
        self.sync();
    }
}
