//! Writes down what goes over the gui channel, to be played again in a test. A recording holds what was typed:
//! it is made only when somebody asks for it.
use crate::error::{Error, Result};
use medley_wire::gui::{FromGuest, FromHost};
use medley_wire::record::{self, Recorder};
use medley_wire::{Channel, Encoder, Features, Hello, Set};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// A recording that goes on. Messages are written as they would be encoded; each side begins with a hello.
#[derive(Debug)]
pub struct Record {
    file: File,
    recorder: Recorder,
    guest: Encoder<FromGuest<'static>>,
    host: Encoder<FromHost<'static>>,
    room: Vec<u8>,
    out: Vec<u8>,
}

impl Record {
    /// A new file, which only its owner can read.
    ///
    /// # Errors
    /// It exists, or cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| Error::File {
                doing: "make the recording",
                path: path.to_path_buf(),
                source,
            })?;
        let mut record = Self {
            file,
            recorder: Recorder::new(),
            guest: Encoder::new(),
            host: Encoder::new(),
            room: Vec::new(),
            out: Vec::new(),
        };
        let hello = Hello::new(Channel::Gui, Features::NONE, [0; 32]);
        record.guest(&hello.clone().into(), Duration::ZERO);
        record.host(&hello.into(), Duration::ZERO);
        Ok(record)
    }

    /// What the guest said.
    pub fn guest(&mut self, message: &FromGuest<'_>, at: Duration) {
        let length = medley_wire::HEADER + <FromGuest<'static> as Set>::len(message);
        self.room.resize(length, 0);
        if self.guest.encode(message, &mut self.room).is_ok() {
            self.write(true, at);
        }
    }

    /// What it was told.
    pub fn host(&mut self, message: &FromHost<'_>, at: Duration) {
        let length = medley_wire::HEADER + <FromHost<'static> as Set>::len(message);
        self.room.resize(length, 0);
        if self.host.encode(message, &mut self.room).is_ok() {
            self.write(false, at);
        }
    }

    fn write(&mut self, from_guest: bool, at: Duration) {
        self.out.clear();
        let record = record::Record {
            at: u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
            channel: Channel::Gui,
            from_guest,
            bytes: &self.room,
        };
        self.recorder.record(record, &mut self.out);
        if let Err(error) = self.file.write_all(&self.out) {
            tracing::warn!(%error, "the recording cannot be written; it ends here");
        }
        self.room.truncate(0);
    }
}
