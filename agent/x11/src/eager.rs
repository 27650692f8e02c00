use std::io::{ErrorKind, IoSlice, Result};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use x11rb::rust_connection::{PollMode, Stream};
use x11rb::utils::RawFdContainer;

/// A stream that tries to write at once and waits only after that would have blocked, and that does not read again
/// where the last read took all there was.
///
/// Of what it remembers nothing outlives a wait: who waits for the descriptor, by [`Stream::poll`] or by its own means,
/// is woken by whatever came meanwhile, and the next read takes it.
#[derive(Debug)]
pub struct Eager<S> {
    stream: S,
    /// The last write would have blocked.
    full: AtomicBool,
    /// The last read took less than it could: the next one is answered without asking.
    dry: AtomicBool,
}

impl<S> From<S> for Eager<S> {
    fn from(stream: S) -> Self {
        Self {
            stream,
            full: AtomicBool::new(false),
            dry: AtomicBool::new(false),
        }
    }
}

impl<S: AsFd> AsFd for Eager<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<S> Eager<S> {
    fn written(&self, result: Result<usize>) -> Result<usize> {
        if let Err(error) = &result
            && error.kind() == ErrorKind::WouldBlock
        {
            self.full.store(true, Relaxed);
        }
        result
    }
}

impl<S: Stream> Stream for Eager<S> {
    fn poll(&self, mode: PollMode) -> Result<()> {
        if mode.writable() && !self.full.swap(false, Relaxed) {
            return Ok(());
        }
        self.dry.store(false, Relaxed);
        self.stream.poll(mode)
    }

    fn read(&self, buffer: &mut [u8], descriptors: &mut Vec<RawFdContainer>) -> Result<usize> {
        if self.dry.swap(false, Relaxed) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.stream.read(buffer, descriptors)?;
        // Nothing at all is the end, which the next read shall find again.
        self.dry.store(count > 0 && count < buffer.len(), Relaxed);
        Ok(count)
    }

    fn write(&self, buffer: &[u8], descriptors: &mut Vec<RawFdContainer>) -> Result<usize> {
        self.written(self.stream.write(buffer, descriptors))
    }

    fn write_vectored(
        &self,
        buffers: &[IoSlice<'_>],
        descriptors: &mut Vec<RawFdContainer>,
    ) -> Result<usize> {
        self.written(self.stream.write_vectored(buffers, descriptors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicUsize;
    use x11rb::rust_connection::DefaultStream;

    /// Counts what is asked of the stream below.
    struct Counted {
        stream: DefaultStream,
        polls: AtomicUsize,
        reads: AtomicUsize,
    }

    impl Stream for Counted {
        fn poll(&self, mode: PollMode) -> Result<()> {
            self.polls.fetch_add(1, Relaxed);
            self.stream.poll(mode)
        }

        fn read(&self, buffer: &mut [u8], descriptors: &mut Vec<RawFdContainer>) -> Result<usize> {
            self.reads.fetch_add(1, Relaxed);
            self.stream.read(buffer, descriptors)
        }

        fn write(&self, buffer: &[u8], descriptors: &mut Vec<RawFdContainer>) -> Result<usize> {
            self.stream.write(buffer, descriptors)
        }
    }

    fn pair() -> (Eager<Counted>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let (stream, _) = DefaultStream::from_unix_stream(ours).expect("a socket");
        let counted = Counted {
            stream,
            polls: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
        };
        (Eager::from(counted), theirs)
    }

    fn blocks(result: Result<usize>) -> bool {
        matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    #[test]
    fn a_writer_waits_only_once_it_would_have_blocked() {
        let (stream, mut peer) = pair();
        let polls = || stream.stream.polls.load(Relaxed);
        let mut written = 0;
        loop {
            stream.poll(PollMode::ReadAndWritable).expect("a socket");
            match stream.write(&[7; 4096], &mut Vec::new()) {
                Ok(count) => written += count,
                Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert_eq!(polls(), 0, "nothing was to be waited for");
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; written];
            peer.read_exact(&mut all).expect("what was written");
            peer
        });
        stream.poll(PollMode::Writable).expect("a socket");
        assert_eq!(polls(), 1, "and now it was");
        assert!(stream.write(&[7], &mut Vec::new()).is_ok());
        reader.join().expect("a reader");
    }

    #[test]
    fn a_read_that_took_all_is_not_made_twice_and_what_comes_after_it_is_found() {
        let (stream, mut peer) = pair();
        let reads = || stream.stream.reads.load(Relaxed);
        let mut buffer = [0; 8];
        peer.write_all(b"abc").expect("a socket");
        assert!(matches!(stream.read(&mut buffer, &mut Vec::new()), Ok(3)));
        // It comes between the two reads of one look: the second is not made, and the next look finds it.
        peer.write_all(b"defghijk").expect("a socket");
        assert!(blocks(stream.read(&mut buffer, &mut Vec::new())));
        assert_eq!(reads(), 1);
        assert!(matches!(stream.read(&mut buffer, &mut Vec::new()), Ok(8)));
        // A full buffer says nothing of what may lie behind it.
        assert!(blocks(stream.read(&mut buffer, &mut Vec::new())));
        assert_eq!(reads(), 3);
    }

    #[test]
    fn who_waited_reads_and_the_end_stays_the_end() {
        let (stream, mut peer) = pair();
        let mut buffer = [0; 8];
        peer.write_all(b"abc").expect("a socket");
        assert!(matches!(stream.read(&mut buffer, &mut Vec::new()), Ok(3)));
        peer.write_all(b"de").expect("a socket");
        stream.poll(PollMode::Readable).expect("a socket");
        assert!(matches!(stream.read(&mut buffer, &mut Vec::new()), Ok(2)));
        drop(peer);
        stream.poll(PollMode::Readable).expect("a socket");
        for _ in 0..3 {
            assert!(matches!(stream.read(&mut buffer, &mut Vec::new()), Ok(0)));
        }
    }
}
