//! The specifications of `--fault` and `--delay`, and faults as they say, on a small disk.

use std::sync::{Arc, Mutex, PoisonError};

use vdisk::memory::MemoryDisk;
use vdisk::{Disk, SECTOR};
use vdisk_filters::{DelaySpec, FaultSpec, Filter, stack};

use super::Target;

pub const TARGET: Target = Target {
    name: "filter_spec",
    about: "text of --fault and --delay: read or refused, and what is read can be used",
    max_len: 200,
    run,
};

const SECTORS: u64 = 64;

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<DelaySpec>() {
        // Not run: it would take the time that it says.
        Ok(spec) => assert_eq!(text.parse::<DelaySpec>().as_ref(), Ok(&spec)),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
    match text.parse::<FaultSpec>() {
        Ok(spec) => fail(spec),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// Whatever fails, nothing outside of what was written may change.
fn fail(spec: FaultSpec) {
    let disk = Disk::new(MemoryDisk::new(SECTORS));
    let faulty = stack(disk.clone(), &[Filter::Fault(spec)]);
    let mut expected = vec![0; (SECTORS * SECTOR) as usize];
    for (n, (at, len)) in [(0, 4), (3, 1), (10, 20), (SECTORS - 1, 1)]
        .into_iter()
        .enumerate()
    {
        let range = (at * SECTOR) as usize..((at + len) * SECTOR) as usize;
        let bytes = vec![n as u8 + 1; range.len()];
        if faulty.write_at(at * SECTOR, &bytes).is_ok() {
            let mut found = vec![0; bytes.len()];
            let _ = faulty.read_at(at * SECTOR, &mut found);
        }
        let mut now = vec![0; expected.len()];
        disk.read_at(0, &mut now).expect("memory does not fail");
        assert_eq!(now[..range.start], expected[..range.start]);
        assert_eq!(now[range.end..], expected[range.end..]);
        expected = now;
    }
    let seen = Arc::new(Mutex::new(0));
    let count = |extent: vdisk::Extent| {
        *seen.lock().unwrap_or_else(PoisonError::into_inner) += extent.len;
    };
    if faulty.extents(0, disk.size(), &mut { count }).is_ok() {
        assert_eq!(
            *seen.lock().unwrap_or_else(PoisonError::into_inner),
            disk.size()
        );
    }
    let _ = faulty.write_zeroes(512, 1024);
    let _ = faulty.discard(0, 4096);
    let _ = faulty.flush();
}
