//! Running other programs so that an interrupt stops them, and a failure shows what they said.

use std::ffi::OsStr;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGINT, SIGTERM};

/// How many bytes of a failed program's output are repeated.
const TAIL: usize = 4000;

fn interrupt_flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// From here on SIGINT and SIGTERM end the running child and then unwind through `Result`, so that
/// every guard (temporary folder, half-written image) is dropped. A second signal ends at once.
pub fn catch_signals() -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // Order matters: the shutdown looks at the flag before this very signal raises it.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(interrupt_flag()))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(interrupt_flag())))
            .context("cannot install a signal handler")?;
    }
    Ok(())
}

/// Whether a signal asked us to stop.
pub fn interrupted() -> bool {
    interrupt_flag().load(Ordering::Relaxed)
}

/// `program` with `args`, and no standard input: nothing here ever asks a question.
pub fn command<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// Waits for a child; on an interrupt ends `target` first: the child's pid, or, negative, its group.
fn wait(child: &mut Child, target: Pid) -> Result<ExitStatus> {
    let mut pause = Duration::from_millis(1);
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait()? {
            if interrupted() {
                bail!("interrupted");
            }
            return Ok(status);
        }
        if interrupted() && !asked {
            asked = true;
            // It may have just ended by itself, which is as good.
            let _ = kill(target, Signal::SIGTERM);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Runs a program that talks to the person directly; its exit status is the answer.
pub fn attached(command: &mut Command) -> Result<ExitStatus> {
    // In our own group, so that a person's Ctrl-C reaches it as well.
    let mut child = spawn(command)?;
    let pid = Pid::from_raw(child.id().cast_signed());
    wait(&mut child, pid)
}

/// Runs a program silently. On failure the error carries the end of what it printed.
pub fn quiet(command: &mut Command) -> Result<()> {
    capture(command).map(drop)
}

/// Runs a program and returns its standard output. On failure the error carries the end of both
/// streams.
pub fn capture(command: &mut Command) -> Result<String> {
    both(command).map(|(stdout, _)| stdout)
}

/// Runs a program and returns both of its streams. On failure the error carries their end.
pub fn both(command: &mut Command) -> Result<(String, String)> {
    let (status, stdout, stderr) = collect(command)?;
    if !status.success() {
        let mut said = format!("{stdout}{stderr}");
        let cut = said.len().saturating_sub(TAIL);
        let cut = (cut..said.len())
            .find(|&at| said.is_char_boundary(at))
            .unwrap_or(0);
        said.drain(..cut);
        bail!(
            "`{}` failed ({status}):\n{}",
            line(command),
            said.trim_end()
        );
    }
    Ok((stdout, stderr))
}

/// Runs a program whose failure is an answer, not an error: returns its standard output in any
/// case (`dpkg-query` exits with 1 when only some of the packages are known).
pub fn answer(command: &mut Command) -> Result<String> {
    collect(command).map(|(_, stdout, _)| stdout)
}

/// Whether a program runs and succeeds; a program that is not there does not.
pub fn succeeds(command: &mut Command) -> bool {
    collect(command).is_ok_and(|(status, _, _)| status.success())
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command
        .spawn()
        .with_context(|| format!("cannot start `{}`", command.get_program().to_string_lossy()))
}

// Output goes to unnamed files: a pipe that nobody empties would stop the program.
fn collect(command: &mut Command) -> Result<(ExitStatus, String, String)> {
    let mut out = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut err = tempfile::tempfile().context("cannot make a temporary file")?;
    command.stdout(out.try_clone()?).stderr(err.try_clone()?);
    // In a group of its own: what it starts in turn (mmdebstrap its apt) has to end with it.
    let mut child = spawn(command.process_group(0))?;
    let group = Pid::from_raw(-child.id().cast_signed());
    let status = wait(&mut child, group)?;
    let mut text = [Vec::new(), Vec::new()];
    for (file, text) in [&mut out, &mut err].into_iter().zip(&mut text) {
        file.rewind()?;
        file.read_to_end(text)?;
    }
    let [out, err] = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok((status, out, err))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_repeats_what_the_program_said() {
        let error = capture(&mut command(
            "sh",
            ["-c", "echo on out; echo on err >&2; exit 4"],
        ))
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("on out") && error.contains("on err"),
            "{error}"
        );
        assert!(error.contains("exit status: 4"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = quiet(&mut command("no-such-program", ["x"])).unwrap_err();
        assert!(error.to_string().contains("no-such-program"), "{error}");
        assert!(!succeeds(&mut command("no-such-program", ["x"])));
    }

    #[test]
    fn a_printed_line_can_be_typed() {
        assert_eq!(
            line(&command("sh", ["-c", "echo 'a b'"])),
            r"sh -c 'echo '\''a b'\'''"
        );
    }
}
