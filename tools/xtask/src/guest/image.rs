//! Disks that boot: a master boot record, a FAT partition with kernel and boot loader, an ext4
//! partition with the guest's files. Nothing is mounted and nothing needs root.
//!
//! The boot loader is syslinux on FAT because it starts a kernel in one second under emulation,
//! where GRUB on ext4 takes five, and because it is installed into an image that lies still, where
//! extlinux wants a mounted one.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::tree::Tree;
use crate::run;

pub const MIB: u64 = 1 << 20;
pub const SECTOR: u64 = 512;

/// The label of every guest's root file system; the kernel finds it by this.
pub const ROOT_LABEL: &str = "medley-root";

/// The boot partition holds a kernel and an initramfs, twice (an upgrade writes before it deletes).
const BOOT_AT: u64 = MIB;
const BOOT_SIZE: u64 = 47 * MIB;
const ROOT_AT: u64 = BOOT_AT + BOOT_SIZE;

const SYSLINUX_CFG: &str = include_str!("../../guest/syslinux.cfg");
const MASTER_BOOT_RECORD: &str = "/usr/lib/syslinux/mbr/mbr.bin";

/// Where the guest's files lie on its disk.
#[derive(Clone, Serialize, Deserialize)]
pub struct RootFs {
    /// Number in the partition table, from one.
    pub partition: u32,
    /// Bytes from the start of the disk.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    pub file_system: String,
    pub label: String,
}

/// What goes into the boot partition.
pub struct Boot<'a> {
    pub kernel: &'a Path,
    pub initramfs: &'a Path,
    pub cmdline: &'a str,
}

/// Makes the ext4 file system of a disk of `disk_size` bytes from the folder `tree`, as the file
/// `image`. When we are not root, `tree`'s owner becomes root inside.
pub fn root_file_system(tree: &Path, image: &Path, disk_size: u64) -> Result<()> {
    run::quiet(
        as_root("mke2fs", Owners::Root)
            .args(mke2fs_args(image, disk_size)?)
            .arg("-d")
            .arg(tree),
    )
}

/// The arguments of `mke2fs` for a root file system; creates `image` in its full size.
pub fn mke2fs_args(image: &Path, disk_size: u64) -> Result<Vec<String>> {
    let file = File::create(image).with_context(|| format!("cannot create {}", image.display()))?;
    file.set_len(disk_size - ROOT_AT)?;
    let mut args: Vec<_> = ["-q", "-F", "-t", "ext4", "-m", "0", "-L", ROOT_LABEL]
        .map(str::to_owned)
        .into();
    args.push(image.display().to_string());
    Ok(args)
}

/// Who owns the files that a program handles as root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Root alone.
    Root,
    /// Whoever a package has. Asks that an ordinary user has subordinate ids (`/etc/subuid`).
    Any,
}

/// `program` as root, or, for an ordinary user, as root of a user namespace with those owners.
pub fn as_root(program: &str, owners: Owners) -> Command {
    if nix::unistd::geteuid().is_root() {
        return run::command(program, [""; 0]);
    }
    let mut unshare = run::command("unshare", ["--map-root-user"]);
    if owners == Owners::Any {
        unshare.arg("--map-auto");
    }
    unshare.arg(program);
    unshare
}

/// Adds the files of a tree to a root file system that was made before; they are root's there. A file that is
/// there already is an error.
pub fn add(image: &Path, tree: &Tree) -> Result<()> {
    let mut script = String::new();
    add_folder(tree.path(), "", &mut script)?;
    let file = image.with_extension("debugfs");
    std::fs::write(&file, script)?;
    let (_, said) = run::both(run::command("debugfs", ["-w", "-f"]).arg(&file).arg(image))?;
    std::fs::remove_file(&file)?;
    // It ends with 0 whatever happens. Folders may be there.
    let trouble: Vec<_> = said
        .lines()
        .filter(|line| !line.starts_with("debugfs 1.") && !line.trim().is_empty())
        .filter(|line| !line.contains("mkdir: Ext2 directory already exists"))
        .collect();
    ensure!(
        trouble.is_empty(),
        "{}: cannot add files: {}",
        image.display(),
        trouble.join("; ")
    );
    Ok(())
}

/// The requests of `debugfs` that add a folder.
fn add_folder(folder: &Path, inside: &str, script: &mut String) -> Result<()> {
    use std::fmt::Write as _;
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let at = format!("{inside}/{}", entry.file_name().to_string_lossy());
        ensure!(
            !at.contains([' ', '"', '\n']),
            "{at:?}: such a name cannot be added"
        );
        let kind = entry.file_type()?;
        let mode = entry.metadata()?.permissions().mode();
        if kind.is_symlink() {
            let target = std::fs::read_link(&path)?;
            writeln!(script, "symlink {at} {}", target.display())?;
        } else if kind.is_dir() {
            writeln!(script, "mkdir {at}")?;
            add_folder(&path, &at, script)?;
        } else {
            let name = entry.file_name();
            writeln!(
                script,
                "cd {}",
                if inside.is_empty() { "/" } else { inside }
            )?;
            writeln!(
                script,
                "write {} {}",
                path.display(),
                name.to_string_lossy()
            )?;
            writeln!(script, "set_inode_field {at} mode 0{mode:o}")?;
            writeln!(script, "set_inode_field {at} uid 0")?;
            writeln!(script, "set_inode_field {at} gid 0")?;
        }
    }
    Ok(())
}

/// Puts a bootable disk together: `root` is a file made by [`root_file_system`].
pub fn assemble(disk: &Path, disk_size: u64, root: &Path, boot: &Boot<'_>) -> Result<RootFs> {
    let fat = disk.with_extension("fat");
    boot_partition(&fat, boot)?;
    let mut out = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .open(disk)
        .with_context(|| format!("cannot create {}", disk.display()))?;
    out.set_len(disk_size)?;
    copy_sparsely(&fat, &mut out, BOOT_AT)?;
    copy_sparsely(root, &mut out, ROOT_AT)?;
    let code = std::fs::read(MASTER_BOOT_RECORD)
        .with_context(|| format!("cannot read {MASTER_BOOT_RECORD}"))?;
    out.write_all_at(&master_boot_record(&code, disk_size)?, 0)?;
    std::fs::remove_file(&fat)?;
    Ok(RootFs {
        partition: 2,
        offset: ROOT_AT,
        size: disk_size - ROOT_AT,
        file_system: "ext4".to_owned(),
        label: ROOT_LABEL.to_owned(),
    })
}

/// Converts a raw disk to a dynamic VHD of exactly the same size.
pub fn to_vhd(raw: &Path, vhd: &Path) -> Result<()> {
    // Without force_size, qemu-img rounds the size up to whole cylinders.
    let convert = [
        "convert",
        "-f",
        "raw",
        "-O",
        "vpc",
        "-o",
        "subformat=dynamic,force_size=on",
    ];
    run::quiet(run::command("qemu-img", convert).args([raw, vhd]))
}

fn boot_partition(fat: &Path, boot: &Boot<'_>) -> Result<()> {
    let kib = (BOOT_SIZE / 1024).to_string();
    // The hidden sectors are those before the partition: the boot sector adds them to find itself.
    let hidden = (BOOT_AT / SECTOR).to_string();
    let mkfs = ["-C", "-F", "16", "-n", "MEDLEYBOOT", "-h", &hidden];
    run::quiet(run::command("mkfs.fat", mkfs).arg(fat).arg(kib))?;
    let config = fat.with_extension("cfg");
    std::fs::write(&config, SYSLINUX_CFG.replace("@CMDLINE@", boot.cmdline))?;
    let files = [
        (boot.kernel, "::vmlinuz"),
        (boot.initramfs, "::initrd"),
        (&config, "::syslinux.cfg"),
    ];
    for (from, to) in files {
        run::quiet(run::command("mcopy", ["-i"]).arg(fat).arg(from).arg(to))
            .context("cannot fill the boot partition")?;
    }
    std::fs::remove_file(&config)?;
    run::quiet(run::command("syslinux", ["--install"]).arg(fat))
}

/// The first sector: boot code, and a table of two partitions of which the first is active.
fn master_boot_record(code: &[u8], disk_size: u64) -> Result<[u8; 512]> {
    const CODE: usize = 440;
    const TABLE: usize = 446;
    ensure!(
        code.len() <= CODE,
        "{MASTER_BOOT_RECORD} is {} bytes, over {CODE}",
        code.len()
    );
    let mut sector = [0; 512];
    sector[..code.len()].copy_from_slice(code);
    let partitions = [
        (0x80, 0x0e, BOOT_AT, BOOT_SIZE),
        (0, 0x83, ROOT_AT, disk_size.saturating_sub(ROOT_AT)),
    ];
    for (index, (active, kind, start, size)) in partitions.into_iter().enumerate() {
        let entry = &mut sector[TABLE + 16 * index..][..16];
        // Cylinder, head and sector say "beyond": everyone reads the sector numbers.
        entry[..8].copy_from_slice(&[active, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&u32::try_from(start / SECTOR)?.to_le_bytes());
        entry[12..].copy_from_slice(&u32::try_from(size / SECTOR)?.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(sector)
}

/// Copies `from` into `to` at `offset`, leaving out zeros (`to` has none but zeros there).
fn copy_sparsely(from: &Path, to: &mut File, offset: u64) -> Result<()> {
    let mut from = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut buffer = vec![0; 64 << 10];
    let mut at = offset;
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        if buffer[..length].iter().any(|&byte| byte != 0) {
            to.seek(SeekFrom::Start(at))?;
            to.write_all(&buffer[..length])?;
        }
        at += length as u64;
    }
}

/// Compresses a file as gzip does: every kernel can unpack that.
pub fn gzip(data: &[u8], to: PathBuf) -> Result<PathBuf> {
    let plain = to.with_extension("plain");
    std::fs::write(&plain, data)?;
    let output = File::create(&to)?;
    let mut gzip = run::command("gzip", ["-6", "-n", "-c"]);
    let status = run::attached(gzip.arg(&plain).stdout(output))?;
    ensure!(status.success(), "gzip cannot compress {}", plain.display());
    std::fs::remove_file(&plain)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_table_covers_the_disk() {
        let sector = master_boot_record(&[0xeb; 440], 128 * MIB).unwrap();
        assert_eq!(sector[446], 0x80);
        assert_eq!(&sector[454..462], [0, 8, 0, 0, 0, 0x78, 1, 0]);
        let word = |at: usize| u32::from_le_bytes(sector[at..at + 4].try_into().unwrap());
        assert_eq!(word(454) + word(458), word(470), "the partitions touch");
        assert_eq!(u64::from(word(470) + word(474)) * SECTOR, 128 * MIB);
        assert_eq!(&sector[510..], [0x55, 0xaa]);
    }

    #[test]
    fn files_are_added_to_a_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("root.ext4");
        File::create(&image).unwrap().set_len(16 * MIB).unwrap();
        run::quiet(run::command("mke2fs", ["-q", "-F", "-t", "ext4"]).arg(&image)).unwrap();
        let tree = Tree::create(dir.path().join("tree")).unwrap();
        tree.file("/usr/bin/agent", 0o755, "program").unwrap();
        tree.link("/etc/x/link", "/usr/bin/agent").unwrap();
        add(&image, &tree).unwrap();
        let ask = |request: &str| {
            run::capture(run::command("debugfs", ["-R", request]).arg(&image)).unwrap()
        };
        assert_eq!(ask("cat /usr/bin/agent"), "program");
        assert!(ask("stat /usr/bin/agent").contains("Mode:  0755"));
        assert!(ask("stat /etc/x/link").contains("\"/usr/bin/agent\""));
        // Folders may be there, files may not.
        let error = add(&image, &tree).unwrap_err().to_string();
        assert!(error.contains("already exists"), "{error}");
    }

    #[test]
    fn too_much_boot_code_is_refused() {
        assert!(master_boot_record(&[0; 441], 128 * MIB).is_err());
    }

    #[test]
    fn zeros_stay_holes() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        let mut data = vec![0; 1 << 20];
        data[700_000] = 7;
        std::fs::write(&from, &data).unwrap();
        let mut to = File::create(dir.path().join("to")).unwrap();
        to.set_len(2 << 20).unwrap();
        copy_sparsely(&from, &mut to, 1 << 20).unwrap();
        let copied = std::fs::read(dir.path().join("to")).unwrap();
        assert!(copied[1 << 20..] == data && copied[..1 << 20].iter().all(|&b| b == 0));
        assert!(to.metadata().unwrap().blocks() * 512 <= 128 << 10);
    }
}
