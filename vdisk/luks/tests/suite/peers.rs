//! Running the programs we must agree with. A missing one fails the test, so that nobody mistakes silence for
//! agreement; `MEDLEY_SKIP_PEERS=1` skips such tests on purpose.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory for one test with the peers' files in it.
pub struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    /// `None` when `tool` is missing and the tests are told to live with it.
    pub fn with(tool: &str) -> Option<Self> {
        let found = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok();
        if !found {
            let skip = std::env::var_os("MEDLEY_SKIP_PEERS").is_some_and(|v| v == "1");
            assert!(
                skip,
                "{tool} is not installed (MEDLEY_SKIP_PEERS=1 skips this test)"
            );
            eprintln!("skipped: {tool} is not installed");
            return None;
        }
        Some(Self {
            dir: tempfile::tempdir().unwrap(),
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

/// Runs a command to its end.
pub fn run<S: AsRef<OsStr>>(tool: &str, args: impl IntoIterator<Item = S>) -> Output {
    Command::new(tool)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs a command that must succeed; gives what it printed.
pub fn succeed<S: AsRef<OsStr>>(tool: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = run(tool, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{tool}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Words of a command line; paths come in through `{}`.
pub fn words(template: &str, paths: &[&Path]) -> Vec<String> {
    let mut paths = paths.iter();
    let fill = |word: &str| match word {
        "{}" => paths.next().unwrap().to_str().unwrap().to_owned(),
        plain => plain.to_owned(),
    };
    template.split_whitespace().map(fill).collect()
}
