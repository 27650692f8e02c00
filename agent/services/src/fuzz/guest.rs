//! What a guest does: mostly what it may, now and then what it may not.
use super::{COPY, Offered, Play, Stream};
use medley_wire::bulk::{Cancel, Carries, Chunk, End, Open, Received};
use medley_wire::control::{
    Answer, Care, FileOffer, Ink, OpenUrl, PageRange, PrintFormat, PrintJob, PrintTicket, Sides,
    Verdict,
};
use medley_wire::limits::{CHUNK_BYTES, STREAMS};
use medley_wire::{Bytes, Dice, List, Text, Untrusted};

static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

impl Play<'_> {
    pub(super) fn offer(&mut self) {
        let transfer = self.dice.below(40);
        let sane = self.dice.below(64) != 0;
        if sane && self.offered.contains_key(&transfer) {
            return;
        }
        let size = Untrusted::claim(self.size());
        if self.dice.below(2) == 0 {
            let name = ["a.txt", "b.pdf", "c d.odt", "../x", ".y"][self.dice.below(5) as usize];
            let name = Untrusted::claim(Text::cut(name));
            let offer = FileOffer {
                transfer,
                size,
                name,
            };
            self.say(&offer.into());
        } else {
            if self.dice.below(2) == 0 {
                self.ticket(transfer);
            }
            let job = PrintJob {
                transfer,
                size,
                format: PrintFormat::Pdf,
                copies: self.dice.below(3) as u16,
                pages: self.dice.below(9),
                title: Untrusted::claim(Text::cut("a title")),
            };
            self.say(&job.into());
        }
    }

    fn ticket(&mut self, transfer: u32) {
        let range = |dice: &mut Dice<'_>| PageRange {
            first: dice.below(9),
            last: dice.below(9),
        };
        let ranges = (0..self.dice.below(3)).map(|_| range(&mut self.dice));
        let ranges = List::new(ranges.collect());
        let paper = ["", "iso_a4_210x297mm", "\u{202e}"][self.dice.below(3) as usize];
        let ticket = PrintTicket {
            transfer,
            sides: Sides::ShortEdge,
            ink: Ink::Usual,
            care: Care::Draft,
            paper: Untrusted::claim(Text::cut(paper)),
            ranges,
        };
        self.say(&ticket.into());
    }

    pub(super) fn size(&mut self) -> u64 {
        let most = [8, 3000, 700_000, 1 << 21][self.dice.below(4) as usize];
        self.dice.below(most).into()
    }

    pub(super) fn url(&mut self) {
        let n = self.dice.below(4);
        let url = format!("https://example.org/{n}");
        let url = Untrusted::claim(Text::cut(&url));
        self.say(&OpenUrl { url }.into());
    }

    pub(super) fn answer(&mut self) {
        let verdict = match self.dice.below(5) {
            0 => Verdict::Declined,
            _ => Verdict::Yes,
        };
        let nth = self.dice.below(self.gifts.len().max(1) as u32) as usize;
        let transfer = if nth < self.gifts.len() {
            self.gifts.swap_remove(nth)
        } else {
            self.dice.below(u32::MAX)
        };
        self.say(&Answer { transfer, verdict }.into());
    }

    pub(super) fn open(&mut self) {
        let stream = self.dice.below(STREAMS as u32) as u8;
        let sane = self.dice.below(64) != 0;
        if sane && self.streams[usize::from(stream)].is_some() {
            return;
        }
        let welcome = |offered: &Offered| offered.welcome || !sane;
        let nth = self.dice.below(4) as usize;
        let next = self.offered.iter().filter(|(_, o)| welcome(o)).nth(nth);
        let (transfer, carries, size) = match next {
            Some((transfer, offered)) => (*transfer, offered.carries, offered.size),
            // A paste, perhaps one that nobody waits for any more; a file that is long gone.
            None if sane => {
                let size = self.dice.below(COPY as u32).into();
                (self.dice.below(8), Carries::Clipboard, size)
            }
            None => (500, Carries::File, self.size()),
        };
        // Pastes have numbers of their own.
        if carries != Carries::Clipboard {
            self.offered.remove(&transfer);
        }
        let sent = 0;
        self.streams[usize::from(stream)] = Some(Stream { size, sent });
        let size = Untrusted::claim(size);
        let open = Open {
            stream,
            transfer,
            carries,
            size,
        };
        self.bulk(&open.into());
    }

    /// The guest's streams go on, or end.
    pub(super) fn send(&mut self) {
        let stream = self.dice.below(STREAMS as u32) as u8;
        let Some(open) = &mut self.streams[usize::from(stream)] else {
            return;
        };
        let (offset, size) = (open.sent, open.size);
        if self.dice.below(64) == 0 {
            self.streams[usize::from(stream)] = None;
            self.bulk(&Cancel { stream, own: true }.into());
        } else if offset == size {
            self.streams[usize::from(stream)] = None;
            let size = size + u64::from(self.dice.below(128) == 127);
            self.bulk(&End { stream, size }.into());
        } else {
            let most = (size - offset).min(CHUNK_BYTES as u64);
            let length = u64::from(self.dice.below(CHUNK_BYTES as u32) + 1);
            let length = if self.dice.below(2) == 0 {
                most
            } else {
                length.min(most)
            };
            open.sent += length;
            let data = Bytes(&ZEROS[..length as usize]);
            let chunk = Chunk {
                stream,
                offset,
                data,
            };
            self.bulk(&chunk.into());
        }
    }

    /// The guest has dealt with what it was sent, or does not want it.
    pub(super) fn acknowledge(&mut self) {
        let stream = self.dice.below(STREAMS as u32) as u8;
        let bytes = self.line.acknowledge(stream);
        if self.dice.below(32) == 0 {
            self.bulk(&Cancel { stream, own: false }.into());
        } else {
            self.bulk(&Received { stream, bytes }.into());
        }
    }
}
