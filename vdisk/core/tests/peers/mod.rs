//! Running other people's tools. A missing tool fails the test, unless MEDLEY_SKIP_PEERS=1 says that it
//! is known to be missing.
#![allow(dead_code)]

use std::path::Path;
use std::process::Command;

/// Whether to go on; panics when a tool is missing unexpectedly.
pub fn have(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools
        .iter()
        .filter(|tool| {
            let dirs = std::env::var_os("PATH").unwrap_or_default();
            !std::env::split_paths(&dirs)
                .chain(["/usr/sbin".into(), "/sbin".into()])
                .any(|d| d.join(tool).is_file())
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    let skip = std::env::var("MEDLEY_SKIP_PEERS").is_ok_and(|v| v == "1");
    assert!(
        skip,
        "{missing:?} not installed; `cargo xtask setup` installs it, MEDLEY_SKIP_PEERS=1 skips"
    );
    eprintln!("skipped: {missing:?} not installed and MEDLEY_SKIP_PEERS=1");
    false
}

/// Runs a tool to its end and returns what it printed; panics with everything when it fails.
pub fn run(tool: &str, args: &[&str]) -> String {
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    let output = Command::new(tool)
        .env("PATH", path)
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{tool} {args:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A mount of another tool, undone when dropped.
pub struct Mounted<'a>(pub &'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fusermount")
            .args(["-u", "-z"])
            .arg(self.0)
            .status()
            .or_else(|_| Command::new("umount").arg("-l").arg(self.0).status());
    }
}
