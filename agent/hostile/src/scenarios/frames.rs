//! Windows that want to be without a frame, or to look like the host's desktop.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use medley_desktop::{Area, Edge};
use medley_wire::gui;
use medley_wire::window::{Change, Kind, States};
use medley_wire::{Rect, Untrusted};

use super::{Outcome, Scenario};
use crate::guest::{Guest, id, rect};
use crate::judge::{Court, SCREEN};

const WIDTH: i32 = SCREEN.0 as i32;
const HEIGHT: i32 = SCREEN.1 as i32;

/// How long windows come and go.
const DANCE: Duration = Duration::from_secs(4);

fn wish(guest: &mut Guest, window: u32, begin: States) {
    if let Some(change) = Change::new(begin, States::NONE) {
        guest.say(gui::State {
            window: id(window),
            change,
        });
    }
}

fn is_on_screen((x, y, width, height): Area) -> bool {
    x >= 0 && y >= 0 && x + width <= WIDTH && y + height <= HEIGHT
}

const PLACE: (i32, i32, u32, u32) = (100, 100, 300, 200);

fn place() -> Rect {
    rect(PLACE.0, PLACE.1, PLACE.2, PLACE.3)
}

/// Bulletin 34: a window lost its frame by becoming fullscreen. Without leave it is maximised.
pub const QSB_034: Scenario = Scenario {
    name: "qsb_034",
    about: "wants the whole screen, and paints more than that",
    outcome: Outcome::Lives,
    play: |guest| {
        guest.window(1, "wide", place())?;
        guest.hold("window")?;
        wish(guest, 1, States::FULLSCREEN);
        guest.until("a place", |guest| {
            guest.place(1, place()).size().width() > 1000
        })?;
        guest.shown(1)?;
        guest.hold("wide")?;
        // Once more, larger, and at another place.
        guest.say(gui::Ask {
            window: id(1),
            rect: Untrusted::claim(rect(-3, -3, 1286, 806)),
            answers: 0,
        });
        guest.rest(Duration::from_millis(700))?;
        guest.shown(1)?;
        guest.hold("wider")
    },
    judge: |court| {
        court.at("window")?;
        court.go()?;
        for step in ["wide", "wider"] {
            court.at(step)?;
            let shown = court.window("wide")?;
            ensure!(is_on_screen(shown.place), "{step}: {:?}", shown.place);
            ensure!(court.looked_at > 0, "nothing was looked at");
            court.go()?;
        }
        Ok(())
    },
};

/// Bulletin 39: a window without a manager covered the screen, and looked like the host's desktop.
pub const QSB_039: Scenario = Scenario {
    name: "qsb_039",
    about: "covers the screen with menus and a splash",
    outcome: Outcome::Lives,
    play: |guest| {
        guest.window(1, "menus", place())?;
        guest.hold("window")?;
        guest.focused()?;
        let mut number = 1;
        for y in [0, 270, 540] {
            for x in [0, 430, 860] {
                number += 1;
                guest.create(number, rect(x, y, 440, 280));
                guest.map(number, 1, Kind::PopupMenu, true);
            }
        }
        guest.create(40, rect(0, 0, 1280, 800));
        guest.title(40, "splash");
        guest.map(40, 1, Kind::Splash, true);
        for window in 2..=10 {
            guest.shown(window)?;
        }
        guest.shown(40)?;
        guest.rest(Duration::from_millis(500))?;
        guest.hold("menus")?;
        // Grown and moved once they are there.
        for window in 2..=10 {
            guest.say(gui::Ask {
                window: id(window),
                rect: Untrusted::claim(rect(-50, -50, 1400, 900)),
                answers: 0,
            });
            guest.shown(window)?;
        }
        guest.rest(Duration::from_secs(1))?;
        for window in 2..=10 {
            guest.shown(window)?;
        }
        guest.hold("grown")
    },
    judge: |court| {
        court.at("window")?;
        court.activate("menus")?;
        court.go()?;
        for step in ["menus", "grown"] {
            court.at(step)?;
            unmanaged_are_few(court, step, 90)?;
            court.go()?;
        }
        Ok(())
    },
};

/// Notes are shown while somebody works elsewhere. They are few and small, also when they are many and grow.
pub const NOTES: Scenario = Scenario {
    name: "notes",
    about: "covers with notes what somebody works at, and grows them",
    outcome: Outcome::Lives,
    play: |guest| {
        guest.window(1, "notes", place())?;
        guest.hold("window")?;
        for window in 2..=9 {
            guest.create(
                window,
                rect(90 * window as i32, 60 * window as i32, 300, 250),
            );
            guest.map(window, 0, Kind::Note, true);
            guest.shown(window)?;
        }
        for window in 2..=9 {
            guest.say(gui::Ask {
                window: id(window),
                rect: Untrusted::claim(rect(0, 0, 1280, 800)),
                answers: 0,
            });
            guest.shown(window)?;
        }
        guest.rest(Duration::from_secs(1))?;
        guest.hold("grown")
    },
    judge: |court| {
        court.at("window")?;
        let own = court.desktop.own_window("host", (700, 500, 300, 200))?;
        court.desktop.activate(own)?;
        court.go()?;
        court.at("grown")?;
        unmanaged_are_few(court, "grown", 12)?;
        ensure!(court.desktop.active()? == own, "the keyboard was taken");
        court.desktop.destroy(own)?;
        court.go()
    },
};

/// What no manager manages lies on the screen, and covers so many hundredths of it at most.
fn unmanaged_are_few(court: &mut Court<'_>, step: &str, hundredths: i32) -> Result<()> {
    let shown = court.desktop.guests()?;
    let free: Vec<_> = shown.iter().filter(|shown| shown.unmanaged).collect();
    let mut covered = 0;
    for window in &free {
        ensure!(is_on_screen(window.place), "{step}: {window:?}");
        covered += window.place.2 * window.place.3;
    }
    ensure!(!free.is_empty(), "{step}: there are none: {shown:?}");
    ensure!(
        covered <= WIDTH * HEIGHT * hundredths / 100,
        "{step}: {covered} pixels are covered by {} windows",
        free.len()
    );
    Ok(())
}

/// Bulletin 72: a child window lay over its parent's frame.
pub const QSB_072: Scenario = Scenario {
    name: "qsb_072",
    about: "lays a window over its parent's frame, and paints over its own",
    outcome: Outcome::Lives,
    play: |guest| {
        guest.window(1, "parent", place())?;
        guest.hold("window")?;
        guest.focused()?;
        let parent = guest.place(1, place());
        guest.create(2, rect(parent.x() - 3, parent.y() - 3, 306, 20));
        guest.title(2, "over");
        guest.map(2, 1, Kind::Utility, true);
        guest.shown(2)?;
        guest.shown(1)?;
        guest.hold("over")?;
        guest.destroy(2)?;
        guest.shown(1)?;
        guest.hold("alone")
    },
    judge: |court| {
        court.at("window")?;
        court.activate("parent")?;
        court.go()?;
        court.at("over")?;
        court.window("over")?;
        court.go()?;
        court.at("alone")?;
        court.until_shown("the parent alone", |shown| shown.len() == 1)?;
        court.judge()?;
        court.go()
    },
};

/// Bulletin 73: daemon and window manager disagreed for a moment about who draws the frame.
pub const QSB_073: Scenario = Scenario {
    name: "qsb_073",
    about: "shows and hides windows of all kinds as fast as it goes",
    outcome: Outcome::Lives,
    play: |guest| {
        guest.window(1, "dance", place())?;
        guest.hold("window")?;
        guest.focused()?;
        let begun = Instant::now();
        let mut round = 0;
        while begun.elapsed() < DANCE {
            round += 1;
            let at = guest.place(1, place());
            guest.create(2, rect(at.x() + 200, at.y() + 150, 120, 90));
            let (kind, unmanaged) = match round % 3 {
                0 => (Kind::PopupMenu, true),
                1 => (Kind::Dialog, false),
                _ => (Kind::Utility, true),
            };
            guest.map(2, 1, kind, unmanaged);
            guest.smear(2);
            guest.rest(Duration::from_millis(10 * (round % 8)))?;
            guest.destroy(2)?;
        }
        guest.hold("tired")
    },
    judge: |court| {
        court.at("window")?;
        court.activate("dance")?;
        court.go()?;
        let begun = Instant::now();
        let mut rounds = 0;
        while begun.elapsed() < DANCE {
            // What moves all the time is never still: a fault must be there four times to be one.
            court.moving()?;
            rounds += 1;
        }
        ensure!(rounds > 2, "looked only {rounds} times");
        court.at("tired")?;
        court.go()
    },
};

/// MED-V: a maximised window covered the task bar.
pub const TASK_BAR: Scenario = Scenario {
    name: "task_bar",
    about: "maximises a window and opens menus where the task bar is",
    outcome: Outcome::Lives,
    play: |guest| {
        guest.hold("begun")?;
        guest.window(1, "large", place())?;
        guest.hold("window")?;
        guest.focused()?;
        wish(
            guest,
            1,
            States::MAXIMISED_ACROSS.with(States::MAXIMISED_DOWN),
        );
        guest.until("a place", |guest| {
            guest.place(1, place()).size().width() > 1000
        })?;
        guest.create(2, rect(0, 0, 200, 60));
        guest.map(2, 1, Kind::DropdownMenu, true);
        guest.shown(2)?;
        guest.shown(1)?;
        guest.hold("large")
    },
    judge: |court| {
        const BAR: i32 = 30;
        court.at("begun")?;
        let bar = court.desktop.task_bar(Edge::Upper, BAR as u16)?;
        court.go()?;
        court.at("window")?;
        court.activate("large")?;
        court.go()?;
        court.at("large")?;
        let shown = court.desktop.guests()?;
        ensure!(shown.len() == 2, "{shown:?}");
        for window in shown {
            ensure!(window.place.1 >= BAR, "over the task bar: {window:?}");
        }
        court.desktop.destroy(bar)?;
        court.go()
    },
};

/// MED-V: a banner before the log-on broke seamless mode.
pub const BANNER: Scenario = Scenario {
    name: "banner",
    about: "shows a picture of a whole desktop that belongs to no app",
    outcome: Outcome::Lives,
    play: |guest| {
        guest.create(1, rect(0, 0, 1280, 800));
        guest.title(1, "banner");
        guest.map(1, 0, Kind::Splash, true);
        guest.shown(1)?;
        guest.hold("banner")
    },
    judge: |court| {
        court.at("banner")?;
        let shown = court.window("banner")?;
        ensure!(!shown.unmanaged, "nobody manages what covers the screen");
        court.go()
    },
};
