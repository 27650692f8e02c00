//! Rules that are broken: each ends the guest's windows at once, whatever they look like at that moment.

use anyhow::Result;
use medley_wire::gui;
use medley_wire::pixels::{Buffer, Format, Payload};
use medley_wire::window::Kind;
use medley_wire::{Bytes, HEADER, Untrusted};

use super::{Outcome, Scenario};
use crate::guest::{Guest, id, rect};
use crate::judge::Court;

/// Looks at a window, then lets the guest do what it wants to.
fn one_window(court: &mut Court<'_>) -> Result<()> {
    court.at("window")?;
    court.window("victim")?;
    court.judge()?;
    court.go()
}

fn begin(guest: &mut Guest) -> Result<()> {
    guest.window(1, "victim", rect(100, 100, 300, 200))?;
    guest.hold("window")
}

/// Bulletin 1: a message about what does not exist was used before it was judged.
pub const QSB_001: Scenario = Scenario {
    name: "qsb_001",
    about: "destroys a window that does not exist",
    outcome: Outcome::Violation("unknown-window"),
    play: |guest| {
        begin(guest)?;
        guest.say(gui::Destroy { window: id(7) });
        guest.until_cut()
    },
    judge: one_window,
};

/// Bulletin 10: a sum of two numbers of the guest's overflowed.
pub const QSB_010: Scenario = Scenario {
    name: "qsb_010",
    about: "says every number at its limit, and shared memory beyond the end of all memory",
    outcome: Outcome::Violation("bad-buffer"),
    play: |guest| {
        begin(guest)?;
        let far = rect(32767, 32767, 16384, 16384);
        let near = rect(-32767, -32767, 16384, 16384);
        for (window, at) in [(2, far), (3, near)] {
            guest.create(window, at);
            guest.map(window, 1, Kind::Tooltip, true);
            for wish in [near, far] {
                guest.say(gui::Ask {
                    window: id(window),
                    rect: Untrusted::claim(wish),
                    answers: 0,
                });
            }
        }
        let step = Payload::Scroll {
            dx: -32767,
            dy: -32767,
        };
        let all = rect(0, 0, 16384, 16384);
        for (at, payload) in [(far, Payload::Solid([1; 4])), (all, step)] {
            guest.patch(1, at, payload);
            guest.shown(1)?;
        }
        guest.hold("far")?;
        let buffer = Buffer {
            offset: u64::MAX - 3,
            stride: u32::MAX - 3,
            size: far.size(),
            format: Format::Xrgb,
        };
        guest.say(gui::Attach {
            window: id(1),
            buffer: Untrusted::claim(buffer),
        });
        guest.until_cut()
    },
    judge: |court| {
        one_window(court)?;
        court.at("far")?;
        court.go()
    },
};

/// Bulletin 26: the flag that decides whether there is a frame was changed while the window was shown.
pub const QSB_026: Scenario = Scenario {
    name: "qsb_026",
    about: "turns a shown window into one without a manager",
    outcome: Outcome::Violation("mapped-twice"),
    play: |guest| {
        begin(guest)?;
        guest.map(1, 0, Kind::PopupMenu, true);
        guest.smear(1);
        guest.until_cut()
    },
    judge: one_window,
};

/// A zstd frame of a few KiB that unpacks to more than there is memory, for a small rectangle.
pub const BOMB: Scenario = Scenario {
    name: "bomb",
    about: "sends packed pixels that unpack to gigabytes",
    outcome: Outcome::Violation("bad-pixels"),
    play: |guest| {
        begin(guest)?;
        // A frame of blocks that repeat one byte 128 KiB times, each of them four bytes long.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
        for _ in 0..9000 {
            frame.extend([0x02, 0x00, 0x10, 0x41]);
        }
        guest.patch(1, rect(0, 0, 200, 100), Payload::Zstd(Bytes(&frame)));
        guest.until_cut()
    },
    judge: one_window,
};

/// Bytes that are no message.
pub const GARBAGE: Scenario = Scenario {
    name: "garbage",
    about: "announces a message of four gigabytes",
    outcome: Outcome::Broken,
    play: |guest| {
        begin(guest)?;
        guest.raw(&[0xff; HEADER + 500])?;
        guest.until_cut()
    },
    judge: one_window,
};

/// More windows than anybody needs.
pub const CROWD: Scenario = Scenario {
    name: "crowd",
    about: "makes one window more than there may be",
    outcome: Outcome::Violation("too-many-windows"),
    play: |guest| {
        begin(guest)?;
        for window in 2..=513 {
            guest.create(window, rect(0, 0, 20, 20));
        }
        guest.until_cut()
    },
    judge: one_window,
};

/// More messages than anybody needs.
pub const FLOOD: Scenario = Scenario {
    name: "flood",
    about: "rings the bell forty thousand times",
    outcome: Outcome::Violation("too-many-messages"),
    play: |guest| {
        begin(guest)?;
        for _ in 0..40_000 {
            guest.say(gui::Bell { window: None });
        }
        guest.until_cut()
    },
    judge: one_window,
};
