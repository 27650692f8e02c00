//! Whose bytes a repair would write: parts of a damaged image may lie over each other, and then what
//! mends the one changes the other.

use super::super::edit::Step;
use super::super::layout::{Layout, Region, Use};
use super::report::{Finding, Repair};

const SHARED: &str = "another part of the image lies there too";

/// Who owns which bytes of an image.
pub(super) struct Ground {
    metadata: Vec<Region>,
    /// Where blocks start with their bitmaps, in order, and how long each is.
    slots: Vec<u64>,
    slot_len: u64,
    payload_end: u64,
}

impl Ground {
    pub fn of(layout: &Layout) -> Self {
        let mut metadata = layout.metadata();
        metadata.retain(|region| layout.holds(region));
        // Some writers do not pad the table to a whole sector: what follows its last entry is another's.
        for table in metadata.iter_mut().filter(|r| r.used == Use::Table) {
            table.end = table.start + u64::from(layout.header.entries) * 4;
        }
        Self {
            metadata,
            slots: layout.slots().into_iter().map(|(start, _)| start).collect(),
            slot_len: layout.slot_len(),
            payload_end: layout.payload_end,
        }
    }

    /// The finding as it is, or refused where its repair would write more than one part's bytes.
    pub fn judge(&self, finding: Finding) -> Finding {
        let shared = finding.plan.0.iter().any(|step| match step {
            Step::Write(at, bytes) => self.shared(*at, at + bytes.len() as u64),
            Step::SetLen(_) | Step::Sync => false,
        });
        match finding.repair {
            Repair::Safe | Repair::Loses if shared => finding.refused(SHARED),
            _ => finding,
        }
    }

    /// Whether bytes belong to more than one part; those past the payload are a footer's, or nobody's.
    fn shared(&self, start: u64, end: u64) -> bool {
        let meets = |region: &&Region| region.start < end && start < region.end;
        let metadata = self.metadata.iter().filter(meets).count();
        let after = |at: u64| self.slots.partition_point(|slot| *slot < at);
        // Slots are of one length: those that start less than it before these bytes reach into them.
        let blocks = after(end) - after((start + 1).saturating_sub(self.slot_len));
        metadata + blocks + usize::from(start >= self.payload_end) > 1
    }
}
