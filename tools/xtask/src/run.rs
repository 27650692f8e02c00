//! Running other programs so that an interrupt stops them, and a failure shows what they said.

use std::ffi::OsStr;
use std::io::{IsTerminal, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How many bytes of a failed program's output are repeated.
const TAIL: usize = 4000;

/// What a signal handler leaves for the rest of the program.
#[derive(Default)]
struct Interrupt {
    raised: Arc<AtomicBool>,
    /// The signal that raised it.
    signal: Arc<AtomicUsize>,
    /// Whether a terminal sent us here, which then tells our whole process group of a Ctrl-C.
    terminal: bool,
}

fn interrupt() -> &'static Interrupt {
    static INTERRUPT: OnceLock<Interrupt> = OnceLock::new();
    INTERRUPT.get_or_init(|| Interrupt {
        terminal: std::io::stdin().is_terminal(),
        ..Interrupt::default()
    })
}

/// From here on SIGINT, SIGTERM and SIGHUP end the running child and then unwind through `Result`, so
/// that every guard (temporary folder, mount, half-written image) is dropped. A second SIGINT or SIGTERM
/// ends at once; a terminal that closes may well send SIGHUP twice.
pub fn catch_signals() -> Result<()> {
    use signal_hook::flag;
    let Interrupt { raised, signal, .. } = interrupt();
    for caught in [SIGINT, SIGTERM, SIGHUP] {
        // Order matters: the shutdown looks at the flag before this very signal raises it.
        if caught != SIGHUP {
            flag::register_conditional_shutdown(caught, 130, Arc::clone(raised))
                .context("cannot install a signal handler")?;
        }
        flag::register_usize(caught, Arc::clone(signal), caught.unsigned_abs() as usize)
            .and_then(|_| flag::register(caught, Arc::clone(raised)))
            .context("cannot install a signal handler")?;
    }
    Ok(())
}

/// Whether a signal asked us to stop.
pub fn interrupted() -> bool {
    interrupt().raised.load(Ordering::SeqCst)
}

/// Fails if a signal asked us to stop.
pub fn go_on() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Whether the signal that interrupts us went to our whole process group, as a terminal sends it.
fn group_was_told() -> bool {
    let Interrupt {
        signal, terminal, ..
    } = interrupt();
    let signal = signal.load(Ordering::SeqCst);
    *terminal
        && [SIGINT, SIGHUP]
            .map(|s| s.unsigned_abs() as usize)
            .contains(&signal)
}

/// `program` with `args`, and no standard input: nothing here ever asks a question. It is looked for, and
/// looks for others, where administrators' programs lie as well: an ordinary user's `PATH` lacks them.
pub fn command<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/sbin:/sbin");
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env("PATH", path);
    command
}

/// The same command, which takes only the time that nobody else wants.
pub fn gently(own: &Command) -> Command {
    let mut command = command("nice", ["-n", "19"]);
    command.arg(own.get_program()).args(own.get_args());
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(dir) = own.get_current_dir() {
        command.current_dir(dir);
    }
    command
}

/// When a program that is being waited for is told to end.
#[derive(Clone, Copy)]
enum Until {
    Interrupted,
    /// Whatever interrupts us, this long.
    Elapsed(Duration),
}

/// Waits for a child; ends `target` when it is time: the child's pid, or, negative, its group.
fn wait(child: &mut Child, target: Pid, until: Until) -> Result<ExitStatus> {
    const GRACE: Duration = Duration::from_secs(5);
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return match until {
                Until::Interrupted => go_on().map(|()| status),
                Until::Elapsed(_) => Ok(status),
            };
        }
        let over = match until {
            Until::Interrupted => interrupted(),
            Until::Elapsed(limit) => begun.elapsed() > limit,
        };
        if over && !told {
            told = true;
            // Some programs take a second signal as leave to end without cleaning up.
            if target.as_raw() < 0 || !group_was_told() {
                // It may have just ended by itself, which is as good.
                let _ = kill(target, Signal::SIGTERM);
            }
        }
        if matches!(until, Until::Elapsed(limit) if begun.elapsed() > limit + GRACE) {
            let _ = kill(target, Signal::SIGKILL);
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
    wait(&mut child, pid, Until::Interrupted)
}

/// Runs a program silently and to its end even if a signal asks us to stop, for at most a minute: what
/// undoes something (a mount), and what cannot be undone halfway.
pub fn to_the_end(command: &mut Command) -> Result<()> {
    let (status, stdout, stderr) = collect(command, Until::Elapsed(Duration::from_secs(60)))?;
    judge(command, status, &stdout, &stderr)
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
    let (status, stdout, stderr) = collect(command, Until::Interrupted)?;
    judge(command, status, &stdout, &stderr)?;
    Ok((stdout, stderr))
}

fn judge(command: &Command, status: ExitStatus, stdout: &str, stderr: &str) -> Result<()> {
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
    Ok(())
}

/// Runs a program whose failure is an answer, not an error: returns its standard output in any
/// case (`dpkg-query` exits with 1 when only some of the packages are known).
pub fn answer(command: &mut Command) -> Result<String> {
    collect(command, Until::Interrupted).map(|(_, stdout, _)| stdout)
}

/// Whether a program runs and succeeds; a program that is not there does not.
pub fn succeeds(command: &mut Command) -> bool {
    collect(command, Until::Interrupted).is_ok_and(|(status, _, _)| status.success())
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
fn collect(command: &mut Command, until: Until) -> Result<(ExitStatus, String, String)> {
    let mut out = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut err = tempfile::tempfile().context("cannot make a temporary file")?;
    command.stdout(out.try_clone()?).stderr(err.try_clone()?);
    // In a group of its own: what it starts in turn (mmdebstrap its apt) has to end with it.
    let mut child = spawn(command.process_group(0))?;
    let group = Pid::from_raw(-child.id().cast_signed());
    let status = wait(&mut child, group, until)?;
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
    fn a_program_that_never_ends_is_ended() {
        let limit = Until::Elapsed(Duration::from_millis(50));
        let (status, _, _) = collect(&mut command("sleep", ["60"]), limit).unwrap();
        assert!(!status.success());
    }

    #[test]
    fn a_gentle_command_does_the_same_with_less_right() {
        let mut own = command("sh", ["-c", "nice; pwd; echo $MEDLEY_A-$HOME-"]);
        own.env("MEDLEY_A", "a b")
            .env_remove("HOME")
            .current_dir("/");
        assert_eq!(capture(&mut gently(&own)).unwrap(), "19\n/\na b--\n");
    }

    #[test]
    fn programs_of_administrators_are_found() {
        let path = capture(&mut command("sh", ["-c", "echo $PATH"])).unwrap();
        assert!(path.trim_end().ends_with(":/usr/sbin:/sbin"), "{path}");
    }

    #[test]
    fn a_printed_line_can_be_typed() {
        assert_eq!(
            line(&command("sh", ["-c", "echo 'a b'"])),
            r"sh -c 'echo '\''a b'\'''"
        );
    }
}
