//! Our own agent inside of guests: built here, installed by itself into a tree of files.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::tree::Tree;
use crate::progress::step;
use crate::{run, workspace};

/// Whose apps it shows; the guest's builder makes this user.
const USER: &str = "user";

/// The built agent.
pub fn build() -> Result<PathBuf> {
    step("build the guest's agent", || {
        let args = ["build", "--release", "--quiet", "-p", "medley-guest"];
        run::quiet(&mut workspace::cargo(args)?)?;
        Ok(workspace::target()?.join("release/medley-guest"))
    })
}

/// Puts the agent, and all that it wants beside it, into a guest's files.
pub fn install(agent: &Path, tree: &Tree) -> Result<()> {
    let mut install = run::command(
        &agent.to_string_lossy(),
        ["install", "--user", USER, "--root"],
    );
    run::quiet(install.arg(tree.path()))
}
