//! Which QEMU there is, and whether it is young enough.

use super::process::Process;
use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The oldest QEMU that can do all we ask for: suspending to a `file:` came with it.
pub(super) const OLDEST: Version = Version {
    major: 8,
    minor: 2,
    micro: 0,
};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "install the package qemu-system-x86 (Debian 12: from bookworm-backports)";
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// The first QEMU on this search path (the form of `PATH`).
pub(super) fn search(path: &std::ffi::OsStr) -> Result<PathBuf> {
    let candidates = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    candidates
        .map(|folder| folder.join(PROGRAM))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Missing,
                "find QEMU",
                format!("no {PROGRAM} in PATH"),
            )
            .remedy(PACKAGE)
        })
}

/// Asks a program for its version; refuses what is not QEMU or older than we can use.
pub(super) fn version_of(program: &Path) -> Result<Version> {
    let operation = format!("ask {} for its version", program.display());
    let failed = |kind, detail: String| Error::new(kind, operation.clone(), detail).remedy(PACKAGE);
    if !program.exists() {
        return Err(failed(ErrorKind::Missing, "no such file".into()));
    }
    let said =
        output(program).map_err(|error| failed(ErrorKind::Unsupported, error.to_string()))?;
    let version = parse(&said).ok_or_else(|| {
        let said: String = said.chars().take(80).collect();
        failed(
            ErrorKind::Unsupported,
            format!("it is not QEMU; it said {said:?}"),
        )
    })?;
    if version < OLDEST {
        let detail = format!(
            "it is QEMU {version}; Medley needs {OLDEST} or newer to suspend machines to an \
             encrypted stream"
        );
        return Err(failed(ErrorKind::Unsupported, detail));
    }
    Ok(version)
}

/// The first bytes a program writes when asked for its version.
fn output(program: &Path) -> std::io::Result<String> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(std::os::fd::OwnedFd::from(theirs));
    let process = Process::spawn(command, vec![], |_| {})?;
    let ended = process.wait(ANSWER_WITHIN).ok_or_else(|| {
        std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer in {ANSWER_WITHIN:?}"),
        )
    })?;
    // All it wrote lies in the socket now, whoever else still holds the other end.
    ours.set_nonblocking(true)?;
    let mut said = [0; 4096];
    let count = ours.read(&mut said).unwrap_or(0);
    match ended.code {
        Some(0) => Ok(String::from_utf8_lossy(&said[..count]).into_owned()),
        _ => Err(std::io::Error::other(format!(
            "it failed: {}",
            ended.stderr
        ))),
    }
}

/// Reads `QEMU emulator version 10.0.2 (Debian …)`.
fn parse(text: &str) -> Option<Version> {
    let numbers = text.strip_prefix("QEMU emulator version ")?;
    let end = numbers
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(numbers.len());
    let mut parts = numbers[..end].split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some(Version {
        major: next()?,
        minor: next()?,
        micro: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(PROGRAM);
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        folder
    }

    fn ask(script: &str) -> Result<Version> {
        version_of(&fake(script).path().join(PROGRAM))
    }

    #[test]
    fn versions_are_parsed() {
        let version = |major, minor, micro| {
            Some(Version {
                major,
                minor,
                micro,
            })
        };
        assert_eq!(
            parse("QEMU emulator version 10.0.2 (Debian 1:10.0.2)"),
            version(10, 0, 2)
        );
        assert_eq!(
            parse("QEMU emulator version 8.2.50\nCopyright"),
            version(8, 2, 50)
        );
        assert_eq!(parse("QEMU emulator version 9.1.0-rc1"), version(9, 1, 0));
        for text in [
            "",
            "qemu-img version 10.0.2",
            "QEMU emulator version 10",
            "QEMU emulator \
             version 99999999999.0.0",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_old_qemu_is_refused_with_the_remedy() {
        let error = ask("echo 'QEMU emulator version 7.2.11 (Debian)'").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("7.2.11") && text.contains("8.2.0"), "{text}");
        assert!(
            text.contains("qemu-system-x86") && text.contains("backports"),
            "{text}"
        );
    }

    #[test]
    fn a_young_qemu_is_accepted() {
        let version = ask("echo 'QEMU emulator version 10.0.2 (Debian)'").unwrap();
        assert_eq!(version.to_string(), "10.0.2");
    }

    #[test]
    fn what_is_not_qemu_is_refused() {
        for script in ["echo hello", "exit 3", "echo no >&2; exit 1", "kill -9 $$"] {
            assert_eq!(
                ask(script).unwrap_err().kind(),
                ErrorKind::Unsupported,
                "{script}"
            );
        }
    }

    #[test]
    fn an_absent_qemu_names_the_package() {
        let empty = tempfile::tempdir().unwrap();
        for error in [
            search(empty.path().as_os_str()).unwrap_err(),
            version_of(&empty.path().join(PROGRAM)).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Missing);
            assert!(error.to_string().contains("qemu-system-x86"), "{error}");
        }
    }

    #[test]
    fn a_relative_search_path_finds_nothing() {
        assert!(search(std::ffi::OsStr::new(".:")).is_err());
    }
}
