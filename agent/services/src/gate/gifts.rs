//! Files for the guest: offered, sent when it says yes, and remembered for a launch that opens them.
use super::{Outbox, PATIENCE};
use crate::event::Event;
use crate::order::Refusal;
use crate::streams::{Source, Streams};
use crate::word::{Launch, Word};
use medley_wire::bulk::Carries;
use medley_wire::control::{Answer, Verdict};
use medley_wire::limits::{ARGUMENT_BYTES, ARGUMENTS, FILE_NAME_BYTES, LAUNCH_FILES};
use medley_wire::{AppId, Text, Untrusted};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::time::Duration;

/// Transfers of the services have numbers from here on; the clipboard's count from one and have those below.
const FIRST: u32 = 1 << 31;

/// Files that are on their way at once, each with an open descriptor: as many as one launch may open.
const LIVE: usize = LAUNCH_FILES;

/// Files that are remembered once the guest has them.
const KEPT: usize = 4 * LAUNCH_FILES;

/// Whether an answer with this number is to an offer of a file.
pub const fn is_ours(transfer: u32) -> bool {
    transfer >= FIRST
}

#[derive(Debug)]
struct Gift {
    /// How the supervisor calls it.
    file: u32,
    size: u64,
    /// What is sent after a yes, and until when that must have come; nothing, once it is on its way.
    offered: Option<(File, Duration)>,
}

/// All files that were given.
#[derive(Debug, Default)]
pub struct Gifts {
    live: BTreeMap<u32, Gift>,
    /// What the guest has: the supervisor's number, and the transfer's.
    done: VecDeque<(u32, u32)>,
    number: u32,
}

impl Gifts {
    pub fn number_from(&mut self, number: u32) {
        self.number = number;
    }

    /// Offers a file.
    #[allow(
        clippy::too_many_arguments,
        reason = "an order's fields, and where it is carried out"
    )]
    pub fn give(
        &mut self,
        file: u32,
        name: &str,
        size: u64,
        limit: u64,
        from: Option<File>,
        now: Duration,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let from = from.ok_or(Refusal::Failed)?;
        let text = Text::<FILE_NAME_BYTES>::whole(name).map(Untrusted::claim);
        let name = text
            .and_then(|text| text.file_name())
            .ok_or(Refusal::Kind)?;
        if size > limit {
            return Err(Refusal::TooLarge);
        }
        if self.live.len() >= LIVE || self.live.values().any(|gift| gift.file == file) {
            return Err(Refusal::Failed);
        }
        // One that is on its way keeps its number, even if two thousand millions were given since.
        let transfer = loop {
            let transfer = FIRST | self.number;
            self.number = self.number.wrapping_add(1);
            if !self.live.contains_key(&transfer) {
                break transfer;
            }
        };
        let gift = Gift {
            file,
            size,
            offered: Some((from, now + PATIENCE)),
        };
        self.live.insert(transfer, gift);
        out.words.push_back(Word::Offer {
            transfer,
            size,
            name: name.as_str().to_owned(),
        });
        Ok(())
    }

    /// The guest answers an offer. An answer that comes too late, or twice, finds nothing.
    pub fn answered(
        &mut self,
        answer: &Answer,
        streams: &mut Streams,
        now: Duration,
        out: &mut Outbox,
    ) {
        let transfer = answer.transfer;
        let Some(gift) = self.live.get_mut(&transfer) else {
            return;
        };
        let Some((file, _)) = gift.offered.take() else {
            return;
        };
        let refusal = match answer.verdict {
            Verdict::Yes => {
                let source = Source::File(file);
                streams.send(Carries::File, transfer, source, gift.size, now);
                return;
            }
            Verdict::Policy => Refusal::Policy,
            Verdict::TooLarge => Refusal::TooLarge,
            Verdict::Kind => Refusal::Kind,
            Verdict::Declined => Refusal::Declined,
            Verdict::Stale | Verdict::Failed => Refusal::Failed,
        };
        self.ended(transfer, Some(refusal), out);
    }

    /// It shall not be given any more. One that the guest has all of is not taken from it: that is told as ever.
    pub fn withdraw(&mut self, file: u32, streams: &mut Streams, out: &mut Outbox) {
        let found = self.live.iter().find(|(_, gift)| gift.file == file);
        match found.map(|(transfer, gift)| (*transfer, gift.offered.is_some())) {
            Some((transfer, true)) => self.ended(transfer, Some(Refusal::Declined), out),
            Some((transfer, false)) => streams.withdraw(transfer),
            None => {}
        }
    }

    /// The guest has all of it.
    pub fn sent(&mut self, transfer: u32, out: &mut Outbox) {
        if let Some(gift) = self.live.get(&transfer) {
            self.done.push_back((gift.file, transfer));
            if self.done.len() > KEPT {
                self.done.pop_front();
            }
            self.ended(transfer, None, out);
        }
    }

    /// The guest has not all of it, and will not have it.
    pub fn unsent(&mut self, transfer: u32, out: &mut Outbox) {
        self.ended(transfer, Some(Refusal::Failed), out);
    }

    fn ended(&mut self, transfer: u32, refused: Option<Refusal>, out: &mut Outbox) {
        if let Some(gift) = self.live.remove(&transfer) {
            let file = gift.file;
            out.tell(Event::Given { file, refused });
        }
    }

    /// An app with addresses and with files that the guest has.
    pub fn launch(
        &self,
        app: &str,
        action: u8,
        arguments: Vec<String>,
        files: &[u32],
    ) -> Result<Launch, &'static str> {
        let app = AppId::parse(app).filter(|app| *app != AppId::NONE);
        let app = app.ok_or("an app's id is 32 digits, not all zero")?;
        if arguments.len() > ARGUMENTS || arguments.iter().any(|a| a.len() > ARGUMENT_BYTES) {
            return Err("a launch has at most 16 addresses of at most 2048 bytes");
        }
        if files.len() > LAUNCH_FILES {
            return Err("a launch has at most 64 files");
        }
        let known = |file: &u32| {
            let mut newest = self.done.iter().rev();
            newest.find(|(number, _)| number == file).map(|done| done.1)
        };
        let files: Option<Vec<_>> = files.iter().map(known).collect();
        Ok(Launch {
            app,
            action,
            arguments,
            files: files.ok_or("the guest does not have one of the files")?,
        })
    }

    pub fn deadline(&self) -> Option<Duration> {
        let offered = self.live.values().filter_map(|gift| gift.offered.as_ref());
        offered.map(|(_, until)| *until).min()
    }

    pub fn tick(&mut self, now: Duration, out: &mut Outbox) {
        let old = |gift: &Gift| {
            gift.offered
                .as_ref()
                .is_some_and(|(_, until)| *until <= now)
        };
        let old: Vec<_> = self
            .live
            .iter()
            .filter(|(_, gift)| old(gift))
            .map(|(transfer, _)| *transfer)
            .collect();
        for transfer in old {
            self.unsent(transfer, out);
        }
    }

    /// What the guest had, it may have forgotten.
    pub fn lost(&mut self, out: &mut Outbox) {
        self.done.clear();
        for transfer in self.live.keys().copied().collect::<Vec<_>>() {
            self.unsent(transfer, out);
        }
    }
}
