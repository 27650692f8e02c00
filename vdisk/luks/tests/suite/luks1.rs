//! The LUKS1 twin: QEMU opens the same ciphertext with it, and mangled twins are refused.

use vdisk_luks::{ErrorKind, Luks1, VolumeKey};
use vdisk_xts::{DataUnit, Xts};

use crate::peers::{Bench, run, succeed};

/// QEMU's words for "this raw ciphertext, keys in that detached header".
fn image(bench: &Bench) -> String {
    let path = |name: &str| bench.path(name).to_str().unwrap().to_owned();
    format!(
        "driver=luks,key-secret=key,file.driver=file,file.filename={},header.driver=file,header.filename={}",
        path("disk"),
        path("twin")
    )
}

fn secret(bench: &Bench, file: &str) -> String {
    format!("secret,id=key,file={}", bench.path(file).to_str().unwrap())
}

#[test]
fn qemu_reads_and_writes_our_ciphertext() {
    let Some(bench) = Bench::with("qemu-io") else {
        return;
    };
    let key = VolumeKey::random().unwrap();
    let cipher = Xts::new(&key.to_xts().unwrap());
    let mut disk = vec![0xab; 1 << 20];
    disk[512 * 1000..].fill(0x17);
    cipher.encrypt(DataUnit::B512, 0, &mut disk);
    bench.write("disk", &disk);
    bench.write("twin", &Luks1::export(&key, b"hunter2", 1000).unwrap());
    bench.write("pass", b"hunter2");
    bench.write("wrong", b"hunter3");

    let info = succeed(
        "qemu-img",
        [
            "info",
            "--object",
            &secret(&bench, "pass"),
            "--image-opts",
            &image(&bench),
        ],
    );
    assert!(
        info.contains("(1048576 bytes)") && info.contains("aes-256"),
        "{info}"
    );
    let commands = [
        "read -P 0xab 0 512000",
        "read -P 0x17 512000 536576",
        "write -P 0x5c 66048 4096",
    ];
    let mut args = vec![
        "--object".to_owned(),
        secret(&bench, "pass"),
        "--image-opts".to_owned(),
        image(&bench),
    ];
    args.extend(
        commands
            .iter()
            .flat_map(|c| ["-c".to_owned(), (*c).to_owned()]),
    );
    let output = succeed("qemu-io", &args);
    assert!(
        !output.contains("failed") && output.contains("wrote 4096/4096"),
        "{output}"
    );

    let mut disk = bench.read("disk");
    cipher.decrypt(DataUnit::B512, 0, &mut disk);
    assert!(disk[66048..66048 + 4096].iter().all(|&b| b == 0x5c));
    assert!(disk[..66048].iter().all(|&b| b == 0xab));

    args[1] = secret(&bench, "wrong");
    assert!(!run("qemu-io", &args).status.success());
}

#[test]
fn a_twin_opens_with_its_passphrase_only() {
    let key = VolumeKey::random().unwrap();
    let bytes = Luks1::export(&key, b"twin", 1000).unwrap();
    let twin = Luks1::parse(&bytes).unwrap();
    assert!(twin.unlock(b"twin").unwrap() == key);
    assert_eq!(
        twin.unlock(b"Twin").unwrap_err().kind(),
        ErrorKind::WrongPassphrase
    );
    assert_eq!(
        twin.slots().map(|slot| slot.iterations).collect::<Vec<_>>(),
        [1000]
    );
    for (passphrase, iterations) in [(&b""[..], 1000), (b"x", 999)] {
        assert_eq!(
            Luks1::export(&key, passphrase, iterations)
                .unwrap_err()
                .kind(),
            ErrorKind::Input
        );
    }
}

#[test]
fn mangled_twins_are_refused_by_field() {
    let good = Luks1::export(&VolumeKey::random().unwrap(), b"twin", 1000).unwrap();
    let kind = |at: usize, new: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        Luks1::parse(&bytes)
            .map(|header| header.unlock(b"twin").map(|_| ()))
            .unwrap_or_else(Err)
            .unwrap_err()
            .kind()
    };
    assert_eq!(kind(0, b"X"), ErrorKind::NotLuks);
    assert_eq!(kind(6, &[0, 2]), ErrorKind::WrongVersion);
    assert_eq!(kind(8, b"twofish"), ErrorKind::Unsupported);
    assert_eq!(kind(40, b"cbc"), ErrorKind::Unsupported);
    assert_eq!(kind(72, b"md5\0"), ErrorKind::Unsupported);
    assert_eq!(kind(72, &[0xff; 32]), ErrorKind::Corrupt);
    assert_eq!(kind(108, &[0xff; 4]), ErrorKind::Unsupported);
    assert_eq!(kind(112, &[0; 20]), ErrorKind::WrongPassphrase);
    assert_eq!(kind(164, &[0; 4]), ErrorKind::Corrupt);
    assert_eq!(kind(164, &[0xff; 4]), ErrorKind::TooCostly);
    assert_eq!(kind(208, &[1; 4]), ErrorKind::Corrupt);
    assert_eq!(kind(208, &0xdeadu32.to_be_bytes()), ErrorKind::NotFound);
    assert_eq!(kind(212, &[0; 4]), ErrorKind::Corrupt);
    assert_eq!(kind(212, &[0xff; 4]), ErrorKind::TooCostly);
    assert_eq!(kind(248, &[0; 4]), ErrorKind::Corrupt);
    assert_eq!(kind(248, &[0xff; 4]), ErrorKind::Truncated);
    assert_eq!(kind(252, &[0; 4]), ErrorKind::Corrupt);
    assert_eq!(kind(252, &[0xff; 4]), ErrorKind::Truncated);
    // The second slot enabled on top of the first.
    let mut bytes = good.clone();
    bytes.copy_within(208..256, 256);
    assert_eq!(Luks1::parse(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
    for len in [0, 5, 6, 7, 591, 592, 4096, 4096 + 255_999] {
        assert!(Luks1::parse(&good[..len]).is_err(), "{len}");
    }
}
