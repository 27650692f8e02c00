//! A host that is a script: it holds the other ends of the agent's channels, keeps what it is told as a model
//! of windows and canvases, and acknowledges frames like a presenter.
#![allow(dead_code, clippy::unwrap_used)]
pub mod bus;
pub mod display;
pub mod model;
pub mod selections;

use medley_desktop::{Desktop, Process};
use medley_link::{End, Error, Outgoing, Pool, Progress};
use medley_wire::{Channel, Features, Hello, Size, WindowId, bulk, control, gui};
use model::Model;
use nix::poll::{PollFd, PollTimeout, poll};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub type Gui = End<gui::FromGuest<'static>, gui::FromHost<'static>>;
pub type Control = End<control::FromGuest<'static>, control::FromHost<'static>>;
pub type Bulk = End<bulk::FromGuest<'static>, bulk::FromHost<'static>>;

/// Long enough for a busy machine; nothing waits this long when it works.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Listens where the agent will knock.
pub struct Doors {
    pub folder: tempfile::TempDir,
    gui: UnixListener,
    control: UnixListener,
    bulk: UnixListener,
}

impl Doors {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listen = |name| UnixListener::bind(folder.path().join(name)).unwrap();
        Self {
            gui: listen("gui"),
            control: listen("control"),
            bulk: listen("bulk"),
            folder,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Only the control channel, for an agent that cannot do more.
    pub fn take_control(&self) -> Control {
        let hello = Hello::new(Channel::Control, Features::ALL, [7; 32]);
        let asked = PollFd::new(self.control.as_fd(), nix::poll::PollFlags::POLLIN);
        let timeout = PollTimeout::try_from(PATIENCE).unwrap();
        assert_eq!(
            poll(&mut [asked], timeout).unwrap(),
            1,
            "the agent never came"
        );
        Control::host(self.control.accept().unwrap().0.into(), hello).unwrap()
    }
}

/// Starts an agent; `more` are further arguments.
pub fn agent(server: &Desktop, doors: &Doors, more: &[&str]) -> Process {
    agent_on(&server.name, doors, more)
}

/// The agent's program.
pub const AGENT: &str = env!("CARGO_BIN_EXE_medley-guest");

/// Starts an agent on a display of that name, which need not be there.
pub fn agent_on(display: &str, doors: &Doors, more: &[&str]) -> Process {
    agent_with(AGENT, display, doors, more, &[])
}

/// The environment in which an agent and those who ask it find each other, and nothing of this machine's.
pub fn surround<'c>(command: &'c mut Command, doors: &Doors) -> &'c mut Command {
    for name in ["run", "home", "data"] {
        std::fs::create_dir_all(doors.path(name)).unwrap();
    }
    command
        .env("XDG_RUNTIME_DIR", doors.path("run"))
        .env("HOME", doors.path("home"))
        .env("DBUS_SESSION_BUS_ADDRESS", "")
        .env_remove("XCOMPOSECACHE")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DOWNLOAD_DIR")
        .env_remove("RUNTIME_DIRECTORY")
        .env_remove("STATE_DIRECTORY")
}

/// Starts an agent with more in its environment; `program` may be a copy.
pub fn agent_with(
    program: &str,
    display: &str,
    doors: &Doors,
    more: &[&str],
    environment: &[(&str, &str)],
) -> Process {
    let data = doors.path("data");
    let mut agent = Command::new(program);
    surround(&mut agent, doors)
        .args(["run", "--display", display, "--gui"])
        .arg(doors.path("gui"))
        .arg("--control")
        .arg(doors.path("control"))
        .arg("--bulk")
        .arg(doors.path("bulk"))
        .args(more)
        .env("XDG_DATA_HOME", &data)
        .env("XDG_DATA_DIRS", doors.path("system"))
        .env("LANG", "C.UTF-8")
        .env_remove("LC_ALL")
        .env_remove("XDG_CURRENT_DESKTOP")
        .env(
            "MEDLEY_LOG",
            std::env::var("MEDLEY_LOG").unwrap_or("warn".into()),
        )
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    Process::start(&mut agent).unwrap()
}

/// The host.
pub struct Host {
    pub gui: Gui,
    pub control: Control,
    pub bulk: Bulk,
    pub model: Model,
}

impl Host {
    /// Takes the agent's three connections, greets, and asks for everything.
    pub fn accept(doors: &Doors, features: Features, pool: Option<Pool>) -> Self {
        let within = PATIENCE;
        let hello = |channel| Hello::new(channel, features, [7; 32]);
        let take = |listener: &UnixListener| {
            let asked = PollFd::new(listener.as_fd(), nix::poll::PollFlags::POLLIN);
            let timeout = PollTimeout::try_from(within).unwrap();
            assert_eq!(
                poll(&mut [asked], timeout).unwrap(),
                1,
                "the agent never came"
            );
            listener.accept().unwrap().0.into()
        };
        let mut gui = Gui::host(take(&doors.gui), hello(Channel::Gui)).unwrap();
        let mut control = Control::host(take(&doors.control), hello(Channel::Control)).unwrap();
        let mut bulk = Bulk::host(take(&doors.bulk), hello(Channel::Bulk)).unwrap();
        gui.greet::<Error>(within, |_, _| Ok(())).unwrap();
        let mut model = Model::new(pool);
        control
            .greet::<Error>(within, |_, received| {
                model.control(received.message);
                Ok(())
            })
            .unwrap();
        bulk.greet::<Error>(within, |_, _| Ok(())).unwrap();
        let mut host = Self {
            gui,
            control,
            bulk,
            model,
        };
        host.say(gui::Limits {
            windows: 512,
            size: Size::new(16384, 16384).unwrap(),
            pixels: 1 << 32,
            frames: 60,
        });
        host.resync(1);
        host
    }

    pub fn resync(&mut self, generation: u32) {
        self.say(gui::Resync { generation });
        self.until("the snapshot", |model| {
            model.snapshots.last() == Some(&generation)
        });
    }

    pub fn say<'m>(&mut self, message: impl Into<gui::FromHost<'m>>) {
        self.gui.send(message).unwrap();
        self.gui.flush().unwrap();
    }

    /// What a policy allows.
    pub fn allow(&mut self, allowed: control::Allowed) {
        self.order(control::Settings {
            allowed,
            dark: false,
            locale: medley_wire::Text::cut("C"),
            workspace: medley_wire::Text::cut("test"),
        });
    }

    pub fn order<'m>(&mut self, message: impl Into<control::FromHost<'m>>) {
        self.control.send(message).unwrap();
        self.control.flush().unwrap();
    }

    /// Reads what comes until something holds, or fails.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Model) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(&self.model) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited in vain for {what}: {:#?}",
                self.model
            );
            assert!(
                self.turn(left.min(Duration::from_millis(100))),
                "the agent is gone"
            );
        }
    }

    /// Reads what comes for a time.
    pub fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end
            .checked_duration_since(Instant::now())
            .filter(|d| !d.is_zero())
        {
            assert!(self.turn(left), "the agent is gone");
        }
    }

    /// Waits for something to come, and reads it. False, if the agent is gone.
    pub fn turn(&mut self, most: Duration) -> bool {
        {
            let mut asked = [
                PollFd::new(self.gui.as_fd(), self.gui.interest()),
                PollFd::new(self.control.as_fd(), self.control.interest()),
                PollFd::new(self.bulk.as_fd(), self.bulk.interest()),
            ];
            let timeout = PollTimeout::try_from(most.as_millis() + 1).unwrap();
            poll(&mut asked, timeout).unwrap();
        }
        let model = &mut self.model;
        let gui = self
            .gui
            .read(|out: &mut Outgoing<_>, received| -> Result<(), Error> {
                model.gui(received.message, out);
                Ok(())
            });
        let control = self.control.read(|_, received| -> Result<(), Error> {
            model.control(received.message);
            Ok(())
        });
        let bulk = self.bulk.read(|out, received| -> Result<(), Error> {
            model.bulk(received.message, out);
            Ok(())
        });
        let _ = (self.gui.flush(), self.control.flush(), self.bulk.flush());
        let open = |progress: Result<Progress, Error>| match progress {
            Ok(progress) => progress == Progress::Open,
            Err(error @ Error::Fault { .. }) => panic!("the agent broke the protocol: {error}"),
            Err(_) => false,
        };
        open(gui) & open(control) & open(bulk)
    }

    /// The window of that class, once it is shown and painted.
    pub fn window(&mut self, class: &str) -> WindowId {
        self.until(&format!("a painted window of class {class}"), |model| {
            model.find(class).is_some_and(|w| w.mapped && w.frames > 0)
        });
        self.model.find(class).unwrap().id
    }

    /// Waits until a window has been still for a moment.
    pub fn settle(&mut self, window: WindowId) {
        let end = Instant::now() + PATIENCE;
        loop {
            let frames = self.model.windows[&window].frames;
            self.watch(Duration::from_millis(150));
            if self.model.windows[&window].frames == frames {
                return;
            }
            assert!(Instant::now() < end, "the window never rests");
        }
    }
}

/// Starts an app on a display.
pub fn app(server: &Desktop, program: &str, arguments: &[&str]) -> Process {
    let mut app = server.program(program);
    app.args(arguments)
        .env("NO_AT_BRIDGE", "1")
        .env("GTK_A11Y", "none")
        .env("GDK_BACKEND", "x11")
        .env("LANG", "C.UTF-8");
    Process::start(&mut app).unwrap()
}
