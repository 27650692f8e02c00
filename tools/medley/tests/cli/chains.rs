//! Differencing disks: parents found, told, and opened each with its own key.

use std::os::unix::fs::FileExt;

use crate::common::*;

/// Mounts what `args` say for writing, writes `text` at `offset`, and unmounts.
#[track_caller]
fn write(folder: &Folder, args: &str, offset: u64, text: &[u8]) {
    if !folder.has("m") {
        std::fs::create_dir(folder.path("m")).unwrap();
    }
    folder.ok(&format!("disk mount --keep {args} m"));
    let raw = std::fs::File::options()
        .write(true)
        .open(folder.path("m/disk.raw"));
    raw.unwrap().write_all_at(text, offset).unwrap();
    folder.ok("disk unmount m");
}

/// A plain disk `base.vhd` of 4 MiB and a child with `child` written into it.
fn plain_chain(folder: &Folder) {
    folder.write("plain.raw", &plain(4 << 20));
    folder.ok("disk convert plain.raw base.vhd --format vhd-dynamic");
    folder.ok("disk create child.vhd --parent base.vhd");
    write(folder, "child.vhd", 5000, b"child");
}

/// An encrypted `base.vhd`, and above it `middle.vhd` and `top.vhd`, each under a passphrase of its own.
fn encrypted_chain(folder: &Folder) {
    folder.encrypted("base.vhd");
    folder.write("pw1", b"first\n");
    folder.write("pw2", b"second\n");
    let cheap = CHEAP.join(" ");
    folder.ok(&format!(
        "disk create middle.vhd --parent base.vhd --encrypt --passphrase-file pw1 {cheap}"
    ));
    write(
        folder,
        "middle.vhd --passphrase-file pw1 --parent-passphrase-file base.vhd=pw",
        5000,
        b"middle",
    );
    folder.ok(&format!(
        "disk create top.vhd --parent middle.vhd --encrypt --passphrase-file pw2 {cheap}"
    ));
}

const KEYS: &str = "--passphrase-file pw2 --parent-passphrase-file middle.vhd=pw1 \
                    --parent-passphrase-file base.vhd=pw";

#[test]
fn a_child_keeps_what_is_written_and_its_parent_stays() {
    let folder = Folder::new();
    plain_chain(&folder);
    folder.ok("disk convert child.vhd child.raw --format raw");
    let mut expected = plain(4 << 20);
    expected[5000..5005].copy_from_slice(b"child");
    assert!(folder.read("child.raw") == expected);
    folder.ok("disk convert base.vhd base.raw --format raw");
    assert!(folder.read("base.raw") == plain(4 << 20));
    assert!(folder.is_tidy());

    assert_eq!(
        folder
            .run("disk create c.vhd --parent base.vhd --size 4M")
            .code,
        2
    );
    folder.fails(2, "disk create child.vhd --parent base.vhd");
    folder.fails(5, "disk create c.vhd --parent plain.raw");
    assert_eq!(folder.run("disk create c.vhd").code, 2);
    assert!(!folder.has("c.vhd"));
}

#[test]
fn info_shows_the_whole_chain() {
    let folder = Folder::new();
    encrypted_chain(&folder);
    let info = folder.json("disk info top.vhd");
    let parent = &info["parent"];
    assert_eq!(
        (&info["format"], &parent["name"]),
        (&"vhd-differencing".into(), &"middle.vhd".into())
    );
    assert!(parent["trouble"].is_null(), "{parent}");
    let chain = parent["chain"].as_array().unwrap();
    let name = |index: usize| {
        chain[index]["path"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
    };
    assert_eq!(
        (chain.len(), name(0), name(1)),
        (2, "middle.vhd", "base.vhd")
    );
    assert_eq!(
        (&chain[0]["format"], &chain[1]["format"]),
        (&"vhd-differencing".into(), &"vhd-dynamic".into())
    );
    assert!(
        chain[1]["header"]
            .as_str()
            .unwrap()
            .ends_with("/base.vhd.luks")
    );
    let text = folder.ok("disk info top.vhd");
    assert!(
        text.contains("└─ /") && text.contains("   └─ /") && text.contains("middle.vhd"),
        "{text}"
    );

    // A missing parent is told, not a failure of a command that only looks.
    std::fs::rename(folder.path("middle.vhd"), folder.path("gone.vhd")).unwrap();
    let info = folder.json("disk info top.vhd");
    assert!(
        info["parent"]["trouble"]
            .as_str()
            .unwrap()
            .contains("not there"),
        "{info}"
    );
    assert!(folder.ok("disk info top.vhd").contains("not there"));
    let error = folder.fails(9, "disk decrypt top.vhd out.raw --passphrase-file pw2");
    assert!(
        error.contains("middle.vhd") && error.contains("rebase"),
        "{error}"
    );
}

#[test]
fn every_layer_opens_with_its_own_key() {
    let folder = Folder::new();
    encrypted_chain(&folder);
    write(&folder, &format!("top.vhd {KEYS}"), 9000, b"top");
    folder.ok(&format!("disk decrypt top.vhd top.raw --format raw {KEYS}"));
    let mut expected = plain(4 << 20);
    expected[5000..5006].copy_from_slice(b"middle");
    expected[9000..9003].copy_from_slice(b"top");
    assert!(folder.read("top.raw") == expected);
    for file in ["base.vhd", "middle.vhd", "top.vhd"] {
        let bytes = folder.read(file);
        assert!(
            !contains(&bytes, PLAIN) && !contains(&bytes, b"middle\0\0"),
            "{file}"
        );
    }
    // A server in the background, too.
    let served = folder.json(&format!("disk serve top.vhd --nbd sock --daemon {KEYS}"));
    let pid = served["pid"].as_u64().unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid as i32),
        nix::sys::signal::SIGTERM,
    )
    .unwrap();
    until("the server's end", || !alive(pid));

    // A header that lies elsewhere is named by its layer.
    std::fs::rename(folder.path("base.vhd.luks"), folder.path("elsewhere.luks")).unwrap();
    let args = format!("disk decrypt top.vhd again.raw --format raw {KEYS}");
    let error = folder.fails(4, &args);
    assert!(error.contains("--parent-header base.vhd=PATH"), "{error}");
    folder.ok(&format!("{args} --parent-header base.vhd=elsewhere.luks"));
    assert!(folder.read("again.raw") == expected);
}

#[test]
fn a_wrong_key_of_a_layer_says_which() {
    let folder = Folder::new();
    encrypted_chain(&folder);
    let error = folder.fails(4, "disk decrypt top.vhd o.raw --passphrase-file pw2");
    assert!(
        error.contains("middle.vhd.luks")
            && error.contains("--parent-passphrase-file middle.vhd=PATH"),
        "{error}"
    );
    let wrong = KEYS.replace("base.vhd=pw", "base.vhd=pw1");
    let error = folder.fails(4, &format!("disk decrypt top.vhd o.raw {wrong}"));
    assert!(error.contains("base.vhd.luks"), "{error}");
    let error = folder.fails(
        2,
        &format!("disk decrypt top.vhd o.raw {KEYS} --parent-header x.vhd=h"),
    );
    assert!(
        error.contains("x.vhd") && error.contains("middle.vhd, base.vhd"),
        "{error}"
    );
    let error = folder.run("disk decrypt top.vhd o.raw --parent-header x.vhd");
    assert!(
        error.code == 2 && error.err.contains("PARENT=PATH"),
        "{error:?}"
    );
    let error = folder.fails(2, "disk decrypt base.vhd o.raw --parent-header x.vhd=h");
    assert!(error.contains("no differencing disk"), "{error}");
    assert!(!folder.has("o.raw"));
}

#[test]
fn one_passphrase_may_open_them_all() {
    let folder = Folder::new();
    folder.encrypted("base.vhd");
    let cheap = CHEAP.join(" ");
    let error = folder.fails(2, "disk create c.vhd --parent base.vhd");
    assert!(error.contains("--encrypt"), "{error}");
    folder.ok(&format!(
        "disk create c.vhd --parent base.vhd --encrypt --passphrase-file pw {cheap}"
    ));
    folder.ok("disk decrypt c.vhd c.raw --format raw --passphrase-file pw");
    assert!(folder.read("c.raw") == plain(4 << 20));
    let (base, child) = (folder.read("base.vhd.luks"), folder.read("c.vhd.luks"));
    assert!(base != child, "the child has a key of its own");
}

#[test]
fn a_parent_that_changed_is_refused_unless_forced() {
    let folder = Folder::new();
    plain_chain(&folder);
    // The footer's time is in seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    write(&folder, "base.vhd", 0, b"changed");
    let error = folder.fails(9, "disk convert child.vhd o.raw --format raw");
    assert!(
        error.contains("base.vhd") && error.contains("written to since"),
        "{error}"
    );
    let info = folder.json("disk info child.vhd");
    assert!(
        info["parent"]["trouble"]
            .as_str()
            .unwrap()
            .contains("written to since")
    );
    folder.ok("disk convert child.vhd o.raw --format raw --force-parent");
    assert_eq!(folder.read("o.raw")[..7], *b"changed");
}
