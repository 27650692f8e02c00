//! Going to the background: a second process of this program does the work, and the first one waits
//! until it is ready or has failed, so that whoever typed the command knows.
//!
//! The passphrases travel through the child's standard input, the outcome through its standard output,
//! as one line of JSON; after that the child belongs to nobody.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::exit::{Failure, Kind, Result};
use crate::output::{Report, Ui};
use crate::passphrase::Secrets;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome<T> {
    Ready(T),
    Failed { code: u8, message: String },
}

/// Starts `medley --detached ARGS` and waits for its word.
pub fn start<T: DeserializeOwned>(
    args: impl IntoIterator<Item = OsString>,
    secrets: Option<&Secrets>,
) -> Result<T> {
    let fail = |error| Failure::io::<std::io::Error>("cannot start the background process")(error);
    let program = std::env::current_exe().map_err(fail)?;
    let mut child = Command::new(program)
        .arg("--detached")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    if let (Some(input), Some(secrets)) = (child.stdin.take(), secrets) {
        // If it does not listen it has failed, and says why below.
        let _ = secrets.write(input);
    }
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).map_err(fail)?;
    }
    match serde_json::from_str(&line) {
        Ok(Outcome::Ready(report)) => Ok(report),
        Ok(Outcome::Failed { code, message }) => {
            let _ = child.wait();
            Err(Failure::new(Kind::from_code(code), message))
        }
        Err(_) => {
            let _ = child.kill();
            let status = child.wait().map_err(fail)?;
            Err(Failure::failed(format!(
                "the background process ended without a word ({status})"
            )))
        }
    }
}

/// Leaves the terminal and the session that it was started from; the first act of such a process.
pub fn detach() -> Result<()> {
    nix::unistd::setsid()
        .map(drop)
        .map_err(Failure::io("cannot leave the terminal's session"))
}

/// Tells that the service is ready: to whoever waits for the background process, or to the user. Fails if
/// nobody waits any more.
pub fn ready(ui: Ui, detached: bool, report: &impl Report) -> Result<()> {
    if !detached {
        ui.done(report)?;
        return Ok(());
    }
    tell(&json!({ "ready": report }))
        .and_then(|()| {
            // From here on nobody listens, and no folder shall be kept busy.
            let null = std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")?;
            nix::unistd::dup2_stdin(&null)?;
            nix::unistd::dup2_stdout(&null)?;
            nix::unistd::dup2_stderr(&null)?;
            std::env::set_current_dir("/")
        })
        .map_err(Failure::io("whoever started this process has gone"))
}

/// Tells that it came to nothing.
pub fn failed(failure: &Failure) {
    let _ =
        tell(&json!({"failed": {"code": failure.kind().code(), "message": failure.to_string()}}));
}

fn tell(outcome: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(outcome)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
