//! X servers of a test's own, and a second look at what is on them.
#![allow(dead_code, clippy::unwrap_used)]
use super::Process;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt, ImageFormat, Window};
use x11rb::rust_connection::RustConnection;

/// A server, and a connection to it.
pub struct Xserver {
    pub name: String,
    pub x: RustConnection,
    pub root: Window,
    _server: Process,
    _folder: Option<tempfile::TempDir>,
}

impl Xserver {
    /// Xvfb: one screen of fixed size.
    pub fn virtual_one() -> Self {
        let mut command = Command::new("Xvfb");
        command.args([
            "-screen",
            "0",
            "1600x1000x24",
            "-nolisten",
            "tcp",
            "-noreset",
        ]);
        Self::start(command, None)
    }

    /// Xorg with the dummy driver, as in a guest; nothing, if it cannot run here.
    pub fn dummy(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("xorg.conf");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("Xorg");
        command
            .arg("-config")
            .arg(&path)
            .arg("-logfile")
            .arg(folder.path().join("log"))
            .args([
                "-nolisten",
                "tcp",
                "-noreset",
                "-novtswitch",
                "-sharevts",
                "vt7",
            ]);
        Self::start(command, Some(folder))
    }

    fn start(mut command: Command, folder: Option<tempfile::TempDir>) -> Self {
        command
            .args(["-displayfd", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut server = Process(command.spawn().unwrap());
        let mut line = String::new();
        let mut said = BufReader::new(server.0.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert!(!line.trim().is_empty(), "the X server did not start");
        let name = format!(":{}", line.trim());
        let (x, screen) = RustConnection::connect(Some(&name)).unwrap();
        let root = x.setup().roots[screen].root;
        Self {
            name,
            x,
            root,
            _server: server,
            _folder: folder,
        }
    }

    /// The pixels of a window as the server has them, border left out; nothing, if it cannot say.
    pub fn pixels(&self, window: Window) -> Option<(u16, u16, Vec<u8>)> {
        let g = self.x.get_geometry(window).unwrap().reply().ok()?;
        let image = self
            .x
            .get_image(ImageFormat::Z_PIXMAP, window, 0, 0, g.width, g.height, !0)
            .unwrap()
            .reply()
            .ok()?;
        Some((g.width, g.height, image.data))
    }

    /// The top-level window of that class.
    pub fn find(&self, class: &str) -> Option<Window> {
        let tree = self.x.query_tree(self.root).unwrap().reply().unwrap();
        tree.children.into_iter().find(|window| {
            let kind = x11rb::protocol::xproto::AtomEnum::WM_CLASS;
            let string = x11rb::protocol::xproto::AtomEnum::STRING;
            let reply = self
                .x
                .get_property(false, *window, kind, string, 0, 64)
                .unwrap()
                .reply();
            reply.is_ok_and(|r| {
                String::from_utf8_lossy(&r.value)
                    .split('\0')
                    .any(|half| half == class)
            })
        })
    }

    pub fn atom(&self, name: &str) -> u32 {
        let reply = self.x.intern_atom(false, name.as_bytes()).unwrap();
        reply.reply().unwrap().atom
    }

    pub fn words(&self, window: Window, property: &str) -> Vec<u32> {
        let any = x11rb::protocol::xproto::AtomEnum::ANY;
        let property = self.atom(property);
        let reply = self
            .x
            .get_property(false, window, property, any, 0, 1024)
            .unwrap()
            .reply();
        reply
            .ok()
            .and_then(|r| r.value32().map(Iterator::collect))
            .unwrap_or_default()
    }

    pub fn text(&self, window: Window, property: &str) -> String {
        let any = x11rb::protocol::xproto::AtomEnum::ANY;
        let property = self.atom(property);
        let reply = self
            .x
            .get_property(false, window, property, any, 0, 1024)
            .unwrap()
            .reply()
            .unwrap();
        String::from_utf8_lossy(&reply.value).into_owned()
    }
}
