//! Committing a durable overlay: its sectors become its base's, and it is gone.
//!
//! The overlay says that it is being committed before its base changes, and goes only when the base is
//! durable. Until then base and overlay together are the disk they always were, whatever part of the
//! sectors has moved, so a commit that was interrupted is simply done again.

use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;
use vdisk_xts::Xts;

use super::{Base, OpenOverlay, OverlayOptions, revert};
use crate::chain::Parents;
use crate::device::SECTOR;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{DiskKey, Format, Mode, OpenImage};
use crate::layer::{Layer, Place};
use crate::stack::StackedLayer;
use crate::store::Sharing;

/// Sectors moved at once.
const CHUNK: u64 = (1 << 20) / SECTOR;

/// A durable overlay to be written into its base.
pub struct CommitOverlay<'a> {
    /// The base's file.
    pub base: &'a Path,
    /// Its format, where it should not be found out.
    pub format: Option<Format>,
    /// Its key, if it is encrypted.
    pub key: Option<&'a DiskKey>,
    /// The overlay's file.
    pub overlay: &'a Path,
    /// How the base's own parents are opened, if it is a differencing disk.
    pub parents: Parents<'a>,
    /// See [`OverlayOptions::force_base`].
    pub force_base: bool,
}

/// What a commit moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Committed {
    /// Bytes written into the base.
    pub written: u64,
    /// Bytes that were made zero there.
    pub zeroed: u64,
}

impl CommitOverlay<'_> {
    /// Moves everything into the base and removes the overlay. `progress` is told how many of the disk's
    /// bytes are done and may stop the commit, which then has to be finished later.
    pub fn run(&self, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Committed> {
        let options = OverlayOptions {
            force_base: self.force_base,
            ..OverlayOptions::default()
        };
        // First, so that nobody writes the base after it was looked at.
        let base = OpenImage {
            path: self.base,
            format: self.format,
            mode: Mode::Keep,
            key: self.key,
        }
        .open_above(&self.parents)?
        .disk;
        let (overlay, overlay_key) = OpenOverlay {
            path: self.overlay,
            base: Base::of(self.base, self.format)?,
            base_key: self.key.map(|key| &key.key),
            sharing: Sharing::Exclusive,
            options: &options,
        }
        .open_for_commit()?;
        overlay.begin_commit()?;

        let source = StackedLayer::new(
            Box::new(overlay.clone()),
            overlay_key.as_ref().map(Xts::new),
        );
        let mut done = Committed::default();
        let mut buf = vec![0; (CHUNK * SECTOR) as usize];
        let (mut at, end) = (0, overlay.sectors());
        while at < end {
            let run = overlay.map(at, end - at)?;
            let mut sectors = run.sectors;
            match run.place {
                Place::Below => {}
                Place::Zero => {
                    base.write_zeroes(at * SECTOR, sectors * SECTOR)?;
                    done.zeroed += sectors * SECTOR;
                }
                Place::Here(offset) => {
                    sectors = sectors.min(CHUNK);
                    let buf = &mut buf[..(sectors * SECTOR) as usize];
                    source.read(at, offset, buf)?;
                    base.write_at(at * SECTOR, buf)?;
                    done.written += sectors * SECTOR;
                }
            }
            at += sectors;
            if progress(at * SECTOR).is_break() {
                return Err(Error::new(ErrorKind::Io, "stopped before the end")
                    .at_path(self.overlay)
                    .remedy(
                        "commit again to finish; until then the disk opens with its overlay only",
                    ));
            }
        }
        base.flush()?;
        drop((base, source, overlay));
        revert(self.overlay)?;
        Ok(done)
    }
}
