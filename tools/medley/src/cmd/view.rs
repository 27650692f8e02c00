//! `medley view`: the whole screen of a machine that `medley boot --desktop` runs, in a window.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::boot::screen::Place;
use crate::exit::{Failure, Kind, Result};
use crate::output::{Report, Ui};

/// The program that shows the screen; it lies beside this one.
const VIEWER: &str = "medley-viewer";
/// The longest line of the viewer's that is taken.
const LINE_MAX: u64 = 64 << 10;
/// How often it is looked whether the session is locked.
const GLANCE: Duration = Duration::from_millis(100);

/// Options of `view`.
#[derive(Debug, Args)]
#[command(after_help = "\
The window ends with the machine, and when the session is locked (medley lock); closing it ends nothing
but itself, and there may be several. Resizing
it asks the guest for a screen of that size, and shows what there is scaled until the guest has one.
Super+Shift and
  F   covers the whole monitor with it, and back
  O   shows every pixel of the guest's as one of this desktop's, and back
  G   gives back a pointer that was caught by a guest without a driver for the tablet
  D   presses Control, Alt and Delete in the guest
These never reach the guest; nor does what this desktop keeps for itself (Alt+Tab, for one).

EXAMPLES
  medley boot office.vhd --session office.session --desktop   # and, in another terminal:
  medley view office.session
  medley view office.session --fullscreen
  A machine without a session says when it starts which folder to look into:
    medley boot install.vhd --keep --desktop
    medley view /run/user/1000/medley-session-1a2b3c
  Whether it was the machine or the window that ended:
    medley view office.session --json | jq -r .ended")]
pub struct View {
    /// The session's folder, or the machine's own
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Cover the whole monitor
    #[arg(long)]
    fullscreen: bool,
    /// Show every pixel of the guest's as one of this desktop's, cut off where the window ends
    #[arg(long)]
    original_size: bool,
}

/// A line of the viewer's.
#[derive(Deserialize)]
struct Line {
    event: String,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    code: u8,
    #[serde(default)]
    words: String,
}

#[derive(Serialize)]
struct Viewed {
    folder: PathBuf,
    /// `machine`, `window` or `lock`.
    ended: String,
}

impl Report for Viewed {
    fn human(&self) -> String {
        match self.ended.as_str() {
            "machine" => "the machine ended\n".into(),
            "lock" => "the session was locked\n".into(),
            _ => "the window was closed\n".into(),
        }
    }
}

/// Ends with us.
struct Viewer(Child);

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs it.
pub fn run(args: View, ui: Ui) -> Result<()> {
    let place = Place::read(&args.folder)?;
    // First this, then the mark: who locks makes the mark first, and then waits for us.
    let _looks = match place.is_there() {
        true => Some(place.look()?),
        false => None,
    };
    if place.is_locked() {
        let what = format!("{}: the session is locked", args.folder.display());
        let unlock = format!("unlock it with medley unlock {}", args.folder.display());
        return Err(Failure::failed(what).remedy(&unlock));
    }
    let program = beside_us()?;
    let mut command = Command::new(&program);
    command.args(["--json", "--tied"]);
    command.arg("--socket").arg(&place.socket);
    // With a sign between: a workspace may be called like an option.
    command.arg(format!("--workspace={}", place.workspace));
    command.arg(format!("--colour={}", place.colour));
    for (wanted, option) in [
        (args.fullscreen, "--fullscreen"),
        (args.original_size, "--original-size"),
    ] {
        command.args(wanted.then_some(option));
    }
    let failed = Failure::io(format!("{}: cannot be started", program.display()));
    let child = command
        // It ends with this, however we do.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut viewer = Viewer(child);
    let lines = listen(&mut viewer.0)?;
    let end = loop {
        if place.is_locked() {
            drop(viewer);
            return ui.done(&Viewed {
                folder: args.folder,
                ended: "lock".into(),
            });
        }
        match lines.recv_timeout(GLANCE) {
            Ok(line) if line.event == "ended" => break line,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let status = viewer.0.wait().map_err(Failure::io("the viewer"))?;
                return Err(Failure::failed(format!(
                    "the viewer ended without a word: {status}"
                )));
            }
        }
    };
    let ended = viewer.0.wait();
    tracing::debug!(?ended, "the viewer");
    match end.code {
        0 => ui.done(&Viewed {
            folder: args.folder,
            ended: end.cause,
        }),
        code => Err(failure(code, end.words, &args.folder)),
    }
}

/// What the viewer's exit codes are here.
fn failure(code: u8, words: String, folder: &Path) -> Failure {
    match code {
        2 => Failure::usage(words),
        3 => Failure::new(Kind::Missing, words).remedy("start it in a graphical session"),
        // A machine that was killed leaves its note.
        4 => Failure::usage(format!(
            "{}: no machine shows a screen here: {words}",
            folder.display()
        ))
        .remedy("start it with medley boot --desktop"),
        _ => Failure::failed(words),
    }
}

/// What the viewer says, as it says it.
fn listen(viewer: &mut Child) -> Result<Receiver<Line>> {
    let output = viewer.stdout.take();
    let output = output.ok_or_else(|| Failure::failed("the viewer has no output"))?;
    let (sender, lines) = sync_channel(16);
    let thread = std::thread::Builder::new().name("viewer".into());
    let hear = move || {
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while output
            .by_ref()
            .take(LINE_MAX)
            .read_line(&mut line)
            .is_ok_and(|n| n > 0)
        {
            match serde_json::from_str(&line) {
                Ok(line) => {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
                Err(error) => tracing::debug!(%error, line, "the viewer"),
            }
            line.clear();
        }
    };
    thread
        .spawn(hear)
        .map_err(Failure::io("cannot listen to the viewer"))?;
    Ok(lines)
}

/// The viewer that belongs to this program.
fn beside_us() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(Failure::io("cannot find this program"))?;
    let program = own.with_file_name(VIEWER);
    if program.is_file() {
        return Ok(program);
    }
    let what = format!("{}: not there", program.display());
    Err(Failure::new(Kind::Missing, what)
        .remedy("install medley-viewer beside medley; it shows screens"))
}
