//! Starting an app so that it is nobody's child: it lives on when the agent ends, is updated or is killed.
//!
//! The agent starts a copy of its own program, which makes a session of its own, starts the app in it, says
//! whether that went well, and ends. All of it is done with the standard library's means, for the agent has
//! no `unsafe`.
use super::{APP_VARIABLE, App, Index, LAUNCH_VARIABLE, compose, exec};
use anyhow::{Context, Result, bail};
use medley_wire::AppId;
use medley_wire::control::Outcome;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The hidden command of the agent's program that starts an app.
pub const START: &str = "start";

/// Terminals that an app in need of one is given, the first that is there.
const TERMINALS: [&str; 2] = ["x-terminal-emulator", "xterm"];

/// A program by name or path, if it can be run.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let runs = |path: &Path| {
        path.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_absolute() && runs(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| runs(path))
}

/// What is launched, and for whom.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The host's number.
    pub request: u32,
    /// The app.
    pub app: AppId,
    /// Which of its actions; zero is the app itself.
    pub action: u8,
    /// Addresses for it to open.
    pub addresses: &'a [&'a str],
    /// The agent's own program.
    pub agent: &'a Path,
    /// The display.
    pub display: &'a str,
}

/// Launches an app; tells what came of it, in words if it failed.
#[must_use]
pub fn launch(app: &App, index: &Index, launch: &Launch<'_>) -> (Outcome, String) {
    let entry = &app.entry;
    let line = match launch.action.checked_sub(1) {
        None => Some(&entry.exec),
        Some(action) => entry.actions.get(usize::from(action)).map(|(_, exec)| exec),
    };
    let Some(line) = line else {
        return (Outcome::Unknown, "the app has no such action".into());
    };
    let place = app.path.to_string_lossy();
    let commands = match exec::commands(line, entry, &place, launch.addresses) {
        Ok(commands) => commands,
        Err(exec::Bad::Entry(why)) => return (Outcome::Failed, why.into()),
        Err(exec::Bad::Address(why)) => return (Outcome::Refused, why.into()),
    };
    index.launches(launch.request, launch.app);
    for mut command in commands {
        if entry.terminal {
            let Some(terminal) = TERMINALS.iter().find(|name| find_program(name).is_some()) else {
                let why = "the app wants a terminal, and none is installed";
                return (Outcome::Failed, why.into());
            };
            command.splice(0..0, [(*terminal).to_owned(), "-e".to_owned()]);
        }
        if let Err(error) = start(&command, app, index, launch) {
            return (Outcome::Failed, format!("{error:#}"));
        }
    }
    (Outcome::Started, String::new())
}

fn start(command: &[String], app: &App, index: &Index, launch: &Launch<'_>) -> Result<()> {
    let mark = index.mark(launch.request);
    let folder = app
        .entry
        .folder
        .as_deref()
        .filter(|f| Path::new(f).is_dir());
    let home = std::env::var_os("HOME").filter(|home| Path::new(home).is_dir());
    let mut starter = Command::new(launch.agent);
    let told = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let login = PathBuf::from(format!("/run/user/{}", nix::unistd::geteuid()));
    if told.is_none() && login.is_dir() {
        // A unit of the system's has no login's environment, and its apps want their user's bus all the same.
        let bus = format!("unix:path={}/bus", login.display());
        starter
            .env("XDG_RUNTIME_DIR", &login)
            .env("DBUS_SESSION_BUS_ADDRESS", bus);
    }
    let runtime = Some(told.unwrap_or(login)).filter(|folder| folder.is_dir());
    let kept = runtime.and_then(|it| compose::folder(&it, home.as_deref().map(Path::new)));
    if let Some(kept) = kept {
        starter.env(compose::VARIABLE, kept);
    }
    let output = starter
        .arg(START)
        .arg("--")
        .args(command)
        .env("DISPLAY", launch.display)
        .env(APP_VARIABLE, launch.app.to_string())
        .env("DESKTOP_STARTUP_ID", index.startup_id(launch.request))
        .env(LAUNCH_VARIABLE, mark)
        .current_dir(
            folder
                .map(OsStr::new)
                .or(home.as_deref())
                .unwrap_or(OsStr::new("/")),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("cannot start the agent's own program")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{}", String::from_utf8_lossy(&output.stderr).trim())
}

/// What the hidden command does: a session of its own, the app in it, and an end.
///
/// # Errors
/// The app cannot be started.
pub fn start_detached(command: &[OsString]) -> Result<()> {
    let (program, arguments) = command.split_first().context("nothing to start")?;
    nix::unistd::setsid().context("cannot make a session for the app")?;
    let mut child = Command::new(program);
    child
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Not waited for: this process ends, and the app belongs to nobody.
    child
        .spawn()
        .with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
    Ok(())
}
