//! How a desktop starts: the X server, then its window manager, until that really manages.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::Window;
use x11rb::rust_connection::RustConnection;

use crate::process::Process;

/// A window manager on a busy host.
const STARTING: Duration = Duration::from_secs(30);

/// How a desktop is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    size: (u16, u16),
    managed: bool,
    cursor: bool,
    apart: bool,
}

impl Options {
    /// A desktop of this size with a window manager.
    #[must_use]
    pub const fn new(width: u16, height: u16) -> Self {
        Self {
            size: (width, height),
            managed: true,
            cursor: true,
            apart: false,
        }
    }

    /// Without a window manager.
    #[must_use]
    pub const fn bare(self) -> Self {
        Self {
            managed: false,
            ..self
        }
    }

    /// Without a cursor. Xvfb paints its own into the screen's pixels, where others have a plane for it: it takes it
    /// away for whoever reads them, and says in the middle of its answer that something was painted.
    #[must_use]
    pub const fn without_cursor(self) -> Self {
        Self {
            cursor: false,
            ..self
        }
    }

    /// Apart from its owner's process group: a person's Ctrl-C is for the owner alone, who ends it.
    #[must_use]
    pub const fn apart(self) -> Self {
        Self {
            apart: true,
            ..self
        }
    }

    /// Starts it, and waits until its windows are managed.
    ///
    /// # Errors
    /// Xvfb or openbox is not installed, or does not start.
    pub fn start(self) -> Result<Desktop> {
        let mut server = self.command("Xvfb");
        let (width, height) = self.size;
        server.args(["-screen", "0", &format!("{width}x{height}x24")]);
        if !self.cursor {
            server.arg("-nocursor");
        }
        let mut desktop = Desktop::of(&mut server, tempfile::tempdir()?)?;
        if self.managed {
            let mut manager = self.command("openbox");
            let home = desktop.home.path();
            manager.arg("--sm-disable").env("DISPLAY", &desktop.name);
            for folder in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
                manager.env(folder, home);
            }
            desktop.manager = Some(Process::start(quiet(&mut manager))?);
            desktop.until("the window manager", STARTING, || desktop.is_managed())?;
        }
        Ok(desktop)
    }

    fn command(self, program: &str) -> Command {
        let mut command = Command::new(program);
        if self.apart {
            command.process_group(0);
        }
        command
    }
}

/// It.
#[derive(Debug)]
pub struct Desktop {
    /// What programs call it: the value of `DISPLAY`.
    pub name: String,
    /// Its owner's connection.
    pub conn: RustConnection,
    /// The root window.
    pub root: Window,
    // In this order: the manager goes before the server.
    manager: Option<Process>,
    /// The X server.
    pub server: Process,
    home: TempDir,
}

impl Desktop {
    /// A desktop of this size with a window manager.
    ///
    /// # Errors
    /// Xvfb or openbox is not installed, or does not start.
    pub fn start(width: u16, height: u16) -> Result<Self> {
        Options::new(width, height).start()
    }

    /// A desktop of this size without a window manager.
    ///
    /// # Errors
    /// Xvfb is not installed, or does not start.
    pub fn bare(width: u16, height: u16) -> Result<Self> {
        Options::new(width, height).bare().start()
    }

    /// The desktop of any X server, without a window manager: by the command that starts it, and a folder that lives
    /// as long.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn of(server: &mut Command, home: TempDir) -> Result<Self> {
        server.args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"]);
        let mut server = Process::start(quiet(server).stdout(Stdio::piped()))?;
        let mut number = String::new();
        let output = server.0.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut number)?;
        let number = number.trim();
        ensure!(!number.is_empty(), "the X server did not start");
        let name = format!(":{number}");
        let (conn, screen) = RustConnection::connect(Some(&name))?;
        let root = conn.setup().roots[screen].root;
        Ok(Self {
            name,
            conn,
            root,
            manager: None,
            server,
            home,
        })
    }

    /// The manager says that it is there a moment before it is: what is mapped in between is never shown. So a window
    /// is tried, which must be seen and get the keyboard.
    fn is_managed(&self) -> Result<bool> {
        if self
            .numbers(self.root, "_NET_SUPPORTING_WM_CHECK")?
            .is_empty()
        {
            return Ok(false);
        }
        let probe = self.mapped("probe", (0, 0, 9, 9))?;
        let begun = Instant::now();
        let mut managed = false;
        while !managed && begun.elapsed() < Duration::from_millis(300) {
            std::thread::sleep(Duration::from_millis(10));
            managed = self.is_viewable(probe) && self.active()? != 0;
        }
        self.destroy(probe)?;
        Ok(managed)
    }

    /// A program with this display, which says and hears nothing.
    #[must_use]
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        quiet(&mut command).env("DISPLAY", &self.name);
        command
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// It does not become so in time.
    pub fn until(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let until = Instant::now() + limit;
        while !holds()? {
            ensure!(Instant::now() < until, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}
