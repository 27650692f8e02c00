//! xpra, a peer of windows: installed as Debian packs it into a file tree of its own, so that neither this machine nor
//! the guest has anything of it. The same tree is a disk for the guest. Cached by what goes into it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};

use crate::progress::step;
use crate::setup::{self, DebianSources, StaleLists};
use crate::{run, workspace};

/// It, what it recommends and uses here, and the app that is shown.
const PACKAGES: &[&str] = &[
    "xpra",
    "python3-gi-cairo",
    "python3-lz4",
    "python3-pil",
    "xauth",
    "xterm",
    "xvfb",
];
const LEFT_OUT: [&str; 4] = ["doc", "man", "info", "locale"];
/// How this machine reaches its mirror.
const INHERITED_SETTINGS: [&str; 4] = [
    "Acquire::Check-Valid-Until ",
    "Acquire::Check-Date ",
    "Acquire::http::",
    "Acquire::https::",
];
/// More than it takes; what is not used is a hole in the file.
const DISK: &str = "1200M";

/// Where it is.
pub struct Xpra {
    pub tree: PathBuf,
    pub disk: PathBuf,
}

/// The tree and the disk, made unless they are there.
pub fn ensure() -> Result<Xpra> {
    setup::with_fresh_lists(make)
}

fn make() -> Result<Xpra> {
    let release = setup::release_codename()?;
    let candidates = setup::candidates(PACKAGES.iter().copied())?;
    let mut hash = Sha256::new();
    hash.update(include_str!("xpra.rs"));
    hash.update(&release);
    for package in PACKAGES {
        let version = candidates.get(*package);
        let version =
            version.ok_or_else(|| anyhow!("apt knows no {package}").context(StaleLists))?;
        hash.update(format!("{package}={version}\n"));
    }
    let hash = hash.finalize();
    let name: String = hash
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let peers = workspace::target()?.join("peers");
    let folder = peers.join(format!("xpra-{name}"));
    if !folder.is_dir() {
        std::fs::create_dir_all(&peers)?;
        let scratch = tempfile::Builder::new()
            .prefix(".xpra-")
            .tempdir_in(&peers)?;
        build(&release, scratch.path())?;
        std::fs::rename(scratch.keep(), &folder)
            .with_context(|| format!("cannot write {}", folder.display()))?;
    }
    Ok(Xpra {
        tree: folder.join("tree"),
        disk: folder.join("disk.ext4"),
    })
}

fn build(release: &str, scratch: &Path) -> Result<()> {
    let (tree, archive) = (scratch.join("tree"), scratch.join("tree.tar"));
    let sources = scratch.join("debian.sources");
    std::fs::write(&sources, DebianSources::read()?.for_release(release)?)?;
    let settings = run::capture(&mut run::command("apt-config", ["dump"]))?;
    let settings = settings.lines().filter(|line| {
        let mut inherited = INHERITED_SETTINGS.iter();
        inherited.any(|start| line.starts_with(start))
    });
    let mut install = run::command("mmdebstrap", ["--quiet", "--variant=essential"]);
    install.arg(format!("--include={}", PACKAGES.join(",")));
    install.args(["--aptopt=APT::Install-Recommends \"false\""]);
    install.args(settings.map(|line| format!("--aptopt={line}")));
    install.args(LEFT_OUT.map(|part| format!("--dpkgopt=path-exclude=/usr/share/{part}/*")));
    install.arg(release).arg(&archive).arg(&sources);
    step("install xpra, a peer, into a tree of its own", || {
        run::quiet(&mut install)
    })?;
    step("make a disk of it", || {
        std::fs::create_dir(&tree)?;
        // Whoever unpacks it owns it: an ordinary user can delete it again.
        let mut unpack = run::command("tar", ["--no-same-owner", "--exclude=./dev/*", "-xf"]);
        run::quiet(unpack.arg(&archive).arg("-C").arg(&tree))?;
        ensure!(tree.join("usr/bin/xpra").exists(), "there is no xpra in it");
        // Its server would run this session, which opens a terminal of its own.
        std::fs::remove_file(tree.join("etc/X11/Xsession"))?;
        let mut disk = run::command("mke2fs", ["-q", "-F", "-t", "ext4", "-m", "0", "-d"]);
        run::quiet(disk.arg(&tree).arg(scratch.join("disk.ext4")).arg(DISK))
    })?;
    std::fs::remove_file(&archive)?;
    Ok(std::fs::remove_file(&sources)?)
}
