//! `cargo xtask setup`: the system packages a command needs, found missing, and installed.

mod apt;
mod packages;
mod sources;

use anyhow::{Context, Result, bail};
use clap::Parser;

pub use apt::candidates;
pub use packages::Purpose;
pub use sources::{DebianSources, release_codename};

use crate::progress;
use apt::Privilege;
use packages::QEMU_AT_LEAST;

/// Installs the system packages that the other commands need.
#[derive(Parser)]
pub struct Args {
    /// What this machine is to do.
    #[arg(long = "for", value_enum, default_value_t = Purpose::Test, value_name = "PURPOSE")]
    purpose: Purpose,
    /// Only say what is missing.
    #[arg(long)]
    check: bool,
}

/// Packages are missing and we are neither root nor may use sudo without a password.
#[derive(Debug)]
pub struct MayNotInstall {
    missing: Vec<&'static str>,
    line: String,
}

impl std::fmt::Display for MayNotInstall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { missing, line } = self;
        write!(
            f,
            "packages are missing: {}\nInstall them with:\n\n  {line}\n",
            missing.join(" ")
        )
    }
}

impl std::error::Error for MayNotInstall {}

/// What apt said, or could not fetch, is explained by package lists that are missing or old. Put
/// into an error's context, it lets [`with_fresh_lists`] try again.
#[derive(Debug)]
pub struct StaleLists;

impl std::fmt::Display for StaleLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("apt's package lists may be missing or old (`sudo apt-get update` renews them)")
    }
}

/// Does `work`; if that fails for [`StaleLists`] and we may refresh them, once more with fresh ones.
pub fn with_fresh_lists<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    let first = match work() {
        Err(error) if error.is::<StaleLists>() && !crate::run::interrupted() => error,
        outcome => return outcome,
    };
    let Some(privilege) = Privilege::find() else {
        return Err(first);
    };
    eprintln!("{first:#}");
    progress::step("refresh the package lists", || apt::update(privilege))?;
    work()
}

pub fn run(args: &Args) -> Result<()> {
    if !args.check {
        ensure(args.purpose)?;
        eprintln!("everything for `{}` is installed", args.purpose);
        return Ok(());
    }
    let missing = missing(args.purpose)?;
    for package in args.purpose.packages() {
        let state = if missing.contains(&package.name) {
            "MISSING"
        } else {
            "ok"
        };
        println!("{:<20} {state:<8} {}", package.name, package.why);
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(MayNotInstall {
        line: install_line(args.purpose, &missing)?,
        missing,
    }
    .into())
}

/// Makes sure that the packages for `purpose` are there, installing what is missing.
pub fn ensure(purpose: Purpose) -> Result<()> {
    let missing = missing(purpose)?;
    if missing.is_empty() {
        return Ok(());
    }
    let Some(privilege) = Privilege::find() else {
        return Err(MayNotInstall {
            line: install_line(purpose, &missing)?,
            missing,
        }
        .into());
    };
    eprintln!("installing for `{purpose}`: {}", missing.join(" "));
    if !apt::all_known(&missing)? {
        progress::step("refresh the package lists", || apt::update(privilege))?;
    }
    let (qemu, plain): (Vec<_>, Vec<_>) = missing.iter().partition(|name| is_qemu(name));
    progress::step(&format!("install {} packages", missing.len()), || {
        if !qemu.is_empty() {
            install_qemu(privilege, &qemu)?;
        }
        install(privilege, &plain, None)
    })?;
    let left = self::missing(purpose)?;
    if !left.is_empty() {
        bail!(
            "still missing or too old after the installation: {}",
            left.join(" ")
        );
    }
    Ok(())
}

fn missing(purpose: Purpose) -> Result<Vec<&'static str>> {
    let installed = apt::installed(purpose.packages().map(|package| package.name))?;
    let present = |name: &str| match installed.get(name) {
        None => false,
        Some(version) => !is_qemu(name) || apt::upstream(version) >= QEMU_AT_LEAST,
    };
    Ok(purpose
        .packages()
        .map(|package| package.name)
        .filter(|name| !present(name))
        .collect())
}

fn is_qemu(name: &str) -> bool {
    name.starts_with("qemu-")
}

/// The archive's own QEMU where it is new enough (Debian 13 and later), otherwise that of the
/// release's backports, which most machines do not have among their sources.
fn install_qemu(privilege: Privilege, packages: &[&'static str]) -> Result<()> {
    let new_enough =
        |versions: &[String]| versions.iter().any(|v| apt::upstream(v) >= QEMU_AT_LEAST);
    let release = release_codename()?;
    let backports = format!("{release}-backports");
    if candidates(["qemu-system-x86"])?
        .get("qemu-system-x86")
        .is_some_and(|v| new_enough(std::slice::from_ref(v)))
    {
        return install(privilege, packages, None);
    }
    if !new_enough(&apt::versions("qemu-system-x86")?) {
        let entry = DebianSources::read()?.backports_entry(&backports);
        apt::add_source(privilege, "medley-backports.sources", &entry)
            .with_context(|| format!("cannot add {backports} to apt's sources"))?;
        apt::update(privilege)?;
    }
    install(privilege, packages, Some(&backports))
}

/// Installs; if that fails, once more with fresh lists (a stale list names files that are gone).
fn install(privilege: Privilege, packages: &[&'static str], suite: Option<&str>) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    apt::install(privilege, packages, suite).or_else(|first| {
        if crate::run::interrupted() {
            return Err(first);
        }
        apt::update(privilege)?;
        apt::install(privilege, packages, suite)
    })
}

/// The one line to type. Where QEMU has to come from backports, that line is this program itself.
fn install_line(purpose: Purpose, missing: &[&'static str]) -> Result<String> {
    let qemu_too_old = candidates(["qemu-system-x86"])?
        .get("qemu-system-x86")
        .is_none_or(|version| apt::upstream(version) < QEMU_AT_LEAST);
    if qemu_too_old && missing.iter().any(|name| is_qemu(name)) {
        let program = std::env::current_exe()?;
        return Ok(format!("sudo {} setup --for {purpose}", program.display()));
    }
    Ok(format!(
        "sudo apt-get install --no-install-recommends {}",
        missing.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_failure_that_lists_do_not_explain_is_not_tried_again() {
        let calls = std::cell::Cell::new(0);
        let outcome = with_fresh_lists(|| -> Result<()> {
            calls.set(calls.get() + 1);
            Err(anyhow!("the disk is full").context("cannot build"))
        });
        assert_eq!(outcome.unwrap_err().to_string(), "cannot build");
        assert_eq!(calls.get(), 1);
    }

    #[test]
    fn stale_lists_are_recognised_below_other_context() {
        let error = anyhow!("no kernel")
            .context(StaleLists)
            .context("the guest");
        assert!(error.is::<StaleLists>());
    }
}
