//! What goes in comes out, however it is cut, and nothing of it shows on the way.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, Read, Write};

use common::*;
use medley_sealing::{Cancel, ErrorKind, MAX_BINDING, MAX_CHUNK, MIN_CHUNK, SealedFile, seal};
use proptest::prelude::*;

/// Gives its bytes in pieces of the sizes told, over and over, with interruptions.
struct Pieces<'a> {
    rest: &'a [u8],
    sizes: &'a [usize],
    calls: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let size = self.sizes[self.calls % self.sizes.len()].min(buf.len());
        self.rest.read(&mut buf[..size])
    }
}

/// Takes a few bytes at a time.
struct Narrow(Vec<u8>);

impl Write for Narrow {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let taken = buf.len().min(1000);
        self.0.write(&buf[..taken])
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream of stretches, each noise, one byte or a short pattern.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let stretch = (0..3u8, any::<u8>(), 0..3000usize).prop_map(|(kind, byte, len)| match kind {
        0 => noise(len, u64::from(byte)),
        1 => vec![byte; len],
        _ => (0..len).map(|i| (i % 13) as u8 ^ byte).collect(),
    });
    prop::collection::vec(stretch, 0..8).prop_map(|stretches| stretches.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_stream_comes_back(
        stream in streams(),
        sizes in prop::collection::vec(1..5000usize, 1..5),
        chunk in MIN_CHUNK..6000,
        binding in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let source = Pieces { rest: &stream, sizes: &sizes, calls: 0 };
        let sealed = seal(source, &path, &key(), &binding, &options(chunk)).unwrap();
        let summary = sealed.publish().unwrap();
        prop_assert_eq!(summary.bytes, stream.len() as u64);
        prop_assert_eq!(summary.chunks, stream.len().div_ceil(chunk) as u64);

        let file = SealedFile::open(&path, &key()).unwrap();
        prop_assert_eq!(file.binding(), &binding[..]);
        prop_assert_eq!(file.identity(), summary.identity);
        prop_assert_eq!(file.verify(&Cancel::default()).unwrap(), summary);
        let mut back = Narrow(Vec::new());
        prop_assert_eq!(file.unseal(&mut back, &Cancel::default()).unwrap(), summary);
        prop_assert!(back.0 == stream);
    }
}

#[test]
fn streams_at_the_edges_of_chunks_come_back() {
    for chunk in [MIN_CHUNK, 4096, MAX_CHUNK] {
        for len in [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk] {
            let stream = noise(len, len as u64);
            let bytes = sealed_bytes(&stream, chunk);
            let mut back = Vec::new();
            SealedFile::from_bytes(&bytes, &key())
                .unwrap()
                .unseal(&mut back, &Cancel::default())
                .unwrap();
            assert!(back == stream, "{len} bytes in chunks of {chunk}");
        }
    }
}

#[test]
fn a_stream_of_many_chunks_through_pipes_comes_back() {
    let stream = mixture(1 << 20);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (from, mut to) = io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || to.write_all(&mixture(1 << 20)).unwrap());
        let sealed = seal(from, &path, &key(), BINDING, &options(64 << 10)).unwrap();
        sealed.publish().unwrap();
    });
    let (mut from, to) = io::pipe().unwrap();
    let back = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut back = Vec::new();
            from.read_to_end(&mut back).unwrap();
            back
        });
        let file = SealedFile::open(&path, &key()).unwrap();
        file.unseal(to, &Cancel::default()).unwrap();
        reader.join().unwrap()
    });
    assert!(back == stream);
}

#[test]
fn nothing_of_the_state_shows_and_what_is_alike_shrinks() {
    let secret = b"a password in a guest's memory, 0123456789";
    let mut stream = noise(300_000, 9);
    for at in [0, 65_530, 131_072, 250_001] {
        stream[at..at + secret.len()].copy_from_slice(secret);
    }
    let plain = stream.clone();
    stream.extend(vec![0; 10 << 20]);
    let sealed = sealed_bytes(&stream, 64 << 10);
    assert!(sealed.len() < plain.len() + 20_000, "{}", sealed.len());
    for piece in plain
        .chunks_exact(16)
        .chain([&secret[..16], &BINDING[..16]])
    {
        let finder = |w: &[u8]| w == piece;
        // Every piece of 16 bytes would take long; a sample of them, everywhere, says as much.
        if piece[0] < 4 || piece == &secret[..16] || piece == &BINDING[..16] {
            assert!(!sealed.windows(16).any(finder));
        }
    }
    // The same once more is another file altogether.
    let again = sealed_bytes(&stream, 64 << 10);
    let alike = sealed.iter().zip(&again).filter(|(a, b)| a == b).count();
    assert!(
        // One in 256 by chance, and the heads.
        alike < sealed.len() / 50,
        "{alike} bytes of {}",
        sealed.len()
    );
}

#[test]
fn what_cannot_be_sealed_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let long = vec![0; MAX_BINDING + 1];
    let refused = |binding: &[u8], chunk| {
        let error = seal(&b"x"[..], &path, &key(), binding, &options(chunk)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
        assert_eq!(error.path(), Some(&*path));
    };
    refused(&long, 4096);
    refused(b"", MIN_CHUNK - 1);
    refused(b"", MAX_CHUNK + 1);
    assert!(names(dir.path()).is_empty());
    seal(&b"x"[..], &path, &key(), &long[1..], &options(4096))
        .unwrap()
        .publish()
        .unwrap();
    let file = SealedFile::open(&path, &key()).unwrap();
    assert_eq!(file.binding(), &long[1..]);
}
