//! The line to a presenter: commands and orders, some with a file's descriptor attached, written by a thread of
//! their own. Who has something to say puts it down and goes on; a presenter that does not read is given up.
use medley_services::Order;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Lines that wait; the longest, a launch with all its arguments, has some 40 KiB.
const WAITING: usize = 128;
/// A presenter that takes longer over a line does not live any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// The writing end. Clones lead to the same presenter; with the last one its input ends.
#[derive(Clone, Debug)]
pub(crate) struct Line(SyncSender<Word>);

#[derive(Debug)]
struct Word {
    text: Vec<u8>,
    file: Option<OwnedFd>,
}

impl Line {
    /// A line over this stream. `stuck` is called if the other end does not read.
    pub fn open(
        stream: UnixStream,
        patience: Duration,
        stuck: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        stream.set_write_timeout(Some(patience))?;
        let (line, words) = sync_channel(WAITING);
        let write = move || write(&stream, &words, patience, stuck);
        std::thread::Builder::new()
            .name("presenter-line".into())
            .spawn(write)?;
        Ok(Self(line))
    }

    /// The line of a presenter.
    pub fn to_presenter(
        stream: UnixStream,
        stuck: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::open(stream, PATIENCE, stuck)
    }

    /// Says a command. `false` if it will not be heard: the presenter has ended, or does not read. Never waits.
    pub fn tell(&self, command: &str) -> bool {
        self.put(format!("{command}\n").into_bytes(), None)
    }

    /// Gives an order, with the file that belongs to it. As [`Line::tell`].
    pub fn order(&self, order: &Order, file: Option<OwnedFd>) -> bool {
        debug_assert_eq!(order.has_file(), file.is_some(), "{order:?}");
        match serde_json::to_vec(order) {
            Ok(mut text) => {
                text.push(b'\n');
                self.put(text, file)
            }
            Err(error) => {
                tracing::error!(%error, ?order, "an order has no words");
                false
            }
        }
    }

    fn put(&self, text: Vec<u8>, file: Option<OwnedFd>) -> bool {
        let told = self.0.try_send(Word { text, file });
        if let Err(error) = &told {
            tracing::debug!(%error, "the presenter does not listen");
        }
        told.is_ok()
    }
}

fn write(stream: &UnixStream, words: &Receiver<Word>, patience: Duration, stuck: impl FnOnce()) {
    for word in words {
        match send(stream, word, patience) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                tracing::warn!("the presenter has not read for {patience:?}");
                return stuck();
            }
            // It has ended, which is noticed elsewhere.
            Err(error) => return tracing::debug!(%error, "the presenter does not listen"),
        }
    }
}

/// Sends a line; its descriptor goes with the first byte, and is closed here. The kernel may hand out lines that
/// came before in the same piece, so that who reads gives descriptors to the lines that have one, in their order.
fn send(stream: &UnixStream, word: Word, patience: Duration) -> std::io::Result<()> {
    let begun = Instant::now();
    let mut file = word.file;
    let mut rest = &word.text[..];
    while !rest.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = file.as_ref().map(|file| [file.as_fd()]);
        if let Some(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        match sendmsg(
            stream,
            &[IoSlice::new(rest)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Ok(count) => {
                file = None;
                rest = rest.get(count..).unwrap_or_default();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // One that reads a byte now and then is no better.
        if !rest.is_empty() && begun.elapsed() >= patience {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::{IoSliceMut, Read, Write};
    use std::sync::mpsc::channel;

    /// Reads some bytes, and the descriptor that came with them.
    fn receive(stream: &UnixStream) -> (Vec<u8>, Option<OwnedFd>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; 4096];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            flags,
        );
        bytes.truncate(got.unwrap().bytes);
        let files: Vec<_> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            })
            .flatten()
            .collect();
        assert!(files.len() <= 1);
        (bytes, files.into_iter().next())
    }

    #[test]
    fn a_descriptor_comes_with_its_line() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let line = Line::to_presenter(ours, || panic!("it reads")).unwrap();
        let (mut reads, writes) = std::io::pipe().unwrap();
        assert!(line.tell("lock"));
        assert!(line.order(&Order::Take { transfer: 7 }, Some(writes.into())));
        assert!(line.tell("unlock"));
        drop(line);
        // Lines that came before may be in the same piece; nothing that came after is.
        let order = "{\"order\":\"take\",\"transfer\":7}\n";
        let (mut text, mut files) = (String::new(), Vec::new());
        loop {
            let (bytes, file) = receive(&theirs);
            if bytes.is_empty() {
                break;
            }
            text += &String::from_utf8(bytes).unwrap();
            if let Some(file) = file {
                assert!(text.ends_with(order), "{text}");
                files.push(file);
            }
        }
        assert_eq!(text, format!("lock\n{order}unlock\n"));
        let mut writes = std::fs::File::from(files.remove(0));
        writes.write_all(b"bytes").unwrap();
        drop(writes);
        let mut got = String::new();
        reads.read_to_string(&mut got).unwrap();
        assert_eq!(got, "bytes");
    }

    #[test]
    fn nobody_waits_for_one_that_does_not_read() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (tell, told) = channel();
        let patience = Duration::from_millis(200);
        let line = Line::open(ours, patience, move || tell.send(()).unwrap()).unwrap();
        let begun = Instant::now();
        let long = "x".repeat(64 << 10);
        let heard = (0..WAITING * 4).filter(|_| line.tell(&long)).count();
        assert!(heard < WAITING * 4, "bounded");
        assert!(begun.elapsed() < Duration::from_secs(5));
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        drop(theirs);
    }
}
