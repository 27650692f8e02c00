//! What went over the channels, and when: written down to be played again in a test. Pure: bytes in, bytes
//! out. A recording holds what was typed and copied; it is made of test guests, or of one's own.
//!
//! The file: [`MAGIC`], then records of a time in microseconds (8), a channel (1), a direction (1: 1 from the
//! guest), a length (4) and so many bytes as they went over the channel, cut wherever they were cut.
use crate::codec::{Reader, Wire, Writer};
use crate::fault::Fault;
use crate::hello::Channel;
use crate::limits::RECORD_BYTES;
use alloc::vec::Vec;
use core::fmt;

/// The first bytes of a recording; the last is the version of its format.
pub const MAGIC: [u8; 8] = *b"mdlyrec\x01";

const HEAD: usize = 14;

/// Bytes that went over a channel at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Microseconds since the recording began.
    pub at: u64,
    /// The channel.
    pub channel: Channel,
    /// Whether the guest said it.
    pub from_guest: bool,
    /// What went over.
    pub bytes: &'a [u8],
}

/// Writes a recording, piece by piece, to the end of a caller's buffer.
#[derive(Debug, Default)]
pub struct Recorder {
    begun: bool,
    last: u64,
}

impl Recorder {
    /// A recording that begins.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            begun: false,
            last: 0,
        }
    }

    /// Appends a record. A clock that went back is taken to have stood still; what is longer than
    /// [`RECORD_BYTES`] becomes several records.
    pub fn record(&mut self, record: Record<'_>, out: &mut Vec<u8>) {
        if !core::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(&MAGIC);
        }
        self.last = self.last.max(record.at);
        for bytes in record.bytes.chunks(RECORD_BYTES) {
            let mut head = [0; HEAD];
            let mut writer = Writer::new(&mut head);
            self.last.put(&mut writer);
            record.channel.put(&mut writer);
            record.from_guest.put(&mut writer);
            (bytes.len() as u32).put(&mut writer);
            out.extend_from_slice(&head);
            out.extend_from_slice(bytes);
        }
    }
}

/// Why a recording cannot be played on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplayable {
    /// It is none, or of another version.
    Magic,
    /// It ends inside a record, that begins at this byte: whoever recorded was stopped.
    CutOff(usize),
    /// A record is none; it begins at this byte.
    Damaged(usize),
}

impl fmt::Display for Unplayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("this is no recording of this version; record it again"),
            Self::CutOff(at) => write!(f, "the recording is cut off in the record at byte {at}"),
            Self::Damaged(at) => write!(f, "the recording is damaged in the record at byte {at}"),
        }
    }
}

impl core::error::Error for Unplayable {}

/// Reads a recording. It ends after its last record or after the first that cannot be read.
#[derive(Clone, Debug)]
pub struct Replayer<'a> {
    file: &'a [u8],
    at: usize,
    last: u64,
}

impl<'a> Replayer<'a> {
    /// From the beginning.
    ///
    /// # Errors
    /// `file` is no recording.
    pub fn new(file: &'a [u8]) -> Result<Self, Unplayable> {
        if file.starts_with(&MAGIC) {
            Ok(Self {
                file,
                at: MAGIC.len(),
                last: 0,
            })
        } else {
            Err(Unplayable::Magic)
        }
    }

    fn read(&mut self) -> Result<Record<'a>, Unplayable> {
        let (start, damaged) = (self.at, Unplayable::Damaged(self.at));
        let rest = self.file.get(start..).unwrap_or_default();
        let (head, rest) = rest
            .split_at_checked(HEAD)
            .ok_or(Unplayable::CutOff(start))?;
        let (mut record, length) = parse(head).map_err(|_| damaged)?;
        if record.at < self.last || length == 0 || length > RECORD_BYTES {
            return Err(damaged);
        }
        record.bytes = rest.get(..length).ok_or(Unplayable::CutOff(start))?;
        self.at = start + HEAD + length;
        self.last = record.at;
        Ok(record)
    }
}

fn parse<'a>(head: &'a [u8]) -> Result<(Record<'a>, usize), Fault> {
    let reader = &mut Reader::new(head);
    let (at, channel, from_guest) = (
        u64::take(reader)?,
        Channel::take(reader)?,
        bool::take(reader)?,
    );
    Ok((
        Record {
            at,
            channel,
            from_guest,
            bytes: &[],
        },
        u32::take(reader)? as usize,
    ))
}

impl<'a> Iterator for Replayer<'a> {
    type Item = Result<Record<'a>, Unplayable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.file.len() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.at = self.file.len();
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(at: u64, from_guest: bool, bytes: &[u8]) -> Record<'_> {
        Record {
            at,
            channel: Channel::Control,
            from_guest,
            bytes,
        }
    }

    #[test]
    fn the_format() {
        let mut file = Vec::new();
        Recorder::new().record(record(258, true, b"hi"), &mut file);
        assert_eq!(file, b"mdlyrec\x01\x02\x01\0\0\0\0\0\0\x01\x01\x02\0\0\0hi");
    }

    #[test]
    fn a_clock_that_goes_back_stands_still() {
        let (mut file, mut recorder) = (Vec::new(), Recorder::new());
        recorder.record(record(9, true, b"a"), &mut file);
        recorder.record(record(3, false, b"b"), &mut file);
        let times: Vec<_> = Replayer::new(&file)
            .unwrap()
            .map(|r| r.unwrap().at)
            .collect();
        assert_eq!(times, [9, 9]);
    }

    #[test]
    fn damage_is_found() {
        let mut file = Vec::new();
        let mut recorder = Recorder::new();
        recorder.record(record(9, true, b"abc"), &mut file);
        recorder.record(record(10, true, b"def"), &mut file);
        assert_eq!(Replayer::new(b"mdlyrec\x02").err(), Some(Unplayable::Magic));
        for end in 26..file.len() {
            let last = Replayer::new(&file[..end]).unwrap().last().unwrap();
            assert_eq!(last, Err(Unplayable::CutOff(25)), "{end}");
        }
        for (at, value) in [(25, 8), (33, 3), (34, 2), (35, 0), (38, 0xff)] {
            let mut damaged = file.clone();
            damaged[at] = value;
            let mut replayer = Replayer::new(&damaged).unwrap().skip(1);
            assert_eq!(replayer.next(), Some(Err(Unplayable::Damaged(25))), "{at}");
            assert_eq!(replayer.next(), None);
        }
    }

    proptest! {
        #[test]
        fn what_was_recorded_is_played(
            steps in proptest::collection::vec(
                (0..1000_u64, 0..3_usize, any::<bool>(), proptest::collection::vec(any::<u8>(), 1..40)), 0..20)
        ) {
            let (mut file, mut recorder, mut at) = (MAGIC.to_vec(), Recorder { begun: true, last: 0 }, 0);
            let mut records = Vec::new();
            for (later, channel, from_guest, bytes) in &steps {
                at += later;
                records.push(Record { at, channel: Channel::ALL[*channel], from_guest: *from_guest, bytes });
            }
            records.iter().for_each(|r| recorder.record(*r, &mut file));
            let played: Result<Vec<_>, _> = Replayer::new(&file).unwrap().collect();
            prop_assert_eq!(played, Ok(records));
        }
    }
}
