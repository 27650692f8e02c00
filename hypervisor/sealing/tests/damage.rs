//! A file of which anything was changed is refused, by its right name, and what was received of it
//! until then is a beginning of the truth.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use medley_sealing::{Cancel, Error, ErrorKind, SealedFile, WrappingKey};

const CHUNK: usize = 256;
/// Bytes before the box in a header, and of the digest behind it.
const HEADER: usize = 56 + 32 + BINDING.len() + 16 + 32;

/// What opening, checking or unsealing says, which must agree, and what was received.
fn read(bytes: &[u8], key: &WrappingKey) -> (Result<(), Error>, Vec<u8>) {
    let file = match SealedFile::from_bytes(bytes, key) {
        Ok(file) => file,
        Err(e) => return (Err(e), Vec::new()),
    };
    let mut back = Vec::new();
    let unsealed = file.unseal(&mut back, &Cancel::default());
    let checked = file.verify(&Cancel::default());
    assert_eq!(checked.is_ok(), unsealed.is_ok());
    (unsealed.map(drop), back)
}

fn refusal(bytes: &[u8], stream: &[u8]) -> Error {
    let (result, back) = read(bytes, &key());
    assert!(stream.starts_with(&back), "something else was handed on");
    result.unwrap_err()
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let stream = mixture(CHUNK);
    let good = sealed_bytes(&stream, CHUNK);
    assert!(read(&good, &key()).0.is_ok());
    for at in 0..good.len() {
        for bit in [0, 7] {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let error = refusal(&bad, &stream);
            let expected: &[ErrorKind] = match at {
                0..8 => &[ErrorKind::Foreign],
                8..12 => &[ErrorKind::Unsupported, ErrorKind::Corrupt],
                // A length that was changed may point beyond the end.
                _ => &[ErrorKind::Corrupt, ErrorKind::Truncated],
            };
            assert!(expected.contains(&error.kind()), "byte {at}: {error}");
            assert!(error.to_string().contains("; "), "no remedy: {error}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let stream = mixture(CHUNK);
    let good = sealed_bytes(&stream, CHUNK);
    for len in 0..good.len() {
        let error = refusal(&good[..len], &stream);
        let expected = match len {
            0 => ErrorKind::Foreign,
            _ => ErrorKind::Truncated,
        };
        assert_eq!(error.kind(), expected, "{len} bytes: {error}");
    }
}

#[test]
fn a_longer_file_is_refused() {
    let stream = mixture(CHUNK);
    let good = sealed_bytes(&stream, CHUNK);
    for more in [&b"\0"[..], &good[HEADER..], &good] {
        let error = refusal(&[&good, more].concat(), &stream);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(error.offset(), Some(good.len() as u64));
    }
}

/// Where frames begin and end.
fn frames(file: &[u8]) -> Vec<&[u8]> {
    let mut rest = &file[HEADER..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let body = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        let (frame, after) = rest.split_at(12 + body + 16);
        frames.push(frame);
        rest = after;
    }
    frames
}

#[test]
fn chunks_that_are_swapped_dropped_doubled_or_borrowed_are_refused() {
    let stream = noise(6 * CHUNK, 5);
    let good = sealed_bytes(&stream, CHUNK);
    let other = sealed_bytes(&stream, CHUNK);
    let original = frames(&good);
    assert_eq!(original.len(), 7);
    let refuse = |frames: Vec<&[u8]>, what: &str| {
        let bad = [&good[..HEADER], &frames.concat()].concat();
        let error = refusal(&bad, &stream);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
    };
    for at in 0..6 {
        let mut frames = original.clone();
        frames.swap(at, (at + 1) % 6);
        refuse(frames, "swapped");

        let mut frames = original.clone();
        frames.remove(at);
        refuse(frames, "dropped");

        let mut frames = original.clone();
        frames.insert(at, original[at]);
        refuse(frames, "doubled");

        let mut borrowed = original.clone();
        borrowed[at] = self::frames(&other)[at];
        refuse(borrowed, "borrowed from a sealing of the same stream");
    }
    let mut only_end = original.clone();
    only_end.drain(..6);
    refuse(only_end, "nothing but the end");
    let mut other_end = original.clone();
    other_end[6] = self::frames(&other)[6];
    refuse(other_end, "another's end");
    // Another's header, with the frames that fit it not.
    let error = refusal(&[&other[..HEADER], &good[HEADER..]].concat(), &stream);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn strangers_and_strays_are_told_apart() {
    let stream = mixture(CHUNK);
    let good = sealed_bytes(&stream, CHUNK);

    let (other_key, _) = read(&good, &WrappingKey::from_bytes(&[0x18; 32]));
    let error = other_key.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
    assert!(
        error.to_string().contains("key of the workspace"),
        "{error}"
    );

    for file in [&b"QEVM"[..], &[0; 4096], &noise(4096, 1)] {
        assert_eq!(refusal(file, &stream).kind(), ErrorKind::Foreign);
    }
    let mut newer = good.clone();
    newer[8] = 2;
    assert_eq!(refusal(&newer, &stream).kind(), ErrorKind::Unsupported);

    let file = SealedFile::from_bytes(&good, &key()).unwrap();
    file.expect_binding(BINDING).unwrap();
    for wrong in [&BINDING[1..], b"", b"overlay 4711, generation 4"] {
        let error = file.expect_binding(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stale);
        assert!(error.to_string().contains("discard"), "{error}");
    }
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let kind = |path: &std::path::Path| SealedFile::open(path, &key()).unwrap_err().kind();
    assert_eq!(kind(&pipe), ErrorKind::Foreign);
    assert_eq!(kind(dir.path()), ErrorKind::Foreign);
    assert_eq!(kind(&dir.path().join("none")), ErrorKind::Io);
}

#[test]
fn bytes_made_up_are_survived() {
    for seed in 0..2000 {
        let mut frame = noise(12 + seed as usize % 700, seed);
        // Heads that are possible more often than chance makes them so.
        if frame.len() > 12 {
            let body = (frame.len() - 12) as u32;
            frame[..4].copy_from_slice(&body.to_le_bytes());
            frame[4..8].copy_from_slice(&(body * (1 + seed as u32 % 300)).to_le_bytes());
            frame[8..12].copy_from_slice(&[2, 0, 0, 0]);
        }
        medley_sealing::fuzz_decoding(&frame);
        medley_sealing::fuzz_opening(&frame);
    }
    let dir = tempfile::tempdir().unwrap();
    medley_sealing::fuzz_sealing(&mixture(CHUNK), dir.path());
}
