//! A fixed disk's footer tells when it was written to, so that children notice: its timestamp changes
//! with the first flush that has something to flush.

use std::sync::atomic::{AtomicBool, Ordering};

use super::footer::{FOOTER_LEN, Footer};
use crate::error::Result;
use crate::layer::{Frozen, Layer, Published, Reservation, Run, Zeroed};
use crate::store::{Store, Synced};

/// A layer with a footer behind its payload.
pub struct Stamped<L> {
    layer: L,
    footer: [u8; FOOTER_LEN],
    footer_at: u64,
    touched: AtomicBool,
    stamped: AtomicBool,
}

impl<L: Layer> Stamped<L> {
    /// A layer whose store has this footer at this offset.
    pub(super) fn new(layer: L, footer: [u8; FOOTER_LEN], footer_at: u64) -> Self {
        Self {
            layer,
            footer,
            footer_at,
            touched: AtomicBool::new(false),
            stamped: AtomicBool::new(false),
        }
    }

    fn touch(&self) {
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }
}

impl<L: Layer> Layer for Stamped<L> {
    fn sectors(&self) -> u64 {
        self.layer.sectors()
    }

    fn store(&self) -> &dyn Store {
        self.layer.store()
    }

    fn sparse(&self) -> bool {
        self.layer.sparse()
    }

    fn map(&self, first: u64, max: u64) -> Result<Run> {
        self.layer.map(first, max)
    }

    fn reserve(&self, first: u64, max: u64) -> Result<Reservation> {
        self.touch();
        self.layer.reserve(first, max)
    }

    fn publish(&self, reservation: &Reservation) -> Result<Published> {
        self.layer.publish(reservation)
    }

    fn zero(&self, first: u64, max: u64, plain: bool) -> Result<Zeroed> {
        self.touch();
        self.layer.zero(first, max, plain)
    }

    fn freeze(&self) -> Result<Frozen> {
        // The only footer there is: a sector is written whole or not at all, so one is valid throughout.
        if self.touched.load(Ordering::Relaxed) && !self.stamped.load(Ordering::Relaxed) {
            let mut footer = self.footer;
            Footer::stamp(&mut footer);
            self.layer.store().write_at(self.footer_at, &footer)?;
            self.stamped.store(true, Ordering::Relaxed);
        }
        self.layer.freeze()
    }

    fn persist(&self, frozen: Synced<Frozen>) -> Result<()> {
        self.layer.persist(frozen)
    }
}
