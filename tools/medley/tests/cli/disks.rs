//! Disks: made, told about, copied, checked, refused.

use crate::common::*;

#[test]
fn new_disks_are_what_was_asked_for() {
    let folder = Folder::new();
    let cheap = CHEAP.join(" ");
    for format in ["raw", "vhd-fixed", "vhd-dynamic"] {
        let plain = format!("plain.{format}");
        let made = folder.json(&format!("disk create {plain} --size 5M --format {format}"));
        assert_eq!(
            (&made["size"], &made["encryption"]),
            (&(5 << 20).into(), &().into())
        );
        let info = folder.json(&format!("disk info {plain}"));
        assert_eq!(
            (info["format"].as_str(), info["size"].as_u64()),
            (Some(format), Some(5 << 20))
        );
        assert!(info["encryption"].is_null());

        let secret = format!("secret.{format}");
        folder.ok(&format!(
            "disk create {secret} --size 5M --format {format} --encrypt --passphrase-file pw {cheap}"
        ));
        let info = folder.json(&format!("disk info {secret}"));
        let header = &info["encryption"]["header"];
        // As many lanes as this machine has use for.
        let kdf = header["slots"][0]["kdf"].as_str().unwrap();
        assert!(
            kdf.starts_with("Argon2id, 64 KiB, 1 pass, ") && kdf.contains(" lane"),
            "{kdf}"
        );
        if format != "raw" {
            assert_eq!(info["encryption"]["named_by_disk"], header["uuid"]);
        }
        folder.ok(&format!(
            "disk decrypt {secret} {format}.out --format raw --passphrase-file pw"
        ));
        assert_eq!(
            folder.read(&format!("{format}.out")),
            vec![0; 5 << 20],
            "{format}"
        );
        folder.ok(&format!("disk check {secret}"));
    }
    assert!(
        folder
            .ok("disk info secret.vhd-dynamic")
            .contains("AES-256-XTS")
    );
    assert_eq!(folder.ok("disk create quiet.vhd --size 1M --quiet"), "");
}

#[test]
fn a_disk_comes_back_through_every_format() {
    let folder = Folder::new();
    let bytes = plain((5 << 20) + 512);
    folder.write("a.raw", &bytes);
    folder.ok("disk convert a.raw b.vhd --format vhd-dynamic");
    folder.ok("disk convert b.vhd c.vhd --format vhd-fixed");
    folder.ok("disk convert c.vhd d.raw --format raw");
    assert!(folder.read("d.raw") == bytes);
}

#[test]
fn encryption_hides_and_gives_back_everything() {
    let folder = Folder::new();
    let bytes = plain(5 << 20);
    folder.write("a.raw", &bytes);
    folder.write("other", b"another");
    let cheap = CHEAP.join(" ");
    for format in ["vhd-dynamic", "vhd-fixed", "raw"] {
        let name = format!("{format}.disk");
        folder.ok(&format!(
            "disk encrypt a.raw {name} --format {format} --passphrase-file pw {cheap}"
        ));
        assert!(
            !contains(&folder.read(&name), PLAIN),
            "{format} shows the plaintext"
        );
        folder.ok(&format!(
            "disk decrypt {name} {format}.raw --format raw --passphrase-file pw"
        ));
        assert!(folder.read(&format!("{format}.raw")) == bytes, "{format}");
    }
    // Under a new key, with another passphrase.
    folder.ok(&format!(
        "disk encrypt vhd-dynamic.disk again.vhd --passphrase-file pw --new-passphrase-file other {cheap}"
    ));
    folder.fails(
        4,
        "disk decrypt again.vhd no.raw --format raw --passphrase-file pw",
    );
    folder.ok("disk decrypt again.vhd again.raw --format raw --passphrase-file other");
    assert!(folder.read("again.raw") == bytes);
}

#[test]
fn dense_disks_have_every_sector() {
    let folder = Folder::new();
    // Only the last block holds data.
    let mut bytes = vec![0; 6 << 20];
    bytes[(6 << 20) - 4096..].fill(7);
    folder.write("a.raw", &bytes);
    let cheap = CHEAP.join(" ");
    let encrypt = format!("disk encrypt a.raw --passphrase-file pw {cheap}");
    folder.ok(&format!("{encrypt} sparse.vhd"));
    folder.ok(&format!("{encrypt} dense.vhd --dense"));
    folder.ok(&format!(
        "disk create empty.vhd --size 6M --encrypt --dense --passphrase-file pw {cheap}"
    ));
    assert!(folder.read("sparse.vhd").len() < 3 << 20);
    for (name, expected) in [("dense", &bytes), ("empty", &vec![0; 6 << 20])] {
        let file = folder.read(&format!("{name}.vhd"));
        // Three blocks, and the sector bitmap before each is full.
        assert!(file.len() > 6 << 20, "{name}: {}", file.len());
        let full = file
            .chunks(512)
            .filter(|sector| sector.iter().all(|byte| *byte == 0xff));
        assert_eq!(full.count(), 3, "{name}");
        folder.ok(&format!(
            "disk decrypt {name}.vhd {name}.raw --format raw --passphrase-file pw"
        ));
        assert!(folder.read(&format!("{name}.raw")) == *expected, "{name}");
    }
}

#[test]
fn a_wrong_passphrase_names_the_header() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    folder.write("wrong", b"not it");
    let error = folder.fails(4, "disk decrypt a.vhd b.raw --passphrase-file wrong");
    assert!(error.contains("a.vhd.luks"), "{error}");
    assert!(!folder.has("b.raw"));
}

#[test]
fn a_disk_without_its_header_or_with_another_is_refused() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    folder.encrypted("b.vhd");
    let error = folder.fails(
        4,
        "disk decrypt a.vhd c.raw --header b.vhd.luks --passphrase-file pw",
    );
    assert!(
        error.contains("a.vhd") && error.contains("header"),
        "{error}"
    );
    std::fs::rename(folder.path("a.vhd.luks"), folder.path("elsewhere")).unwrap();
    let error = folder.fails(4, "disk decrypt a.vhd c.raw --passphrase-file pw");
    assert!(error.contains("--header"), "{error}");
    assert!(folder.ok("disk info a.vhd").contains("not beside the disk"));
    folder.fails(5, "disk check a.vhd");
    folder.ok("disk decrypt a.vhd c.raw --header elsewhere --passphrase-file pw");
}

#[test]
fn outputs_are_never_replaced() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    folder.write("there", b"precious");
    let before = folder.names();
    for args in [
        "disk create there --size 1M",
        "disk create there --size 1M --encrypt --passphrase-file pw",
        "disk create new.vhd --size 1M --encrypt --header there --passphrase-file pw",
        "disk encrypt a.vhd there --passphrase-file pw --new-passphrase-file pw",
        "disk decrypt a.vhd there --passphrase-file pw",
        "disk convert a.vhd there --format raw",
        "disk key export-luks1 a.vhd --output there --passphrase-file pw",
    ] {
        let error = folder.fails(2, args);
        assert!(error.contains("there"), "{error}");
    }
    assert_eq!(folder.read("there"), b"precious");
    assert_eq!(folder.names(), before);
}

#[test]
fn convert_says_what_to_do_about_encrypted_disks() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    let error = folder.fails(2, "disk convert a.vhd b.raw --format raw");
    assert!(
        error.contains("decrypt") && error.contains("encrypt"),
        "{error}"
    );
    folder.write("p.raw", &[1; 4096]);
    let error = folder.fails(2, "disk decrypt p.raw b.raw");
    assert!(error.contains("not encrypted"), "{error}");
}

#[test]
fn damage_is_found_and_graded() {
    let folder = Folder::new();
    folder.write("a.raw", &plain(8 << 20));
    folder.ok("disk convert a.raw a.vhd --format vhd-dynamic");
    assert_eq!(folder.json("disk check a.vhd")["verdict"], "sound");
    let good = folder.read("a.vhd");

    // The copy of the footer at the start mends itself.
    let mut bytes = good.clone();
    bytes[100] ^= 1;
    folder.write("copy.vhd", &bytes);
    let checked = folder.json("disk check copy.vhd");
    assert_eq!(
        (&checked["verdict"], &checked["findings"][0]["severity"]),
        (&"mends".into(), &"mends".into())
    );
    assert!(folder.read("copy.vhd") == bytes, "check changed the file");
    let ran = folder.run("disk check copy.vhd --repair --json");
    let repaired: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (ran.code, &repaired["verdict"]),
        (10, &"repaired".into()),
        "{ran:?}"
    );
    assert_eq!(repaired["repaired"][0], "copy-damaged");
    assert!(folder.read("copy.vhd") == good, "the copy is what it was");
    folder.ok("disk check copy.vhd --repair");

    // Two blocks at one place do not.
    let mut bytes = good.clone();
    bytes.copy_within(1536..1540, 1540);
    folder.write("overlap.vhd", &bytes);
    let ran = folder.run("disk check overlap.vhd --json");
    assert_eq!(ran.code, 5, "{ran:?}");
    let checked: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(checked["findings"][0]["severity"], "damage");
    let ran = folder.run("disk check overlap.vhd --repair");
    assert!(
        ran.code == 5 && ran.out.contains("cannot be repaired"),
        "{ran:?}"
    );
    assert!(folder.read("overlap.vhd") == bytes);

    // Cut off in the middle of a block: readable in part, damaged for sure.
    folder.write("cut.vhd", &good[..good.len() / 2]);
    folder.fails(
        5,
        "disk convert cut.vhd x.vhd --format raw --input-format vhd-fixed",
    );
    assert_eq!(folder.run("disk check cut.vhd").code, 5);
    let ran = folder.run("disk convert cut.vhd x.vhd --format raw");
    assert!(
        ran.code == 5 && ran.err.contains("cut.vhd") && !folder.has("x.vhd"),
        "{ran:?}"
    );
    // What is gone is given up only when that is said.
    let cut = folder.read("cut.vhd");
    assert_eq!(folder.run("disk check cut.vhd --accept-loss").code, 2);
    let ran = folder.run("disk check cut.vhd --repair");
    assert!(
        ran.code == 5 && ran.out.contains("--accept-loss"),
        "{ran:?}"
    );
    folder.write("cut2.vhd", &cut);
    assert_eq!(
        folder
            .run("disk check cut2.vhd --repair --accept-loss")
            .code,
        10
    );
    folder.ok("disk check cut2.vhd");
    folder.ok("disk convert cut2.vhd y.raw --format raw");
    // Without its table there is nothing to read.
    folder.write("stump.vhd", &good[..1536]);
    folder.fails(5, "disk check stump.vhd");
    folder.fails(5, "disk convert stump.vhd x.vhd --format raw");
    assert!(!folder.has("x.vhd"));
    // A fixed VHD whose end is missing looks like a raw disk of odd length.
    folder.write("odd.raw", &[1; 1000]);
    assert_eq!(folder.run("disk check odd.raw").code, 5);
}

#[test]
fn a_disk_that_nobody_takes_for_a_vhd_any_more_is_not_sound() {
    let folder = Folder::new();
    let found = |args: &str| {
        folder.fails(5, args);
        let checked: serde_json::Value =
            serde_json::from_str(&folder.run(&format!("{args} --json")).out).unwrap();
        assert_eq!(checked["verdict"], "damaged");
        checked["findings"][0]["damage"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    folder.ok("disk create a.vhd --size 4M --format vhd-dynamic");
    let good = folder.read("a.vhd");
    let end = good.len() - 512;
    let mut lost = good.clone();
    lost[..512].fill(0);
    lost[end..].fill(0);
    folder.write("lost.vhd", &lost);
    folder.write("lost.img", &lost);
    assert_eq!(found("disk check lost.vhd"), "footers-lost");
    assert_eq!(
        found("disk check lost.img --input-format vhd-dynamic"),
        "footers-lost"
    );
    // Nothing but its name or its user can tell that it was one.
    folder.ok("disk check lost.img");
    folder.ok("disk check lost.vhd --input-format raw");

    folder.ok("disk create f.vhd --size 4M --format vhd-fixed");
    let fixed = folder.read("f.vhd");
    folder.write("cut.VHD", &fixed[..fixed.len() - 1024]);
    folder.write("cut.img", &fixed[..fixed.len() - 1024]);
    assert_eq!(found("disk check cut.VHD"), "footers-lost");
    assert_eq!(
        found("disk check cut.img --input-format vhd-fixed"),
        "footers-lost"
    );

    let mut strange = good;
    for footer in [0, end] {
        let footer = &mut strange[footer..footer + 512];
        footer[63] = 9;
        footer[64..68].fill(0);
        let sum = !footer.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        footer[64..68].copy_from_slice(&sum.to_be_bytes());
    }
    folder.write("strange.vhd", &strange);
    assert_eq!(found("disk check strange.vhd"), "unknown-kind");
    assert_eq!(
        found("disk check strange.vhd --input-format vhd-dynamic"),
        "unknown-kind"
    );
}

#[test]
fn a_damaged_header_copy_is_reported_and_still_opens() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    let mut header = folder.read("a.vhd.luks");
    header[200] ^= 1;
    folder.write("a.vhd.luks", &header);
    assert_eq!(folder.json("disk check a.vhd")["verdict"], "mends");
    assert!(
        folder
            .ok("disk info a.vhd")
            .contains("the first copy is damaged")
    );
    folder.ok("disk decrypt a.vhd b.raw --passphrase-file pw");
    let ran = folder.run("disk check a.vhd --repair --json");
    assert!(ran.code == 10 && ran.out.contains("header-copy"), "{ran:?}");
    assert_eq!(folder.json("disk check a.vhd")["verdict"], "sound");
    header.fill(7);
    folder.write("a.vhd.luks", &header);
    assert_eq!(folder.run("disk check a.vhd").code, 5);
    let error = folder.fails(5, "disk decrypt a.vhd c.raw --passphrase-file pw");
    assert!(error.contains("a.vhd.luks"), "{error}");
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let folder = Folder::new();
    for size in ["0", "100", "3T", "lots", "-1", "99999999999999999999"] {
        let ran = folder.run(&format!("disk create a.vhd --size={size}"));
        assert_eq!(ran.code, 2, "{size}: {ran:?}");
    }
    assert!(folder.names().is_empty());
}
