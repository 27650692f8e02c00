//! What the guest is told on the control channel, with whatever the message borrows.
use medley_wire::control::{self, FileOffer, FromHost};
use medley_wire::{AppId, List, Text, Untrusted};

/// A message for the guest.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// One that borrows nothing.
    Plain(FromHost<'static>),
    /// A file that it may have.
    Offer {
        /// The number of what follows.
        transfer: u32,
        /// How many bytes.
        size: u64,
        /// What it is called.
        name: String,
    },
}

impl Word {
    /// The message.
    #[must_use]
    pub fn message(&self) -> FromHost<'_> {
        match self {
            Self::Plain(message) => message.clone(),
            Self::Offer {
                transfer,
                size,
                name,
            } => FileOffer {
                transfer: *transfer,
                size: Untrusted::claim(*size),
                name: Untrusted::claim(Text::cut(name)),
            }
            .into(),
        }
    }
}

/// An app to be launched, with what it shall open. Whoever counts launches gives it its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The app.
    pub app: AppId,
    /// Which of its actions; zero is the app itself.
    pub action: u8,
    /// Addresses for it to open, each no longer than the wire takes.
    pub arguments: Vec<String>,
    /// Files for it to open: numbers of transfers that are done.
    pub files: Vec<u32>,
}

impl Launch {
    /// Only the app.
    #[must_use]
    pub const fn app(app: AppId) -> Self {
        Self {
            app,
            action: 0,
            arguments: Vec::new(),
            files: Vec::new(),
        }
    }

    /// The message, with the launch's number.
    #[must_use]
    pub fn message(&self, request: u32) -> control::Launch<'_> {
        control::Launch {
            request,
            app: self.app,
            action: self.action,
            arguments: List::new(self.arguments.iter().map(|a| Text::cut(a)).collect()),
            files: List::new(self.files.clone()),
        }
    }
}
