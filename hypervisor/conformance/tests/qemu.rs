//! The suite on QEMU, with the tiny guest.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use medley_conformance::Fixture;
use medley_hypervisor::qemu::Qemu;

fn qemu() -> (Qemu, Fixture) {
    (Qemu::find().unwrap(), Fixture::tiny())
}

medley_conformance::tests! {
    #[ignore = "boots guests: cargo xtask test --only hypervisor"]
    qemu
}
