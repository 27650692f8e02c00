//! `medley machine status`, `suspend` and `stop`: sessions that `medley boot --session` runs elsewhere.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use medley_session::{Folder, Status as Session};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::exit::{Failure, Kind, Result};
use crate::output::{Fields, Report, Ui};
use crate::{progress, signals};

/// Options of `machine status`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  medley machine status office.session --json | jq .status")]
pub struct Status {
    /// The session's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Options of `machine suspend`.
#[derive(Debug, Args)]
#[command(after_help = "\
The machine's memory is compressed, encrypted and kept in the folder; the next
`medley boot --session DIR` goes on from there. If it cannot be suspended, it runs on.

EXAMPLES
  medley machine suspend office.session")]
pub struct Suspend {
    /// The session's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// How long it may take
    #[arg(long, value_name = "S", default_value_t = 120)]
    timeout: u64,
}

/// Options of `machine stop`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  medley machine stop office.session")]
pub struct Stop {
    /// The session's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// How long the guest may take; then the command fails, and the guest goes on shutting down
    #[arg(long, value_name = "S", default_value_t = 120)]
    timeout: u64,
}

#[derive(Serialize)]
struct Told {
    folder: PathBuf,
    #[serde(flatten)]
    session: Session,
}

impl Report for Told {
    fn human(&self) -> String {
        let mut fields = Fields::default();
        fields.row("session", self.folder.display().to_string());
        fields.row(
            "status",
            match self.session {
                Session::Fresh => "nothing written: the next start boots the disk as it is".into(),
                Session::Running { pid } => format!("running, process {pid}"),
                Session::Asleep => "asleep: the next start goes on where it was".into(),
                Session::Written => "ended: what was written is there the next time".into(),
            },
        );
        fields.to_string()
    }
}

/// Runs `status`.
pub fn status(args: &Status, ui: Ui) -> Result<()> {
    tell(&args.folder, ui)
}

/// Runs `suspend`.
pub fn suspend(args: &Suspend, ui: Ui) -> Result<()> {
    signal(&args.folder, Signal::SIGUSR1)?;
    let over = wait(&args.folder, args.timeout, ui, "suspending")?;
    match over {
        Session::Asleep => tell(&args.folder, ui),
        Session::Running { .. } => Err(Failure::failed("the machine did not fall asleep")
            .remedy("its own terminal says why; it runs on")),
        _ => Err(Failure::failed(
            "the machine ended instead of falling asleep",
        )),
    }
}

/// Runs `stop`.
pub fn stop(args: &Stop, ui: Ui) -> Result<()> {
    signal(&args.folder, Signal::SIGTERM)?;
    match wait(&args.folder, args.timeout, ui, "shutting down")? {
        Session::Running { .. } => Err(Failure::failed("the guest has not shut down yet")),
        _ => tell(&args.folder, ui),
    }
}

fn tell(folder: &std::path::Path, ui: Ui) -> Result<()> {
    let session = Folder::status(folder)?;
    ui.show(&Told {
        folder: folder.to_owned(),
        session,
    })?;
    Ok(())
}

/// Signals the process that runs the session. It holds the lock that its number is read from, so the
/// number is its own.
fn signal(folder: &std::path::Path, signal: Signal) -> Result<()> {
    let Session::Running { pid } = Folder::status(folder)? else {
        let what = format!("{}: no session runs here", folder.display());
        return Err(Failure::new(Kind::Usage, what).remedy("start it with medley boot --session"));
    };
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1);
    let pid =
        pid.ok_or_else(|| Failure::failed("the session does not say which process runs it"))?;
    kill(Pid::from_raw(pid), signal).map_err(Failure::io("cannot reach the session's process"))
}

/// Waits until no process runs the session, or the time is over.
fn wait(folder: &std::path::Path, seconds: u64, ui: Ui, what: &'static str) -> Result<Session> {
    let end = Instant::now() + Duration::from_secs(seconds);
    progress::busy(ui, what, || {
        loop {
            let session = Folder::status(folder)?;
            signals::check()?;
            if !matches!(session, Session::Running { .. }) || Instant::now() > end {
                return Ok(session);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}
