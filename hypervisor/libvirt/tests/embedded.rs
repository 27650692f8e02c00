//! The suite on libvirt inside this process.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Kept, on_one_processor};
use medley_conformance::{Fixture, Orphan};
use medley_hypervisor::Hypervisor;
use medley_libvirt::Libvirt;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Names the folder for a process that makes a machine and dies: it is the one of its parent.
const ROOT: &str = "MEDLEY_LIBVIRT_ROOT";

fn root() -> TempDir {
    let root = tempfile::Builder::new()
        .prefix("medley-lv")
        .tempdir()
        .unwrap();
    std::os::unix::fs::symlink(common::cache("embedded"), root.path().join("cache")).unwrap();
    root
}

fn embedded() -> (Kept<Option<TempDir>>, Fixture) {
    let made = std::env::var_os(ROOT).is_none().then(root);
    let root = match &made {
        Some(made) => made.path().to_path_buf(),
        None => PathBuf::from(std::env::var_os(ROOT).unwrap()),
    };
    common::with_libvirts_user(&root);
    let embedded = Kept::new(on_one_processor(|| Libvirt::embedded(&root)).unwrap(), made);
    // One process has the folder at a time.
    (embedded, Fixture::tiny().alone())
}

medley_conformance::tests! {
    #[ignore = "boots guests: cargo xtask test --only hypervisor"]
    embedded
}

#[test]
#[ignore = "boots guests: cargo xtask test --only hypervisor"]
fn a_machine_whose_maker_is_gone_is_found_and_ended() {
    let root = root();
    let fixture = Fixture::tiny()
        .with_maker(concat!(module_path!(), "::maker"))
        .with_maker_environment(ROOT, root.path().to_str().unwrap());
    let orphan = Orphan::leave(&fixture).unwrap();
    assert!(orphan.lives());
    common::with_libvirts_user(root.path());
    let libvirt = on_one_processor(|| Libvirt::embedded(root.path())).unwrap();
    assert!(!libvirt.capabilities().dies_with_maker);
    assert_eq!(libvirt.end_orphans().unwrap(), ["conformance"]);
    orphan.gone(Duration::from_secs(10)).unwrap();
    assert!(libvirt.end_orphans().unwrap().is_empty());
}
