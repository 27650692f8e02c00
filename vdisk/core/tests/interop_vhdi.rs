//! libvhdi reads what we write: `vhdiinfo` agrees on the facts, `vhdimount` on every byte.
#![allow(clippy::unwrap_used)]

mod peers;

use peers::{Mounted, arg, have, run};
use vdisk::convert::NewImage;
use vdisk::image::{Format, Mode, OpenImage};

const SIZE: u64 = 9 << 20;

#[test]
fn libvhdi_agrees() {
    if !have(&["vhdiinfo", "vhdimount"]) {
        return;
    }
    for (format, kind) in [(Format::VhdDynamic, "Dynamic"), (Format::VhdFixed, "Fixed")] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ours.vhd");
        NewImage::create(&path, format, SIZE, None)
            .unwrap()
            .finish()
            .unwrap();
        let disk = OpenImage {
            path: &path,
            format: None,
            mode: Mode::Keep,
            key: None,
        }
        .open()
        .unwrap()
        .disk;
        for (at, len) in [(0u64, 70_000usize), (5 << 20, 1 << 20), (SIZE - 512, 512)] {
            let data: Vec<u8> = (0..len).map(|i| (i % 253) as u8 + 1).collect();
            disk.write_at(at, &data).unwrap();
        }
        disk.flush().unwrap();
        let mut ours = vec![0; SIZE as usize];
        disk.read_at(0, &mut ours).unwrap();
        drop(disk);

        let info = run("vhdiinfo", &[arg(&path)]);
        assert!(info.contains(kind), "{info}");
        assert!(info.contains(&format!("({SIZE} bytes)")), "{info}");

        let mountpoint = dir.path().join("mnt");
        std::fs::create_dir(&mountpoint).unwrap();
        run("vhdimount", &[arg(&path), arg(&mountpoint)]);
        let mounted = Mounted(&mountpoint);
        let theirs = std::fs::read(mountpoint.join("vhdi1")).unwrap();
        drop(mounted);
        let differs = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        assert_eq!((ours.len(), differs), (theirs.len(), None), "{format}");
    }
}
