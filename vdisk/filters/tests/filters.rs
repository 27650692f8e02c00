//! Filters in front of a disk in memory: what comes through, what does not, and in which order.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vdisk::memory::MemoryDisk;
use vdisk::{BlockDevice, Disk, ErrorKind, SECTOR};
use vdisk_filters::{Filter, ReadOnly, Stats, stack};

const SIZE: usize = 1 << 20;

fn fault(spec: &str) -> Filter {
    Filter::Fault(spec.parse().unwrap())
}

fn delay(spec: &str) -> Filter {
    Filter::Delay(spec.parse().unwrap())
}

/// A disk of `0xAA`, and the same behind filters.
fn disks(filters: &[Filter]) -> (Disk, Disk) {
    let below = Disk::new(MemoryDisk::with(vec![0xAA; SIZE], false));
    (below.clone(), stack(below, filters))
}

fn bytes(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.size() as usize];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Which of so many writes fail, in ones and zeros.
fn failures(disk: &Disk, count: u64) -> String {
    let write = |i: u64| disk.write_at(i * SECTOR, &[1; SECTOR as usize]).is_err();
    (0..count)
        .map(|i| if write(i) { '1' } else { '0' })
        .collect()
}

#[test]
fn faults_come_when_they_should() {
    for (spec, expected) in [
        ("write", "1111111111"),
        ("write:every=3", "0010010010"),
        ("write:nth=3", "0010000000"),
        ("write:after=3", "0001111111"),
        ("write:after=0", "1111111111"),
        ("write:share=0%", "0000000000"),
        ("write:share=100%", "1111111111"),
        ("write:nth=3,cut", "0011111111"),
        ("write:range=1K-2K", "0011000000"),
        ("write:range=1K-,nth=2", "0001000000"),
        ("read+flush+zero+discard+map", "0000000000"),
        ("any:nth=10", "0000000001"),
    ] {
        assert_eq!(failures(&disks(&[fault(spec)]).1, 10), expected, "{spec}");
    }
}

#[test]
fn a_time_comes_too() {
    let (_, disk) = disks(&[fault("write:after=100ms")]);
    assert_eq!(failures(&disk, 2), "00");
    std::thread::sleep(Duration::from_millis(120));
    assert_eq!(failures(&disk, 2), "11");
}

#[test]
fn chance_repeats_itself_under_a_seed() {
    let throw = |spec| failures(&disks(&[fault(spec)]).1, 1000);
    let once = throw("write:share=10%,seed=3");
    assert_eq!(once, throw("write:share=10%,seed=3"));
    assert_ne!(once, throw("write:share=10%,seed=4"));
    let count = once.matches('1').count();
    assert!((60..140).contains(&count), "{count}");
}

#[test]
fn errors_are_those_that_were_asked_for_and_say_what_they_are() {
    for (name, kind) in [
        ("io", ErrorKind::Io),
        ("nospace", ErrorKind::NoSpace),
        ("readonly", ErrorKind::ReadOnly),
        ("busy", ErrorKind::Busy),
        ("unsupported", ErrorKind::Unsupported),
    ] {
        let (below, disk) = disks(&[fault(&format!("any:error={name}"))]);
        let error = disk.write_at(512, &[0; 512]).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(
            error.to_string(),
            "injected fault: write number 1 (at offset 512)"
        );
        for error in [
            disk.read_at(0, &mut [0; 512]),
            disk.write_zeroes(0, 512),
            disk.discard(0, 512),
            disk.flush(),
            disk.extents(0, 512, &mut |_| {}),
        ] {
            assert_eq!(error.unwrap_err().kind(), kind);
        }
        assert!(
            bytes(&below) == vec![0xAA; SIZE],
            "a failed request did something"
        );
    }
}

#[test]
fn a_short_write_does_its_first_half() {
    let (below, disk) = disks(&[fault("write:short")]);
    assert!(disk.write_at(0, &[1; 4096]).is_err());
    assert_eq!(bytes(&below)[..4096], [[1; 2048], [0xAA; 2048]].concat());
    assert!(disk.write_at(8192, &[1; 512]).is_err());
    assert_eq!(
        bytes(&below)[8192..][..512],
        [0xAA; 512],
        "a sector is whole or not at all"
    );
}

#[test]
fn a_torn_write_does_some_sectors_and_not_others() {
    let (below, disk) = disks(&[fault("write:torn")]);
    for (index, sectors) in [2, 3, 8, 256].into_iter().enumerate() {
        let (offset, len) = (index * 256 * 1024, sectors * 512);
        assert!(disk.write_at(offset as u64, &vec![1; len]).is_err());
        let after = bytes(&below);
        let done: Vec<bool> = after[offset..][..len]
            .chunks(512)
            .map(|sector| {
                assert!(
                    sector == [1; 512] || sector == [0xAA; 512],
                    "a sector is mixed"
                );
                sector[0] == 1
            })
            .collect();
        assert!(done.contains(&true) && done.contains(&false), "{done:?}");
    }
}

#[test]
fn a_lie_tells_nobody() {
    let (below, disk) = disks(&[
        fault("write:nth=1,error=none"),
        fault("read:nth=2,torn,error=none"),
    ]);
    disk.write_at(0, &[1; 4096]).unwrap();
    assert_eq!(bytes(&below)[..4096], [0xAA; 4096], "the write was lost");
    let mut buf = [7; 4096];
    disk.read_at(0, &mut buf).unwrap();
    assert_eq!(buf, [0xAA; 4096]);
    buf.fill(7);
    disk.read_at(0, &mut buf).unwrap();
    assert!(buf.contains(&0) && buf.contains(&0xAA) && !buf.contains(&7));

    let (_, disk) = disks(&[fault("flush+map:error=none")]);
    disk.flush().unwrap();
    let mut extents = Vec::new();
    disk.extents(0, 4096, &mut |extent| {
        extents.push((extent.offset, extent.len))
    })
    .unwrap();
    assert_eq!(extents, [(0, 4096)]);
}

#[test]
fn huge_ranges_are_torn_in_few_pieces() {
    /// Nothing but a size, and a count of calls.
    struct Huge(vdisk::DeviceInfo, std::sync::atomic::AtomicU64);
    impl vdisk::BlockDevice for Huge {
        fn info(&self) -> &vdisk::DeviceInfo {
            &self.0
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> vdisk::Result<()> {
            Ok(())
        }
        fn write_at(&self, _: u64, _: &[u8]) -> vdisk::Result<()> {
            Ok(())
        }
        fn write_zeroes(&self, _: u64, _: u64) -> vdisk::Result<()> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        }
        fn discard(&self, _: u64, _: u64) -> vdisk::Result<()> {
            Ok(())
        }
        fn flush(&self) -> vdisk::Result<()> {
            Ok(())
        }
        fn extents(&self, _: u64, _: u64, _: &mut dyn FnMut(vdisk::Extent)) -> vdisk::Result<()> {
            Ok(())
        }
    }
    let info = vdisk::DeviceInfo {
        size: 1 << 60,
        ..vdisk::BlockDevice::info(&MemoryDisk::new(1)).clone()
    };
    let huge = Arc::new(Huge(info, Default::default()));
    let disk = stack(Disk::from_arc(huge.clone()), &[fault("zero:torn")]);
    assert!(disk.write_zeroes(0, 1 << 60).is_err());
    let calls = huge.1.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..4096).contains(&calls), "{calls}");
}

#[test]
fn after_a_cut_all_is_dead() {
    let (below, disk) = disks(&[fault("write:nth=2,torn,cut")]);
    disk.write_at(0, &[1; 512]).unwrap();
    assert!(disk.write_at(4096, &[1; 4096]).is_err());
    for error in [
        disk.read_at(0, &mut [0; 512]),
        disk.write_at(0, &[2; 512]),
        disk.flush(),
        disk.extents(0, 512, &mut |_| {}),
    ] {
        let error = error.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Io && error.to_string().contains("power"),
            "{error}"
        );
    }
    assert_eq!(bytes(&below)[..512], [1; 512]);
}

#[test]
fn order_matters_and_statistics_say_what_passes_where() {
    let (above, under) = (Arc::new(Stats::default()), Arc::new(Stats::default()));
    let (_, disk) = disks(&[
        Filter::Stats(above.clone()),
        delay("read=5ms"),
        fault("read:every=2"),
        Filter::Stats(under.clone()),
    ]);
    let results = [(); 4].map(|()| disk.read_at(0, &mut [0; 1024]).is_ok());
    assert_eq!(results, [true, false, true, false]);
    let (above, under) = (above.summary().read, under.summary().read);
    assert_eq!((above.requests, above.errors, above.bytes), (4, 2, 2048));
    assert!(above.p50_us >= 5000.0, "{above:?}");
    // A fault reads what it hides.
    assert_eq!((under.errors, under.requests), (0, 4));
    assert!(under.mean_us < 5000.0, "{under:?}");
}

#[test]
fn delays_of_several_clients_pass_side_by_side() {
    let (_, disk) = disks(&[delay("read=50ms")]);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| disk.read_at(0, &mut [0; 512]).unwrap());
        }
    });
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_millis(50) && took < Duration::from_millis(350),
        "{took:?}"
    );
}

#[test]
fn a_protected_disk_is_read_only() {
    let (below, disk) = disks(&[Filter::ReadOnly]);
    assert!(disk.info().read_only && !below.info().read_only);
    let kinds = [
        disk.write_at(0, &[0; 512]),
        disk.write_zeroes(0, 512),
        disk.discard(0, 512),
    ]
    .map(|result| result.unwrap_err().kind());
    assert_eq!(kinds, [ErrorKind::ReadOnly; 3]);
    disk.flush().unwrap();
    assert!(bytes(&disk) == vec![0xAA; SIZE]);
}

/// [`Disk`] asks first whether it may write; whoever holds the device itself is refused all the same.
#[test]
fn a_protected_device_refuses_by_itself() {
    let inner = Arc::new(MemoryDisk::with(vec![0xAA; SIZE], false));
    let device = ReadOnly::new(inner.clone());
    for (refused, offset) in [
        (device.write_at(512, &[0; 512]), 512),
        (device.write_zeroes(1024, 512), 1024),
        (device.discard(2048, 512), 2048),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnly);
        assert_eq!(
            error.to_string(),
            format!("the readonly filter lets no write through (at offset {offset})")
        );
    }
    let (mut through, mut beside) = (vec![0; SIZE], vec![0; SIZE]);
    device.read_at(0, &mut through).unwrap();
    inner.read_at(0, &mut beside).unwrap();
    assert!(through == beside && beside == vec![0xAA; SIZE]);
    let map = |device: &dyn BlockDevice| {
        let mut found = Vec::new();
        let note = &mut |extent| found.push(format!("{extent:?}"));
        device.extents(0, SIZE as u64, note).unwrap();
        found
    };
    assert_eq!(map(&device), map(&*inner));
    device.flush().unwrap();
}

/// Every kind of request comes through a stack as what it was, on the bytes it was for.
#[test]
fn every_request_passes_as_itself_and_is_counted_as_itself() {
    let stats = Arc::new(Stats::default());
    let (below, disk) = disks(&[Filter::Stats(stats.clone()), delay("any=0ms")]);
    let mut model = vec![0xAA; SIZE];
    disk.write_at(512, &[1; 1024]).unwrap();
    model[512..][..1024].fill(1);
    disk.write_zeroes(4096, 8192).unwrap();
    model[4096..][..8192].fill(0);
    disk.discard(65536, 4096).unwrap();
    let mut discarded = vec![0; 4096];
    below.read_at(65536, &mut discarded).unwrap();
    model[65536..][..4096].copy_from_slice(&discarded);
    assert!(discarded == [0; 4096] || discarded == [0xAA; 4096]);
    disk.flush().unwrap();
    let mut mapped = 0;
    let found = &mut |extent: vdisk::Extent| mapped += extent.len;
    disk.extents(0, SIZE as u64, found).unwrap();
    assert_eq!(mapped, SIZE as u64);
    let mut read = vec![0; SIZE];
    disk.read_at(0, &mut read).unwrap();
    assert!(read == model && bytes(&below) == model);

    let told = stats.summary();
    let counts = [
        &told.read,
        &told.write,
        &told.zero,
        &told.discard,
        &told.flush,
        &told.map,
    ]
    .map(|op| (op.requests, op.bytes, op.errors));
    let size = SIZE as u64;
    let expected = [
        (1, size, 0),
        (1, 1024, 0),
        (1, 8192, 0),
        (1, 4096, 0),
        (1, 0, 0),
        (1, size, 0),
    ];
    assert_eq!(counts, expected);
}

#[test]
fn no_filter_is_no_filter() {
    let (below, disk) = disks(&[]);
    assert!(
        std::ptr::eq(below.info(), disk.info()),
        "an empty stack is the disk itself"
    );
}

proptest! {
    /// Filters that never strike are invisible.
    #[test]
    fn filters_that_do_nothing_change_nothing(
        writes in prop::collection::vec((0..SIZE as u64, 1..5000usize, any::<u8>()), 1..20)
    ) {
        let idle = [
            fault("any:share=0%"),
            delay("read+write=0ms"),
            Filter::Stats(Arc::default()),
            fault("any:after=1000000000"),
        ];
        let (below, disk) = disks(&idle);
        let mut model = vec![0xAA; SIZE];
        for (at, len, byte) in writes {
            let len = len.min(SIZE - at as usize);
            disk.write_at(at, &vec![byte; len]).unwrap();
            model[at as usize..][..len].fill(byte);
        }
        disk.flush().unwrap();
        prop_assert!(bytes(&disk) == model && bytes(&below) == model);
    }
}
