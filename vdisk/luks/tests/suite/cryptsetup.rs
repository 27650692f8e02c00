//! Agreement with cryptsetup, both ways.

use std::path::Path;

use vdisk_luks::{CreateParams, ErrorKind, Hash, Header, Health, Kdf, Luks1, VolumeKey};

use crate::peers::{Bench, run, succeed, words};
use crate::{CHEAP, header};

fn cryptsetup(template: &str, paths: &[&Path]) -> String {
    succeed("cryptsetup", words(template, paths))
}

fn opens(header: &Path, key_file: &Path) -> bool {
    let args = words(
        "open --test-passphrase --key-file {} {}",
        &[key_file, header],
    );
    run("cryptsetup", args).status.success()
}

/// The volume key that cryptsetup finds in a header.
fn dumped_key(header: &Path, key_file: &Path) -> VolumeKey {
    let dump = cryptsetup(
        "luksDump --batch-mode --dump-volume-key --key-file {} {}",
        &[key_file, header],
    );
    let (_, hex) = dump.split_once("MK dump:").unwrap();
    let bytes: Vec<u8> = hex
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    VolumeKey::from_bytes(&bytes).unwrap()
}

/// Has cryptsetup format a detached header with the passphrase `hunter2`.
fn format(bench: &Bench, options: &str) -> Vec<u8> {
    let (key_file, disk) = (
        bench.write("key", b"hunter2"),
        bench.write("disk", &[0; 1 << 20]),
    );
    let _ = std::fs::remove_file(bench.path("theirs"));
    let template = format!(
        "luksFormat --batch-mode -c aes-xts-plain64 -s 512 {options} --key-file {{}} --header {{}} {{}}"
    );
    cryptsetup(&template, &[&key_file, &bench.path("theirs"), &disk]);
    bench.read("theirs")
}

#[test]
fn it_reads_dumps_and_opens_ours() {
    let Some(bench) = Bench::with("cryptsetup") else {
        return;
    };
    let key = VolumeKey::random().unwrap();
    for kdf in [
        Kdf::Argon2id {
            time: 4,
            memory_kib: 1024,
            lanes: 4,
        },
        Kdf::Argon2i {
            time: 4,
            memory_kib: 64,
            lanes: 2,
        },
        Kdf::Pbkdf2 {
            hash: Hash::Sha512,
            iterations: 1000,
        },
    ] {
        let params = CreateParams {
            label: "büro".into(),
            kdf,
            ..CreateParams::default()
        };
        let header = Header::create(&params, &key, b"hunter2").unwrap();
        let file = bench.write("ours", &header.bytes());
        let (right, wrong) = (
            bench.write("key", b"hunter2"),
            bench.write("bad", b"hunter3"),
        );

        let dump = cryptsetup("luksDump {}", &[&file]);
        assert!(
            dump.contains(header.uuid()) && dump.contains("büro"),
            "{dump}"
        );
        assert!(
            dump.contains("sector: 512 [bytes]") && dump.contains("AF stripes: 4000"),
            "{dump}"
        );
        assert!(
            dump.contains("offset: 0 [bytes]\n\tlength: (whole device)"),
            "{dump}"
        );
        assert_eq!(header.bytes().len(), 16 << 20);
        assert!(opens(&file, &right) && !opens(&file, &wrong));
        assert!(dumped_key(&file, &right) == key);
    }
}

#[test]
fn it_edits_ours_and_we_read_on() {
    let Some(bench) = Bench::with("cryptsetup") else {
        return;
    };
    let (mut ours, key) = header(b"one");
    let token = serde_json::json!({"type": "medley", "keyslots": ["0"], "lease": {"until": 9}});
    ours.add_token(token.clone()).unwrap();
    let file = bench.write("ours", &ours.bytes());
    let [one, two, three] = ["one", "two", "three"].map(|p| bench.write(p, p.as_bytes()));

    let cheap = "--pbkdf argon2id --pbkdf-memory 64 --pbkdf-force-iterations 4 --pbkdf-parallel 2";
    let add = format!("luksAddKey --batch-mode {cheap} --key-file {{}} {{}} {{}}");
    cryptsetup(&add, &[&one, &file, &two]);
    let header = Header::parse(&bench.read("ours")).unwrap();
    assert!(header.unlock(b"one").unwrap() == key && header.unlock(b"two").unwrap() == key);
    assert_eq!(header.health(), Health::Good);
    assert_eq!(header.seqid(), ours.seqid() + 1);
    assert_eq!(
        header.slots()[1].kdf,
        Some(Kdf::Argon2id {
            time: 4,
            memory_kib: 64,
            lanes: 2
        })
    );

    let change = format!("luksChangeKey --batch-mode {cheap} --key-file {{}} {{}} {{}}");
    cryptsetup(&change, &[&one, &file, &three]);
    let header = Header::parse(&bench.read("ours")).unwrap();
    assert!(header.unlock(b"three").unwrap() == key);
    assert_eq!(
        header.unlock(b"one").unwrap_err().kind(),
        ErrorKind::WrongPassphrase
    );

    cryptsetup("luksKillSlot --batch-mode {} 1", &[&file]);
    let mut header = Header::parse(&bench.read("ours")).unwrap();
    assert_eq!(
        header.unlock(b"two").unwrap_err().kind(),
        ErrorKind::WrongPassphrase
    );
    assert_eq!(header.token(0), Some(&token));

    // And back: ours edits theirs.
    header.change_key(b"three", b"two", &CHEAP).unwrap();
    header
        .add_key(
            &key,
            b"one",
            &Kdf::Pbkdf2 {
                hash: Hash::Sha256,
                iterations: 1000,
            },
        )
        .unwrap();
    let file = bench.write("ours", &header.bytes());
    assert!(opens(&file, &one) && opens(&file, &two) && !opens(&file, &three));
}

#[test]
fn we_open_theirs() {
    let Some(bench) = Bench::with("cryptsetup") else {
        return;
    };
    for options in [
        "--type luks2 --sector-size 512 --label theirs --pbkdf argon2id --pbkdf-memory 1024 --pbkdf-force-iterations 4 --pbkdf-parallel 3",
        "--type luks2 --sector-size 512 --label theirs --pbkdf argon2i --pbkdf-memory 64 --pbkdf-force-iterations 5 --pbkdf-parallel 1",
        "--type luks2 --sector-size 512 --label theirs --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --hash sha256",
        "--type luks2 --sector-size 512 --label theirs --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --hash sha512",
        "--type luks2 --sector-size 512 --label theirs --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --hash sha1",
        "--type luks2 --sector-size 512 --label theirs --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --luks2-metadata-size 64k --luks2-keyslots-size 1m",
    ] {
        let bytes = format(&bench, options);
        let mut header = Header::parse(&bytes).unwrap();
        assert_eq!(
            (header.label(), header.health()),
            ("theirs", Health::Good),
            "{options}"
        );
        assert_eq!(header.bytes().len(), bytes.len());
        header.check_disk_layout().unwrap();
        let key = header.unlock(b"hunter2").unwrap();
        assert!(
            key == dumped_key(&bench.path("theirs"), &bench.path("key")),
            "{options}"
        );
        assert_eq!(
            header.unlock(b"hunter3").unwrap_err().kind(),
            ErrorKind::WrongPassphrase
        );

        header.add_key(&key, b"another", &CHEAP).unwrap();
        let (file, another) = (
            bench.write("edited", &header.bytes()),
            bench.write("another", b"another"),
        );
        assert!(
            opens(&file, &another) && opens(&file, &bench.path("key")),
            "{options}"
        );
    }
}

#[test]
fn their_other_disks_are_told_apart() {
    let Some(bench) = Bench::with("cryptsetup") else {
        return;
    };
    let cheap = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000";
    let large = Header::parse(&format(
        &bench,
        &format!("--type luks2 --sector-size 4096 {cheap}"),
    ))
    .unwrap();
    assert_eq!(large.segment().unwrap().sector_size, 4096);
    let refused = large.check_disk_layout().unwrap_err();
    assert_eq!(
        (refused.kind(), refused.field()),
        (ErrorKind::Unsupported, "segments.sector_size")
    );
    large.unlock(b"hunter2").unwrap();

    // A later option of the same name wins.
    let short = Header::parse(&format(&bench, &format!("--type luks2 -s 256 {cheap}"))).unwrap();
    let refused = short.unlock(b"hunter2").unwrap_err();
    assert_eq!(
        (refused.kind(), refused.field()),
        (ErrorKind::Unsupported, "keyslots.0")
    );

    let ripemd = format(&bench, &format!("--type luks2 --hash whirlpool {cheap}"));
    assert_eq!(
        Header::parse(&ripemd)
            .unwrap()
            .unlock(b"hunter2")
            .unwrap_err()
            .kind(),
        ErrorKind::Unsupported
    );

    let one = format(&bench, &format!("--type luks1 {cheap}"));
    assert_eq!(vdisk_luks::version(&one), Some(1));
    assert_eq!(
        Header::parse(&one).unwrap_err().kind(),
        ErrorKind::WrongVersion
    );
}

#[test]
fn it_repairs_what_we_leave_to_repair_and_reads_what_we_repaired() {
    let Some(bench) = Bench::with("cryptsetup") else {
        return;
    };
    let (ours, key) = header(b"one");
    let one = bench.write("one", b"one");
    for (at, health) in [(0, Health::PrimaryStale), (16384, Health::SecondaryStale)] {
        let mut bytes = ours.bytes();
        bytes[at..at + 16384].fill(0);
        let damaged = Header::parse(&bytes).unwrap();
        assert_eq!(damaged.health(), health);
        assert!(damaged.unlock(b"one").unwrap() == key);
        for step in damaged.update_plan() {
            if let vdisk_luks::Step::Write {
                offset,
                bytes: part,
            } = step
            {
                bytes[offset as usize..][..part.len()].copy_from_slice(&part);
            }
        }
        assert_eq!(Header::parse(&bytes).unwrap().health(), Health::Good);
        assert_eq!(bytes[32768..], ours.bytes()[32768..]);
        assert!(opens(&bench.write("repaired", &bytes), &one));
    }
}

#[test]
fn luks1_goes_both_ways() {
    let Some(bench) = Bench::with("cryptsetup") else {
        return;
    };
    for hash in ["sha1", "sha256", "sha512"] {
        let theirs = format(
            &bench,
            &format!("--type luks1 --pbkdf-force-iterations 1000 --hash {hash}"),
        );
        let header = Luks1::parse(&theirs).unwrap();
        assert_eq!((header.hash().name(), header.payload_offset()), (hash, 0));
        let key = header.unlock(b"hunter2").unwrap();
        assert!(key == dumped_key(&bench.path("theirs"), &bench.path("key")));
        assert_eq!(
            header.unlock(b"hunter3").unwrap_err().kind(),
            ErrorKind::WrongPassphrase
        );

        let file = bench.write("twin", &Luks1::export(&key, b"twin", 1000).unwrap());
        let (twin, other) = (bench.write("pass", b"twin"), bench.write("other", b"other"));
        assert!(opens(&file, &twin) && !opens(&file, &other));
        assert!(dumped_key(&file, &twin) == key);
        cryptsetup(
            "luksAddKey --batch-mode --pbkdf-force-iterations 1000 --key-file {} {} {}",
            &[&twin, &file, &other],
        );
        let edited = Luks1::parse(&bench.read("twin")).unwrap();
        assert_eq!(edited.slots().count(), 2);
        assert!(edited.unlock(b"other").unwrap() == key);
    }
}

#[test]
fn full_disk_luks1_by_cryptsetup_opens() {
    let Some(bench) = Bench::with("cryptsetup") else {
        return;
    };
    let (key_file, disk) = (
        bench.write("key", b"hunter2"),
        bench.write("disk", &[0; 8 << 20]),
    );
    cryptsetup(
        "luksFormat --batch-mode --type luks1 -c aes-xts-plain64 -s 512 --pbkdf-force-iterations 1000 --key-file {} {}",
        &[&key_file, &disk],
    );
    let header = Luks1::parse(&bench.read("disk")).unwrap();
    assert_eq!(header.payload_offset(), 2 << 20);
    assert!(header.unlock(b"hunter2").unwrap() == dumped_key(&disk, &key_file));
}
