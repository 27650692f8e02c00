//! A guest's agent that does what a test says: its windows, and what it hears of them.
use super::PATIENCE;
use medley_link::{End, Progress};
use medley_wire::gui::{self, FromGuest, FromHost};
use medley_wire::pixels::{Format, Patch, Payload};
use medley_wire::window::Kind;
use medley_wire::{AppId, Bytes, List, Rect, Size, Text, Untrusted, WindowId};
use nix::poll::{PollFd, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

pub fn id(number: u32) -> WindowId {
    WindowId::new(number).unwrap()
}

pub fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
    Rect::new(x, y, Size::new(width, height).unwrap()).unwrap()
}

pub fn raw(bytes: &[u8]) -> Payload<'_> {
    Payload::Raw(Bytes(bytes))
}

pub fn rects(all: &[Rect]) -> List<Untrusted<Rect>, 64> {
    List::new(all.iter().map(|r| Untrusted::claim(*r)).collect())
}

/// It.
pub struct Guest {
    pub end: End<FromHost<'static>, FromGuest<'static>>,
    pub inbox: Vec<FromHost<'static>>,
    /// Whether it answers configures by itself.
    pub answers: bool,
    frames: BTreeMap<WindowId, u32>,
    /// Windows that it has destroyed: it answers nothing about them.
    destroyed: BTreeSet<WindowId>,
    pub gone: bool,
}

fn owned(message: &FromHost<'_>) -> Option<FromHost<'static>> {
    macro_rules! same {
        ($($kind:ident),*) => {
            match message {
                $(FromHost::$kind(body) => Some(FromHost::$kind(body.clone())),)*
                FromHost::Bye(_) | FromHost::Text(_) => None,
            }
        };
    }
    same!(
        Hello, Limits, Resync, Configure, State, Stack, Focus, Leave, Close, Destroyed, FrameDone,
        Visibility, Key, Motion, Button, Scroll, Crossing, Touch
    )
}

impl Guest {
    pub fn new(end: End<FromHost<'static>, FromGuest<'static>>) -> Self {
        Self {
            end,
            inbox: Vec::new(),
            answers: true,
            frames: BTreeMap::new(),
            destroyed: BTreeSet::new(),
            gone: false,
        }
    }

    pub fn say<'m>(&mut self, message: impl Into<FromGuest<'m>>) {
        self.end.outgoing().send(&message.into()).unwrap();
        // A host that has hung up is what some tests are about.
        let _ = self.end.flush();
    }

    /// Reads what is there within a time.
    pub fn hear(&mut self, within: Duration) {
        let timeout = PollTimeout::try_from(within).unwrap();
        let _ = self.end.flush();
        let interest = self.end.interest();
        let _ = poll(&mut [PollFd::new(self.end.as_fd(), interest)], timeout);
        let inbox = &mut self.inbox;
        let before = inbox.len();
        let progress = self
            .end
            .read(|_, received| -> Result<(), medley_link::Error> {
                inbox.extend(owned(&received.message));
                Ok(())
            });
        self.gone |= matches!(progress, Err(_) | Ok(Progress::Ended));
        if self.answers {
            let asked: Vec<_> = self.inbox[before..]
                .iter()
                .filter_map(|message| match message {
                    FromHost::Configure(configure) => Some(configure.clone()),
                    _ => None,
                })
                .filter(|configure| !self.destroyed.contains(&configure.window))
                .collect();
            for configure in asked {
                self.answer(&configure);
            }
        }
    }

    pub fn answer(&mut self, configure: &gui::Configure) {
        self.say(gui::Ask {
            window: configure.window,
            rect: Untrusted::claim(configure.rect),
            answers: configure.serial,
        });
    }

    /// Waits for a message that something can be made of; those before it stay in the inbox.
    pub fn wait<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&FromHost<'static>) -> Option<T>,
    ) -> T {
        let began = Instant::now();
        let mut from = 0;
        loop {
            if let Some(at) = (from..self.inbox.len()).find(|at| find(&self.inbox[*at]).is_some()) {
                let message = self.inbox.remove(at);
                return find(&message).unwrap();
            }
            from = self.inbox.len();
            assert!(
                began.elapsed() < PATIENCE && !self.gone,
                "waited in vain for {what}; there were {:?}",
                self.inbox
            );
            self.hear(Duration::from_millis(50));
        }
    }

    /// Answers the first request for everything: with nothing.
    pub fn begin(&mut self) {
        self.snapshot(|_| {});
    }

    /// Answers a request for everything.
    pub fn snapshot(&mut self, say: impl FnOnce(&mut Self)) {
        let generation = self.wait("a resync", |message| match message {
            FromHost::Resync(resync) => Some(resync.generation),
            _ => None,
        });
        self.say(gui::Snapshot {
            generation,
            windows: 0,
        });
        say(self);
        self.say(gui::SnapshotEnd { generation });
    }

    /// Destroys a window and waits until its number is free.
    pub fn destroy(&mut self, window: u32) {
        let window = id(window);
        self.destroyed.insert(window);
        self.say(gui::Destroy { window });
        self.wait("a number back", |message| match message {
            FromHost::Destroyed(destroyed) if destroyed.window == window => Some(()),
            _ => None,
        });
        self.destroyed.remove(&window);
    }

    pub fn create(&mut self, window: u32, at: Rect) {
        self.say(gui::Create {
            window: id(window),
            rect: Untrusted::claim(at),
            app: AppId::new([window as u8; 16]),
            launch: 0,
        });
    }

    pub fn map(&mut self, window: u32, parent: u32, kind: Kind, unmanaged: bool) {
        self.say(gui::Map {
            window: id(window),
            parent: WindowId::new(parent),
            kind,
            unmanaged,
        });
    }

    pub fn title(&mut self, window: u32, title: &str) {
        self.say(gui::Title {
            window: id(window),
            title: Untrusted::claim(Text::cut(title)),
        });
    }

    /// An ordinary window.
    pub fn window(&mut self, window: u32, title: &str, at: Rect) {
        self.create(window, at);
        self.title(window, title);
        self.map(window, 0, Kind::Normal, false);
    }

    pub fn next_frame(&mut self, window: WindowId) -> u32 {
        let frame = self.frames.entry(window).or_default();
        *frame += 1;
        *frame
    }

    pub fn patch(&mut self, window: u32, at: Rect, payload: Payload<'_>) -> u32 {
        let window = id(window);
        let frame = self.next_frame(window);
        self.say(gui::Pixels {
            window,
            frame,
            took: [0, 0],
            last: true,
            patch: Untrusted::claim(Patch {
                rect: at,
                format: Format::Xrgb,
                payload,
            }),
        });
        frame
    }

    /// Fills a rectangle and waits until that was shown.
    pub fn fill(&mut self, window: u32, at: Rect, colour: u32) {
        let frame = self.patch(window, at, Payload::Solid(colour.to_le_bytes()));
        self.shown(window, frame);
    }

    pub fn shown(&mut self, window: u32, frame: u32) {
        self.wait("a frame's acknowledgement", |message| match message {
            FromHost::FrameDone(done) if done.window == id(window) && done.frame == frame => {
                Some(())
            }
            _ => None,
        });
    }

    /// Waits until the host has put a window where it stays, and says where that is. A host that puts it where
    /// it asked to be says nothing.
    pub fn placed(&mut self, window: u32, asked: Rect) -> Rect {
        self.settle();
        let mut last = asked;
        self.inbox.retain(|message| match message {
            FromHost::Configure(configure) if configure.window == id(window) => {
                last = configure.rect;
                false
            }
            _ => true,
        });
        last
    }

    /// Lets everything that is on its way come.
    pub fn settle(&mut self) {
        for _ in 0..4 {
            self.hear(Duration::from_millis(50));
        }
    }
}
