//! The machine's package manager: what is installed, what could be, and installing it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;

/// How we may change the system.
#[derive(Clone, Copy)]
pub enum Privilege {
    Root,
    /// `sudo` that asks for no password.
    Sudo,
}

impl Privilege {
    /// What we have, if anything.
    pub fn find() -> Option<Self> {
        if nix::unistd::geteuid().is_root() {
            Some(Self::Root)
        } else {
            run::succeeds(&mut run::command("sudo", ["-n", "true"])).then_some(Self::Sudo)
        }
    }

    fn command(self, program: &str, args: &[&str]) -> Command {
        // Through `env`, because sudo drops variables.
        let base = ["env", "DEBIAN_FRONTEND=noninteractive", program];
        let (first, rest) = match self {
            Self::Root => ("env", &base[1..]),
            Self::Sudo => ("sudo", &base[..]),
        };
        let sudo = if matches!(self, Self::Sudo) {
            &["-n"][..]
        } else {
            &[]
        };
        run::command(first, sudo.iter().chain(rest).chain(args))
    }
}

/// The installed ones of `names`, with their versions.
pub fn installed(
    names: impl IntoIterator<Item = &'static str>,
) -> Result<BTreeMap<String, String>> {
    let format = "-f=${Package}\t${db:Status-Status}\t${Version}\n";
    let output = run::answer(&mut run::command(
        "dpkg-query",
        ["-W", format].into_iter().chain(names),
    ))
    .context("only Debian and its derivatives are known to this command")?;
    Ok(parse_installed(&output))
}

fn parse_installed(output: &str) -> BTreeMap<String, String> {
    let rows = output
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter_map(|row| match row[..] {
        [name, "installed", version] => Some((name.to_owned(), version.to_owned())),
        _ => None,
    })
    .collect()
}

/// The version that apt would install of each of `names`; a package it does not know is left out,
/// but an apt that cannot answer is an error.
pub fn candidates<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>> {
    let output = run::capture(&mut run::command(
        "apt-cache",
        ["policy"].into_iter().chain(names),
    ))?;
    Ok(parse_policy(&output))
}

fn parse_policy(output: &str) -> BTreeMap<String, String> {
    let mut candidates = BTreeMap::new();
    let mut name = "";
    for line in output.lines() {
        match line.trim().split_once(':') {
            Some((word, "")) if !line.starts_with(' ') => name = word,
            Some(("Candidate", version)) if version.trim() != "(none)" => {
                candidates.insert(name.to_owned(), version.trim().to_owned());
            }
            _ => {}
        }
    }
    candidates
}

/// Whether apt's lists know all of `names`; fresh machines often have no lists at all.
pub fn all_known(names: &[&'static str]) -> Result<bool> {
    let candidates = candidates(names.iter().copied())?;
    Ok(names.iter().all(|name| candidates.contains_key(*name)))
}

/// Every version of `name` that the sources offer.
pub fn versions(name: &str) -> Result<Vec<String>> {
    let output = run::capture(&mut run::command("apt-cache", ["madison", name]))?;
    Ok(output
        .lines()
        .filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned()))
        .collect())
}

/// Refreshes the package lists.
pub fn update(privilege: Privilege) -> Result<()> {
    run::quiet(&mut privilege.command("apt-get", &["update", "-q", "-o", LOCK]))
        .context("apt cannot refresh its package lists")
}

/// Another package manager may be at work: wait for it this many seconds.
const LOCK: &str = "DPkg::Lock::Timeout=300";

/// Installs `packages`, from `suite` if given.
pub fn install(privilege: Privilege, packages: &[&str], suite: Option<&str>) -> Result<()> {
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends", "-o", LOCK];
    args.extend(suite.iter().flat_map(|suite| ["-t", suite]));
    args.extend(packages);
    run::quiet(&mut privilege.command("apt-get", &args))
}

/// Adds one file to apt's sources.
pub fn add_source(privilege: Privilege, name: &str, text: &str) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    let Some(from) = file.path().to_str() else {
        bail!("the temporary folder's name is not UTF-8")
    };
    let to = format!("/etc/apt/sources.list.d/{name}");
    run::quiet(&mut privilege.command("install", &["-m", "0644", from, &to]))
}

/// The first two numbers of a version's upstream part: `1:10.0.2+ds-2` is `(10, 0)`.
pub fn upstream(version: &str) -> (u32, u32) {
    let upstream = version
        .split_once(':')
        .map_or(version, |(_epoch, rest)| rest);
    let mut numbers = upstream
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_package_is_not_installed() {
        let output = "fuse3\tinstalled\t3.14\nxterm\tconfig-files\t379\nvim\tnot-installed\t\n";
        let installed = parse_installed(output);
        assert_eq!(installed.len(), 1);
        assert_eq!(installed["fuse3"], "3.14");
    }

    #[test]
    fn policy_tells_candidates() {
        let output = "\
fio:
  Installed: (none)
  Candidate: 3.33-3+b1
  Version table:
     3.33-3+b1 500
virtual:
  Installed: (none)
  Candidate: (none)
";
        assert_eq!(
            parse_policy(output),
            BTreeMap::from([("fio".to_owned(), "3.33-3+b1".to_owned())])
        );
    }

    #[test]
    fn versions_are_compared_by_their_upstream_numbers() {
        assert_eq!(upstream("1:10.0.2+ds-2+deb13u1~bpo12+1"), (10, 0));
        assert_eq!(upstream("1:7.2+dfsg-7"), (7, 2));
        assert_eq!(upstream("9"), (9, 0));
        assert!(upstream("1:8.2.1") >= (8, 2) && upstream("1:8.1") < (8, 2));
    }
}
