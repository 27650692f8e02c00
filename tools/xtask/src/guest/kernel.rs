//! Debian's cloud kernel, unpacked from its package without installing it: installing would change
//! what this machine boots.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run;
use crate::setup::StaleLists;

const META: &str = "linux-image-cloud-amd64";

/// An unpacked kernel package.
pub struct Kernel {
    /// The package, such as `linux-image-6.1.0-1-cloud-amd64`.
    pub package: String,
    pub version: String,
    /// Where it is unpacked, or will be.
    tree: PathBuf,
}

impl Kernel {
    /// Finds out which kernel the machine's sources offer. `cache` keeps unpacked ones.
    pub fn find(cache: &Path) -> Result<Self> {
        let depends =
            run::capture(&mut run::command("apt-cache", ["depends", META])).context(StaleLists)?;
        let package = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .with_context(|| format!("apt does not know {META}"))
            .context(StaleLists)?
            .to_owned();
        let version = crate::setup::candidates([package.as_str()])?
            .remove(&package)
            .with_context(|| format!("apt offers no version of {package}"))
            .context(StaleLists)?;
        let tree = cache.join(format!(".{package}_{}", version.replace(':', "%")));
        Ok(Self {
            package,
            version,
            tree,
        })
    }

    /// Downloads and unpacks it, unless that was done before.
    pub fn unpack(&self, scratch: &Path) -> Result<()> {
        if self.tree.is_dir() {
            return Ok(());
        }
        let download = scratch.join("kernel");
        std::fs::create_dir_all(&download)?;
        run::quiet(
            run::command(
                "apt-get",
                [
                    "download",
                    "-q",
                    &format!("{}={}", self.package, self.version),
                ],
            )
            .current_dir(&download),
        )
        .context(StaleLists)?;
        let package = std::fs::read_dir(&download)?
            .find_map(|entry| {
                Some(entry.ok()?.path()).filter(|p| p.extension().is_some_and(|e| e == "deb"))
            })
            .with_context(|| format!("apt-get downloaded no {}", self.package))?;
        let fresh = scratch.join("kernel-tree");
        run::quiet(run::command("dpkg-deb", ["-x"]).args([&package, &fresh]))?;
        match std::fs::rename(&fresh, &self.tree) {
            // Somebody else was faster with the same kernel.
            Err(_) if self.tree.is_dir() => Ok(()),
            other => other.with_context(|| format!("cannot keep {}", self.tree.display())),
        }
    }

    /// The bootable kernel.
    pub fn image(&self) -> Result<PathBuf> {
        let boot = self.tree.join("boot");
        std::fs::read_dir(&boot)
            .with_context(|| format!("cannot list {}", boot.display()))?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
            .map(|entry| entry.path())
            .with_context(|| format!("{} has no kernel", boot.display()))
    }

    /// `names` and all they depend on, in an order in which they can be inserted: file name and
    /// contents. A module that this kernel has built in, or not at all, is left out.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
        let index = module_files(&self.tree)?;
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            insert(&canonical(name), &index, &mut seen, &mut order)?;
        }
        Ok(order)
    }
}

type Index = std::collections::BTreeMap<String, PathBuf>;

fn insert(
    name: &str,
    index: &Index,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let Some(path) = index.get(name) else {
        return Ok(());
    };
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let module = read_module(path)?;
    for needed in depends(&module) {
        insert(&canonical(&needed), index, seen, order)?;
    }
    order.push((format!("{name}.ko"), module));
    Ok(())
}

// The kernel itself does not tell `-` from `_` in a module's name.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Every module below `tree`, by name.
fn module_files(tree: &Path) -> Result<Index> {
    let mut index = Index::new();
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if let Some((name, "ko" | "ko.xz" | "ko.zst" | "ko.gz")) =
                entry.file_name().to_string_lossy().split_once('.')
            {
                index.insert(canonical(name), entry.path());
            }
        }
    }
    Ok(index)
}

/// A module's bytes, decompressed: busybox's `insmod` knows no compression.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return std::fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let output = std::process::Command::new(tool)
        .arg("-dc")
        .arg(path)
        .output();
    let output = output.with_context(|| format!("cannot start `{tool}`"))?;
    if !output.status.success() {
        bail!("{tool} cannot decompress {}", path.display());
    }
    Ok(output.stdout)
}

/// The modules that a module says it needs, from its `depends=` string.
fn depends(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(at) = module
        .windows(FIELD.len())
        .position(|window| window == FIELD)
    else {
        return Vec::new();
    };
    let value = module[at + FIELD.len()..]
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default();
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, needs: &str) {
        let text = format!("ELF\0license=GPL\0depends={needs}\0name=x\0");
        std::fs::write(dir.join(name), text).unwrap();
    }

    #[test]
    fn modules_come_after_what_they_need_and_once() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "virtio_blk.ko", "virtio,virtio-ring");
        write(dir.path(), "virtio.ko", "virtio_ring");
        write(dir.path(), "virtio_ring.ko", "");
        let kernel = Kernel {
            package: String::new(),
            version: String::new(),
            tree: dir.path().to_owned(),
        };
        let modules = kernel.modules(&["virtio-blk", "ext4", "virtio"]).unwrap();
        let names: Vec<_> = modules.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["virtio_ring.ko", "virtio.ko", "virtio_blk.ko"]);
    }

    #[test]
    fn a_ring_of_modules_ends() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.ko", "b");
        write(dir.path(), "b.ko", "a");
        let kernel = Kernel {
            package: String::new(),
            version: String::new(),
            tree: dir.path().to_owned(),
        };
        assert_eq!(kernel.modules(&["a"]).unwrap().len(), 2);
    }
}
