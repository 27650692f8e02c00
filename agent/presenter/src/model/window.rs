//! What the model knows of one window.
use crate::canvas::Canvas;
use medley_wire::window::{Kind, Seen, SizeHints, States};
use medley_wire::{AppId, DisplayText, GuestRect, PoolBuffer, Rect, Untrusted, WindowId};
use std::time::Duration;

/// How a guest shows a window: said once, when it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub parent: Option<WindowId>,
    pub kind: Kind,
    /// The guest says that no window manager places it.
    pub unmanaged: bool,
    /// The host's window manager manages it: what the guest manages, and what is too large not to be.
    pub managed: bool,
}

/// A frame that was not acknowledged yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub number: u32,
    pub arrived: Duration,
    /// When the last of it was unpacked; nothing, as long as more of it comes.
    pub whole: Option<Duration>,
    /// Bytes of pixels that it has painted so far, and in how many pieces.
    pub painted: (u64, u32),
}

/// One window of the guest.
#[derive(Debug)]
pub(super) struct Window {
    pub app: AppId,
    pub launch: u32,
    /// Where it is: the host's truth.
    pub rect: Rect,
    /// Whether `rect` was the host's truth before the guest said it, as after a restart.
    pub placed: bool,
    /// Where the guest believes that it is, if that is known.
    pub told: Option<Rect>,
    /// The question that the guest has not answered yet.
    pub asked: Option<u32>,
    /// The guest waits for a word about where the window is.
    pub owes: bool,
    /// When a wish is answered even if the window manager says nothing to it.
    pub wish_until: Option<Duration>,
    /// Bytes of pixels that it has if that wish is granted.
    pub wished: u64,
    /// What the guest wished while a question was open.
    pub wish: Option<Untrusted<Rect>>,
    pub title: DisplayText,
    pub hints: SizeHints,
    /// States that the guest asked for and that are its own.
    pub own: States,
    /// States that the host's window manager says.
    pub host: States,
    /// States of the host's that the guest was told.
    pub told_states: States,
    /// It asked for fullscreen without leave: it is maximised, and believes otherwise.
    pub pretends: bool,
    pub mapped: Option<Mapped>,
    /// It is a menu of a tray item's: how long it is shown without anybody pointing at it.
    pub by_tray: Option<Duration>,
    /// How it is shown on the host at present.
    pub on_host: Option<Mapped>,
    pub seen: Option<Seen>,
    /// What of it takes clicks; nothing: all of it.
    pub input: Option<Vec<GuestRect>>,
    pub canvas: Option<Canvas>,
    pub buffer: Option<PoolBuffer>,
    pub frames: Vec<Frame>,
    /// It was there before a snapshot began, and was not said again yet.
    pub stale: bool,
}

impl Window {
    pub fn new(app: AppId, launch: u32, rect: Rect) -> Self {
        Self {
            app,
            launch,
            rect,
            placed: false,
            told: None,
            asked: None,
            owes: false,
            wish_until: None,
            wished: 0,
            wish: None,
            title: DisplayText::default(),
            hints: SizeHints::default(),
            own: States::NONE,
            host: States::NONE,
            told_states: States::NONE,
            pretends: false,
            mapped: None,
            by_tray: None,
            on_host: None,
            seen: None,
            input: None,
            canvas: None,
            buffer: None,
            frames: Vec::new(),
            stale: false,
        }
    }

    /// Bytes of its pixels.
    pub fn bytes(&self) -> u64 {
        let wished = self.wish_until.map_or(0, |_| self.wished);
        self.canvas
            .as_ref()
            .map_or(0, |canvas| wished.max(canvas.size().bytes() as u64))
    }

    /// Whether a point of it takes clicks.
    pub fn takes(&self, x: i32, y: i32) -> bool {
        let Some(rects) = &self.input else {
            return true;
        };
        rects.iter().any(|rect| {
            let rect = rect.get();
            let within = |n: i32, at: i32, len: u32| {
                u32::try_from(i64::from(n) - i64::from(at)).is_ok_and(|n| n < len)
            };
            within(x, rect.x(), rect.size().width()) && within(y, rect.y(), rect.size().height())
        })
    }
}
