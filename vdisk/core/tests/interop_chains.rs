//! libvhdi reads our differencing chains: `vhdiinfo` names the parent, `vhdimount` agrees on every byte.
#![allow(clippy::unwrap_used)]

mod chain_support;
mod peers;

use chain_support::*;
use peers::{Mounted, arg, have, run};
use vdisk::image::{Format, Mode};

#[test]
fn libvhdi_reads_our_chains() {
    if !have(&["vhdiinfo", "vhdimount"]) {
        return;
    }
    for format in [Format::VhdDynamic, Format::VhdFixed] {
        let folder = Folder::new();
        let mut model = vec![0; SIZE as usize];
        let base = folder.image("base.vhd", format, None);
        write(&open(&base, Mode::Keep, &[]), &mut model, 512, 3 << 20, 1);
        let middle = folder.child("middle.vhd", &base, None);
        write(
            &open(&middle, Mode::Keep, &[]),
            &mut model,
            1 << 20,
            70_000 / 512 * 512,
            2,
        );
        let top = folder.child("top.vhd", &middle, None);
        let disk = open(&top, Mode::Keep, &[]);
        write(&disk, &mut model, SIZE - 512, 512, 3);
        // In whole bytes of the sector bitmap: libvhdi takes all sectors of a byte after its first set bit for set.
        disk.write_zeroes((2 << 20) - 4096, 8192).unwrap();
        model[(2 << 20) - 4096..][..8192].fill(0);
        drop(disk);

        let info = run("vhdiinfo", &[arg(&top)]);
        assert!(info.contains("Differential"), "{info}");
        assert!(info.contains("middle.vhd"), "{info}");
        let mountpoint = folder.path("mnt");
        std::fs::create_dir(&mountpoint).unwrap();
        run("vhdimount", &[arg(&top), arg(&mountpoint)]);
        let mounted = Mounted(&mountpoint);
        let names: Vec<_> = std::fs::read_dir(&mountpoint)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        // The topmost disk has the highest number.
        let last = names.iter().max().unwrap();
        let theirs = std::fs::read(mountpoint.join(last)).unwrap();
        drop(mounted);
        assert_eq!(
            first_difference(&model, &theirs),
            None,
            "{format}, {names:?}"
        );
        assert_eq!(
            first_difference(&contents(&open(&top, Mode::ReadOnly, &[])), &model),
            None
        );
    }
}
