//! Keys and the keyboard: who hears what is typed, and who may take it.

use std::time::Duration;

use anyhow::{Result, ensure};
use medley_desktop::{Area, OWN};
use medley_wire::gui;
use medley_wire::window::{Change, Kind, Place, States};

use super::{Outcome, Scenario};
use crate::guest::{id, rect};
use crate::judge::Court;

/// Letters, by evdev's codes.
const LETTERS: [u8; 4] = [30, 48, 46, 32];
/// What would come later has come.
const LATER: Duration = Duration::from_millis(900);

/// Types where the keyboard is, and fails if the guest hears any of it.
fn types_unheard(court: &mut Court<'_>) -> Result<()> {
    let before = court.heard()?.count("keys")?;
    court.desktop.keys(&LETTERS)?;
    std::thread::sleep(LATER);
    let after = court.heard()?.count("keys")?;
    ensure!(before == after, "the guest heard {} keys", after - before);
    Ok(())
}

/// Bulletin 104: keys repeated in the guest after the host had seen them go up.
pub const QSB_104: Scenario = Scenario {
    name: "qsb_104",
    about: "waits for keys that are typed elsewhere",
    outcome: Outcome::Lives,
    play: |guest| {
        guest.window(1, "typed", rect(100, 100, 300, 200))?;
        guest.hold("window")?;
        guest.focused()?;
        guest.hold("focused")
    },
    judge: |court| {
        court.at("window")?;
        let own = court.desktop.own_window("host", (700, 400, 300, 200))?;
        court.activate("typed")?;
        court.go()?;
        court.at("focused")?;
        court.desktop.key(LETTERS[0], true)?;
        court.until_heard("keys", 1)?;
        court.desktop.activate(own)?;
        court.until_heard("leaves", 1)?;
        types_unheard(court)?;
        court.desktop.key(LETTERS[0], false)?;
        types_unheard(court)?;
        // And it is heard again where it shall be.
        let before = court.heard()?.count("keys")?;
        court.activate("typed")?;
        court.until_heard("focuses", 2)?;
        court.desktop.keys(&LETTERS)?;
        court.until_heard("keys", before + 8)?;
        court.desktop.destroy(own)?;
        court.go()
    },
};

/// A guest that wants the keyboard, and the place on top, while somebody works in a window of the host's.
pub const STEALING: Scenario = Scenario {
    name: "stealing",
    about: "raises windows and opens new ones while somebody types elsewhere",
    outcome: Outcome::Lives,
    play: |guest| {
        guest.window(1, "thief", rect(100, 100, 400, 300))?;
        guest.hold("window")?;
        for place in [Place::Below, Place::Above] {
            guest.say(gui::Stack {
                window: id(1),
                sibling: None,
                place,
            });
        }
        for (begin, end) in [
            (States::MINIMISED, States::NONE),
            (States::NONE, States::MINIMISED),
            (States::ATTENTION, States::NONE),
        ] {
            if let Some(change) = Change::new(begin, end) {
                guest.say(gui::State {
                    window: id(1),
                    change,
                });
            }
        }
        for (window, kind, unmanaged) in [
            (2, Kind::Normal, false),
            (3, Kind::Dialog, false),
            (4, Kind::PopupMenu, true),
            (5, Kind::Tooltip, true),
            (6, Kind::Drag, true),
            (7, Kind::Utility, true),
        ] {
            guest.create(window, rect(160, 160, 200, 150));
            guest.title(window, &format!("thief {window}"));
            guest.map(window, 1, kind, unmanaged);
            guest.shown(window)?;
        }
        guest.rest(LATER)?;
        guest.hold("tried")
    },
    judge: |court| {
        const PLACE: Area = (150, 150, 300, 200);
        court.at("window")?;
        let own = court.desktop.own_window("host", PLACE)?;
        court.desktop.activate(own)?;
        // The pointer is over the host's window as well: a tooltip needs it in the guest's.
        court.desktop.point(900, 700)?;
        let focuses = court.heard()?.count("focuses")?;
        court.go()?;
        court.at("tried")?;
        ensure!(court.desktop.active()? == own, "the keyboard was taken");
        types_unheard(court)?;
        ensure!(
            court.heard()?.count("focuses")? == focuses,
            "the guest believes to have the keyboard"
        );
        for shown in court.desktop.guests()? {
            ensure!(!shown.unmanaged, "a menu that nobody opened: {shown:?}");
        }
        let place = court.desktop.place(own).unwrap_or(PLACE);
        let shot = court.desktop.shot()?;
        for y in place.1..place.1 + place.3 {
            let from = y as usize * shot.width + place.0 as usize;
            let row = &shot.pixels[from..from + place.2 as usize];
            ensure!(
                row.iter().all(|pixel| *pixel == OWN),
                "something lies over the window that somebody works in"
            );
        }
        court.desktop.destroy(own)?;
        court.go()
    },
};

/// A locked workspace shows nothing, and hears nothing.
pub const LOCKED: Scenario = Scenario {
    name: "locked",
    about: "opens windows and waits for keys while the workspace is locked",
    outcome: Outcome::Lives,
    play: |guest| {
        guest.window(1, "secret", rect(100, 100, 300, 200))?;
        guest.hold("window")?;
        guest.smear(1);
        for (window, kind, unmanaged) in [
            (2, Kind::Normal, false),
            (3, Kind::PopupMenu, true),
            (4, Kind::Note, true),
        ] {
            guest.create(window, rect(300, 300, 300, 200));
            guest.map(window, 1, kind, unmanaged);
            guest.smear(window);
        }
        guest.rest(LATER)?;
        guest.hold("locked")?;
        guest.shown(1)?;
        guest.hold("back")
    },
    judge: |court| {
        court.at("window")?;
        court.activate("secret")?;
        court.until_heard("focuses", 1)?;
        court.lock(true)?;
        court.until_shown("nothing of the guest", <[_]>::is_empty)?;
        court.go()?;
        court.at("locked")?;
        ensure!(
            court.desktop.guests()?.is_empty(),
            "windows while it is locked"
        );
        ensure!(court.desktop.marked()? == 0, "pixels while it is locked");
        types_unheard(court)?;
        court.lock(false)?;
        court.window("secret")?;
        court.go()?;
        court.at("back")?;
        ensure!(court.desktop.marked()? > 0, "its pixels are not back");
        court.go()
    },
};
