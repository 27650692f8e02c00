//! What a check says.

use serde::Serialize;

use super::super::edit::Plan;
use crate::image::Format;

/// The classes of damage. In the order in which they are repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Damage {
    /// No footer is left, neither at the end nor at the start.
    FootersLost,
    /// A footer is whole but its version or disk type is none we know.
    UnknownKind,
    /// A fixed disk's file is shorter than the disk, or has lost its footer.
    FixedCut,
    /// The footer at the end is missing or damaged; its copy at the start is whole.
    FooterMissing,
    /// The footer lacks its last byte, as the format's first writers left it.
    FooterShort,
    /// The copy of the footer at the start is damaged.
    CopyDamaged,
    /// Both footers are whole but say different things.
    FootersDiffer,
    /// The footer's geometry is not that of a disk of its size.
    GeometryWrong,
    /// The dynamic header is not where the footer says, or is damaged.
    HeaderDamaged,
    /// The block table has fewer entries than the disk has blocks.
    TableTooSmall,
    /// The block table lies outside the file, or over other metadata.
    TableMisplaced,
    /// A block lies over the image's metadata.
    BlockInMetadata,
    /// Two blocks lie over each other.
    BlocksOverlap,
    /// A block lies past the end of the file, in whole or in part.
    BlockPastEnd,
    /// The block table names blocks past the end of the disk.
    StrayEntries,
    /// A block's bitmap has bits past the end of the block.
    BitmapPadding,
    /// A block has a place in the file but none of its sectors was written.
    BitmapEmpty,
    /// The end of the file belongs to nothing: a block that a crash or a discard left behind.
    LeakedSpace,
    /// A parent locator lies outside the file, or is too long or empty.
    LocatorBroken,
    /// The parent cannot be found or opened.
    ParentMissing,
    /// What is found in the parent's place is another disk, or one of another size.
    ParentMismatch,
    /// The parent was written to since the child was made.
    ParentModified,
}

impl Damage {
    /// Every class.
    pub const ALL: [Self; 22] = [
        Self::FootersLost,
        Self::UnknownKind,
        Self::FixedCut,
        Self::FooterMissing,
        Self::FooterShort,
        Self::CopyDamaged,
        Self::FootersDiffer,
        Self::GeometryWrong,
        Self::HeaderDamaged,
        Self::TableTooSmall,
        Self::TableMisplaced,
        Self::BlockInMetadata,
        Self::BlocksOverlap,
        Self::BlockPastEnd,
        Self::StrayEntries,
        Self::BitmapPadding,
        Self::BitmapEmpty,
        Self::LeakedSpace,
        Self::LocatorBroken,
        Self::ParentMissing,
        Self::ParentMismatch,
        Self::ParentModified,
    ];

    /// What a person can do who does not let it be repaired, or cannot.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::FootersLost | Self::FixedCut | Self::TableMisplaced => {
                "fetch the file again; if the disk is known to be whole, open it as a raw disk"
            }
            Self::UnknownKind => "use the program that made it",
            Self::FooterMissing | Self::FooterShort | Self::CopyDamaged | Self::FootersDiffer => {
                "repair it; opening the disk for writing does so too"
            }
            Self::GeometryWrong | Self::StrayEntries | Self::BitmapPadding | Self::BitmapEmpty => {
                "repair it"
            }
            Self::LeakedSpace => "repair it, or compact the disk",
            Self::HeaderDamaged | Self::TableTooSmall => "repair it, or fetch the file again",
            Self::BlockInMetadata | Self::BlocksOverlap => {
                "convert it into a new image, which saves what is readable"
            }
            Self::BlockPastEnd => "fetch the file again; or repair it and accept the loss",
            Self::LocatorBroken => "repair it, or rebase it onto its parent",
            Self::ParentMissing | Self::ParentMismatch => {
                "put the right parent beside it, or rebase it to where that is now"
            }
            Self::ParentModified => {
                "bring back the parent as it was, or rebase it if you know that nothing changed"
            }
        }
    }
}

/// Whether damage can be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// Yes, and nothing is lost.
    Safe,
    /// Only by giving up what the file no longer has.
    Loses,
    /// No, for this reason.
    Refused(&'static str),
}

/// One piece of damage.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Its class.
    pub damage: Damage,
    /// What exactly is wrong.
    pub what: String,
    /// The byte of the file where it is.
    pub offset: Option<u64>,
    /// The block it concerns.
    pub block: Option<u64>,
    /// How many of the disk's sectors it concerns.
    pub sectors: u64,
    /// Whether it can be repaired.
    pub repair: Repair,
    /// What to do otherwise.
    pub remedy: &'static str,
    /// The writes that repair it.
    #[serde(skip)]
    pub(super) plan: Plan,
}

impl Finding {
    pub(super) fn new(damage: Damage, what: impl Into<String>) -> Self {
        Self {
            damage,
            what: what.into(),
            offset: None,
            block: None,
            sectors: 0,
            repair: Repair::Refused("what belongs there is not known"),
            remedy: damage.remedy(),
            plan: Plan::default(),
        }
    }

    pub(super) fn at(self, offset: u64) -> Self {
        Self {
            offset: Some(offset),
            ..self
        }
    }

    pub(super) fn block(self, block: usize, sectors: u64) -> Self {
        Self {
            block: Some(block as u64),
            sectors,
            ..self
        }
    }

    pub(super) fn sectors(self, sectors: u64) -> Self {
        Self { sectors, ..self }
    }

    pub(super) fn mended_by(self, plan: Plan) -> Self {
        Self {
            repair: Repair::Safe,
            plan,
            ..self
        }
    }

    pub(super) fn lost_by(self, plan: Plan) -> Self {
        Self {
            repair: Repair::Loses,
            plan,
            ..self
        }
    }

    pub(super) fn refused(self, why: &'static str) -> Self {
        Self {
            repair: Repair::Refused(why),
            ..self
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The image's format, as far as it can be told.
    #[serde(serialize_with = "format_name")]
    pub format: Option<Format>,
    /// Damage, in the order in which it is repaired; empty for a sound image.
    pub findings: Vec<Finding>,
    /// Bytes between blocks that nothing uses: what was discarded, and other writers' padding. No damage.
    pub unused: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

fn format_name<S: serde::Serializer>(format: &Option<Format>, to: S) -> Result<S::Ok, S::Error> {
    format.map(Format::name).serialize(to)
}

/// What a repair did.
#[derive(Debug, Clone, Serialize)]
pub struct Repaired {
    /// The classes that were mended, in that order.
    pub repaired: Vec<Damage>,
    /// What was wrong before.
    pub before: Vec<Finding>,
    /// What a new check found.
    pub after: Report,
}
