//! Names that want to be somebody else's.

use anyhow::ensure;
use medley_wire::window::Kind;
use medley_wire::{AppId, Text, Untrusted, gui};

use super::{Outcome, Scenario};
use crate::guest::{id, rect};

/// Titles that want to be read as something else.
const TITLES: [&str; 7] = [
    "] [host] Log in",
    "\u{202e}tsoh\u{202c}",
    "[host] \n\r\u{1b}[2J\u{7} done",
    "\u{200b}\u{2066}[bank]\u{2069}",
    "",
    "z\u{335}\u{321}\u{322}\u{327}\u{328}\u{316}\u{317}\u{318}\u{319}\u{320}\u{323}\u{324}algo",
    "\0null",
];

/// Bulletin 105: a window could show another workspace's label.
pub const QSB_105: Scenario = Scenario {
    name: "qsb_105",
    about: "names windows like those of the host and of other workspaces",
    outcome: Outcome::Lives,
    play: |guest| {
        for (window, title) in (1..).zip(TITLES) {
            guest.create(
                window,
                rect(60 * window as i32, 50 * window as i32, 200, 120),
            );
            guest.title(window, title);
            for class in ["Firefox", "medley-bank", "bank\0medley-bank"] {
                guest.say(gui::Class {
                    window: id(window),
                    app: AppId::new([0xba; 16]),
                    instance: Untrusted::claim(Text::cut(class)),
                    class: Untrusted::claim(Text::cut(class)),
                });
            }
            guest.map(window, 0, Kind::Normal, false);
            guest.shown(window)?;
            // And once more while it is shown.
            guest.title(window, title);
        }
        guest.hold("named")
    },
    judge: |court| {
        court.at("named")?;
        let label = court.label();
        let shown = court.until_shown("all windows", |shown| shown.len() == TITLES.len())?;
        for window in shown {
            let title = court.desktop.text(window.window, "_NET_WM_NAME")?;
            ensure!(title.starts_with(&label), "{title:?}");
            let odd = |c: char| {
                c.is_control()
                    || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            ensure!(!title.contains(odd), "{title:?}");
            // Two halves, and both the host's.
            let class = court.desktop.text(window.window, "WM_CLASS")?;
            let halves: Vec<_> = class.split_terminator('\0').collect();
            ensure!(halves.len() == 2, "{class:?}");
            for half in halves {
                ensure!(half.starts_with("medley-"), "{class:?}");
                ensure!(
                    !half.contains("bank") && !half.contains("Firefox"),
                    "{class:?}"
                );
            }
        }
        court.go()
    },
};
