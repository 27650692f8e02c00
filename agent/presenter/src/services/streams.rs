//! Streams of the bulk channel: what a guest sends is kept only if it was agreed upon, in room of the size that
//! it announced; what is sent to it goes in chunks as it acknowledges them.
use medley_link::Outgoing;
use medley_wire::bulk::{Broken, Carries, Chunk, End, FromHost, Intake, Open, Received};
use medley_wire::limits::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, STREAMS};
use medley_wire::{Bytes, Untrusted};
use std::collections::{BTreeMap, VecDeque};

/// A copy on its way to the guest.
#[derive(Debug)]
struct Going {
    transfer: u32,
    text: Vec<u8>,
    sent: usize,
    acknowledged: usize,
    opened: bool,
}

/// All streams of both directions.
#[derive(Debug, Default)]
pub(super) struct Streams {
    intake: Intake,
    coming: BTreeMap<u8, Vec<u8>>,
    going: BTreeMap<u8, Going>,
    queue: VecDeque<Going>,
}

impl Streams {
    /// A stream begins; `limit` is what its transfer may have, if it was agreed upon. One that was not is
    /// judged all the same, and none of its bytes is kept.
    pub fn open(&mut self, open: &Open, limit: Option<u64>) -> Result<(), Broken> {
        let kept = limit.filter(|_| open.carries == Carries::Clipboard);
        self.intake.open(open, kept.unwrap_or(u64::MAX))?;
        if kept.is_some() {
            self.coming.insert(open.stream, Vec::new());
        }
        Ok(())
    }

    /// More of it; tells how much has come, to be acknowledged.
    pub fn chunk(&mut self, chunk: &Chunk<'_>) -> Result<u64, Broken> {
        let come = self.intake.chunk(chunk)?.come;
        if let Some(bytes) = self.coming.get_mut(&chunk.stream) {
            bytes.extend_from_slice(chunk.data.0);
        }
        Ok(come)
    }

    /// It is whole: its transfer and bytes, if they were kept.
    pub fn end(&mut self, end: &End) -> Result<(u32, Option<Vec<u8>>), Broken> {
        let coming = self.intake.end(end)?;
        Ok((coming.transfer, self.coming.remove(&end.stream)))
    }

    /// It ended early: the guest's, or one of ours.
    pub fn cancel(&mut self, stream: u8, theirs: bool) -> Option<u32> {
        if theirs {
            self.coming.remove(&stream);
            self.intake.cancel(stream).map(|coming| coming.transfer)
        } else {
            self.going.remove(&stream);
            None
        }
    }

    /// Something to send.
    pub fn send(&mut self, transfer: u32, text: String) {
        self.queue.push_back(Going {
            transfer,
            text: text.into_bytes(),
            sent: 0,
            acknowledged: 0,
            opened: false,
        });
    }

    /// The guest has dealt with so much.
    pub fn received(&mut self, received: &Received) {
        if let Some(going) = self.going.get_mut(&received.stream) {
            let bytes = usize::try_from(received.bytes).unwrap_or(usize::MAX);
            going.acknowledged = bytes.min(going.sent);
        }
    }

    /// Says what may be said.
    pub fn work(
        &mut self,
        out: &mut Outgoing<FromHost<'static>>,
    ) -> Result<(), medley_link::Error> {
        for stream in 0..STREAMS as u8 {
            if !self.going.contains_key(&stream)
                && let Some(next) = self.queue.pop_front()
            {
                self.going.insert(stream, next);
            }
            let Some(going) = self.going.get_mut(&stream) else {
                continue;
            };
            let size = going.text.len() as u64;
            if !going.opened {
                going.opened = true;
                let open = Open {
                    stream,
                    transfer: going.transfer,
                    carries: Carries::Clipboard,
                    size: Untrusted::claim(size),
                };
                out.send(&open.into())?;
            }
            while going.sent < going.text.len()
                && going.sent - going.acknowledged < CHUNKS_IN_FLIGHT as usize * CHUNK_BYTES
            {
                let end = (going.sent + CHUNK_BYTES).min(going.text.len());
                let chunk = Chunk {
                    stream,
                    offset: going.sent as u64,
                    data: Bytes(&going.text[going.sent..end]),
                };
                out.send(&FromHost::from(chunk))?;
                going.sent = end;
            }
            if going.sent == going.text.len() {
                out.send(&End { stream, size }.into())?;
                self.going.remove(&stream);
            }
        }
        Ok(())
    }
}
