//! What a format is asked: where do these sectors lie, where may they be written, what is now true.
//! A layer keeps metadata and never moves payload; the [`Stack`](crate::stack::Stack) does that.

use crate::error::Result;
use crate::store::{Store, Synced};

/// Where sectors are, as one layer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this layer's store, from this byte on.
    Here(u64),
    /// Nowhere: they read as zeros.
    Zero,
    /// Not in this layer; the one below knows.
    Below,
}

/// The run of sectors that starts where a layer was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many sectors, at least 1.
    pub sectors: u64,
    /// Where all of them are; a run that is [`Place::Here`] is contiguous in the store.
    pub place: Place,
}

/// Leave to write a run of sectors at a place in the store. Nobody sees the sectors until the
/// reservation is published; one that is dropped instead leaves the disk as it was.
#[derive(Debug)]
#[must_use = "sectors are not visible until their reservation is published"]
pub struct Reservation {
    /// First sector of the disk.
    pub first: u64,
    /// How many, at least 1.
    pub sectors: u64,
    /// Byte offset in the store of the first; the others follow.
    pub offset: u64,
    /// Sectors near the run that read as zeros now and would not any more: the stack writes (encrypted)
    /// zeros to them before it publishes.
    pub zero_fill: Option<ZeroFill>,
}

/// Up to 32 neighbouring sectors, some of which need zeros written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZeroFill {
    /// The disk's sector that bit 0 stands for.
    pub first: u64,
    /// Byte offset of that sector in the store.
    pub offset: u64,
    /// Bit n: sector `first + n` needs zeros.
    pub mask: u32,
}

/// What became of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Published {
    /// The sectors are visible.
    Yes,
    /// Another writer was faster to change the same place: reserve, write and publish once more.
    Again,
}

/// How a run of sectors was made zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroed {
    /// This many sectors read as zeros now, by metadata or in the store.
    Done(u64),
    /// This many sectors need zeros written like any other data.
    NeedsWrite(u64),
}

/// Metadata that a layer set aside at the start of a flush, to be written after the data it speaks of
/// is durable.
#[derive(Debug, Default)]
pub struct Frozen {
    /// What to write where in the layer's store.
    pub writes: Vec<(u64, Vec<u8>)>,
    /// Offsets of space that nothing names any more once that is written.
    pub freed: Vec<u64>,
    /// Blocks whose state is wholly on the medium then, if nobody changes them meanwhile.
    pub settled: Vec<usize>,
}

/// A format.
///
/// Sector numbers and counts are within [`Layer::sectors`]; counts are at least 1. The stack holds a
/// shared gate around map/I-O and reserve/I-O/publish, and an exclusive one around [`Layer::zero`] and
/// [`Layer::discard`], so space that they free is never in use by a request in flight.
pub trait Layer: Send + Sync {
    /// Size of the disk in sectors.
    fn sectors(&self) -> u64;

    /// Where the payload lies.
    fn store(&self) -> &dyn Store;

    /// Whether runs that are [`Place::Here`] may be holes of the store: worth asking it. A format that maps
    /// what was never written itself says no, and spares a search of the file for every one of its blocks.
    fn sparse(&self) -> bool {
        false
    }

    /// Where the run of sectors from `first` is, at most `max` of them.
    fn map(&self, first: u64, max: u64) -> Result<Run>;

    /// Leave to write sectors from `first` on, at most `max` of them.
    fn reserve(&self, first: u64, max: u64) -> Result<Reservation>;

    /// Makes the sectors of a reservation visible, after its data was written.
    fn publish(&self, reservation: &Reservation) -> Result<Published>;

    /// Takes a reservation back whose data could not be written.
    fn cancel(&self, _reservation: &Reservation) {}

    /// Makes sectors from `first` on, at most `max`, read as zeros without writing payload where it can.
    /// `plain` says that the layer has no key, so that zeros in the store read as zeros.
    fn zero(&self, first: u64, max: u64, plain: bool) -> Result<Zeroed>;

    /// Gives up sectors from `first` on, at most `max`, that nobody wants any more: afterwards they read
    /// as anything that was ever there, or zeros. Says how many it dealt with, at least 1.
    fn discard(&self, first: u64, max: u64, plain: bool) -> Result<u64> {
        let (Zeroed::Done(sectors) | Zeroed::NeedsWrite(sectors)) = self.zero(first, max, plain)?;
        Ok(sectors)
    }

    /// Whether a flush has to reach the medium. A layer that a crash reverts anyway says no.
    fn durable(&self) -> bool {
        true
    }

    /// Starts a flush: sets aside the metadata as it is now, and writes what may travel together with
    /// data. Flushes never overlap. A freeze that fails has changed nothing: the next one tries again.
    fn freeze(&self) -> Result<Frozen>;

    /// Ends a flush: writes what was set aside and makes it durable too.
    fn persist(&self, frozen: Synced<Frozen>) -> Result<()>;
}
