//! Asks a program whether a file is clean: a scanner of viruses, say. It gets the file's path as its argument,
//! and its exit code is the answer. What it prints goes to the log.
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// What is kept of what it prints.
const KEPT: u64 = 8 << 10;

/// Asks.
///
/// # Errors
/// The file is not clean, or nobody knows: in words.
pub(crate) fn scan(program: &Path, file: &Path, limit: Duration) -> Result<(), String> {
    let name = program.display();
    let mut child = Command::new(program)
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // With all that it starts, so that all of it can be ended.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    let outputs = [
        child.stdout.take().map(|output| listen(Box::new(output))),
        child.stderr.take().map(|output| listen(Box::new(output))),
    ];
    let status = wait(&mut child, limit);
    if !matches!(status, Ok(Some(_))) {
        // Not reaped yet: the group is the scanner's still.
        let group = Pid::from_raw(child.id().cast_signed());
        if let Err(error) = killpg(group, Signal::SIGKILL) {
            tracing::warn!(%error, "cannot end {name}");
        }
        drop(child.wait());
    }
    // Something that it left running could hold its outputs open for ever.
    let soon = Duration::from_secs(1);
    for output in outputs.into_iter().flatten() {
        let text = output.recv_timeout(soon).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        for line in text.lines() {
            tracing::info!(scanner = %name, "{}", crate::clean::line(line));
        }
    }
    match status {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(format!("{name} does not call it clean ({status})")),
        Ok(None) => Err(format!(
            "{name} has not said within {limit:?} that it is clean"
        )),
        Err(error) => Err(format!("{name} cannot be waited for: {error}")),
    }
}

fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Reads to the end, and keeps the beginning.
fn listen(mut from: Box<dyn Read + Send>) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (tell, told) = channel();
    let read = move || {
        let mut kept = Vec::new();
        let all = (&mut from)
            .take(KEPT)
            .read_to_end(&mut kept)
            .and_then(|_| std::io::copy(&mut from, &mut std::io::sink()));
        if let Err(error) = all {
            tracing::debug!(%error, "a scanner's output");
        }
        let _ = tell.send(kept);
    };
    if let Err(error) = std::thread::Builder::new()
        .name("scanner".into())
        .spawn(read)
    {
        tracing::warn!(%error, "nobody reads what a scanner says");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn scanner(dir: &Path, script: &str) -> std::path::PathBuf {
        let program = dir.join("scanner");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        program
    }

    #[test]
    fn the_exit_code_is_the_answer() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a file; touch evil");
        std::fs::write(&file, "good").unwrap();
        let limit = Duration::from_secs(20);
        let program = scanner(dir.path(), r#"[ $# = 1 ] && grep -q good "$1""#);
        assert_eq!(scan(&program, &file, limit), Ok(()));
        std::fs::write(&file, "bad").unwrap();
        let error = scan(&program, &file, limit).unwrap_err();
        assert!(error.contains("does not call it clean"), "{error}");
        let error = scan(&dir.path().join("none"), &file, limit).unwrap_err();
        assert!(error.contains("cannot be started"), "{error}");
    }

    #[test]
    fn one_that_does_not_answer_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let program = scanner(dir.path(), "sleep 1000 & echo $! >\"$1\"; yes & wait");
        let begun = Instant::now();
        let error = scan(&program, &file, Duration::from_millis(300)).unwrap_err();
        assert!(error.contains("has not said"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        let sleeper = std::fs::read_to_string(&file).unwrap();
        let stat = format!("/proc/{}/stat", sleeper.trim());
        let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        while !gone() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{stat}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
