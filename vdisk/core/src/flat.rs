//! The layer without metadata: sector N lies at byte N × 512. Raw images and fixed VHDs are flat.

use std::sync::Arc;

use crate::device::SECTOR;
use crate::error::Result;
use crate::layer::{Frozen, Layer, Place, Published, Reservation, Run, Zeroed};
use crate::store::{Store, Synced};

/// Sectors zeroed at once: 64 MiB.
const ZERO_AT_ONCE: u64 = (64 << 20) / SECTOR;

/// Sectors one after the other from the start of a store.
pub struct Flat {
    store: Arc<dyn Store>,
    sectors: u64,
}

impl Flat {
    /// The first `sectors` sectors of `store`, which must be that long.
    pub fn new(store: Arc<dyn Store>, sectors: u64) -> Self {
        Self { store, sectors }
    }
}

impl Layer for Flat {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn sparse(&self) -> bool {
        true
    }

    fn map(&self, first: u64, max: u64) -> Result<Run> {
        Ok(Run {
            sectors: max,
            place: Place::Here(first * SECTOR),
        })
    }

    fn reserve(&self, first: u64, max: u64) -> Result<Reservation> {
        Ok(Reservation {
            first,
            sectors: max,
            offset: first * SECTOR,
            zero_fill: None,
        })
    }

    fn publish(&self, _: &Reservation) -> Result<Published> {
        Ok(Published::Yes)
    }

    fn zero(&self, first: u64, max: u64, plain: bool) -> Result<Zeroed> {
        if !plain {
            return Ok(Zeroed::NeedsWrite(max));
        }
        // The stack lets nobody else in meanwhile, and some systems write all of it.
        let sectors = max.min(ZERO_AT_ONCE);
        self.store.punch(first * SECTOR, sectors * SECTOR)?;
        Ok(Zeroed::Done(sectors))
    }

    fn freeze(&self) -> Result<Frozen> {
        Ok(Frozen::default())
    }

    fn persist(&self, _: Synced<Frozen>) -> Result<()> {
        Ok(())
    }
}
