//! Lines of a supervisor's on standard input. Where that is a socket, descriptors come with them: each belongs to
//! the next line that needs one, in the order in which they came.
use crate::error::{Error, Result};
use medley_services::order::LINE;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Descriptors that wait for their lines, and those that come with one piece.
const FILES: usize = 16;

/// Lines as they come.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    line: Vec<u8>,
    /// The line has become too long: nothing of it is kept.
    long: bool,
    files: VecDeque<OwnedFd>,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// These lines; there may be more later.
    Lines(Vec<String>),
    /// There will be no more.
    End,
}

impl Commands {
    /// Reads what is there.
    ///
    /// # Errors
    /// The system fails.
    pub fn read(&mut self, from: impl AsFd) -> Result<Read> {
        let mut bytes = [0; 4096];
        let count = match self.receive(&from, &mut bytes) {
            Err(Errno::NOTSOCK) => rustix::io::read(from.as_fd(), &mut bytes),
            received => received,
        };
        match count {
            Ok(0) => Ok(Read::End),
            Ok(count) => Ok(Read::Lines(self.take(&bytes[..count]))),
            Err(Errno::INTR | Errno::AGAIN) => Ok(Read::Lines(Vec::new())),
            Err(errno) => Err(Error::System {
                doing: "read commands",
                source: errno.into(),
            }),
        }
    }

    /// The descriptor of the line that was read last, if one came with it.
    pub fn file(&mut self) -> Option<OwnedFd> {
        self.files.pop_front()
    }

    /// A line was not understood, and nobody knows whether a descriptor came with it.
    pub fn forget_files(&mut self) {
        self.files.clear();
    }

    fn receive(&mut self, from: &impl AsFd, bytes: &mut [u8]) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let pieces = &mut [IoSliceMut::new(bytes)];
        let count = recvmsg(from, pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        self.files.truncate(FILES);
        Ok(count)
    }

    fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                if !std::mem::take(&mut self.long) {
                    lines.push(String::from_utf8_lossy(&line).trim().to_owned());
                }
            } else if self.line.len() < LINE {
                self.line.push(*byte);
            } else {
                self.long = true;
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::fs::File;
    use std::io::{IoSlice, Read as _, Write};
    use std::os::unix::net::UnixStream;

    fn send(to: &UnixStream, text: &str, file: Option<&File>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = file.map(|file| [file.as_fd()]);
        if let Some(files) = &files {
            assert!(control.push(SendAncillaryMessage::ScmRights(files)));
        }
        let pieces = [IoSlice::new(text.as_bytes())];
        sendmsg(to, &pieces, &mut control, SendFlags::empty()).unwrap();
    }

    fn lines(commands: &mut Commands, from: &UnixStream, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        while all.len() < count {
            match commands.read(from).unwrap() {
                Read::Lines(lines) => all.extend(lines),
                Read::End => panic!("it ends after {all:?}"),
            }
        }
        all
    }

    #[test]
    fn descriptors_come_in_the_order_of_their_lines() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut files: Vec<File> = (0..2).map(|_| tempfile::tempfile().unwrap()).collect();
        for (file, text) in files.iter_mut().zip(["first", "second"]) {
            file.write_all(text.as_bytes()).unwrap();
            std::io::Seek::rewind(file).unwrap();
        }
        send(&theirs, "lock\n", None);
        send(&theirs, "take 1\n", Some(&files[0]));
        send(&theirs, "take 2\nunl", Some(&files[1]));
        send(&theirs, "ock\n", None);
        let mut commands = Commands::default();
        let all = lines(&mut commands, &ours, 4);
        assert_eq!(all, ["lock", "take 1", "take 2", "unlock"]);
        for wanted in ["first", "second"] {
            let mut text = String::new();
            let mut file = File::from(commands.file().unwrap());
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, wanted);
        }
        assert!(commands.file().is_none());
        drop(theirs);
        assert_eq!(commands.read(&ours).unwrap(), Read::End);
    }

    #[test]
    fn a_pipe_and_long_lines_will_do() {
        let (ours, mut theirs) = std::io::pipe().unwrap();
        let mut commands = Commands::default();
        theirs.write_all(b"apps\n").unwrap();
        let read = commands.read(&ours).unwrap();
        assert_eq!(read, Read::Lines(vec!["apps".into()]));
        let long = vec![b'x'; LINE + 1];
        assert!(commands.take(&long).is_empty());
        assert_eq!(commands.take(b"y\nquit\n"), ["quit"]);
    }
}
