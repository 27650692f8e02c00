//! Where things lie: the workspace's root and its build folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The workspace's root folder.
pub fn root() -> Result<PathBuf> {
    // Known since this very program was built from it, and wrong only if the folder moved since.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .context("the workspace that built this program has moved; run `cargo xtask` again")
}

/// The build folder: `CARGO_TARGET_DIR`, or `target` in the workspace.
pub fn target() -> Result<PathBuf> {
    Ok(match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(dir)?,
        None => root()?.join("target"),
    })
}

/// A `cargo` command in the workspace's root, by the cargo that started us.
pub fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<Command> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = crate::run::command(&program, args);
    // Made absolute, since cargo takes a relative one from where it runs.
    command
        .current_dir(root()?)
        .env("CARGO_TARGET_DIR", target()?);
    Ok(command)
}
