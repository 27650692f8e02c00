//! Upkeep of VHDs in place: resize, compact, commit, rebase.

use std::os::unix::fs::FileExt;

use crate::common::*;

/// Mounts what `args` say for writing, and writes.
#[track_caller]
fn write(folder: &Folder, args: &str, writes: &[(u64, &[u8])]) {
    if !folder.has("m") {
        std::fs::create_dir(folder.path("m")).unwrap();
    }
    folder.ok(&format!("disk mount --keep {args} m"));
    let raw = std::fs::File::options()
        .write(true)
        .open(folder.path("m/disk.raw"))
        .unwrap();
    for (offset, bytes) in writes {
        raw.write_all_at(bytes, *offset).unwrap();
    }
    drop(raw);
    folder.ok("disk unmount m");
}

/// What a plain disk reads as.
#[track_caller]
fn content(folder: &Folder, disk: &str, options: &str) -> Vec<u8> {
    folder.ok(&format!(
        "disk convert {disk} content.raw --format raw {options}"
    ));
    let bytes = folder.read("content.raw");
    std::fs::remove_file(folder.path("content.raw")).unwrap();
    bytes
}

#[test]
fn a_disk_grows_and_shrinks_without_losing_anything_unasked() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    let done = folder.json("disk resize a.vhd --size 8M --passphrase-file pw");
    assert_eq!(
        (&done["before"], &done["after"]),
        (&(4 << 20).into(), &(8 << 20).into())
    );
    folder.ok("disk decrypt a.vhd a.raw --format raw --passphrase-file pw");
    let mut expected = plain(4 << 20);
    expected.resize(8 << 20, 0);
    assert!(folder.read("a.raw") == expected);
    // What was added is empty, what was there is not.
    folder.ok("disk resize a.vhd --size 4M --passphrase-file pw");
    let ran = folder.run("disk resize a.vhd --size 2M --passphrase-file pw");
    assert!(ran.code != 0, "{ran:?}");
    assert_eq!(folder.json("disk info a.vhd")["size"], 4 << 20);
    folder.ok("disk resize a.vhd --size 2M --force --passphrase-file pw");
    std::fs::remove_file(folder.path("a.raw")).unwrap();
    folder.ok("disk decrypt a.vhd a.raw --format raw --passphrase-file pw");
    assert!(folder.read("a.raw") == plain(4 << 20)[..2 << 20]);
    folder.ok("disk check a.vhd");
    assert_eq!(folder.run("disk resize a.vhd --passphrase-file pw").code, 2);
}

#[test]
fn compacting_gives_back_what_is_zero() {
    let folder = Folder::new();
    folder.write("a.raw", &vec![7; 16 << 20]);
    folder.ok("disk convert a.raw a.vhd --format vhd-dynamic");
    let zeros = vec![0; 8 << 20];
    write(&folder, "a.vhd", &[(4 << 20, &zeros)]);
    let before = std::fs::metadata(folder.path("a.vhd")).unwrap().len();
    let done = folder.json("disk compact a.vhd");
    let after = std::fs::metadata(folder.path("a.vhd")).unwrap().len();
    assert_eq!(done["after"], after);
    assert!(
        after <= before && after < 10 << 20,
        "{before} {after} {done}"
    );
    let mut expected = vec![7; 16 << 20];
    expected[4 << 20..12 << 20].fill(0);
    assert!(content(&folder, "a.vhd", "") == expected);
    folder.ok("disk check a.vhd");
}

#[test]
fn a_child_is_committed_under_two_keys() {
    let folder = Folder::new();
    folder.encrypted("base.vhd");
    folder.write("pw1", b"first");
    let cheap = CHEAP.join(" ");
    folder.ok(&format!(
        "disk create c.vhd --parent base.vhd --encrypt --passphrase-file pw1 {cheap}"
    ));
    let keys = "--passphrase-file pw1 --parent-passphrase-file base.vhd=pw";
    write(&folder, &format!("c.vhd {keys}"), &[(5000, b"child")]);
    folder.fails(4, "disk commit c.vhd --passphrase-file pw1");
    let done = folder.json(&format!("disk commit c.vhd {keys}"));
    assert!(done["sectors"].as_u64().unwrap() >= 1, "{done}");
    assert!(
        done["parent"].as_str().unwrap().ends_with("/base.vhd"),
        "{done}"
    );
    let mut expected = plain(4 << 20);
    expected[5000..5005].copy_from_slice(b"child");
    for (disk, keys) in [("base.vhd", "--passphrase-file pw"), ("c.vhd", keys)] {
        folder.ok(&format!(
            "disk decrypt {disk} {disk}.raw --format raw {keys}"
        ));
        assert!(folder.read(&format!("{disk}.raw")) == expected, "{disk}");
    }
    let error = folder.fails(2, "disk commit base.vhd --passphrase-file pw");
    assert!(error.contains("no parent"), "{error}");
}

#[test]
fn a_child_gets_another_parent_and_reads_as_before() {
    let folder = Folder::new();
    folder.write("a.raw", &plain(4 << 20));
    folder.write("b.raw", &vec![9; 4 << 20]);
    for name in ["a", "b"] {
        folder.ok(&format!(
            "disk convert {name}.raw {name}.vhd --format vhd-dynamic"
        ));
    }
    folder.ok("disk create c.vhd --parent a.vhd");
    write(&folder, "c.vhd", &[(5000, b"child")]);
    let before = content(&folder, "c.vhd", "");
    let done = folder.json("disk rebase c.vhd --parent b.vhd");
    assert!(done["sectors"].as_u64().unwrap() > 0, "{done}");
    assert!(content(&folder, "c.vhd", "") == before);
    let chain = &folder.json("disk info c.vhd")["parent"]["chain"];
    assert!(
        chain[0]["path"].as_str().unwrap().ends_with("/b.vhd"),
        "{chain}"
    );

    // A parent that moved: only the name changes.
    folder.ok("disk create d.vhd --parent a.vhd");
    std::fs::create_dir(folder.path("moved")).unwrap();
    std::fs::rename(folder.path("a.vhd"), folder.path("moved/e.vhd")).unwrap();
    folder.fails(9, "disk convert d.vhd x.raw --format raw");
    folder.fails(9, "disk rebase d.vhd --parent moved/e.vhd");
    folder.ok("disk rebase d.vhd --parent moved/e.vhd --name-only");
    assert!(content(&folder, "d.vhd", "") == plain(4 << 20));
    folder.fails(9, "disk rebase d.vhd --parent d.vhd --name-only");
}
