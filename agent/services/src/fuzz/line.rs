//! The guest's end of the bulk channel: what comes over it is what was announced, in order, and never more on its
//! way than may be.
use crate::streams::Line;
use medley_wire::bulk::{FromHost, Received};
use medley_wire::limits::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, STREAMS};
use std::collections::BTreeMap;
use std::convert::Infallible;

#[derive(Debug)]
struct Coming {
    size: u64,
    come: u64,
    acknowledged: u64,
    whole: bool,
}

#[derive(Debug, Default)]
pub struct Far {
    /// Chunks that the line still takes.
    pub room: u32,
    /// The guest's own streams that it was told to end.
    pub cancelled: Vec<u8>,
    coming: BTreeMap<u8, Coming>,
}

impl Far {
    /// All that has come of a stream.
    pub fn acknowledge(&mut self, stream: u8) -> u64 {
        match self.coming.get_mut(&stream) {
            Some(coming) => {
                coming.acknowledged = coming.come;
                coming.come
            }
            None => 7,
        }
    }
}

impl Line for Far {
    type Error = Infallible;

    fn has_room(&mut self) -> Result<bool, Infallible> {
        Ok(self.room > 0)
    }

    fn say(&mut self, message: &FromHost<'_>) -> Result<(), Infallible> {
        match message {
            FromHost::Open(open) => {
                assert!(usize::from(open.stream) < STREAMS);
                let coming = Coming {
                    size: open.size.at_most(u64::MAX).unwrap_or(0),
                    come: 0,
                    acknowledged: 0,
                    whole: false,
                };
                let old = self.coming.insert(open.stream, coming);
                // One that was whole or that this side has ended is free.
                assert!(old.is_none_or(|old| old.whole || old.come == old.acknowledged));
            }
            FromHost::Chunk(chunk) => {
                assert!(self.room > 0, "more than the line takes");
                self.room -= 1;
                let coming = self.coming.get_mut(&chunk.stream);
                let coming = coming.filter(|coming| coming.come == chunk.offset && !coming.whole);
                let Some(coming) = coming else {
                    panic!("a chunk that belongs nowhere");
                };
                coming.come += chunk.data.0.len() as u64;
                assert!(coming.come <= coming.size && !chunk.data.0.is_empty());
                let most = u64::from(CHUNKS_IN_FLIGHT) * CHUNK_BYTES as u64;
                assert!(coming.come - coming.acknowledged <= most);
            }
            FromHost::End(end) => {
                let coming = self.coming.get_mut(&end.stream);
                let coming = coming.filter(|coming| coming.come == end.size && !coming.whole);
                assert!(
                    coming
                        .as_ref()
                        .is_some_and(|coming| coming.size == end.size)
                );
                if let Some(coming) = coming {
                    coming.whole = true;
                }
            }
            FromHost::Cancel(cancel) if cancel.own => {
                assert!(self.coming.remove(&cancel.stream).is_some());
            }
            FromHost::Cancel(cancel) => self.cancelled.push(cancel.stream),
            FromHost::Received(Received { stream, .. }) => {
                assert!(usize::from(*stream) < STREAMS);
            }
            FromHost::Hello(_) | FromHost::Bye(_) => panic!("not the gate's to say"),
        }
        Ok(())
    }
}
