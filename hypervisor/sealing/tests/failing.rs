//! Whatever fails while a state is sealed or unsealed, it ends, it says what failed, and no part of a
//! file is left.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

use common::*;
use medley_sealing::{Cancel, ErrorKind, Options, SealedFile, seal};

const CHUNK: usize = 4096;

/// Gives noise until it does what it was made for.
struct Until<F>(usize, F);

impl<F: FnMut() -> io::Result<usize>> Read for Until<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.checked_sub(1) {
            None => (self.1)(),
            Some(left) => {
                self.0 = left;
                buf.copy_from_slice(&noise(buf.len(), left as u64));
                Ok(buf.len())
            }
        }
    }
}

#[test]
fn a_stream_that_breaks_leaves_nothing() {
    for after in [0, 1, 2, 3, 50] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let broken = Until(after, || Err(io::ErrorKind::ConnectionReset.into()));
        let error = seal(broken, &path, &key(), b"", &options(CHUNK)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source, "{error}");
        assert_eq!(error.offset(), Some((after * CHUNK) as u64));
        assert!(error.to_string().contains("nothing was saved"), "{error}");
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn a_panic_leaves_nothing_and_does_not_spread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let source = Until(10, || panic!("on purpose"));
    let error = seal(source, &path, &key(), b"", &options(CHUNK)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(names(dir.path()).is_empty());

    struct Panics;
    impl Write for Panics {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("on purpose")
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    seal_to(&path, &mixture(CHUNK), CHUNK);
    let file = SealedFile::open(&path, &key()).unwrap();
    let error = file.unseal(Panics, &Cancel::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
}

#[test]
fn cancelled_means_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let cancel = Cancel::default();
    let other = cancel.clone();
    let mut left = 1000;
    let endless = Until(10, move || {
        left -= 1;
        assert!(left > 0, "it goes on");
        other.cancel();
        Ok(1)
    });
    let mut options = options(CHUNK);
    options.cancel = cancel.clone();
    let error = seal(endless, &path, &key(), b"", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(names(dir.path()).is_empty());

    seal_to(&path, &mixture(CHUNK), CHUNK);
    let file = SealedFile::open(&path, &key()).unwrap();
    assert_eq!(
        file.verify(&cancel).unwrap_err().kind(),
        ErrorKind::Cancelled
    );
    let error = file.unseal(io::sink(), &cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
}

#[test]
fn a_receiver_that_goes_away_ends_it_and_sees_it_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    seal_to(&path, &noise(64 * CHUNK, 1), CHUNK);
    let file = SealedFile::open(&path, &key()).unwrap();
    let (mut from, to) = io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || from.read_exact(&mut [0; 3 * CHUNK]).unwrap());
        let error = file.unseal(to, &Cancel::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sink, "{error}");
    });

    // A bad chunk in the middle: the pipe ends after the good ones, before the call returns its error.
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let file = SealedFile::open(&path, &key()).unwrap();
    let (mut from, to) = io::pipe().unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut back = Vec::new();
            from.read_to_end(&mut back).unwrap();
            back
        });
        let error = file.unseal(to, &Cancel::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(error.path(), Some(&*path));
        let back = reader.join().unwrap();
        assert!(noise(64 * CHUNK, 1).starts_with(&back));
        assert!(back.len() < 33 * CHUNK);
    });
}

#[test]
fn a_name_is_given_last_and_takes_an_older_file_s_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let sealed = seal(&b"first"[..], &path, &key(), b"1", &options(CHUNK)).unwrap();
    assert!(names(dir.path()).is_empty(), "it has a name too early");
    sealed.publish().unwrap();
    assert_eq!(names(dir.path()), ["state"]);

    drop(seal(&b"never"[..], &path, &key(), b"2", &options(CHUNK)).unwrap());
    assert_eq!(SealedFile::open(&path, &key()).unwrap().binding(), b"1");

    // Whoever has the older one open goes on reading it.
    let older = SealedFile::open(&path, &key()).unwrap();
    seal_to(&path, b"second", CHUNK);
    assert_eq!(names(dir.path()), ["state"]);
    let mut back = Vec::new();
    older.unseal(&mut back, &Cancel::default()).unwrap();
    assert_eq!(back, b"first");
    assert_ne!(
        SealedFile::open(&path, &key()).unwrap().identity(),
        older.identity()
    );

    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("no/state"), dir.path().join("..")] {
        let error = seal(&b"x"[..], &path, &key(), b"", &options(CHUNK)).unwrap_err();
        assert!(
            [ErrorKind::Io, ErrorKind::Input].contains(&error.kind()),
            "{error}"
        );
        assert_eq!(error.path(), Some(&*path));
    }
}

/// A file system of a few MiB; undone when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mib: u64) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root may mount a small file system");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}M"), "small"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "cannot mount a small file system");
        Some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_file_system_is_told_and_left_as_it_was() {
    let Some(small) = Small::new(4) else { return };
    let path = small.path().join("state");
    seal_to(&path, &noise(1 << 20, 1), 64 << 10);
    let before = nix::sys::statvfs::statvfs(small.path())
        .unwrap()
        .blocks_free();

    // The writer at the other end of the pipe is told too: it must not hang.
    let (from, mut to) = io::pipe().unwrap();
    let (tell, told) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        let piece = noise(1 << 20, 2);
        let ended = (0..1000).find_map(|_| to.write_all(&piece).err());
        tell.send(ended.unwrap().kind()).unwrap();
    });
    let error = seal(from, &path, &key(), b"", &options(64 << 10)).unwrap_err();
    assert_eq!(told.recv().unwrap(), io::ErrorKind::BrokenPipe);
    writer.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.offset().unwrap() > 1 << 20, "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(error.path(), Some(&*path));

    // The older state is whole, the room is free again, and a state that is known not to fit is refused
    // before a byte of it is read.
    let file = SealedFile::open(&path, &key()).unwrap();
    file.verify(&Cancel::default()).unwrap();
    assert_eq!(names(small.path()), ["state"]);
    let after = nix::sys::statvfs::statvfs(small.path())
        .unwrap()
        .blocks_free();
    assert_eq!(before, after);
    let big = Options {
        expected_bytes: 8 << 20,
        ..options(CHUNK)
    };
    let unread = Until(0, || panic!("it was read"));
    let error = seal(unread, &path, &key(), b"", &big).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
}
