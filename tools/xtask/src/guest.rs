//! `cargo xtask guest`: real guests from Debian's packages, each in a dynamic VHD that boots by its
//! own boot loader, cached by what went into it.

mod agent;
mod boot;
mod cpio;
mod debian;
mod image;
mod kernel;
mod tiny;
mod tree;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::progress::step;
use crate::setup::{self, Purpose};
use crate::workspace;
use image::RootFs;

/// What a guest prints on its first serial port when it takes commands.
pub const READY_MARKER: &str = "MEDLEY-GUEST-READY";

/// The command runner inside every guest; its first comment is the protocol.
const MEDLEY_SH: &str = include_str!("../guest/medley-sh");

/// Builds a real guest from Debian's packages, as a dynamic VHD with a JSON description beside it.
#[derive(Parser)]
pub struct Args {
    /// Which guest.
    #[arg(value_enum)]
    kind: Kind,
    /// Where to put it [default: `guests` in the build folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Build it even if nothing it is made of has changed.
    #[arg(long)]
    force: bool,
    /// Boot it under QEMU, run a command, shut it down, and say how long that took.
    #[arg(long)]
    verify: bool,
    /// Print the description instead of the path.
    #[arg(long)]
    json: bool,
}

/// The guests we know how to make.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    /// Debian's kernel, an X server and a few apps: built in seconds, up in about four.
    Tiny,
    /// A full Debian with systemd and apt.
    Debian,
}

/// The JSON beside a guest's disk.
#[derive(Serialize, Deserialize)]
pub struct Description {
    pub name: String,
    /// The disk: a dynamic VHD.
    pub vhd: PathBuf,
    /// Hash of everything the guest was made of.
    pub inputs: String,
    /// What the guest sees, bytes.
    pub virtual_size: u64,
    /// What the VHD takes, bytes.
    pub file_size: u64,
    pub root: RootFs,
    pub kernel_cmdline: String,
    pub ready_marker: String,
    /// Least guest RAM we test with, MiB.
    pub memory_mib: u32,
    pub build_seconds: f64,
    /// Debian packages the guest contains, with their versions.
    pub packages: BTreeMap<String, String>,
}

/// A recipe's result before it becomes a VHD.
struct Built {
    raw: PathBuf,
    root: RootFs,
    packages: BTreeMap<String, String>,
}

/// How one guest is made.
trait Recipe {
    const NAME: &'static str;
    const VIRTUAL_SIZE: u64;
    const MEMORY_MIB: u32;
    const CMDLINE: &'static str;

    /// Adds all that the guest is made of to the hash.
    fn inputs(&self, hash: &mut Sha256) -> Result<()>;

    /// Makes the raw disk, using `scratch` for anything on the way.
    fn build(&self, scratch: &Path) -> Result<Built>;
}

pub fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Guest)?;
    let guest = ensure(args.kind, args.out.as_deref(), args.force)?;
    if args.verify {
        let booted = boot::verify(&guest)?;
        eprintln!(
            "{}: ready {:.1} s after power-on (guest's clock: {:.1} s), off in {:.1} s; {}",
            guest.name, booted.ready, booted.uptime, booted.off, booted.says
        );
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&guest)?);
    } else {
        println!("{}", guest.vhd.display());
    }
    Ok(())
}

/// The guest of this kind, built unless it is there and made of the same things. The packages of
/// [`Purpose::Guest`] must be installed.
pub fn ensure(kind: Kind, out: Option<&Path>, force: bool) -> Result<Description> {
    let out = match out {
        Some(dir) => std::path::absolute(dir)?,
        None => workspace::target()?.join("guests"),
    };
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    setup::with_fresh_lists(|| match kind {
        Kind::Tiny => ensure_recipe(&tiny::Tiny::new(&out)?, &out, force),
        Kind::Debian => ensure_recipe(&debian::Debian::new(&out)?, &out, force),
    })
}

fn ensure_recipe<R: Recipe>(recipe: &R, out: &Path, force: bool) -> Result<Description> {
    let _only_builder = lock(&out.join(format!(".{}.lock", R::NAME)))?;
    let mut hash = Sha256::new();
    hash.update(BUILDER);
    hash.update(R::CMDLINE);
    recipe.inputs(&mut hash)?;
    let inputs = hex(&hash.finalize());

    let vhd = out.join(format!("{}.vhd", R::NAME));
    let json = out.join(format!("{}.json", R::NAME));
    if !force && let Some(cached) = cached(&json, &vhd, &inputs) {
        eprintln!("guest {}: up to date", R::NAME);
        return Ok(cached);
    }

    eprintln!("guest {}", R::NAME);
    let started = Instant::now();
    let scratch = tempfile::Builder::new()
        .prefix(&format!(".{}-", R::NAME))
        .tempdir_in(out)
        .with_context(|| format!("cannot create a folder in {}", out.display()))?;
    let built = recipe.build(scratch.path())?;
    let fresh = scratch.path().join("disk.vhd");
    step("convert to a dynamic VHD", || {
        image::to_vhd(&built.raw, &fresh)
    })?;
    let description = Description {
        name: R::NAME.to_owned(),
        vhd: vhd.clone(),
        inputs,
        virtual_size: R::VIRTUAL_SIZE,
        file_size: fresh.metadata()?.len(),
        root: built.root,
        kernel_cmdline: R::CMDLINE.to_owned(),
        ready_marker: READY_MARKER.to_owned(),
        memory_mib: R::MEMORY_MIB,
        build_seconds: started.elapsed().as_secs_f64(),
        packages: built.packages,
    };
    // The description goes first and comes last, so that it never describes another disk.
    let _ = std::fs::remove_file(&json);
    std::fs::rename(&fresh, &vhd).with_context(|| format!("cannot write {}", vhd.display()))?;
    let text = serde_json::to_string_pretty(&description)? + "\n";
    std::fs::write(&json, text).with_context(|| format!("cannot write {}", json.display()))?;
    Ok(description)
}

fn cached(json: &Path, vhd: &Path, inputs: &str) -> Option<Description> {
    let text = std::fs::read_to_string(json).ok()?;
    let mut description: Description = serde_json::from_str(&text).ok()?;
    let size = vhd.metadata().ok()?.len();
    // The whole folder may have been moved since.
    vhd.clone_into(&mut description.vhd);
    (description.inputs == inputs && description.file_size == size).then_some(description)
}

fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("cannot lock {}", path.display()))
}

/// The builder itself: another builder makes another guest.
const BUILDER: &str = concat!(
    include_str!("guest.rs"),
    include_str!("guest/cpio.rs"),
    include_str!("guest/image.rs"),
    include_str!("guest/kernel.rs"),
    include_str!("guest/tree.rs"),
    include_str!("../guest/medley-sh"),
    include_str!("../guest/syslinux.cfg"),
);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
