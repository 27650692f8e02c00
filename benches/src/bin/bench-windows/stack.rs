//! All of it without a machine: the guest's X server and agent, the channels, the presenter and the host's X server.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use medley_benches::interrupt;
use medley_benches::process::Killed;
use medley_benches::screen::{Screen, Watch};
use tempfile::TempDir;
use x11rb::protocol::xproto::Window;

use crate::painter::Seen;
use crate::relay::{CHANNELS, Relay};

/// Of the memory that both sides share for pixels; as large as `medley boot` makes it.
const POOL: u64 = 64 << 20;
const LIMIT: Duration = Duration::from_secs(20);
/// Begins the class of whatever a presenter shows.
pub const CLASS: &str = "medley-";
/// The one app that the guest has.
const ENTRY: &str =
    "[Desktop Entry]\nType=Application\nName=Terminal\nExec=xterm -geometry 80x24 -e sh\n";

/// The programs that are measured.
#[derive(Clone)]
pub struct Programs {
    pub agent: PathBuf,
    pub presenter: PathBuf,
}

/// One guest's windows on one host.
pub struct Stack {
    // In this order: who shows before what it is shown on.
    pub presenter: Killed,
    pub agent: Killed,
    pub relay: Relay,
    pub guest: Screen,
    pub host: Screen,
    pub border: u16,
    orders: UnixStream,
    dir: TempDir,
    _pool: Option<TempDir>,
}

impl Stack {
    /// Starts everything. `shared`: pixels go through memory, and not through the channel.
    pub fn start(programs: &Programs, border: u16, shared: bool) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (guest, host) = (Screen::bare(1600, 1000)?, Screen::managed(1600, 1000)?);
        let relay = Relay::listen(dir.path())?;
        let pool = match shared {
            true => Some(tempfile::tempdir_in("/dev/shm").context("no memory to share")?),
            false => None,
        };
        let pixels = pool.as_ref().map(|pool| pool.path().join("pixels"));
        if let Some(pixels) = &pixels {
            File::create(pixels)?.set_len(POOL)?;
        }
        let side = |program: &Path, side: &str| -> Result<Command> {
            let mut command = Command::new(program);
            if side == "guest" {
                command.arg("run");
            }
            for channel in CHANNELS {
                let socket = relay.socket(side, channel);
                command.arg(format!("--{channel}")).arg(socket);
            }
            if let Some(pixels) = &pixels {
                command.arg("--pool").arg(pixels);
            }
            let said = File::create(dir.path().join(format!("{side}.log")))?;
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(said);
            Ok(command)
        };
        let mut agent = side(&programs.agent, "guest")?;
        // Of this machine's apps and their icons it shall know nothing.
        let data = dir.path().join("data");
        std::fs::create_dir_all(data.join("applications"))?;
        std::fs::write(data.join("applications/terminal.desktop"), ENTRY)?;
        agent
            .env("XDG_DATA_HOME", &data)
            .env("XDG_DATA_DIRS", &data)
            .env("HOME", &data)
            .env("PS1", "$ ");
        agent.args(["--display", &guest.name]);
        let mut presenter = side(&programs.presenter, "host")?;
        presenter.args(["--display", &host.name, "--workspace", "bench"]);
        presenter.args(["--border", &border.to_string(), "--commands", "--json"]);
        let (orders, theirs) = UnixStream::pair()?;
        presenter.stdin(OwnedFd::from(theirs));
        presenter.stdout(File::create(dir.path().join("events"))?);
        Ok(Self {
            presenter: Killed::start(&mut presenter)?,
            agent: Killed::start(&mut agent)?,
            relay,
            guest,
            host,
            border,
            orders,
            dir,
            _pool: pool,
        })
    }

    /// The id of the guest's app, once the guest has said which it has.
    pub fn app(&self) -> Result<String> {
        let begun = Instant::now();
        loop {
            let events = std::fs::read_to_string(self.dir.path().join("events"))?;
            let mut events = events
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let app = events.find(|event| event["event"] == "app");
            if let Some(id) = app.as_ref().and_then(|app| app["app"].as_str()) {
                return Ok(id.to_owned());
            }
            self.lives()?;
            ensure!(begun.elapsed() < LIMIT, "no app: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks for an app, as a supervisor does.
    pub fn launch(&self, app: &str) -> Result<()> {
        Ok((&self.orders).write_all(format!("launch {app}\n").as_bytes())?)
    }

    /// Waits for a window on the host besides those that are known, and puts it in sight.
    pub fn shown(&self, known: &[Window]) -> Result<Window> {
        let begun = Instant::now();
        loop {
            self.lives()?;
            if let Some(window) = self.host.apps(CLASS, known)?.pop() {
                self.host.put_in_sight(window)?;
                return Ok(window);
            }
            interrupt::go_on()?;
            ensure!(
                begun.elapsed() < LIMIT,
                "no window on the host: {}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where an app's window is looked at.
    pub fn seen<'a>(&'a self, window: Window, watch: &'a Watch<'a>) -> Seen<'a> {
        Seen {
            screen: &self.host,
            window,
            watch,
            border: self.border,
            beyond: Cell::default(),
        }
    }

    /// Fails if agent or presenter has ended.
    pub fn lives(&self) -> Result<()> {
        let agent = self.agent.lives("medley-guest");
        let ended = agent.and_then(|()| self.presenter.lives("medley-presenter"));
        ended.with_context(|| self.said())
    }

    fn said(&self) -> String {
        let read = |side| std::fs::read_to_string(self.dir.path().join(side)).unwrap_or_default();
        format!(
            "agent: {}\npresenter: {}",
            read("guest.log"),
            read("host.log")
        )
    }
}
