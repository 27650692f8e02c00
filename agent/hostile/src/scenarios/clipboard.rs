//! Copies: what the guest gives nobody asked for, and what it takes that is not its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use medley_wire::bulk::{Carries, Chunk, End, Open};
use medley_wire::control::{
    Answer, ClipboardForm, ClipboardKind, ClipboardOffer, ClipboardRequest, Verdict,
};
use medley_wire::{Bytes, List, Untrusted};

use super::{Outcome, Scenario};
use crate::guest::{Guest, rect};

const SECRET: &str = "copied on the host, for the host";
const STALE: &str = "stale";
/// A host's app that pastes waits for so long.
const PASTE: Duration = Duration::from_secs(20);
/// evdev's codes of the host's chords.
const C: u8 = 46;
const V: u8 = 47;

fn offer(guest: &mut Guest, sequence: u32) {
    let form = ClipboardForm {
        kind: ClipboardKind::Text,
        size: 0,
    };
    guest.say_control(ClipboardOffer {
        sequence,
        forms: List::new(vec![form]),
    });
}

fn request(guest: &mut Guest, transfer: u32, sequence: u32) {
    guest.say_control(ClipboardRequest {
        transfer,
        sequence,
        kind: ClipboardKind::Text,
    });
}

/// A whole stream that pretends to be what somebody waits for.
fn stream(guest: &mut Guest, transfer: u32, text: &str) {
    let stream = (transfer % 8) as u8;
    let size = text.len() as u64;
    guest.say_bulk(Open {
        stream,
        transfer,
        carries: Carries::Clipboard,
        size: Untrusted::claim(size),
    });
    guest.say_bulk(Chunk {
        stream,
        offset: 0,
        data: Bytes(text.as_bytes()),
    });
    guest.say_bulk(End { stream, size });
}

fn begin(guest: &mut Guest) -> Result<()> {
    guest.window(1, "copies", rect(100, 100, 300, 200))?;
    guest.hold("window")?;
    guest.focused()
}

/// Bulletin 11: the size of a copy was believed, and the tail of an older one was given out with it.
pub const QSB_011: Scenario = Scenario {
    name: "qsb_011",
    about: "sends more of a copy than it announced",
    outcome: Outcome::Broken,
    play: |guest| {
        begin(guest)?;
        guest.say_bulk(Open {
            stream: 0,
            transfer: 1,
            carries: Carries::Clipboard,
            size: Untrusted::claim(10),
        });
        guest.say_bulk(Chunk {
            stream: 0,
            offset: 0,
            data: Bytes(&[b'x'; 4096]),
        });
        guest.until_cut()
    },
    judge: |court| {
        let copied = court.desktop.copy(SECRET)?;
        court.at("window")?;
        court.activate("copies")?;
        court.go()?;
        court.until_shown("the end of all windows", <[_]>::is_empty)?;
        ensure!(court.desktop.owns(&copied)?, "the clipboard was taken");
        ensure!(copied.asked() == 0, "the host's copy was asked for");
        Ok(())
    },
};

/// Bulletin 13: an answer that came late overwrote what had been copied since.
pub const QSB_013: Scenario = Scenario {
    name: "qsb_013",
    about: "answers a paste after something else was copied",
    outcome: Outcome::Lives,
    play: |guest| {
        begin(guest)?;
        offer(guest, 5);
        guest.hold("offered")?;
        for transfer in guest.heard.requests.clone() {
            guest.say_control(Answer {
                transfer,
                verdict: Verdict::Yes,
            });
            stream(guest, transfer, STALE);
        }
        guest.rest(Duration::from_millis(500))?;
        guest.hold("answered")
    },
    judge: |court| {
        court.at("window")?;
        let first = court.desktop.copy(SECRET)?;
        court.activate("copies")?;
        court.go()?;
        court.at("offered")?;
        court.desktop.chord(C)?;
        let taken = "the guest's copy as the host's";
        court
            .desktop
            .until(taken, PASTE, || court.desktop.another_owns(&first))?;
        let paste = court.desktop.paste()?;
        court.until_heard("requests", 1)?;
        let newer = court.desktop.copy("newer")?;
        court.go()?;
        court.at("answered")?;
        let pasted = paste.text(PASTE)?;
        ensure!(pasted.is_none(), "an old copy was pasted: {pasted:?}");
        ensure!(court.desktop.owns(&newer)?, "the newer copy was taken");
        let pasted = court.desktop.paste()?.text(PASTE)?;
        ensure!(pasted.as_deref() == Some("newer"), "{pasted:?}");
        court.go()
    },
};

/// A guest that takes the host's copies, and gives its own, unasked.
pub const TAKING: Scenario = Scenario {
    name: "taking",
    about: "asks for what the host copied, and sends copies that nobody asked for",
    outcome: Outcome::Lives,
    play: |guest| {
        begin(guest)?;
        for n in 0..20 {
            offer(guest, n);
            request(guest, 100 + n, n);
            guest.say_control(Answer {
                transfer: n,
                verdict: Verdict::Yes,
            });
            stream(guest, n, "nobody asked for this");
        }
        guest.rest(Duration::from_millis(800))?;
        guest.hold("tried")?;
        // Somebody allows it now.
        guest.until("an offer", |guest| guest.heard.offered.is_some())?;
        let sequence = guest.heard.offered.unwrap_or_default();
        request(guest, 500, sequence);
        guest.until("the copy", |guest| guest.heard.bytes > 0)?;
        guest.hold("given")
    },
    judge: |court| {
        let copied = court.desktop.copy(SECRET)?;
        court.at("window")?;
        court.activate("copies")?;
        court.go()?;
        court.at("tried")?;
        ensure!(court.desktop.owns(&copied)?, "the clipboard was taken");
        ensure!(copied.asked() == 0, "the host's copy was asked for");
        let told = court.heard()?;
        for name in ["bytes", "yes", "offers", "requests"] {
            ensure!(told.count(name)? == 0, "{told:?}");
        }
        let pasted = court.desktop.paste()?.text(PASTE)?;
        ensure!(pasted.as_deref() == Some(SECRET), "{pasted:?}");
        // With the host's chord the very same request is answered: it was not asked wrongly.
        let before = copied.asked();
        court.go()?;
        court.desktop.chord(V)?;
        court.at("given")?;
        let bytes = court.heard()?.count("bytes")?;
        ensure!(bytes == SECRET.len() as u64, "{bytes} bytes");
        ensure!(copied.asked() == before + 1, "asked for more than once");
        court.go()
    },
};
