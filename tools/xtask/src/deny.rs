//! `cargo xtask deny`: licences, bans and sources of everything we depend on, by cargo-deny.
//!
//! It stands apart because cargo-deny takes minutes to compile; the tests run it only where it is
//! installed already.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Parser;

use crate::progress::step;
use crate::run;
use crate::workspace;

/// Checks licences and origins of all dependencies, installing cargo-deny first if need be.
#[derive(Parser)]
pub struct Args {
    /// Also look for known vulnerabilities. Needs the advisory database, which cargo-deny clones
    /// from its Git host.
    #[arg(long)]
    advisories: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if !installed()? {
        step("compile cargo-deny (takes minutes)", || {
            run::quiet(&mut workspace::cargo([
                "install",
                "cargo-deny",
                "--locked",
            ])?)
        })?;
    }
    let mut check = check()?;
    if args.advisories {
        check.arg("advisories");
    }
    if !run::attached(&mut check)?.success() {
        bail!("cargo-deny found something");
    }
    Ok(())
}

/// Whether cargo-deny is on this machine.
pub fn installed() -> Result<bool> {
    Ok(run::succeeds(&mut workspace::cargo(["deny", "--version"])?))
}

/// All checks that need no network.
pub fn check() -> Result<Command> {
    workspace::cargo(["deny", "check", "licenses", "bans", "sources"])
}
