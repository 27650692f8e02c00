//! What a presenter tells its supervisor about services: one line of JSON each, `{"event":"…",…}`. Every text
//! was made fit for display; a supervisor makes it so once more, for a presenter that a guest has taken over
//! says what it likes.
use crate::order::Refusal;
use serde::{Deserialize, Serialize};

/// The language of a print job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// PDF.
    Pdf,
    /// PWG raster.
    Raster,
}

/// Which sides of a sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sides {
    /// One.
    One,
    /// Both, as a book is turned.
    LongEdge,
    /// Both, as a calendar is turned.
    ShortEdge,
}

/// How carefully.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Care {
    /// Fast.
    Draft,
    /// As usual.
    Normal,
    /// Slowly.
    High,
}

/// How something is to be printed, besides how often. What is not said is the printer's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ticket {
    /// On which sides.
    pub sides: Option<Sides>,
    /// In colour or not.
    pub colour: Option<bool>,
    /// How carefully.
    pub care: Option<Care>,
    /// On which paper, as the guest names it.
    pub paper: Option<String>,
    /// Only these pages, as the guest counts; all if there are none.
    pub ranges: Vec<(u32, u32)>,
}

/// How urgent a notification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// Not at all.
    Low,
    /// As most are.
    Normal,
    /// Very.
    Critical,
}

/// How a tray item wants to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// It may be hidden.
    Passive,
    /// It is shown.
    Active,
    /// It wants to be looked at.
    Attention,
}

/// An entry of a tray item's menu.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, not zero.
    pub id: u16,
    /// The entry whose menu it is in; zero is the first menu. Always one that came before.
    pub parent: u16,
    /// What it says; a line has no words.
    pub label: String,
    /// It can be chosen.
    pub enabled: bool,
    /// It has a mark that is on.
    pub checked: bool,
    /// It is a line.
    pub separator: bool,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The guest offers a file. [`Order::Take`](crate::Order::Take) or [`Order::Refuse`](crate::Order::Refuse) answers.
    FileOffered {
        /// Its number. No offer ever has one that another had, whatever number the guest gave it.
        transfer: u32,
        /// A name that passed [`medley_wire::FileName`].
        name: String,
        /// How many bytes.
        size: u64,
    },
    /// The guest wants to print. Answered as a file.
    PrintAsked {
        /// Its number, as a file's.
        transfer: u32,
        /// How many bytes.
        size: u64,
        /// In which language.
        format: Format,
        /// How often, at least once.
        copies: u16,
        /// How else.
        #[serde(default)]
        ticket: Ticket,
        /// How many pages, as the guest counts.
        pages: u32,
        /// What it is called.
        title: String,
    },
    /// All bytes of a transfer that was taken are in its file.
    Came {
        /// Which.
        transfer: u32,
        /// How many.
        size: u64,
    },
    /// A transfer that was taken, or was not answered yet, will not be whole.
    Broke {
        /// Which.
        transfer: u32,
    },
    /// What became of a file that was given: `None` if the guest has all of it.
    Given {
        /// Which.
        file: u32,
        /// Why the guest has it not.
        refused: Option<Refusal>,
    },
    /// The guest wants an address opened, which passed [`medley_wire::WebUrl`].
    Url {
        /// Which.
        url: String,
    },
    /// A notification, or what has changed about it.
    Note {
        /// Its number.
        note: u32,
        /// Whose: an app's id; all zeros for none.
        app: String,
        /// How urgent.
        urgency: Urgency,
        /// In a few words.
        summary: String,
        /// In more: lines, without markup.
        body: String,
        /// Its buttons.
        buttons: Vec<String>,
    },
    /// A notification is taken back.
    NoteGone {
        /// Its number.
        note: u32,
    },
    /// A tray item, or what has changed about it.
    Tray {
        /// Its number.
        item: u32,
        /// Whose: an app's id; all zeros for none.
        app: String,
        /// How it wants to be seen.
        look: Look,
        /// What it is called.
        title: String,
    },
    /// A tray item's picture.
    TrayIcon {
        /// The item's number.
        item: u32,
        /// Pixels across and down, at most [`TRAY_SIDE`].
        side: u16,
        /// Rows from top to bottom, four bytes each: opacity, red, green, blue, colours not multiplied with opacity;
        /// in base64.
        argb: String,
    },
    /// A tray item's whole menu.
    TrayMenu {
        /// The item's number.
        item: u32,
        /// Its entries, a menu before what is in it.
        entries: Vec<Entry>,
    },
    /// A tray item is gone.
    TrayGone {
        /// Its number.
        item: u32,
    },
    /// Something was asked for that is not allowed: `file`, `print`, `url`, `note`, `tray`.
    Refused {
        /// What.
        what: String,
    },
}

/// Bytes of an event's line: the longest are menus, and a guest's texts grow to three times their length when they
/// are made fit for display.
pub const LINE: usize = 128 << 10;

/// Pixels of a tray item's picture, across and down: the most that panels show.
pub const TRAY_SIDE: u16 = 48;
