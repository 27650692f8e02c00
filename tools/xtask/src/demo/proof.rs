//! Proof that a file holds none of another's plaintext: every sector and some telling texts of the plain
//! disk are looked for in the encrypted one.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};

const SECTOR: usize = 512;

/// Texts that every Debian disk holds somewhere.
const TEXTS: [&[u8]; 5] = [
    b"root:x:0:0:",
    b"PRETTY_NAME=",
    b"/lib64/ld-linux-x86-64.so.2",
    b"GNU C Library",
    b"busybox",
];

/// What was looked for, and what was found.
#[derive(Serialize)]
pub struct Plaintext {
    pub sectors_looked_for: usize,
    pub sectors_found: usize,
    pub texts_looked_for: usize,
    pub texts_found: usize,
}

/// Looks for the contents of `plain`, an unencrypted VHD, in `encrypted`.
pub fn search(plain: &Path, encrypted: &Path) -> Result<Plaintext> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut sectors = HashSet::new();
    let in_plain = scan(plain, &TEXTS, |sector| {
        // A sector of one repeated byte says nothing about its disk, and the VHD's own structures are
        // no part of it.
        let structure = sector.starts_with(b"cxsparse") || sector.starts_with(b"conectix");
        if !structure && sector.iter().any(|b| *b != sector[0]) {
            sectors.insert(hasher.hash_one(sector));
        }
    })?;
    ensure!(
        sectors.len() > 1000 && in_plain.len() >= 2,
        "{} does not look like a guest's disk: the search would prove nothing",
        plain.display()
    );
    let mut found = 0;
    let in_encrypted = scan(encrypted, &TEXTS, |sector| {
        found += usize::from(sectors.contains(&hasher.hash_one(sector)))
    })?;
    Ok(Plaintext {
        sectors_looked_for: sectors.len(),
        sectors_found: found,
        texts_looked_for: in_plain.len(),
        texts_found: in_plain.intersection(&in_encrypted).count(),
    })
}

/// How many of these texts, of at most 64 bytes, are in a file, at any byte.
pub fn texts_in(path: &Path, texts: &[&[u8]]) -> Result<usize> {
    scan(path, texts, |_| {}).map(|found| found.len())
}

/// Calls `each` with every sector of a file; returns which of the texts are in it, at any byte.
fn scan(path: &Path, wanted: &[&[u8]], mut each: impl FnMut(&[u8])) -> Result<HashSet<usize>> {
    let mut file = open(path)?;
    // A window's end is kept before the next one, so that a text across the seam is found too.
    const WINDOW: usize = 1 << 20;
    const KEPT: usize = 64;
    let mut window = vec![0; KEPT + WINDOW];
    let mut texts = HashSet::new();
    loop {
        let n = read_full(&mut file, &mut window[KEPT..])?;
        if n == 0 {
            return Ok(texts);
        }
        for sector in window[KEPT..KEPT + n].chunks_exact(SECTOR) {
            each(sector);
        }
        for (i, text) in wanted.iter().enumerate() {
            if !texts.contains(&i) && memchr::memmem::find(&window[..KEPT + n], text).is_some() {
                texts.insert(i);
            }
        }
        window.copy_within(n..n + KEPT, 0);
    }
}

/// SHA-256 of a file, in hex.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = open(path)?;
    let mut hash = Sha256::new();
    let mut buf = vec![0; 1 << 20];
    loop {
        let n = read_full(&mut file, &mut buf)?;
        if n == 0 {
            return Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect());
        }
        hash.update(&buf[..n]);
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::new(File::open(path).with_context(|| {
        format!("cannot open {}", path.display())
    })?))
}

fn read_full(file: &mut impl Read, buf: &mut [u8]) -> Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match file.read(&mut buf[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of a few thousand different sectors with texts in it, one across a window's seam.
    fn disk() -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..5000u32)
            .flat_map(|sector| {
                (0..SECTOR as u32).map(move |i| (sector.wrapping_mul(2654435761) >> (i % 24)) as u8)
            })
            .collect();
        bytes[100..111].copy_from_slice(b"root:x:0:0:");
        bytes[(1 << 20) - 4..(1 << 20) + 8].copy_from_slice(b"PRETTY_NAME=");
        bytes
    }

    fn searched(hide: impl Fn(&mut Vec<u8>)) -> Plaintext {
        let dir = tempfile::tempdir().unwrap();
        let (plain, other) = (dir.path().join("plain"), dir.path().join("other"));
        std::fs::write(&plain, disk()).unwrap();
        let mut bytes: Vec<u8> = disk().iter().map(|b| b ^ 0xA5).collect();
        hide(&mut bytes);
        std::fs::write(&other, bytes).unwrap();
        search(&plain, &other).unwrap()
    }

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let clean = searched(|_| {});
        assert_eq!(
            (
                clean.sectors_found,
                clean.texts_found,
                clean.texts_looked_for
            ),
            (0, 0, 2)
        );
        let sector = searched(|bytes| {
            bytes[512 * 77..512 * 78].copy_from_slice(&disk()[512 * 99..512 * 100])
        });
        assert_eq!(sector.sectors_found, 1);
        let text =
            searched(|bytes| bytes[(2 << 20) - 3..(2 << 20) + 8].copy_from_slice(b"root:x:0:0:"));
        assert_eq!(text.texts_found, 1);
    }
}
