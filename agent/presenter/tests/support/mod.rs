//! A desktop of its own for each test (an X server and a window manager), a guest that says what the test wants,
//! and the presenter between them.
#![allow(dead_code, reason = "each test uses a part of it")]
pub mod stack;

use medley_link::{End, Greets, Progress};
use medley_presenter::frame::{Colour, Look};
use medley_wire::gui::{self, FromGuest, FromHost};
use medley_wire::pixels::{Format, Patch, Payload};
use medley_wire::window::{Kind, SizeHints};
use medley_wire::{
    AppId, Bytes, Channel, Features, Hello, List, Rect, Set, Size, Text, Untrusted, WindowId,
};
use nix::poll::{PollFd, PollTimeout, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{AtomEnum, ConnectionExt, ImageFormat, Window};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

pub const PATIENCE: Duration = Duration::from_secs(10);

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
    pub root: Window,
    home: TempDir,
    manager: Option<Process>,
    pub server: Process,
}

impl Desk {
    pub fn bare(width: u32, height: u32) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut server = Command::new("Xvfb")
            .args([
                "-displayfd",
                "1",
                "-nolisten",
                "tcp",
                "-noreset",
                "-screen",
                "0",
            ])
            .arg(format!("{width}x{height}x24"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed");
        let mut number = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut number)
            .unwrap();
        let name = format!(":{}", number.trim());
        let server = Process(server);
        let (conn, screen) = x11rb::connect(Some(&name)).unwrap();
        let root = conn.setup().roots[screen].root;
        Self {
            name,
            conn,
            root,
            home,
            manager: None,
            server,
        }
    }

    pub fn new(width: u32, height: u32) -> Self {
        let mut desk = Self::bare(width, height);
        let manager = Command::new("openbox")
            .arg("--sm-disable")
            .env("DISPLAY", &desk.name)
            .env("HOME", desk.home.path())
            .env("XDG_CONFIG_HOME", desk.home.path())
            .env("XDG_CACHE_HOME", desk.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openbox is installed");
        desk.manager = Some(Process(manager));
        let check = desk.atom("_NET_SUPPORTING_WM_CHECK");
        wait_for("the window manager", || {
            !desk.property(desk.root, check).is_empty()
        });
        // It says that it is there a moment before it is: what is mapped in between stays unmapped for ever.
        wait_for("the window manager to manage", || {
            let probe = desk.unmanaged_window("probe");
            let began = Instant::now();
            while !desk.is_viewable(probe) && began.elapsed() < Duration::from_millis(300) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let there = desk.is_viewable(probe);
            desk.destroy(probe);
            there
        });
        desk
    }

    pub fn atom(&self, name: &str) -> u32 {
        let cookie = self.conn.intern_atom(false, name.as_bytes()).unwrap();
        cookie.reply().unwrap().atom
    }

    /// A property's numbers.
    pub fn property(&self, window: Window, atom: u32) -> Vec<u32> {
        let reply = self
            .conn
            .get_property(false, window, atom, AtomEnum::ANY, 0, 4096)
            .unwrap()
            .reply();
        reply
            .ok()
            .and_then(|reply| Some(reply.value32()?.collect()))
            .unwrap_or_default()
    }

    /// A property's text.
    pub fn text(&self, window: Window, name: &str) -> String {
        let atom = self.atom(name);
        let reply = self
            .conn
            .get_property(false, window, atom, AtomEnum::ANY, 0, 4096)
            .unwrap()
            .reply();
        reply.map_or_else(
            |_| String::new(),
            |r| String::from_utf8_lossy(&r.value).into_owned(),
        )
    }

    /// All X windows of the presenter's that are shown: those with its class, by class.
    pub fn windows(&self) -> Vec<Window> {
        let mut found = Vec::new();
        let mut next = vec![self.root];
        while let Some(window) = next.pop() {
            let Ok(tree) = self.conn.query_tree(window).unwrap().reply() else {
                continue;
            };
            next.extend(&tree.children);
            if self.text(window, "WM_CLASS").starts_with("medley-") && self.is_viewable(window) {
                found.push(window);
            }
        }
        found
    }

    /// Everything on the desktop, for a test that fails.
    pub fn describe(&self) {
        let mut next = vec![(self.root, 0)];
        while let Some((window, depth)) = next.pop() {
            if let Ok(tree) = self.conn.query_tree(window).unwrap().reply() {
                next.extend(tree.children.iter().map(|child| (*child, depth + 1)));
            }
            let (class, name) = (
                self.text(window, "WM_CLASS"),
                self.text(window, "_NET_WM_NAME"),
            );
            let viewable = self.is_viewable(window);
            eprintln!(
                "{depth} {window:x} {class:?} {name:?} viewable {viewable} {:?}",
                self.place(window)
            );
        }
    }

    pub fn is_viewable(&self, window: Window) -> bool {
        use x11rb::protocol::xproto::MapState;
        let attributes = self.conn.get_window_attributes(window).unwrap().reply();
        attributes.is_ok_and(|attributes| attributes.map_state == MapState::VIEWABLE)
    }

    /// The window with such a title.
    pub fn window(&self, title: &str) -> Window {
        let mut found = None;
        let began = Instant::now();
        wait_for(&format!("a window called {title:?}"), || {
            let all = self.windows();
            if began.elapsed() + Duration::from_millis(100) > PATIENCE {
                self.describe();
            }
            found = all
                .into_iter()
                .find(|window| self.text(*window, "_NET_WM_NAME") == title);
            found.is_some()
        });
        found.unwrap()
    }

    /// Where a window is on the screen: x, y, width, height.
    pub fn place(&self, window: Window) -> (i32, i32, u32, u32) {
        let size = self.conn.get_geometry(window).unwrap().reply().unwrap();
        let at = self
            .conn
            .translate_coordinates(window, self.root, 0, 0)
            .unwrap()
            .reply()
            .unwrap();
        (
            at.dst_x.into(),
            at.dst_y.into(),
            size.width.into(),
            size.height.into(),
        )
    }

    /// What is on the screen there.
    pub fn shot(&self, (x, y, width, height): (i32, i32, u32, u32)) -> Shot {
        let image = self
            .conn
            .get_image(
                ImageFormat::Z_PIXMAP,
                self.root,
                x as i16,
                y as i16,
                width as u16,
                height as u16,
                !0,
            )
            .unwrap()
            .reply()
            .unwrap();
        let pixels = image.data.as_chunks::<4>().0;
        Shot {
            width,
            pixels: pixels
                .iter()
                .map(|[b, g, r, _]| u32::from_be_bytes([0, *r, *g, *b]))
                .collect(),
        }
    }

    /// A window as it is on the screen.
    pub fn shot_of(&self, window: Window) -> Shot {
        self.shot(self.place(window))
    }

    pub fn fake(&self, kind: u8, detail: u8, x: i32, y: i32) {
        self.conn
            .xtest_fake_input(kind, detail, 0, self.root, x as i16, y as i16, 0)
            .unwrap();
        self.conn.flush().unwrap();
    }

    pub fn key(&self, code: u8) {
        self.key_down(code);
        self.key_up(code);
    }

    /// evdev's code.
    pub fn key_down(&self, code: u8) {
        self.fake(2, code + 8, 0, 0);
    }

    pub fn key_up(&self, code: u8) {
        self.fake(3, code + 8, 0, 0);
    }

    pub fn point(&self, x: i32, y: i32) {
        self.fake(6, 0, x, y);
    }

    pub fn click(&self, x: i32, y: i32) {
        self.point(x, y);
        self.fake(4, 1, 0, 0);
        self.fake(5, 1, 0, 0);
    }

    /// Asks the window manager for something.
    pub fn message(&self, window: Window, name: &str, data: [u32; 5]) {
        use x11rb::protocol::xproto::{ClientMessageEvent, EventMask};
        let event = ClientMessageEvent::new(32, window, self.atom(name), data);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.conn.send_event(false, self.root, mask, event).unwrap();
        self.conn.flush().unwrap();
    }

    pub fn attributes(&self, window: Window) -> x11rb::protocol::xproto::GetWindowAttributesReply {
        let cookie = self.conn.get_window_attributes(window).unwrap();
        cookie.reply().unwrap()
    }

    /// Whether a window manages itself; one that is gone does not.
    pub fn is_unmanaged(&self, window: Window) -> bool {
        let attributes = self.conn.get_window_attributes(window).unwrap().reply();
        attributes.is_ok_and(|attributes| attributes.override_redirect)
    }

    pub fn property_named(&self, window: Window, name: &str) -> Vec<u32> {
        self.property(window, self.atom(name))
    }

    /// A window of the host's own, with a title.
    pub fn own_window(&self, title: &str) -> Window {
        let window = self.unmanaged_window(title);
        wait_for("a window of the host's", || self.is_viewable(window));
        window
    }

    /// The same, which nobody may have mapped yet.
    fn unmanaged_window(&self, title: &str) -> Window {
        use x11rb::protocol::xproto::{CreateWindowAux, PropMode, WindowClass};
        use x11rb::wrapper::ConnectionExt as _;
        let window = self.conn.generate_id().unwrap();
        let aux = CreateWindowAux::new().background_pixel(0x0012_3456);
        self.conn
            .create_window(
                24,
                window,
                self.root,
                0,
                0,
                500,
                400,
                0,
                WindowClass::INPUT_OUTPUT,
                0,
                &aux,
            )
            .unwrap();
        let name = self.atom("_NET_WM_NAME");
        let utf8 = self.atom("UTF8_STRING");
        self.conn
            .change_property8(PropMode::REPLACE, window, name, utf8, title.as_bytes())
            .unwrap();
        self.conn.map_window(window).unwrap();
        self.conn.flush().unwrap();
        window
    }

    pub fn destroy(&self, window: Window) {
        self.conn.destroy_window(window).unwrap();
        self.conn.flush().unwrap();
    }

    /// A task bar at the lower edge.
    pub fn task_bar(&self, width: u32, height: u32) {
        use x11rb::protocol::xproto::PropMode;
        use x11rb::wrapper::ConnectionExt as _;
        let bar = self.own_window("task bar");
        let (strut, cardinal) = (self.atom("_NET_WM_STRUT_PARTIAL"), AtomEnum::CARDINAL);
        let values = [0, 0, 0, height, 0, 0, 0, 0, 0, 0, 0, width - 1];
        self.conn
            .change_property32(PropMode::REPLACE, bar, strut, cardinal, &values)
            .unwrap();
        self.conn.flush().unwrap();
        wait_for("a work area", || {
            self.property_named(self.root, "_NET_WORKAREA").get(3) == Some(&(600 - height))
        });
    }

    /// A shown window of the desktop's with that title, whoever's it is.
    pub fn own_title(&self, title: &str) -> Option<Window> {
        let all = self.property_named(self.root, "_NET_CLIENT_LIST");
        let found = all
            .into_iter()
            .find(|window| self.text(*window, "_NET_WM_NAME") == title);
        found.filter(|window| self.is_viewable(*window))
    }

    pub fn resize(&self, window: Window, width: u32, height: u32) {
        // Gravity of the window itself, width and height are given, a pager asks.
        let flags = 10 | 1 << 10 | 1 << 11 | 2 << 12;
        self.message(
            window,
            "_NET_MOVERESIZE_WINDOW",
            [flags, 0, 0, width, height],
        );
    }

    /// Gives a window the keyboard, as a task bar would.
    pub fn activate(&self, window: Window) {
        self.message(window, "_NET_ACTIVE_WINDOW", [2, 0, 0, 0, 0]);
        let active = self.atom("_NET_ACTIVE_WINDOW");
        wait_for("the keyboard's focus", || {
            let real = self.conn.get_input_focus().unwrap().reply().unwrap().focus;
            real == window && self.property(self.root, active).first() == Some(&window)
        });
    }
}

/// Pixels of the screen.
#[derive(PartialEq)]
pub struct Shot {
    pub width: u32,
    pub pixels: Vec<u32>,
}

impl Shot {
    pub fn at(&self, x: u32, y: u32) -> u32 {
        self.pixels[(y * self.width + x) as usize]
    }
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The presenter.
pub struct Presenter {
    pub process: Process,
    stdin: UnixStream,
    lines: Receiver<serde_json::Value>,
    pub seen: Vec<serde_json::Value>,
}

impl Presenter {
    pub fn start(desk: &Desk, guest: &Sockets, more: &[&str]) -> Self {
        let mut all = vec!["--workspace", "test", "--colour", "c02040"];
        all.extend(more);
        Self::start_as(desk, guest, &all)
    }

    pub fn start_as(desk: &Desk, guest: &Sockets, more: &[&str]) -> Self {
        let mut command = Self::command_line(guest, more);
        command.args(["--display", &desk.name]);
        Self::run(command)
    }

    /// How it is started, but for its display.
    pub fn command_line(guest: &Sockets, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_medley-presenter"));
        command
            .args(["--json", "--commands"])
            .arg("--gui")
            .arg(guest.dir.path().join("gui"))
            .args(more);
        command
    }

    pub fn run(mut command: Command) -> Self {
        let (stdin, theirs) = UnixStream::pair().unwrap();
        let mut process = command
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).expect("every line is JSON");
                if to.send(value).is_err() {
                    break;
                }
            }
        });
        Self {
            stdin,
            process: Process(process),
            lines,
            seen: Vec::new(),
        }
    }

    pub fn command(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// Gives an order that goes with a file.
    pub fn order(&self, order: &serde_json::Value, file: &std::fs::File) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        let line = format!("{order}\n");
        let pieces = [std::io::IoSlice::new(line.as_bytes())];
        sendmsg(&self.stdin, &pieces, &mut control, SendFlags::empty()).unwrap();
    }

    /// Waits for an event with that name.
    pub fn event(&mut self, name: &str) -> serde_json::Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(value) = self.lines.recv_timeout(left) else {
                panic!("no event {name:?}; there were {:?}", self.seen);
            };
            self.seen.push(value.clone());
            if value["event"] == name {
                return value;
            }
        }
    }

    /// Waits until it ends, and says with which code.
    pub fn ended(&mut self) -> i32 {
        let mut code = None;
        wait_for("the presenter's end", || {
            code = self.process.0.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code().unwrap_or(-1)
    }
}

/// Where a guest listens.
pub struct Sockets {
    pub dir: TempDir,
    gui: UnixListener,
}

impl Sockets {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let gui = UnixListener::bind(dir.path().join("gui")).unwrap();
        Self { dir, gui }
    }

    /// The gui channel's socket, for somebody else to accept on.
    pub fn gui_listener(&self) -> UnixListener {
        self.gui.try_clone().unwrap()
    }

    pub fn listen(&self, name: &str) -> UnixListener {
        UnixListener::bind(self.dir.path().join(name)).unwrap()
    }

    /// Takes a presenter's connection and greets.
    pub fn accept(&self) -> Guest {
        let (stream, _) = self.gui.accept().unwrap();
        let features = Features::LZ4
            .with(Features::ZSTD)
            .with(Features::SHARED_PIXELS)
            .with(Features::CURSOR_PICTURES);
        let hello = Hello::new(Channel::Gui, features, [7; 32]);
        let end = End::guest(OwnedFd::from(stream), hello).unwrap();
        Guest {
            end,
            inbox: Vec::new(),
            answers: true,
            frames: BTreeMap::new(),
            destroyed: BTreeSet::new(),
            gone: false,
        }
    }
}

/// A guest's end of a channel.
pub struct Line<In: Greets, Out: Greets>(pub End<In, Out>);

impl<In: Greets, Out: Greets> Line<In, Out> {
    pub fn accept(listener: &UnixListener, channel: Channel) -> Self {
        let (stream, _) = listener.accept().unwrap();
        let hello = Hello::new(channel, Features::NONE, [7; 32]);
        Self(End::guest(OwnedFd::from(stream), hello).unwrap())
    }

    pub fn say<'m>(&mut self, message: impl Into<Out::Message<'m>>) {
        self.0.outgoing().send(&message.into()).unwrap();
        self.0.flush().unwrap();
    }

    /// What can be made of the messages that come within a time, one after the other.
    pub fn hear<T>(
        &mut self,
        within: Duration,
        mut find: impl FnMut(&<In as Set>::Message<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.0.flush().unwrap();
        let timeout = PollTimeout::try_from(within).unwrap();
        poll(
            &mut [PollFd::new(self.0.as_fd(), self.0.interest())],
            timeout,
        )
        .unwrap();
        let mut found = Vec::new();
        let progress = self
            .0
            .read(|_, received| -> Result<(), medley_link::Error> {
                found.extend(find(&received.message));
                Ok(())
            });
        assert_eq!(progress.unwrap(), Progress::Open);
        found
    }

    pub fn wait<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&<In as Set>::Message<'_>) -> Option<T>,
    ) -> T {
        let began = Instant::now();
        loop {
            if let Some(first) = self.hear(Duration::from_millis(50), &mut find).pop() {
                return first;
            }
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        }
    }
}

/// A guest's agent that does what a test says.
pub struct Guest {
    pub end: End<FromHost<'static>, FromGuest<'static>>,
    pub inbox: Vec<FromHost<'static>>,
    /// Whether it answers configures by itself.
    pub answers: bool,
    frames: BTreeMap<WindowId, u32>,
    /// Windows that it has destroyed: it answers nothing about them.
    destroyed: BTreeSet<WindowId>,
    pub gone: bool,
}

fn owned(message: &FromHost<'_>) -> Option<FromHost<'static>> {
    macro_rules! same {
        ($($kind:ident),*) => {
            match message {
                $(FromHost::$kind(body) => Some(FromHost::$kind(body.clone())),)*
                FromHost::Bye(_) | FromHost::Text(_) => None,
            }
        };
    }
    same!(
        Hello, Limits, Resync, Configure, State, Stack, Focus, Leave, Close, Destroyed, FrameDone,
        Visibility, Key, Motion, Button, Scroll, Crossing, Touch
    )
}

pub fn id(number: u32) -> WindowId {
    WindowId::new(number).unwrap()
}

pub fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
    Rect::new(x, y, Size::new(width, height).unwrap()).unwrap()
}

impl Guest {
    pub fn say<'m>(&mut self, message: impl Into<FromGuest<'m>>) {
        self.end.outgoing().send(&message.into()).unwrap();
        // A host that has hung up is what some tests are about.
        let _ = self.end.flush();
    }

    /// Reads what is there within a time.
    pub fn hear(&mut self, within: Duration) {
        let timeout = PollTimeout::try_from(within).unwrap();
        let _ = self.end.flush();
        let interest = self.end.interest();
        let _ = poll(&mut [PollFd::new(self.end.as_fd(), interest)], timeout);
        let inbox = &mut self.inbox;
        let before = inbox.len();
        let progress = self
            .end
            .read(|_, received| -> Result<(), medley_link::Error> {
                inbox.extend(owned(&received.message));
                Ok(())
            });
        self.gone |= matches!(progress, Err(_) | Ok(Progress::Ended));
        if self.answers {
            let asked: Vec<_> = self.inbox[before..]
                .iter()
                .filter_map(|message| match message {
                    FromHost::Configure(configure) => Some(configure.clone()),
                    _ => None,
                })
                .filter(|configure| !self.destroyed.contains(&configure.window))
                .collect();
            for configure in asked {
                self.answer(&configure);
            }
        }
    }

    pub fn answer(&mut self, configure: &gui::Configure) {
        self.say(gui::Ask {
            window: configure.window,
            rect: Untrusted::claim(configure.rect),
            answers: configure.serial,
        });
    }

    /// Waits for a message that something can be made of; those before it stay in the inbox.
    pub fn wait<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&FromHost<'static>) -> Option<T>,
    ) -> T {
        let began = Instant::now();
        let mut from = 0;
        loop {
            if let Some(at) = (from..self.inbox.len()).find(|at| find(&self.inbox[*at]).is_some()) {
                let message = self.inbox.remove(at);
                return find(&message).unwrap();
            }
            from = self.inbox.len();
            assert!(
                began.elapsed() < PATIENCE && !self.gone,
                "waited in vain for {what}; there were {:?}",
                self.inbox
            );
            self.hear(Duration::from_millis(50));
        }
    }

    /// Answers the first request for everything: with nothing.
    pub fn begin(&mut self) {
        self.snapshot(|_| {});
    }

    /// Answers a request for everything.
    pub fn snapshot(&mut self, say: impl FnOnce(&mut Self)) {
        let generation = self.wait("a resync", |message| match message {
            FromHost::Resync(resync) => Some(resync.generation),
            _ => None,
        });
        self.say(gui::Snapshot {
            generation,
            windows: 0,
        });
        say(self);
        self.say(gui::SnapshotEnd { generation });
    }

    /// Destroys a window and waits until its number is free.
    pub fn destroy(&mut self, window: u32) {
        let window = id(window);
        self.destroyed.insert(window);
        self.say(gui::Destroy { window });
        self.wait("a number back", |message| match message {
            FromHost::Destroyed(destroyed) if destroyed.window == window => Some(()),
            _ => None,
        });
        self.destroyed.remove(&window);
    }

    pub fn create(&mut self, window: u32, at: Rect) {
        self.say(gui::Create {
            window: id(window),
            rect: Untrusted::claim(at),
            app: AppId::new([window as u8; 16]),
            launch: 0,
        });
    }

    pub fn map(&mut self, window: u32, parent: u32, kind: Kind, unmanaged: bool) {
        self.say(gui::Map {
            window: id(window),
            parent: WindowId::new(parent),
            kind,
            unmanaged,
        });
    }

    pub fn title(&mut self, window: u32, title: &str) {
        self.say(gui::Title {
            window: id(window),
            title: Untrusted::claim(Text::cut(title)),
        });
    }

    /// An ordinary window.
    pub fn window(&mut self, window: u32, title: &str, at: Rect) {
        self.create(window, at);
        self.title(window, title);
        self.map(window, 0, Kind::Normal, false);
    }

    pub fn next_frame(&mut self, window: WindowId) -> u32 {
        let frame = self.frames.entry(window).or_default();
        *frame += 1;
        *frame
    }

    pub fn patch(&mut self, window: u32, at: Rect, payload: Payload<'_>) -> u32 {
        let window = id(window);
        let frame = self.next_frame(window);
        self.say(gui::Pixels {
            window,
            frame,
            took: [0, 0],
            last: true,
            patch: Untrusted::claim(Patch {
                rect: at,
                format: Format::Xrgb,
                payload,
            }),
        });
        frame
    }

    /// Fills a rectangle and waits until that was shown.
    pub fn fill(&mut self, window: u32, at: Rect, colour: u32) {
        let frame = self.patch(window, at, Payload::Solid(colour.to_le_bytes()));
        self.shown(window, frame);
    }

    pub fn shown(&mut self, window: u32, frame: u32) {
        self.wait("a frame's acknowledgement", |message| match message {
            FromHost::FrameDone(done) if done.window == id(window) && done.frame == frame => {
                Some(())
            }
            _ => None,
        });
    }

    /// Waits until the host has put a window where it stays, and says where that is. A host that puts it where
    /// it asked to be says nothing.
    pub fn placed(&mut self, window: u32, asked: Rect) -> Rect {
        self.settle();
        let mut last = asked;
        self.inbox.retain(|message| match message {
            FromHost::Configure(configure) if configure.window == id(window) => {
                last = configure.rect;
                false
            }
            _ => true,
        });
        last
    }

    /// Lets everything that is on its way come.
    pub fn settle(&mut self) {
        for _ in 0..4 {
            self.hear(Duration::from_millis(50));
        }
    }
}

/// A desk, a guest that has begun, and a presenter between them.
pub fn begun(more: &[&str]) -> (Desk, Sockets, Presenter, Guest) {
    let (desk, sockets) = (Desk::new(800, 600), Sockets::new());
    let mut presenter = Presenter::start(&desk, &sockets, more);
    let mut guest = sockets.accept();
    guest.begin();
    presenter.event("whole");
    (desk, sockets, presenter, guest)
}

/// The ring of the workspace that tests have.
pub fn look() -> Look {
    Look::new(Colour(0xc0, 0x20, 0x40), "test")
}

/// Pixels of the ring.
pub const BORDER: u32 = 3;

/// The colour of [`focused`] windows.
pub const GREEN: u32 = 0x0020_8040;

/// Says what is wrong about a window's ring, if anything is.
pub fn ring_fault(desk: &Desk, window: Window) -> Option<String> {
    let (_, _, width, height) = desk.place(window);
    let shot = desk.shot_of(window);
    for y in 0..height {
        for x in 0..width {
            let inside =
                (BORDER..width - BORDER).contains(&x) && (BORDER..height - BORDER).contains(&y);
            let ring = look().at(x as u16, y as u16).pixel();
            if !inside && shot.at(x, y) != ring {
                return Some(format!(
                    "{:06x} at {x},{y} of {width}x{height}",
                    shot.at(x, y)
                ));
            }
        }
    }
    None
}

/// A window of one colour that has the keyboard: the host's window, and where the guest's pixels are.
pub fn focused(desk: &Desk, guest: &mut Guest, window: u32, at: Rect) -> (u32, Rect) {
    let title = format!("window {window}");
    guest.window(window, &title, at);
    let host = desk.window(&format!("[test] {title}"));
    let placed = guest.placed(window, at);
    let whole = rect(0, 0, at.size().width(), at.size().height());
    guest.fill(window, whole, GREEN);
    desk.activate(host);
    guest.wait("the keyboard", |message| match message {
        FromHost::Focus(focus) if focus.window == id(window) => Some(()),
        _ => None,
    });
    (host, placed)
}

/// A picture of which every pixel is another, as bytes.
pub fn picture(width: u32, height: u32) -> Vec<u8> {
    (0..width * height)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) & 0x00ff_ffff).to_le_bytes())
        .collect()
}

pub fn raw(bytes: &[u8]) -> Payload<'_> {
    Payload::Raw(Bytes(bytes))
}

pub fn no_hints() -> SizeHints {
    SizeHints::default()
}

pub fn rects(all: &[Rect]) -> List<Untrusted<Rect>, 64> {
    List::new(all.iter().map(|r| Untrusted::claim(*r)).collect())
}

pub fn drain(mut from: impl Read) -> String {
    let mut text = String::new();
    let _ = from.read_to_string(&mut text);
    text
}
