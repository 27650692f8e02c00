//! The demo's last part: the guest's apps as windows of a desktop, typed into, with a menu open, and a text
//! that goes from the host through an app of the guest and back.

use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::Value;

use super::Demo;
use super::desktop::Desktop;
use crate::{guest, run};

/// An emulated guest draws slowly.
const PATIENCE: Duration = Duration::from_secs(120);
/// The guest is given the text in this file by somebody who types.
const TYPED: &str = "/tmp/typed";

/// What was seen, for `report.json`.
#[derive(Serialize)]
pub struct Windows {
    apps: usize,
    seconds_to_apps: f64,
    seconds_to_terminal: f64,
    seconds_to_editor: f64,
    typed: String,
    pasted_and_copied: String,
}

/// A session in the background. Dropping it ends it.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Demo {
    /// Plays it.
    pub(super) fn windows(&mut self, base: &Path, secret: &Path) -> Result<Windows> {
        self.title("Its apps, as windows");
        let desktop = Desktop::start()?;
        let folder = self.dir.join("desk");
        let script = self.dir.join("windows.script");
        // Ends when the session is told to.
        let steps = format!(
            "timeout 900\nwait {}\nsend t while ! [ -s {TYPED} ]; do sleep 0.3; done; cat {TYPED}\nwait MEDLEY-END t\nsleep 900\n",
            guest::READY_MARKER
        );
        std::fs::write(&script, steps)?;
        let console = self.dir.join("windows.console");
        let mut boot = self.medley(["boot", "--revertible", "--windows", "--colour", "c02020"]);
        boot.args(["--clipboard-in", "focus", "--clipboard-out", "focus"]);
        boot.arg(base).arg("--passphrase-file").arg(secret);
        boot.arg("--script")
            .arg(&script)
            .arg("--session")
            .arg(&folder);
        self.shown(&boot);
        let output = File::create(&console)?;
        boot.env("DISPLAY", desktop.display())
            .stdout(output.try_clone()?)
            .stderr(output);
        let begun = Instant::now();
        let session = Background(boot.spawn().context("cannot start medley")?);
        let played = self.play_windows(&desktop, &folder, begun);
        drop(session);
        played.with_context(|| {
            let said = std::fs::read_to_string(&console).unwrap_or_default();
            let tail: Vec<_> = said.lines().rev().take(20).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            format!("the session said:\n{}", tail.join("\n"))
        })
    }

    fn play_windows(
        &mut self,
        desktop: &Desktop,
        folder: &Path,
        begun: Instant,
    ) -> Result<Windows> {
        // The socket is there when the machine is made, and the guest's agent some time after.
        while !folder.join("windows.sock").exists() {
            run::go_on()?;
            ensure!(begun.elapsed() < PATIENCE, "the session does not begin");
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut list = self.medley(["apps", "--json", "--timeout", "300"]);
        list.arg(folder);
        let apps: Value = serde_json::from_str(&run::capture(&mut list)?)?;
        let seconds_to_apps = begun.elapsed().as_secs_f64();
        let names: Vec<_> = apps["apps"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|app| app["name"].as_str())
            .collect();
        self.say(format!(
            "{} apps {seconds_to_apps:.1} s after power-on: {}",
            names.len(),
            names.join(", ")
        ));

        let seconds_to_terminal = self.launch(folder, "XTerm")?;
        let terminal = desktop.window("user@", PATIENCE)?;
        desktop.xdotool(&["windowmove", "--sync", &terminal, "60", "420"])?;
        desktop.type_into(
            &terminal,
            "echo typed on the host, read in the guest | tee /tmp/typed",
        )?;
        desktop.press("Return")?;
        let seconds_to_editor = self.launch(folder, "Mousepad")?;
        let editor = desktop.window("Mousepad", PATIENCE)?;
        desktop.xdotool(&["windowmove", "--sync", &editor, "420", "60"])?;

        let typed = self.wait_for_typed()?;
        self.say(format!("typed into the terminal: {typed}"));

        // There and back, through an app of the guest's.
        desktop.copy("copied on the host")?;
        desktop.xdotool(&["windowactivate", "--sync", &editor])?;
        desktop.press("ctrl+v")?;
        std::thread::sleep(Duration::from_secs(2));
        desktop.type_into(&editor, ", typed in the guest")?;
        std::thread::sleep(Duration::from_secs(1));
        let wanted = "copied on the host, typed in the guest";
        let deadline = Instant::now() + PATIENCE;
        let back = loop {
            desktop.press("ctrl+a")?;
            desktop.press("ctrl+c")?;
            std::thread::sleep(Duration::from_secs(1));
            let back = desktop.paste()?;
            if back.trim() == wanted || Instant::now() > deadline {
                break back.trim().to_owned();
            }
        };
        ensure!(back == wanted, "the guest's clipboard gave {back:?}");
        self.say(format!(
            "pasted into the editor, and copied from it: {back}"
        ));

        desktop.press("alt+f")?;
        std::thread::sleep(Duration::from_secs(3));
        let picture = self.dir.join("windows.png");
        desktop.picture(&picture)?;
        desktop.press("Escape")?;
        self.say("a menu open, and a picture taken: target/demo/windows.png".into());
        Ok(Windows {
            apps: names.len(),
            seconds_to_apps,
            seconds_to_terminal,
            seconds_to_editor,
            typed,
            pasted_and_copied: back,
        })
    }

    /// Launches an app, waits for its window; how many seconds that took.
    fn launch(&mut self, folder: &Path, app: &str) -> Result<f64> {
        let begun = Instant::now();
        let mut command = self.medley(["run", "--wait-window", "--timeout", "120"]);
        command.arg(folder).arg(app);
        self.shown(&command);
        run::quiet(&mut command)?;
        let seconds = begun.elapsed().as_secs_f64();
        self.say(format!("its window is there after {seconds:.1} s"));
        Ok(seconds)
    }

    /// What the guest found in the file, by its console.
    fn wait_for_typed(&self) -> Result<String> {
        let console = self.dir.join("windows.console");
        let begun = Instant::now();
        loop {
            run::go_on()?;
            let said = super::answers(&std::fs::read_to_string(&console)?);
            if let Some(line) = said.lines().find(|line| line.starts_with("typed on")) {
                return Ok(line.to_owned());
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "what was typed did not reach the guest"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
