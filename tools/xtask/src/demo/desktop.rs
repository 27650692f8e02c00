//! A desktop without a screen: an X server, a window manager, and somebody who types, looks and copies.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run;

/// The screen, in pixels.
pub const SIZE: (u32, u32) = (1280, 800);

/// The desktop; its programs end with this value.
pub struct Desktop {
    // Ended in this order.
    manager: Option<Child>,
    server: Child,
    display: String,
}

impl Desktop {
    /// Starts one.
    pub fn start() -> Result<Self> {
        let screen = format!("{}x{}x24", SIZE.0, SIZE.1);
        let args = [
            "-displayfd",
            "1",
            "-nolisten",
            "tcp",
            "-noreset",
            "-screen",
            "0",
            &screen,
        ];
        let mut server = run::command("Xvfb", args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start Xvfb")?;
        let mut number = String::new();
        let output = server.stdout.take().context("Xvfb has no output")?;
        BufReader::new(output).read_line(&mut number)?;
        let mut desktop = Self {
            manager: None,
            server,
            display: format!(":{}", number.trim()),
        };
        if number.trim().is_empty() {
            bail!("Xvfb did not start");
        }
        run::quiet(&mut desktop.program("xsetroot", &["-solid", "#3a5f7d"]))?;
        let mut openbox = desktop.program("openbox", &["--sm-disable"]);
        let manager = openbox.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        desktop.manager = Some(manager.context("cannot start openbox")?);
        Ok(desktop)
    }

    /// Its name.
    pub fn display(&self) -> &str {
        &self.display
    }

    fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = run::command(name, args);
        command.env("DISPLAY", &self.display);
        command
    }

    /// What xdotool says; nothing if what it was to look for is not there.
    pub fn xdotool(&self, args: &[&str]) -> Result<String> {
        run::answer(&mut self.program("xdotool", args))
    }

    /// Waits for a visible window with this in its title.
    pub fn window(&self, title: &str, limit: Duration) -> Result<String> {
        let begun = Instant::now();
        loop {
            run::go_on()?;
            let found = self.xdotool(&["search", "--onlyvisible", "--name", title])?;
            if let Some(window) = found.lines().last() {
                return Ok(window.to_owned());
            }
            if begun.elapsed() > limit {
                bail!("no window {title:?} within {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Gives a window the keyboard, and types.
    pub fn type_into(&self, window: &str, text: &str) -> Result<()> {
        self.xdotool(&["windowactivate", "--sync", window])?;
        self.xdotool(&["type", "--delay", "60", text]).map(drop)
    }

    /// Presses keys, as in `ctrl+v`, in whatever has the keyboard.
    pub fn press(&self, keys: &str) -> Result<()> {
        self.xdotool(&["key", keys]).map(drop)
    }

    /// Copies a text, as an app of this desktop would.
    pub fn copy(&self, text: &str) -> Result<()> {
        use std::io::Write;
        let mut xclip = self
            .program("xclip", &["-selection", "clipboard"])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start xclip")?;
        if let Some(mut input) = xclip.stdin.take() {
            input.write_all(text.as_bytes())?;
        }
        xclip.wait()?;
        Ok(())
    }

    /// What an app of this desktop would paste.
    pub fn paste(&self) -> Result<String> {
        run::answer(&mut self.program("timeout", &["10", "xclip", "-selection", "clipboard", "-o"]))
    }

    /// A picture of the screen, as PNG.
    pub fn picture(&self, to: &Path) -> Result<()> {
        run::quiet(self.program("import", &["-window", "root"]).arg(to))
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for child in self.manager.iter_mut().chain([&mut self.server]) {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
