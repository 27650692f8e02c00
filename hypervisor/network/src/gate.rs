//! The gate between a machine and passt: both speak frames behind four bytes of length on a Unix
//! stream. The machine keeps its end while passt comes and goes.

use crate::filter::{Filter, Verdict};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// QEMU's own limit for a frame.
const LONGEST: usize = (64 << 10) + 4096;
/// Room for a few of the longest.
const BUFFER: usize = 4 * LONGEST;

/// What the two directions share.
#[derive(Debug)]
pub struct Gate {
    pub filter: Mutex<Filter>,
    machine: End,
    world: End,
    closing: AtomicBool,
}

/// One end's stream while there is one. Writers take turns, a frame is never torn.
#[derive(Debug, Default)]
struct End {
    stream: Mutex<Option<Arc<UnixStream>>>,
    turn: Mutex<()>,
}

impl End {
    fn set(&self, stream: Option<Arc<UnixStream>>) {
        *lock(&self.stream) = stream;
    }

    fn hang_up(&self) {
        if let Some(stream) = lock(&self.stream).take() {
            // Whoever hung up first has no need of it.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Frames for nobody are lost, as on a cable that is not plugged in.
    fn send(&self, frames: &[u8]) {
        let turn = lock(&self.turn);
        let stream = lock(&self.stream).clone();
        if let Some(stream) = stream
            && (&*stream).write_all(frames).is_err()
        {
            self.hang_up();
        }
        drop(turn);
    }
}

impl Gate {
    pub fn new(filter: Filter) -> Gate {
        Gate {
            filter: Mutex::new(filter),
            machine: End::default(),
            world: End::default(),
            closing: AtomicBool::new(false),
        }
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Ends everything that runs on this gate. `knock` is its listener's path.
    pub fn close(&self, knock: &std::path::Path) {
        self.closing.store(true, Ordering::Release);
        self.machine.hang_up();
        self.world.hang_up();
        drop(UnixStream::connect(knock));
    }

    /// Hangs up on passt.
    pub fn leave_world(&self) {
        self.world.hang_up();
    }

    /// Takes the machine's frames, one machine after the other, until the gate closes.
    pub fn serve(&self, listener: &UnixListener) {
        while !self.is_closing() {
            let stream = match listener.accept() {
                Ok((stream, _)) => Arc::new(stream),
                Err(error) => {
                    tracing::warn!(%error, "cannot take a machine's connection");
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    continue;
                }
            };
            self.machine.set(Some(Arc::clone(&stream)));
            if self.is_closing() {
                break;
            }
            let ended = frames(&stream, |buffer, frames| self.leave(buffer, frames));
            self.machine.hang_up();
            if let Err(error) = ended {
                tracing::warn!(%error, "the machine's network connection broke");
            }
        }
    }

    /// Brings the world's frames to the machine until passt hangs up.
    pub fn bring(&self, stream: UnixStream) -> io::Result<()> {
        let stream = Arc::new(stream);
        self.world.set(Some(Arc::clone(&stream)));
        if self.is_closing() {
            return Ok(());
        }
        let ended = frames(&stream, |buffer, frames| self.arrive(buffer, frames));
        self.world.hang_up();
        ended
    }

    /// Neighbours in the buffer that may leave do so together.
    fn leave(&self, buffer: &[u8], frames: &[Range<usize>]) {
        let now = Instant::now();
        let mut run = 0..0;
        for frame in frames {
            let verdict = lock(&self.filter).outgoing(&buffer[frame.start + 4..frame.end], now);
            match verdict {
                Verdict::Pass if run.end == frame.start => run.end = frame.end,
                Verdict::Pass => {
                    self.world.send(&buffer[run]);
                    run = frame.clone();
                }
                Verdict::Drop => {}
                Verdict::Answer(answer) => {
                    let length = u32::try_from(answer.len()).unwrap_or_default();
                    self.machine
                        .send(&[&length.to_be_bytes()[..], &answer].concat());
                }
            }
        }
        if !run.is_empty() {
            self.world.send(&buffer[run]);
        }
    }

    fn arrive(&self, buffer: &[u8], frames: &[Range<usize>]) {
        let now = Instant::now();
        let mut filter = lock(&self.filter);
        for frame in frames {
            filter.incoming(&buffer[frame.start + 4..frame.end], now);
        }
        drop(filter);
        if let (Some(first), Some(last)) = (frames.first(), frames.last()) {
            self.machine.send(&buffer[first.start..last.end]);
        }
    }
}

/// Hands over the whole frames that have come, with their lengths, until the stream ends.
fn frames(mut stream: &UnixStream, mut take: impl FnMut(&[u8], &[Range<usize>])) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let mut whole = Vec::new();
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
        let rest = split(&buffer[..filled], &mut whole)?;
        take(&buffer, &whole);
        buffer.copy_within(rest..filled, 0);
        filled -= rest;
    }
}

/// Finds the whole frames, each with its length before it, and says where the rest begins.
fn split(bytes: &[u8], whole: &mut Vec<Range<usize>>) -> io::Result<usize> {
    whole.clear();
    let mut at = 0;
    while let Some(length) = bytes[at..].first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length > LONGEST {
            let text = format!("a frame of {length} bytes; the longest has {LONGEST}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if bytes.len() - at < 4 + length {
            break;
        }
        whole.push(at..at + 4 + length);
        at += 4 + length;
    }
    Ok(at)
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(frames: Vec<Vec<u8>>, cut in 0usize..64) {
            let mut bytes = Vec::new();
            for frame in &frames {
                bytes.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
                bytes.extend(frame);
            }
            let bytes = &bytes[..bytes.len().saturating_sub(cut)];
            let mut whole = Vec::new();
            let rest = split(bytes, &mut whole).unwrap();
            prop_assert_eq!(whole.last().map_or(0, |last| last.end), rest);
            for (range, frame) in whole.iter().zip(&frames) {
                prop_assert_eq!(&bytes[range.start + 4..range.end], frame.as_slice());
            }
            prop_assert!(whole.len() == frames.len() || cut > 0);
        }
    }

    #[test]
    fn a_length_that_no_frame_has_ends_the_connection() {
        assert!(split(&[0xff; 8], &mut Vec::new()).is_err());
        assert_eq!(split(&[0, 0, 0], &mut Vec::new()).unwrap(), 0);
    }
}
