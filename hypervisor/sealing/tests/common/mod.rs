//! Streams like a guest's memory, and sealing them into bytes.
#![allow(dead_code)]

use std::path::Path;

use medley_sealing::{Options, Summary, WrappingKey, seal};

pub fn key() -> WrappingKey {
    WrappingKey::from_bytes(&[0x17; 32])
}

pub const BINDING: &[u8] = b"overlay 4711, generation 3";

/// Bytes that nothing compresses.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Pieces that become every form of frame: noise, zeros, text, and a tail.
pub fn mixture(chunk: usize) -> Vec<u8> {
    let mut stream = noise(chunk, 1);
    stream.extend(vec![0; 2 * chunk]);
    stream.extend(b"the quick brown fox ".iter().cycle().take(2 * chunk));
    stream.extend(noise(chunk / 2, 2));
    stream.extend(vec![7; chunk]);
    stream.extend(noise(chunk / 3, 3));
    stream
}

pub fn options(chunk_bytes: usize) -> Options {
    Options {
        chunk_bytes,
        ..Options::default()
    }
}

/// Seals under [`key`] and [`BINDING`].
pub fn seal_to(path: &Path, stream: &[u8], chunk_bytes: usize) -> Summary {
    seal(stream, path, &key(), BINDING, &options(chunk_bytes))
        .unwrap()
        .publish()
        .unwrap()
}

/// As [`seal_to`], and what the file contains.
pub fn sealed_bytes(stream: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let summary = seal_to(&path, stream, chunk_bytes);
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(summary.file_bytes, bytes.len() as u64);
    assert_eq!(summary.bytes, stream.len() as u64);
    bytes
}

/// Names in a folder.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}
