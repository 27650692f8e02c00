//! Committing: what a child has goes into its parent, and the child is empty.

use std::sync::Arc;

use serde::Serialize;
use vdisk_xts::{DataUnit, Xts, XtsKey};

use super::compact::metadata_down;
use super::growing::Growing;
use super::header::UNUSED;
use crate::device::{Disk, SECTOR};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Place;
use crate::progress::{Progress, tell};
use crate::store::Store;

/// Bytes copied at once.
const CHUNK: usize = 1 << 20;

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Committed {
    /// Sectors that the parent took over.
    pub sectors: u64,
}

/// Writes what the child in `store` has into `parent`, its parent opened for writing, and empties it.
/// `timestamp` tells what the parent's footer says once all is flushed.
///
/// Interrupted, it may be started again: until the child is empty it says that it does not mind what time
/// its parent is from, and reads the same whether the parent has its sectors already or not.
pub fn commit(
    store: Arc<dyn Store>,
    key: Option<&XtsKey>,
    parent: &Disk,
    timestamp: &dyn Fn() -> Result<u32>,
    progress: Progress<'_>,
) -> Result<Committed> {
    let image = Growing::take(store.clone())?;
    let link = match &image.layout.link {
        Some(link) if parent.size() == image.footer.current_size => link.clone(),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::Parent,
                "parent and child differ in size",
            ));
        }
        None => {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "not a differencing disk: it has no parent",
            ));
        }
    };
    let image = match link.timestamp {
        0 => image,
        _ => image.with_parent_timestamp(0)?,
    };
    let sectors = copy(&store, key.map(Xts::new).as_ref(), parent, progress)?;
    parent.flush()?;

    let entries = (0..image.layout.table.len()).map(|block| (block, UNUSED));
    let plan = image.entries(entries);
    let timestamp = timestamp()?;
    let image = image.change(&plan)?.with_parent_timestamp(timestamp)?;
    metadata_down(image)?.trim()?;
    Ok(Committed { sectors })
}

fn copy(
    store: &Arc<dyn Store>,
    cipher: Option<&Xts>,
    parent: &Disk,
    progress: Progress<'_>,
) -> Result<u64> {
    let layer = super::open(store.clone(), true)?.into_layer();
    let mut buf = vec![0; CHUNK];
    let (mut at, mut copied) = (0, 0);
    while at < layer.sectors() {
        tell(progress, at * SECTOR)?;
        let run = layer.map(at, (layer.sectors() - at).min(CHUNK as u64 / SECTOR))?;
        if let Place::Here(offset) = run.place {
            let buf = &mut buf[..(run.sectors * SECTOR) as usize];
            store.read_at(offset, buf)?;
            if let Some(cipher) = cipher {
                cipher.decrypt(DataUnit::B512, at, buf);
            }
            match buf.iter().all(|b| *b == 0) {
                true => parent.write_zeroes(at * SECTOR, buf.len() as u64)?,
                false => parent.write_at(at * SECTOR, buf)?,
            }
            copied += run.sectors;
        }
        at += run.sectors;
    }
    Ok(copied)
}
