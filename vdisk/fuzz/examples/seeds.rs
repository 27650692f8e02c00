//! Makes the seeds: `cargo run -p vdisk-fuzz --example seeds -- FOLDER`. Images are made by our own code
//! and, where it is installed, by `qemu-img`; then taken to the parts that a target takes.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use uuid::Uuid;
use vdisk::overlay::{Base, OpenOverlay, OverlayOptions};
use vdisk::stack::{Stack, StackedLayer};
use vdisk::store::{MemoryStore, Sharing};
use vdisk::vhd::{self, Footer, Kind, NewParent};
use vdisk::{Disk, SECTOR};
use vdisk_luks::{CreateParams, Hash, Header, Kdf, Luks1, VolumeKey};

/// Where seeds go.
struct Corpus(PathBuf);

impl Corpus {
    fn put(&self, target: &str, name: &str, parts: &[&[u8]]) {
        let dir = self.0.join(target);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(name), parts.concat()).unwrap();
    }
}

fn main() {
    let to = std::env::args_os()
        .nth(1)
        .expect("the folder that seeds go to");
    let corpus = Corpus(to.into());
    let work = tempfile::tempdir().unwrap();
    vhds(&corpus, work.path());
    operations(&corpus);
    luks(&corpus);
    nbd(&corpus);
    overlays(&corpus, work.path());
    vhost(&corpus);
    for (name, text) in [
        ("delay", "read=2ms,jitter=1ms,write+flush=10ms,seed=7"),
        (
            "fault",
            "write+zero:every=3,range=4K-1M,short,error=nospace,seed=9",
        ),
        ("torn", "write:nth=2,torn,cut"),
        ("share", "read:share=50%,after=30"),
        ("after", "flush:after=500ms,error=none"),
    ] {
        corpus.put("filter_spec", name, &[text.as_bytes()]);
    }
}

/// The parts of a growing image that `vhd_open` puts together.
fn parts(image: &[u8]) -> Vec<u8> {
    let mut parts = vec![0, 0x40, 0];
    parts.extend(&image[..88]);
    parts.extend(&image[512..1536]);
    parts.extend(&image[1536..image.len().min(1536 + 2048)]);
    while parts.last() == Some(&0) {
        parts.pop();
    }
    parts
}

fn vhds(corpus: &Corpus, work: &Path) {
    let image = |kind, size, written: &[u64]| {
        let store = Arc::new(MemoryStore::default());
        vhd::create(&*store, kind, size, None).unwrap();
        let layer = vhd::open(store.clone(), false).unwrap().into_layer();
        let stack = Stack::new(vec![StackedLayer::new(layer, None)], false, "seed").unwrap();
        let disk = Disk::new(stack);
        for lba in written {
            disk.write_at(lba * SECTOR, &[*lba as u8 + 1; 512]).unwrap();
        }
        disk.flush().unwrap();
        drop(disk);
        store.contents()
    };
    let dynamic = image(Kind::Dynamic, 5 << 20, &[0, 9000]);
    corpus.put("vhd_open", "dynamic", &[&parts(&dynamic)]);
    corpus.put("vhd_check", "dynamic", &[&parts(&dynamic)]);
    let empty = image(Kind::Dynamic, 1 << 30, &[]);
    corpus.put("vhd_open", "dynamic-empty", &[&parts(&empty)]);
    corpus.put(
        "vhd_open",
        "dynamic-whole",
        &[&[1], &empty[..empty.len().min(5000)]],
    );
    let fixed = image(Kind::Fixed, 3 * SECTOR, &[1]);
    corpus.put("vhd_open", "fixed-whole", &[&[1], &fixed]);
    corpus.put(
        "vhd_open",
        "fixed-short-footer",
        &[&[1], &fixed[..fixed.len() - 1]],
    );

    let parent = Footer {
        uuid: Uuid::from_u128(0x4d45_444c_4559_5041_5245_4e54_0000_0001),
        timestamp: 1,
        ..vhd::read_footer(&MemoryStore::new(dynamic))
            .unwrap()
            .unwrap()
    };
    let child = MemoryStore::default();
    let link = NewParent {
        footer: &parent,
        path: Path::new("/disks/parent.vhd"),
        child_folder: Path::new("/disks"),
    };
    vhd::create_child(&child, &link, None).unwrap();
    corpus.put("vhd_check", "child", &[&parts(&child.contents())]);
    corpus.put("vhd_open", "child", &[&parts(&child.contents())]);

    for (name, options) in [
        ("qemu-dynamic", "subformat=dynamic"),
        ("qemu-exact", "subformat=dynamic,force_size=on"),
    ] {
        let path = work.join(name);
        let mut qemu = Command::new("qemu-img");
        qemu.args(["create", "-q", "-f", "vpc", "-o", options])
            .arg(&path)
            .arg("33M");
        match qemu.status() {
            Ok(status) if status.success() => {
                corpus.put("vhd_open", name, &[&parts(&std::fs::read(&path).unwrap())]);
            }
            _ => eprintln!("no qemu-img: `{name}` is not made"),
        }
    }
}

/// One operation of the models: kind, place, length.
fn op(kind: u8, place: u16, len: u8) -> [u8; 4] {
    let [low, high] = place.to_le_bytes();
    [kind, low, high, len]
}

fn operations(corpus: &Corpus) {
    let all: Vec<u8> = (0..30)
        .flat_map(|n| op(n, u16::from(n) * 2100, n * 7))
        .collect();
    let growing: Vec<u8> = [
        op(0, 0, 3),
        op(1, 0x8000, 0xf2),
        op(6, 0, 0),
        op(4, 0x8000, 0xff),
        op(9, 0, 0),
        op(0, 0x8000, 1),
    ]
    .concat();
    for flags in [0u8, 1, 2, 3, 4, 8, 64, 65, 128, 129, 192] {
        corpus.put("vhd_ops", &format!("all-{flags}"), &[&[flags], &all]);
        corpus.put("stack_ops", &format!("all-{flags}"), &[&[flags], &all]);
    }
    for flags in [0u8, 1] {
        corpus.put(
            "vhd_ops",
            &format!("growing-{flags}"),
            &[&[flags], &growing],
        );
        corpus.put(
            "stack_ops",
            &format!("growing-{flags}"),
            &[&[flags], &growing],
        );
    }
}

fn luks(corpus: &Corpus) {
    let mut bytes = [3; 64];
    bytes[0] = 4;
    let key = VolumeKey::from_bytes(&bytes).unwrap();
    let json = |kdf| {
        let params = CreateParams {
            label: "fuzz".into(),
            uuid: Some(Uuid::from_u128(5)),
            kdf,
            copy_size: 16 << 10,
            keyslots_size: 252 << 10,
        };
        let image = Header::create(&params, &key, b"fuzz").unwrap().bytes();
        let area = &image[4096..16 << 10];
        area[..area.iter().position(|b| *b == 0).unwrap()].to_vec()
    };
    let pbkdf2 = json(Kdf::Pbkdf2 {
        hash: Hash::Sha256,
        iterations: 1000,
    });
    let argon2 = json(Kdf::Argon2id {
        time: 1,
        memory_kib: 64,
        lanes: 1,
    });
    corpus.put("luks2_header", "unlock", &[&[16, 0, 0]]);
    corpus.put("luks2_header", "edit", &[&[32, 0, 0]]);
    corpus.put("luks2_header", "seqid", &[&[40, 1, 23, 0, 9, 0]]);
    corpus.put(
        "luks2_header",
        "splice",
        &[&[48, 0, 1, 90, 0, 3, 4, b'1', b'2', b'3', b'4']],
    );
    corpus.put("luks2_header", "text-pbkdf2", &[&[33, 0], &pbkdf2]);
    corpus.put("luks2_header", "text-argon2", &[&[49, 0], &argon2]);
    let token = br#""tokens":{"0":{"type":"medley","keyslots":["0"]}}"#;
    let with_token = String::from_utf8(pbkdf2).unwrap();
    let with_token = with_token.replace(r#""tokens":{}"#, std::str::from_utf8(token).unwrap());
    corpus.put(
        "luks2_header",
        "text-token",
        &[&[33, 0], with_token.as_bytes()],
    );

    let luks1 = Luks1::export(&key, b"fuzz", 1000).unwrap();
    corpus.put("luks1_header", "good", &[&[0, 0]]);
    corpus.put("luks1_header", "unlock", &[&[4, 0]]);
    corpus.put("luks1_header", "raw", &[&[1], &luks1[..592]]);
    corpus.put("luks1_header", "cut", &[&[2, 0, 100, 0]]);
    corpus.put("luks1_header", "changed", &[&[4, 1, 44, 0, 4, 0, 0, 0, 1]]);
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u32;
    [
        b"IHAVEOPT",
        &number.to_be_bytes()[..],
        &len.to_be_bytes(),
        data,
    ]
    .concat()
}

fn request(flags: u16, kind: u16, offset: u64, len: u32, payload: &[u8]) -> Vec<u8> {
    [
        &0x2560_9513u32.to_be_bytes()[..],
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &[7; 8],
        &offset.to_be_bytes(),
        &len.to_be_bytes(),
        payload,
    ]
    .concat()
}

fn nbd(corpus: &Corpus) {
    let flags = 3u32.to_be_bytes();
    let context = [
        &[0, 0, 0, 4][..],
        b"disk",
        &[0, 0, 0, 1, 0, 0, 0, 15],
        b"base:allocation",
    ]
    .concat();
    let go = [&[0, 0, 0, 4][..], b"disk", &[0, 2, 0, 1, 0, 3]].concat();
    let talk = [
        &flags[..],
        &option(8, b""),
        &option(9, &context),
        &option(10, &context),
        &option(6, &go),
        &option(3, b""),
        &option(7, &go),
    ]
    .concat();
    corpus.put("nbd_negotiate", "whole", &[&talk]);
    corpus.put(
        "nbd_negotiate",
        "export-name",
        &[&flags, &option(1, b"disk")],
    );
    corpus.put("nbd_negotiate", "abort", &[&flags, &option(2, b"")]);
    corpus.put(
        "nbd_negotiate",
        "unknown",
        &[
            &flags,
            &option(5, b"tls"),
            &option(99, b"?"),
            &option(1, b"other"),
        ],
    );
    let requests = [
        request(0, 1, 512, 1024, &[5; 1024]),
        request(0, 0, 0, 4096, b""),
        request(1, 6, 4096, 4096, b""),
        request(0, 3, 0, 0, b""),
        request(0, 4, 0, 8192, b""),
        request(8, 7, 0, 49152, b""),
        request(4, 0, 100, 700, b""),
        request(0, 0, 1 << 40, 512, b""),
        request(0, 2, 0, 0, b""),
    ]
    .concat();
    for how in [0, 1, 3] {
        corpus.put("nbd", &format!("requests-{how}"), &[&[how], &requests]);
    }
    corpus.put("nbd", "whole", &[&[4], &talk, &requests]);
    corpus.put(
        "nbd",
        "export-name",
        &[&[4], &flags, &option(1, b"disk"), &requests],
    );
    corpus.put("nbd", "cut", &[&[3], &requests[..300]]);
}

fn overlays(corpus: &Corpus, work: &Path) {
    for (name, sectors, suspend) in [("clean", 3_333, false), ("suspended", 70_000, true)] {
        let path = work.join(name);
        let options = OverlayOptions::default();
        let open = OpenOverlay {
            path: &path,
            base: Base {
                id: Uuid::from_u128(77),
                sectors,
                file_len: sectors * SECTOR,
                modified: 1_000,
            },
            base_key: None,
            sharing: Sharing::Exclusive,
            options: &options,
        };
        let (overlay, _) = open.open().unwrap();
        let stack = Stack::new(vec![StackedLayer::plain(overlay.clone())], false, "seed").unwrap();
        let disk = Disk::new(stack);
        disk.write_at(0, &[1; 40 << 10]).unwrap();
        disk.write_zeroes(1 << 20, 32 << 10).unwrap();
        disk.flush().unwrap();
        if suspend {
            overlay.suspend([9; 32]).unwrap();
        }
        drop((disk, overlay));
        let bytes = std::fs::read(&path).unwrap();
        let copy = match bytes[4096..].starts_with(b"MEDLEYOV") && bytes[4096 + 16] > bytes[16] {
            true => &bytes[4096..],
            false => &bytes[..],
        };
        let mut seed = copy[..212].to_vec();
        let words: Vec<_> = bytes[8192..12288]
            .chunks(8)
            .enumerate()
            .filter(|(_, word)| **word != [0; 8])
            .take(20)
            .collect();
        seed.extend([5, words.len() as u8]);
        for (n, word) in words {
            seed.extend((n as u16).to_le_bytes());
            seed.extend(word);
        }
        for n in 0..10u8 {
            seed.extend(op(n, u16::from(n) * 40, n * 9));
        }
        for flags in [0u8, 4, 12, 20, 32] {
            corpus.put(
                "overlay_file",
                &format!("{name}-{flags}"),
                &[&[flags], &seed],
            );
        }
    }
}

fn vhost(corpus: &Corpus) {
    // One chain per request: head, data, status; each is offered in turn.
    let mut memory = vec![0; 1024];
    let mut descriptor = |at: usize, address: u64, len: u32, flags: u16, next: u16| {
        memory[at * 16..][..8].copy_from_slice(&address.to_le_bytes());
        memory[at * 16 + 8..][..4].copy_from_slice(&len.to_le_bytes());
        memory[at * 16 + 12..][..2].copy_from_slice(&flags.to_le_bytes());
        memory[at * 16 + 14..][..2].copy_from_slice(&next.to_le_bytes());
    };
    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    let requests: [(u32, u64, u32, u16); 5] = [
        (1, 2, 1024, 0),     // write
        (0, 2, 1024, WRITE), // read
        (4, 0, 0, 0),        // flush
        (8, 0, 20, WRITE),   // get the serial
        (13, 0, 16, 0),      // write zeroes
    ];
    for (n, (_, _, len, write)) in requests.iter().enumerate() {
        let first = n as u16 * 3;
        descriptor(n * 3, 600 + n as u64 * 16, 16, NEXT, first + 1);
        descriptor(
            n * 3 + 1,
            2048 + n as u64 * 1024,
            *len,
            NEXT | write,
            first + 2,
        );
        descriptor(n * 3 + 2, 1000 + n as u64, 1, WRITE, 0);
    }
    memory[258..260].copy_from_slice(&(requests.len() as u16).to_le_bytes());
    for (n, (kind, sector, ..)) in requests.iter().enumerate() {
        memory[260 + n * 2..][..2].copy_from_slice(&(n as u16 * 3).to_le_bytes());
        memory[600 + n * 16..][..4].copy_from_slice(&kind.to_le_bytes());
        memory[608 + n * 16..][..8].copy_from_slice(&sector.to_le_bytes());
    }
    corpus.put("vhost_queue", "five", &[&[0], &memory]);
    corpus.put("vhost_queue", "five-events", &[&[1], &memory]);
    let free = [
        &16u16.to_le_bytes()[..],
        &0u64.to_le_bytes(),
        &256u64.to_le_bytes(),
        &320u64.to_le_bytes(),
    ]
    .concat();
    corpus.put("vhost_queue", "free", &[&[2], &free, &memory]);

    let message =
        |request: u8, payload: &[u8]| [&[request, 8, payload.len() as u8], payload].concat();
    let u64s = |n: u64| n.to_le_bytes().to_vec();
    let state = |index: u32, n: u32| [index.to_le_bytes(), n.to_le_bytes()].concat();
    let talk = [
        message(1, b""),
        message(2, &u64s(1 << 30 | 1 << 32)),
        message(15, b""),
        message(16, &u64s(1 | 1 << 3 | 1 << 9)),
        message(3, b""),
        message(17, b""),
        message(
            24,
            &[
                &0u32.to_le_bytes()[..],
                &60u32.to_le_bytes(),
                &0u32.to_le_bytes(),
                &[0; 60],
            ]
            .concat(),
        ),
        message(8, &state(0, 16)),
        message(10, &state(0, 0)),
        message(
            9,
            &[
                &state(0, 0)[..],
                &u64s(4096),
                &u64s(8192),
                &u64s(12288),
                &u64s(0),
            ]
            .concat(),
        ),
        message(18, &state(0, 1)),
        message(11, &state(0, 0)),
        message(36, b""),
    ]
    .concat();
    corpus.put("vhost_user", "talk", &[&[0], &talk]);
    corpus.put(
        "vhost_user",
        "raw",
        &[
            &[1],
            &1u32.to_le_bytes(),
            &1u32.to_le_bytes(),
            &0u32.to_le_bytes(),
        ],
    );
}
