//! Passphrases: where they come from, and what they open.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::common::*;

#[test]
fn passphrases_come_from_files_descriptors_and_pipes() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    folder.ok("disk decrypt a.vhd 1.raw --passphrase-file pw");

    let piped = |args: &str| {
        let mut child = folder
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"secret").unwrap();
        child.wait().unwrap().code()
    };
    assert_eq!(piped("disk decrypt a.vhd 2.raw --passphrase-fd 0"), Some(0));
    assert_eq!(
        piped("disk decrypt a.vhd 3.raw --passphrase-file -"),
        Some(0)
    );

    let shell = |script: &str| {
        let program = env!("CARGO_BIN_EXE_medley");
        let script = script.replace("medley", program);
        let status = Command::new("sh")
            .arg("-c")
            .arg(script)
            .current_dir(folder.path(""))
            .status();
        status.unwrap().code()
    };
    assert_eq!(
        shell("medley -q disk decrypt a.vhd 4.raw --passphrase-fd 7 7< pw"),
        Some(0)
    );
    assert_eq!(
        shell("medley -q disk decrypt a.vhd 5.raw --passphrase-fd 7 2>&-"),
        Some(2)
    );
    assert!(!folder.has("5.raw"));
}

#[test]
fn without_any_and_without_a_terminal_the_remedy_is_told() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    // In a session of its own it has no terminal.
    let mut command = Command::new("setsid");
    command
        .arg("-w")
        .arg(env!("CARGO_BIN_EXE_medley"))
        .args(["disk", "decrypt", "a.vhd", "b.raw"]);
    let output = command
        .current_dir(folder.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--passphrase-fd"));
}

#[test]
fn empty_and_missing_passphrases_are_refused() {
    let folder = Folder::new();
    folder.write("empty", b"\n");
    folder.fails(
        2,
        "disk create a.vhd --size 1M --encrypt --passphrase-file empty",
    );
    folder.fails(
        1,
        "disk create a.vhd --size 1M --encrypt --passphrase-file nowhere",
    );
    assert_eq!(folder.names(), ["empty"]);
}

#[test]
fn keys_are_added_changed_listed_and_removed() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    folder.write("two", b"second");
    folder.write("three", b"third");
    let cheap = CHEAP.join(" ");
    let opens = |name: &str| {
        let code = folder
            .run(&format!(
                "disk decrypt a.vhd t.raw --passphrase-file {name}"
            ))
            .code;
        let _ = std::fs::remove_file(folder.path("t.raw"));
        code == 0
    };
    let added = folder.json(&format!(
        "disk key add a.vhd --passphrase-file pw --new-passphrase-file two {cheap}"
    ));
    assert_eq!(added["slot"], 1);
    assert!(opens("pw") && opens("two"));
    folder.ok(&format!(
        "disk key change a.vhd --passphrase-file two --new-passphrase-file three {cheap}"
    ));
    assert!(opens("three") && !opens("two"));
    assert_eq!(
        folder.json("disk key list a.vhd")["slots"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    folder.fails(2, "disk key remove a.vhd --slot 1 --passphrase-file three");
    folder.fails(4, "disk key remove a.vhd --slot 7 --passphrase-file pw");
    folder.fails(4, "disk key remove a.vhd --passphrase-file two");
    folder.ok("disk key remove a.vhd --slot 1 --passphrase-file pw");
    assert!(opens("pw") && !opens("three"));
    let error = folder.fails(4, "disk key remove a.vhd --passphrase-file pw");
    assert!(error.contains("last"), "{error}");
    assert!(opens("pw"));
    assert_eq!(folder.run("disk key list --header a.vhd.luks").code, 0);
    folder.fails(1, "disk key list nowhere.vhd");
    assert_eq!(folder.run("disk key list").code, 2);
}

#[test]
fn cryptsetup_opens_our_headers() {
    if skipped("MEDLEY_SKIP_PEERS") {
        return;
    }
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    folder.ok("disk key export-luks1 a.vhd --iterations 1000 --passphrase-file pw");
    folder.write("key", b"secret");
    for (kind, header) in [("luks2", "a.vhd.luks"), ("luks1", "a.vhd.luks1")] {
        let status = Command::new("cryptsetup")
            .args([
                "open",
                "--test-passphrase",
                "--type",
                kind,
                "--key-file",
                "key",
                "--header",
                header,
                "a.vhd",
            ])
            .current_dir(folder.path(""))
            .status()
            .expect("cryptsetup is needed; set MEDLEY_SKIP_PEERS=1 to do without");
        assert!(status.success(), "{kind}");
    }
}

#[test]
fn a_twin_follows_the_passphrases() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    folder.write("two", b"second");
    let cheap = CHEAP.join(" ");
    folder.ok("disk key export-luks1 a.vhd --iterations 1000 --passphrase-file pw");
    let twin = folder.read("a.vhd.luks1");
    let added = folder.json(&format!(
        "disk key add a.vhd --passphrase-file pw --new-passphrase-file two {cheap}"
    ));
    assert_eq!(added["twins"][0]["follows"], true, "{added}");
    assert!(folder.read("a.vhd.luks1") != twin);
    let tokens = folder.json("disk key token list a.vhd");
    assert_eq!(tokens["tokens"].as_array().unwrap().len(), 1);

    // One that is gone is a warning, also for quiet people: it may lie elsewhere.
    std::fs::remove_file(folder.path("a.vhd.luks1")).unwrap();
    let ran = folder.run("disk key remove a.vhd --slot 1 --passphrase-file pw");
    assert!(ran.code == 0 && ran.err.contains("a.vhd.luks1"), "{ran:?}");
    folder.ok("disk key token remove a.vhd --token 0");
    let added = folder.json(&format!(
        "disk key add a.vhd --passphrase-file pw --new-passphrase-file two {cheap}"
    ));
    assert_eq!(added["twins"].as_array().unwrap().len(), 0);
}

#[test]
fn tokens_are_carried_for_others() {
    let folder = Folder::new();
    folder.encrypted("a.vhd");
    folder.write(
        "t.json",
        br#"{"type": "org.example", "keyslots": ["0"], "until": "2027-01-01"}"#,
    );
    let added = folder.json("disk key token add a.vhd --file t.json");
    assert_eq!(added["token"], 0);
    let listed = folder.json("disk key token list a.vhd");
    assert_eq!(listed["tokens"][0]["token"]["until"], "2027-01-01");
    assert!(
        folder
            .ok("disk key token list a.vhd")
            .contains("org.example")
    );
    folder.write("bad.json", b"{");
    folder.write("list.json", b"[]");
    for file in ["bad.json", "list.json"] {
        folder.fails(2, &format!("disk key token add a.vhd --file {file}"));
    }
    folder.fails(1, "disk key token add a.vhd --file nowhere");
    folder.fails(4, "disk key token remove a.vhd --token 7");
    folder.ok("disk key token remove a.vhd --token 0");
    assert_eq!(
        folder.json("disk key token list a.vhd")["tokens"],
        serde_json::json!([])
    );
    folder.ok("disk decrypt a.vhd b.raw --passphrase-file pw");
}
