//! Virtual Hard Disk images: the structures on disk, the growing layer, and how images are made,
//! opened and checked. Numbers on disk are big-endian; offsets in the block table count sectors.

mod bitmap;
pub mod check;
mod commit;
mod compact;
mod create;
mod dynamic;
mod edit;
mod footer;
mod geometry;
mod growing;
mod header;
mod layout;
mod locator;
mod open;
mod parent;
mod relink;
mod resize;
mod stamped;

pub use commit::{Committed, commit};
pub use compact::{Compacted, compact};
pub use create::{BLOCK_SIZE, Kind, NewParent, create, create_child};
pub use dynamic::Dynamic;
pub use footer::{DiskType, FOOTER_LEN, Footer};
pub use geometry::Geometry;
pub use header::{DynamicHeader, HEADER_LEN, UNUSED};
pub use locator::{MAX_LOCATOR, Platform, locators_for};
pub use open::{Opened, Payload, open, read_footer};
pub use parent::{Locator, ParentLink};
pub use relink::relink;
pub use resize::resize;
pub use stamped::Stamped;

/// The largest disk the format holds: 2040 GiB.
pub const MAX_SIZE: u64 = 2040 << 30;

/// The checksum of the format's structures: the ones' complement of the sum of all bytes, the four of
/// the checksum itself at `at` left out.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let sum = |part: &[u8]| {
        part.iter()
            .fold(0u32, |sum, b| sum.wrapping_add(u32::from(*b)))
    };
    !sum(bytes).wrapping_sub(sum(&bytes[at..at + 4]))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    (u64::from(be32(bytes, at)) << 32) | u64::from(be32(bytes, at + 4))
}
