//! A guest without a machine: its X server with the real agent, the host's desktop with the real presenter, and between
//! them what a hypervisor is to both.
use super::{BORDER, PATIENCE, Presenter, Sockets, wait_for, windows};
use medley_desktop::{Area, Desktop, Process, Window};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use x11rb::protocol::xproto::ConnectionExt;

/// Agent and presenter connect to it, and it copies bytes. One that goes takes the other along.
pub fn relay(guest: UnixListener, host: UnixListener) {
    std::thread::spawn(move || {
        while let Ok((host, _)) = host.accept() {
            // The agent may have given up on older connections; the newest is the living one.
            guest.set_nonblocking(true).unwrap();
            let mut newest = None;
            while newest.is_none() {
                while let Ok((stream, _)) = guest.accept() {
                    newest = Some(stream);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let guest = newest.unwrap();
            guest.set_nonblocking(false).unwrap();
            let back = (guest.try_clone().unwrap(), host.try_clone().unwrap());
            let there = std::thread::spawn(move || pump(back.0, back.1));
            pump(host, guest);
            there.join().unwrap();
        }
    });
}

fn pump(mut from: UnixStream, mut to: UnixStream) {
    let mut bytes = vec![0; 65536];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// The agent's program: it lies beside the presenter's, and is built if it does not.
pub fn agent_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_medley-presenter")).with_file_name("medley-guest");
    if !program.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "-p", "medley-guest"])
            .status()
            .unwrap();
        assert!(built.success());
    }
    program
}

/// A window's pixels as its server has them; nothing, if it is not there.
pub fn pixels(desk: &Desktop, window: Window) -> Option<Vec<u32>> {
    let (_, _, width, height) = desk.place(window)?;
    Some(desk.image(window, (0, 0, width, height)).ok()?.pixels)
}

/// How long a large app may take to show its first window on a busy machine.
const STARTING: Duration = Duration::from_secs(40);

/// A window's place without its ring.
pub fn inside(host: &Desktop, window: Window) -> Area {
    const RING: i32 = BORDER as i32;
    let (x, y, width, height) = host.place(window).unwrap();
    (x + RING, y + RING, width - 2 * RING, height - 2 * RING)
}

/// One guest's windows on one host. What ends first stands first.
pub struct Stack {
    pub presenter: Presenter,
    agent: Process,
    pub guest: Desktop,
    pub host: Desktop,
    home: tempfile::TempDir,
    _sockets: Sockets,
}

impl Stack {
    /// Both screens have the same size, as where a guest's monitors follow the host's. `apps` are names of desktop
    /// entries and what they start; `more` are further arguments of the presenter's.
    pub fn start(apps: &[(&str, &str)], more: &[&str]) -> Self {
        let (width, height) = (1200, 900);
        let host = Desktop::start(width, height).unwrap();
        let guest = Desktop::bare(width, height).unwrap();
        let (home, sockets) = (tempfile::tempdir().unwrap(), Sockets::new());
        let entries = home.path().join("data/applications");
        for folder in ["run", "nothing", "data/applications"] {
            std::fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        let icon = home.path().join("icon.png");
        picture(&icon);
        for (name, exec) in apps {
            // An app looks for its own data where this machine has it, the agent for apps only here.
            let text = format!(
                "[Desktop Entry]\nType=Application\nName={name}\nIcon={}\nExec=env -u XDG_DATA_DIRS -u XDG_DATA_HOME {exec}\n",
                icon.display()
            );
            std::fs::write(entries.join(format!("{name}.desktop")), text).unwrap();
        }
        let mut agent = Command::new(agent_program());
        agent.args(["run", "--display", &guest.name]);
        for channel in ["gui", "control", "bulk"] {
            let theirs = home.path().join(channel);
            let ours = match channel {
                "gui" => sockets.gui_listener(),
                other => sockets.listen(other),
            };
            relay(UnixListener::bind(&theirs).unwrap(), ours);
            agent.arg(format!("--{channel}")).arg(theirs);
        }
        surround(&mut agent, home.path());
        let agent = Process::start(&mut agent).unwrap();
        let path = |name: &str| sockets.dir.path().join(name).to_str().unwrap().to_owned();
        let (control, bulk) = (path("control"), path("bulk"));
        let mut all = vec!["--control", &control, "--bulk", &bulk];
        all.extend(more);
        let mut presenter = Presenter::start(&host, &sockets, &all);
        presenter.event("whole");
        Self {
            presenter,
            agent,
            guest,
            host,
            home,
            _sockets: sockets,
        }
    }

    /// The guest's user's folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Launches an app as a supervisor does; tells its id.
    pub fn launch(&mut self, name: &str) -> String {
        let listed = |app: &serde_json::Value| app["event"] == "app" && app["name"] == name;
        let id = loop {
            if let Some(app) = self.presenter.seen.iter().find(|app| listed(app)) {
                break app["app"].as_str().unwrap().to_owned();
            }
            self.presenter.event("app");
        };
        self.presenter.command(&format!("launch {id}"));
        let launched = self.presenter.event("launched");
        assert_eq!(launched["started"], true, "{launched}");
        id
    }

    /// A program in the guest that is none of its apps.
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        surround(&mut command, self.home.path());
        command
            .env("DISPLAY", &self.guest.name)
            .env_remove("XDG_DATA_DIRS")
            .env_remove("XDG_DATA_HOME");
        command
    }

    /// Windows of the guest's apps that are shown, the lowest first: managed ones, or those that manage themselves.
    pub fn guests(&self, managed: bool) -> Vec<Window> {
        use x11rb::protocol::xproto::WindowClass;
        let guest = &self.guest;
        let mut found = guest.children(guest.root).unwrap();
        found.retain(|window| {
            let attributes = guest.conn.get_window_attributes(*window).unwrap().reply();
            attributes.is_ok_and(|a| {
                a.class == WindowClass::INPUT_OUTPUT && a.override_redirect != managed
            }) && guest.is_viewable(*window)
        });
        found
    }

    /// The newest window of the guest with such words in its title, and the one that the host shows for it.
    pub fn pair(&self, title: &str) -> (Window, Window) {
        let named = |desk: &Desktop, window| desk.title(window).unwrap();
        let began = Instant::now();
        loop {
            let all = self.guests(true).into_iter().rev();
            let mut all = all.filter(|window| named(&self.guest, *window).contains(title));
            if let Some(guest) = all.next() {
                let name = format!("[test] {}", named(&self.guest, guest));
                let shown = windows(&self.host).into_iter();
                let mut shown = shown.filter(|window| named(&self.host, *window) == name);
                if let Some(host) = shown.next() {
                    return (host, guest);
                }
            }
            if began.elapsed() > STARTING {
                self.describe();
                panic!("no window titled {title:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What a window that manages itself is on both sides: the newest on the guest, the one on the host.
    pub fn popup(&self) -> (Window, Window) {
        let mut found = None;
        let began = Instant::now();
        wait_for("a menu on both sides", || {
            found = self.popups().last().copied();
            if found.is_none() && began.elapsed() > PATIENCE - Duration::from_millis(100) {
                self.describe();
            }
            found.is_some()
        });
        found.unwrap()
    }

    /// All windows that manage themselves and are shown on both sides, by place and size.
    pub fn popups(&self) -> Vec<(Window, Window)> {
        let shown: Vec<Window> = windows(&self.host)
            .into_iter()
            .filter(|window| self.host.is_unmanaged(*window))
            .collect();
        let guests = self.guests(false);
        let size = |place: Area| (place.2, place.3);
        let mut pairs = Vec::new();
        for guest in guests {
            let place = self.guest.place(guest).unwrap();
            let same = |host: &&Window| size(inside(&self.host, **host)) == size(place);
            if let Some(host) = shown.iter().find(same) {
                pairs.push((*host, guest));
            }
        }
        pairs
    }

    /// Waits until both sides show the same of a window, to the last pixel, and more than one colour.
    pub fn same(&self, (host, guest): (Window, Window)) {
        let began = Instant::now();
        loop {
            let (there, here) = (
                pixels(&self.guest, guest),
                self.host.shot_at(inside(&self.host, host)).unwrap().pixels,
            );
            let there = there.unwrap_or_default();
            if here == there && here.iter().any(|pixel| *pixel != here[0]) {
                return;
            }
            if began.elapsed() > PATIENCE {
                self.describe();
                let differ = here.iter().zip(&there).filter(|(a, b)| a != b).count();
                let (here, there) = (here.len(), there.len());
                panic!("{differ} pixels differ, of {here} on the host and {there} in the guest");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Both sides, for a test that fails.
    pub fn describe(&self) {
        eprintln!("the host:");
        eprintln!("{}", self.host.describe());
        eprintln!("the guest:");
        eprintln!("{}", self.guest.describe());
    }

    /// The app's window of the guest that has the keyboard there.
    pub fn focus(&self) -> Option<Window> {
        let guest = &self.guest;
        let mut window = guest.conn.get_input_focus().unwrap().reply().ok()?.focus;
        let windows = self.guests(true);
        // Some toolkits give it to a child of theirs.
        while !windows.contains(&window) {
            window = guest.conn.query_tree(window).ok()?.reply().ok()?.parent;
        }
        Some(window)
    }

    /// Whether a process of the guest's apps still shows a window.
    pub fn is_empty(&self) -> bool {
        self.guests(true).is_empty() && windows(&self.host).is_empty()
    }

    /// Fails if agent or presenter has ended.
    pub fn lives(&mut self) {
        assert!(
            self.agent.0.try_wait().unwrap().is_none(),
            "the agent ended"
        );
        let ended = self.presenter.process.0.try_wait().unwrap();
        assert!(ended.is_none(), "the presenter ended");
    }
}

/// Colour of the apps' pictures.
pub const ICON: u32 = 0xff10_8050;

fn picture(path: &Path) {
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), 64, 64);
    encoder.set_color(png::ColorType::Rgba);
    let [alpha, red, green, blue] = ICON.to_be_bytes();
    let mut writer = encoder.write_header().unwrap();
    let pixels = [red, green, blue, alpha].repeat(64 * 64);
    writer.write_image_data(&pixels).unwrap();
}

/// The environment of the guest's programs: nothing of this machine's user.
fn surround(command: &mut Command, home: &Path) {
    command
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .env("XDG_DATA_HOME", home.join("data"))
        .env("XDG_DATA_DIRS", home.join("nothing"))
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_CURRENT_DESKTOP")
        .env_remove("WAYLAND_DISPLAY")
        .env("LANG", "C.UTF-8")
        .env_remove("LC_ALL")
        // No bus: toolkits do without, at once.
        .env("DBUS_SESSION_BUS_ADDRESS", "disabled:")
        .env("GSETTINGS_BACKEND", "memory")
        .env("NO_AT_BRIDGE", "1")
        .env("GTK_A11Y", "none")
        .env("GDK_BACKEND", "x11")
        .env("QT_QPA_PLATFORM", "xcb")
        .env("WINEDEBUG", "-all")
        // Neither .NET nor a browser is looked for.
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
}
