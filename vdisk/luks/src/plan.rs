//! In which order a changed header reaches its file, so that a power cut between any two writes, or in the middle
//! of one, leaves a header that opens with the old passphrases or with the new.
//!
//! 1. New key material, into areas that no header in the file names. Sync.
//! 2. The copy that is stale, or else the primary. Sync. From here on it is the newest.
//! 3. The other copy. Sync.
//! 4. Only now are areas overwritten that the former header named. Sync.

use crate::Header;
use crate::binary::Copy;
use crate::header::Health;
use crate::metadata::Area;

/// One step of a plan, to be done in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write `bytes` at `offset` of the header file.
    Write {
        /// Position in the header file.
        offset: u64,
        /// What to write there.
        bytes: Vec<u8>,
    },
    /// Make everything written so far durable (`fdatasync`) before going on.
    Sync,
}

/// What differs between the header in memory and its file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    /// The file does not exist yet.
    pub new_file: bool,
    /// The copies were rewritten.
    pub changed: bool,
    /// Areas with new key material.
    pub filled: Vec<Area>,
    /// Areas given up, already overwritten in memory.
    pub wiped: Vec<Area>,
}

impl Header {
    /// The writes that bring the file to this header's state, in an order safe at every instant. Empty when
    /// there is nothing to do. Call [`Header::persisted`] after the last step; a plan that failed midway can be
    /// made and run again.
    ///
    /// A header fresh from [`Header::create`] is one write of everything: do it to a new file, then rename.
    pub fn update_plan(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.pending.new_file {
            steps.push(Step::Write {
                offset: 0,
                bytes: self.image.clone(),
            });
            steps.push(Step::Sync);
            return steps;
        }
        let stale = self.health != Health::Good;
        self.write_areas(&self.pending.filled, &mut steps);
        let (first, second) = match self.health {
            Health::Good | Health::PrimaryStale => (Copy::Primary, Copy::Secondary),
            Health::SecondaryStale => (Copy::Secondary, Copy::Primary),
        };
        if self.pending.changed || stale {
            self.write_areas(&[self.copy_area(first)], &mut steps);
        }
        if self.pending.changed {
            self.write_areas(&[self.copy_area(second)], &mut steps);
        }
        self.write_areas(&self.pending.wiped, &mut steps);
        steps
    }

    /// Notes that the last plan was carried out to its end.
    pub fn persisted(&mut self) {
        self.pending = Pending::default();
        self.health = Health::Good;
    }

    pub(crate) fn copy_area(&self, which: Copy) -> Area {
        let size = self.binary.copy_size;
        Area {
            offset: if which == Copy::Primary { 0 } else { size },
            size,
        }
    }

    /// Writes of these areas and a sync, or nothing if there are none.
    fn write_areas(&self, areas: &[Area], steps: &mut Vec<Step>) {
        for area in areas {
            let bytes = self
                .image
                .get(area.offset as usize..area.end() as usize)
                .unwrap_or_default();
            steps.push(Step::Write {
                offset: area.offset,
                bytes: bytes.to_vec(),
            });
        }
        if !areas.is_empty() {
            steps.push(Step::Sync);
        }
    }
}
