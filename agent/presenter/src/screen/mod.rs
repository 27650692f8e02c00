//! The host's display, whichever window system it has: what a back end does, and which of them it is.
//!
//! A back end shows what the [model](crate::model) wants and hears what the desktop and its user do. Everything
//! that it needs of the system it takes when it is opened: files are not opened once the guest is heard.
mod copy;
mod keymap;
mod server;

pub use copy::{Content, Form, Forms};
pub use keymap::Keymap;
pub use server::Server;

use crate::error::Result;
use crate::frame::{Frame, Look};
use crate::model::{Action, HostEvent, Layout, Model};
use crate::{wayland, x11};
use medley_wire::{AppId, Size, WindowId};
use nix::libc;
use nix::poll::PollFlags;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// How a workspace's windows look.
#[derive(Clone, Debug)]
pub struct Dress {
    /// The workspace's name.
    pub workspace: String,
    /// The ring's width.
    pub frame: Frame,
    /// The ring's colour and pattern.
    pub look: Look,
    /// What is written faintly over the guest's pixels.
    pub watermark: Option<String>,
}

/// What the display says.
#[derive(Debug, Default)]
pub struct Heard {
    /// For the model, in order.
    pub events: Vec<HostEvent>,
    /// The keyboard has another layout.
    pub keymap: bool,
    /// Somebody wants to unlock: ask who it is.
    pub unlock: bool,
    /// What happened to the host's clipboard, in order.
    pub clipboard: Vec<Said>,
    /// Whether anything came.
    pub any: bool,
}

/// What the host's clipboard says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Another app owns it now and has these forms, or nobody.
    Copied(Forms),
    /// A host's app wants the copy in a form; [`Screen::give`] answers.
    Pastes(u32, Form),
    /// What [`Screen::fetch`] asked for, if there is any.
    Got(Option<Content>),
}

/// An open display.
#[derive(Debug)]
pub enum Screen {
    /// X11.
    X11(Box<x11::Display>),
    /// Wayland.
    Wayland(Box<wayland::Display>),
}

/// Says the same to whichever it is.
macro_rules! either {
    ($screen:expr, $display:ident => $what:expr) => {
        match $screen {
            Screen::X11($display) => $what,
            Screen::Wayland($display) => $what,
        }
    };
}

impl Screen {
    /// Opens a display: of that kind, by that name or by the environment's.
    ///
    /// # Errors
    /// It cannot be opened, or is not one that windows can be shown on.
    pub fn open(server: Server, name: Option<&str>, dress: Dress) -> Result<Self> {
        match server::choose(server, name, &server::Environment::real()) {
            Server::Wayland => Self::wayland(name, dress),
            Server::X11 => Self::x11(name, dress),
            // Both are there: X11 if it answers, since there windows can be put where the guest has them.
            Server::Auto => Self::x11(name, dress.clone()).or_else(|first| {
                Self::wayland(name, dress).map_err(|second| {
                    tracing::warn!(%second, "neither X11 nor Wayland can be opened");
                    first
                })
            }),
        }
    }

    fn x11(name: Option<&str>, dress: Dress) -> Result<Self> {
        Ok(Self::X11(Box::new(x11::Display::open(name, dress)?)))
    }

    fn wayland(name: Option<&str>, dress: Dress) -> Result<Self> {
        let display = wayland::Display::open(name, dress)?;
        Ok(Self::Wayland(Box::new(display)))
    }

    /// What it is called in events.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::X11(_) => "x11",
            Self::Wayland(_) => "wayland",
        }
    }

    /// System calls that it needs besides those of the [sandbox](crate::sandbox)'s own list.
    #[must_use]
    pub const fn calls(&self) -> &'static [libc::c_long] {
        match self {
            Self::X11(_) => &[],
            Self::Wayland(_) => wayland::CALLS,
        }
    }

    /// The monitors as they are.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        either!(self, display => display.layout())
    }

    /// Descriptors to wait for, and for what; [`hear`](Self::hear) looks at all of them.
    #[must_use]
    pub fn fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        either!(self, display => display.fds())
    }

    /// When [`hear`](Self::hear) has something to say, even if nothing comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::X11(_) => None,
            Self::Wayland(display) => display.deadline(),
        }
    }

    /// Takes all that is there to be heard.
    ///
    /// # Errors
    /// The display is gone.
    pub fn hear(&mut self) -> Result<Heard> {
        either!(self, display => display.hear())
    }

    /// Does what the model wants.
    ///
    /// # Errors
    /// The display is gone.
    pub fn act(&mut self, action: Action, model: &Model) -> Result<()> {
        either!(self, display => display.act(action, model))
    }

    /// Paints what is due. Tells whether all of it is on the screen now, or will never be: if not, the display
    /// is not ready for more yet, and says so by an event.
    ///
    /// # Errors
    /// The display is gone.
    pub fn paint(&mut self, model: &Model) -> Result<bool> {
        either!(self, display => display.paint(model))
    }

    /// An app's icon: for its windows that are there, and for those that will be.
    ///
    /// # Errors
    /// The display is gone.
    pub fn icon(
        &mut self,
        app: AppId,
        windows: &[WindowId],
        size: Size,
        pixels: &[u8],
    ) -> Result<()> {
        either!(self, display => display.icon(app, windows, size, pixels))
    }

    /// The keyboard's layout, if it has one that can be named.
    ///
    /// # Errors
    /// The display is gone.
    pub fn keymap(&self) -> Result<Option<Keymap>> {
        either!(self, display => display.keymap())
    }

    /// From now on the clipboard is heard, as far as copies have one of these forms. Tells what some app has copied
    /// already.
    ///
    /// # Errors
    /// The display is gone.
    pub fn clipboard(&mut self, wanted: Forms) -> Result<Forms> {
        either!(self, display => display.clipboard(wanted))
    }

    /// The guest's copy becomes the host's, in these forms.
    ///
    /// # Errors
    /// The display is gone.
    pub fn own(&mut self, forms: Forms) -> Result<()> {
        either!(self, display => display.own(forms))
    }

    /// It is the host's no longer.
    ///
    /// # Errors
    /// The display is gone.
    pub fn disown(&mut self) -> Result<()> {
        either!(self, display => display.disown())
    }

    /// Asks the clipboard's owner for its copy, of which not many more bytes than that are kept; one at a time.
    ///
    /// # Errors
    /// The display is gone.
    pub fn fetch(&mut self, form: Form, most: u64) -> Result<()> {
        either!(self, display => display.fetch(form, most))
    }

    /// Gives a host's app what it waits for, or says that there is nothing.
    ///
    /// # Errors
    /// The display is gone.
    pub fn give(&mut self, ticket: u32, content: Option<Content>) -> Result<bool> {
        either!(self, display => display.give(ticket, content))
    }
}
