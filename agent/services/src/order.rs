//! What a supervisor tells a presenter about services: one line of JSON each. An order that goes with a file has
//! the file's descriptor attached to its line (`SCM_RIGHTS`), for the presenter can open none itself.
use serde::{Deserialize, Serialize};

/// Why an offer is not taken, in the wire's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// A policy forbids it.
    Policy,
    /// It is too large.
    TooLarge,
    /// The name or the kind is not taken.
    Kind,
    /// Somebody said no.
    Declined,
    /// It failed.
    Failed,
}

/// Bytes of an order's line: the longest are launches with all the addresses that they may have.
pub const LINE: usize = 256 << 10;

/// What was done with a tray item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Click {
    /// The main button.
    Main,
    /// The middle button.
    Middle,
    /// The menu is wanted.
    Menu,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// Take what the guest offered: its bytes go to the attached descriptor. Answered by
    /// [`Event::Came`](crate::Event::Came) or [`Event::Broke`](crate::Event::Broke).
    Take {
        /// Its number, as the event gave it.
        transfer: u32,
    },
    /// Do not take it.
    Refuse {
        /// Its number, as the event gave it.
        transfer: u32,
        /// Why.
        verdict: Refusal,
    },
    /// Offer the guest the attached file. Answered by [`Event::Given`](crate::Event::Given).
    Give {
        /// How later orders and events call it.
        file: u32,
        /// What it is called: a name, no path.
        name: String,
        /// How many bytes it has.
        size: u64,
    },
    /// Nobody waits for a file any more: it is not given, unless the guest has it by now. Answered by
    /// [`Event::Given`](crate::Event::Given), as the order to give it; not at all if that was told before.
    Withdraw {
        /// Its number.
        file: u32,
    },
    /// Launch an app with addresses and with files that the guest was given and has, by
    /// [`Event::Given`](crate::Event::Given). Answered as the command `launch ID` is.
    Launch {
        /// The app's id.
        app: String,
        /// Which of its actions; zero is the app itself.
        #[serde(default)]
        action: u8,
        /// Addresses for it to open.
        #[serde(default)]
        arguments: Vec<String>,
        /// Files for it to open.
        #[serde(default)]
        files: Vec<u32>,
    },
    /// Somebody did something with a notification.
    NoteAnswer {
        /// Its number.
        note: u32,
        /// The button, counted from one; zero closed it.
        button: u8,
    },
    /// Somebody clicked on a tray item.
    TrayClick {
        /// Its number.
        item: u32,
        /// How.
        click: Click,
    },
    /// Somebody chose from a tray item's menu.
    TrayChoice {
        /// The item's number.
        item: u32,
        /// The entry's number.
        entry: u16,
    },
}

impl Order {
    /// Whether a descriptor belongs to it.
    #[must_use]
    pub const fn has_file(&self) -> bool {
        matches!(self, Self::Take { .. } | Self::Give { .. })
    }
}
