//! Durable sessions: found again, bounded, committed, reverted.

use std::os::unix::fs::FileExt;

use nix::sys::signal::Signal;

use crate::common::*;

/// Mounts `a.vhd` as `options` say, writes, reads `len` bytes at 0, and unmounts.
fn session(folder: &Folder, options: &str, text: Option<&[u8]>, len: usize) -> Vec<u8> {
    if !folder.has("m") {
        std::fs::create_dir(folder.path("m")).unwrap();
    }
    folder.ok(&format!(
        "disk mount a.vhd m --passphrase-file pw {options}"
    ));
    let raw = std::fs::File::options()
        .read(true)
        .write(text.is_some())
        .open(folder.path("m/disk.raw"))
        .unwrap();
    if let Some(text) = text {
        raw.write_all_at(text, 0).unwrap();
    }
    let mut bytes = vec![0; len];
    raw.read_exact_at(&mut bytes, 0).unwrap();
    drop(raw);
    folder.ok("disk unmount m");
    bytes
}

#[test]
fn a_durable_session_is_there_again_until_it_is_reverted() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    let base = folder.read("a.vhd");
    assert_eq!(
        session(&folder, "--overlay a.overlay", Some(b"changed"), 7),
        b"changed"
    );
    assert_eq!(session(&folder, "--overlay a.overlay", None, 7), b"changed");
    assert_eq!(
        session(&folder, "", None, 7),
        PLAIN[..7],
        "the disk itself stays"
    );
    assert!(folder.read("a.vhd") == base);
    assert!(
        !contains(&folder.read("a.overlay"), b"changed"),
        "it is encrypted"
    );

    let info = folder.json("disk overlay info a.overlay");
    assert_eq!(
        (&info["state"], &info["base"]["size"]),
        (&"clean".into(), &(4 << 20).into())
    );
    assert!(
        info["used"].as_u64().unwrap() >= 16 << 10 && info["quota"].is_null(),
        "{info}"
    );
    assert!(folder.ok("disk overlay info a.overlay").contains("closed"));
    assert_eq!(
        folder.json("disk overlay check a.overlay")["verdict"],
        "sound"
    );

    assert_eq!(
        folder.json("disk overlay revert a.overlay")["verb"],
        "reverted"
    );
    assert!(!folder.has("a.overlay") && folder.read("a.vhd") == base);
    assert_eq!(session(&folder, "--overlay a.overlay", None, 7), PLAIN[..7]);
    assert!(folder.is_tidy());
}

#[test]
fn a_commit_moves_an_overlay_into_its_disk() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    session(&folder, "--overlay a.overlay", Some(b"changed"), 7);
    folder.write("wrong", b"wrong");
    folder.fails(
        4,
        "disk overlay commit a.vhd a.overlay --passphrase-file wrong",
    );
    let done = folder.json("disk overlay commit a.vhd a.overlay --passphrase-file pw");
    assert!(
        done["verb"] == "committed" && done["written"].as_u64().unwrap() >= 512,
        "{done}"
    );
    assert!(!folder.has("a.overlay"));
    assert_eq!(session(&folder, "", None, 7), b"changed");
    folder.fails(
        1,
        "disk overlay commit a.vhd a.overlay --passphrase-file pw",
    );
}

#[test]
fn what_is_no_overlay_or_is_in_use_is_left_alone() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    let base = folder.read("a.vhd");
    for verb in ["info", "check", "revert"] {
        let error = folder.fails(5, &format!("disk overlay {verb} a.vhd"));
        assert!(error.contains("a.vhd"), "{error}");
    }
    assert!(folder.read("a.vhd") == base);
    let (mut server, _) = start(
        &folder,
        "disk serve a.vhd --nbd sock --overlay a.overlay --passphrase-file pw",
    );
    folder.fails(6, "disk overlay revert a.overlay");
    folder.fails(
        6,
        "disk serve a.vhd --nbd sock2 --overlay a.overlay --passphrase-file pw",
    );
    assert_eq!(folder.json("disk overlay info a.overlay")["state"], "open");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.code(), 0);
    for args in [
        "--overlay o --keep",
        "--overlay o --revertible",
        "--overlay o --overlay-dir tmp",
        "--quota 1M",
        "--quota 1M --keep",
        "--force-base --revertible",
        "--force-base",
        "--force-base --read-only",
    ] {
        let ran = folder.run(&format!(
            "disk serve a.vhd --nbd s {args} --passphrase-file pw"
        ));
        assert_eq!(ran.code, 2, "{args}: {ran:?}");
    }
    assert!(!folder.has("o"));
}

#[test]
fn a_quota_fills_the_disk() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    std::fs::create_dir(folder.path("m")).unwrap();
    for options in [
        "--revertible --quota 64K",
        "--overlay a.overlay --quota 64K",
    ] {
        folder.ok(&format!(
            "disk mount a.vhd m --passphrase-file pw {options}"
        ));
        let raw = std::fs::File::options()
            .write(true)
            .open(folder.path("m/disk.raw"))
            .unwrap();
        let errors: Vec<_> = (0..8)
            .filter_map(|i| raw.write_all_at(&[1; 16 << 10], i << 14).err())
            .map(|error| error.raw_os_error())
            .collect();
        assert_eq!(errors, [Some(nix::libc::ENOSPC); 4], "{options}");
        drop(raw);
        folder.ok("disk unmount m");
    }
    assert_eq!(
        folder.json("disk overlay info a.overlay")["quota"],
        64 << 10
    );
}
