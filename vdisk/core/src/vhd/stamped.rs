//! A fixed disk's footer tells when it was written to, so that children notice: its timestamp changes,
//! durably, before a session's first change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::footer::{FOOTER_LEN, Footer};
use crate::error::Result;
use crate::layer::{Frozen, Layer, Published, Reservation, Run, Zeroed};
use crate::store::{Store, Synced};

/// A layer with a footer behind its payload.
pub struct Stamped<L> {
    layer: L,
    footer: [u8; FOOTER_LEN],
    footer_at: u64,
    stamped: AtomicBool,
    stamping: Mutex<()>,
}

impl<L: Layer> Stamped<L> {
    /// A layer whose store has this footer at this offset.
    pub(super) fn new(layer: L, footer: [u8; FOOTER_LEN], footer_at: u64) -> Self {
        Self {
            layer,
            footer,
            footer_at,
            stamped: AtomicBool::new(false),
            stamping: Mutex::default(),
        }
    }

    /// Changes the timestamp on the medium, the first time it is called.
    fn stamp(&self) -> Result<()> {
        if self.stamped.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.stamping.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.stamped.load(Ordering::Relaxed) {
            let mut footer = self.footer;
            Footer::stamp(&mut footer);
            // The only footer there is: a sector is written whole or not at all, so one is valid throughout.
            self.layer.store().write_at(self.footer_at, &footer)?;
            self.layer.store().sync()?;
            self.stamped.store(true, Ordering::Release);
        }
        Ok(())
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
        self.stamp()?;
        self.layer.reserve(first, max)
    }

    fn publish(&self, reservation: &Reservation) -> Result<Published> {
        self.layer.publish(reservation)
    }

    fn zero(&self, first: u64, max: u64, plain: bool) -> Result<Zeroed> {
        self.stamp()?;
        self.layer.zero(first, max, plain)
    }

    fn freeze(&self) -> Result<Frozen> {
        self.layer.freeze()
    }

    fn persist(&self, frozen: Synced<Frozen>) -> Result<()> {
        self.layer.persist(frozen)
    }
}
