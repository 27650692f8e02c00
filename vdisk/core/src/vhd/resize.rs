//! Resizing: the disk's size is what its footer says, so that the footer's change is the change.

use std::sync::Arc;

use vdisk_xts::{Xts, XtsKey};

use super::edit::{Plan, end_at, replace_footers, switch_to};
use super::footer::{DiskType, FOOTER_LEN, Footer};
use super::geometry::Geometry;
use super::growing::Growing;
use super::header::{MAX_ENTRIES, UNUSED};
use super::open::{FooterPlace, find_footer, footer_at};
use crate::device::{BlockDevice, ExtentKind, SECTOR};
use crate::error::{Error, ErrorKind, Result};
use crate::flat::Flat;
use crate::progress::{Progress, tell};
use crate::stack::{Stack, StackedLayer};
use crate::store::Store;

/// Bytes looked at or written at once.
const CHUNK: u64 = 2 << 20;

/// Gives the fixed or dynamic disk in `store` another size. What a smaller disk cuts off must read as
/// zeros, unless `force` says that it may go. Without force and for growing encrypted fixed disks, the key
/// is needed if there is one.
///
/// A power cut, or a stop, leaves the disk with its old size or its new one, and it can be resized again.
pub fn resize(
    store: Arc<dyn Store>,
    size: u64,
    key: Option<&XtsKey>,
    force: bool,
    progress: Progress<'_>,
) -> Result<Footer> {
    if size == 0 || !size.is_multiple_of(SECTOR) || size > super::MAX_SIZE {
        return Err(Error::new(
            ErrorKind::InvalidRequest,
            format!(
                "a VHD cannot have {size} bytes: it takes whole 512-byte sectors, up to 2040 GiB"
            ),
        ));
    }
    let footer = super::open(store.clone(), false)?.footer;
    let old = footer.current_size;
    if footer.disk_type == DiskType::Differencing {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a differencing disk has the size of its parent",
        )
        .remedy("commit it into its parent, or convert it, and resize that"));
    }
    if size == old && footer.disk_type != DiskType::Fixed {
        return Ok(footer);
    }
    if size < old && !force {
        check_empty(&store, size, old, key, progress)?;
    }
    let new = Footer {
        current_size: size,
        geometry: Geometry::for_sectors(size / SECTOR),
        ..footer
    };
    match new.disk_type {
        DiskType::Fixed => resize_fixed(store.clone(), &new, old, key, progress)?,
        _ => resize_growing(store.clone(), &new, old)?,
    }
    Ok(super::open(store, true)?.footer)
}

fn stamped(footer: &Footer, original: &[u8; FOOTER_LEN]) -> [u8; FOOTER_LEN] {
    let mut bytes = footer.to_bytes_over(original);
    Footer::stamp(&mut bytes);
    bytes
}

fn check_empty(
    store: &Arc<dyn Store>,
    from: u64,
    to: u64,
    key: Option<&XtsKey>,
    progress: Progress<'_>,
) -> Result<()> {
    let layer = super::open(store.clone(), true)?.into_layer();
    let stack = Stack::new(
        vec![StackedLayer::new(layer, key.map(Xts::new))],
        true,
        "resize",
    )?;
    let mut buf = vec![0; CHUNK.min(to - from) as usize];
    for at in (from..to).step_by(CHUNK as usize) {
        tell(progress, at - from)?;
        let len = CHUNK.min(to - at);
        let mut data = false;
        stack.extents(at, len, &mut |e| data |= e.kind == ExtentKind::Data)?;
        if !data {
            continue;
        }
        let buf = &mut buf[..len as usize];
        stack.read_at(at, buf)?;
        if let Some(i) = buf.iter().position(|b| *b != 0) {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "what would be cut off is not empty",
            )
            .at_offset(at + i as u64)
            .remedy(
                "shrink partitions and file systems first, or force it and lose what is there",
            ));
        }
    }
    Ok(())
}

fn resize_fixed(
    store: Arc<dyn Store>,
    new: &Footer,
    old: u64,
    key: Option<&XtsKey>,
    progress: Progress<'_>,
) -> Result<()> {
    let Some((_, FooterPlace::End(at))) = find_footer(&*store)? else {
        return Err(Error::corrupt("the VHD's footer is missing"));
    };
    let original = footer_at(&*store, at, FOOTER_LEN)?;
    let footer = stamped(new, &original);
    let size = new.current_size;
    if size == old {
        // What a resize that was cut left behind the end goes.
        let plan = match at > size {
            true => end_at(size, &original),
            false => Plan::default(),
        };
        return plan.carry_out(&*store);
    }
    if size < old {
        // First the size, where the footer is; then the footer moves to what the disk no longer has.
        return Plan::default()
            .write(at, footer)
            .sync()
            .then(end_at(size, &footer))
            .carry_out(&*store);
    }
    // The footer as it is moves out of the way of the new sectors, and tells the new size only when they
    // read as zeros. Stopped before that, the disk is the old one in a longer file.
    if size > at {
        let moved = Plan::default().write(size, original).sync();
        moved.carry_out(&*store)?;
    }
    fill(store.clone(), old, size, key, progress)?;
    end_at(size, &footer).carry_out(&*store)
}

/// Has the bytes of a flat disk read as zeros, whatever the file has there.
fn fill(
    store: Arc<dyn Store>,
    from: u64,
    to: u64,
    key: Option<&XtsKey>,
    progress: Progress<'_>,
) -> Result<()> {
    let layer = StackedLayer::new(Box::new(Flat::new(store, to / SECTOR)), key.map(Xts::new));
    let stack = Stack::new(vec![layer], false, "resize")?;
    for at in (from..to).step_by(CHUNK as usize) {
        tell(progress, at - from)?;
        stack.write_zeroes(at, CHUNK.min(to - at))?;
    }
    stack.flush()
}

fn resize_growing(store: Arc<dyn Store>, new: &Footer, old: u64) -> Result<()> {
    let image = Growing::take(store)?;
    let block_size = u64::from(image.layout.header.block_size);
    let blocks = new.current_size.div_ceil(block_size);
    if blocks > MAX_ENTRIES {
        let size = block_size * MAX_ENTRIES;
        return Err(Error::new(
            ErrorKind::InvalidRequest,
            format!("with blocks of {block_size} bytes the disk cannot grow past {size} bytes"),
        )
        .remedy("convert it into a new image, whose blocks are larger"));
    }
    let entries = blocks as u32;
    let new = Footer {
        header_offset: image.footer.header_offset,
        ..new.clone()
    };
    let footer = stamped(&new, &image.bytes);
    let switched = Footer::parse(&footer)?;
    if new.current_size < old {
        // First the size, then what lies beyond it.
        let plan = replace_footers(image.footer_at, &footer);
        let cut: Vec<_> = (blocks as usize..image.layout.table.len())
            .map(|block| (block, UNUSED))
            .collect();
        let image = Growing {
            footer: switched,
            ..image
        };
        let dropped = image.entries(cut);
        let image = image.change(&plan.then(dropped))?;
        forget_past(&image, new.current_size)?;
        Growing::read(image.store)?.trim()?;
        return Ok(());
    }
    forget_past(&image, old)?;
    let image = Growing::read(image.store)?;
    let image = match image.layout.header.entries >= entries {
        true => {
            let stray = (image.layout.table.len()..blocks as usize).map(|b| (b, UNUSED));
            let plan = image
                .entries(stray)
                .then(replace_footers(image.footer_at, &footer));
            image.change(&plan)?
        }
        false => {
            let at = image.free_from();
            let metadata = image.metadata_at(at, entries)?;
            let plan = switch_to(at, metadata, &switched, &footer);
            image.change(&plan)?
        }
    };
    image.trim()?;
    Ok(())
}

/// The last block's sectors past the end of the disk count as never written: they are in no disk now,
/// and should one grow over them again, they shall read as zeros.
fn forget_past(image: &Growing, size: u64) -> Result<()> {
    let header = &image.layout.header;
    let within = size % u64::from(header.block_size);
    let last = (size / u64::from(header.block_size)) as usize;
    let entry = image.layout.table.get(last).copied().unwrap_or(UNUSED);
    if within == 0 || entry == UNUSED {
        return Ok(());
    }
    let slot = u64::from(entry) * SECTOR;
    let mut bitmap = vec![0; header.bitmap_len() as usize];
    image.store.read_at(slot, &mut bitmap)?;
    let bits = (within / SECTOR) as usize;
    let mut cut = bitmap.clone();
    if !bits.is_multiple_of(8) {
        cut[bits / 8] &= !(0xff >> (bits % 8));
    }
    cut[bits.div_ceil(8)..].fill(0);
    if cut.iter().all(|b| *b == 0) {
        let plan = image.entries([(last, UNUSED)]);
        return plan.carry_out(&*image.store);
    }
    if cut != bitmap {
        Plan::default()
            .write(slot, cut)
            .sync()
            .carry_out(&*image.store)?;
    }
    // For readers that ignore bitmaps.
    let data = slot + header.bitmap_len();
    image
        .store
        .punch(data + within, u64::from(header.block_size) - within)
}
