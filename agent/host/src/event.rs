//! What a presenter says on its standard output, one line of JSON for each event.
use medley_wire::{AppId, Text, Untrusted};
use serde::{Deserialize, Deserializer};

/// An event that something here follows from. Others are passed over: a newer presenter may say more.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// It has opened everything and is locked in; from now on it shows windows.
    Ready,
    /// A window is on the screen.
    Opened {
        /// The launch that led to it; 0 for none.
        launch: u32,
    },
    /// A window is gone.
    Closed,
    /// All windows of a guest that was there before have been said again.
    Whole {
        /// How many there are.
        windows: u32,
    },
    /// The guest has an app.
    App {
        /// Its id.
        #[serde(deserialize_with = "app")]
        app: AppId,
        /// Its name.
        #[serde(deserialize_with = "text")]
        name: String,
    },
    /// It has it no longer.
    AppGone {
        /// Its id.
        #[serde(deserialize_with = "app")]
        app: AppId,
    },
    /// The list of apps is whole.
    Apps,
    /// A launch was asked for, as the next command of that kind said.
    Launching {
        /// How later events call it.
        request: u32,
    },
    /// What came of a launch.
    Launched {
        /// Which.
        request: u32,
        /// Whether it runs.
        started: bool,
        /// How it failed.
        #[serde(default, deserialize_with = "text")]
        outcome: String,
        /// In the guest's words.
        #[serde(default, deserialize_with = "text")]
        words: String,
    },
    /// No guest pixel is shown.
    Locked,
    /// They are shown again.
    Unlocked,
    /// Somebody at the lock's card wants it open.
    UnlockAsked,
    /// The guest broke a rule of the wire.
    Violation {
        /// Which.
        #[serde(deserialize_with = "text")]
        code: String,
        /// In words.
        #[serde(deserialize_with = "text")]
        words: String,
    },
    /// Something was asked for that policy denies.
    Refused {
        /// What.
        #[serde(deserialize_with = "text")]
        what: String,
    },
    /// It ends.
    Ended {
        /// Its exit code.
        code: i32,
        /// Why, if it failed.
        #[serde(default, deserialize_with = "text")]
        words: String,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

fn app<'de, D: Deserializer<'de>>(from: D) -> Result<AppId, D::Error> {
    let text = String::deserialize(from)?;
    AppId::parse(&text).ok_or_else(|| serde::de::Error::custom("no app's id"))
}

/// A text, made fit for display here once more: a presenter that a guest has taken over says what it likes.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let text = Untrusted::claim(Text::<256>::cut(&text)).display();
    Ok(text.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let read = |line| serde_json::from_str::<Event>(line);
        let id = "00112233445566778899aabbccddeeff";
        let line = format!(r#"{{"event":"app","app":"{id}","name":"Editor","more":1}}"#);
        let Event::App { app, name } = read(&line).unwrap() else {
            panic!("{line}");
        };
        assert_eq!((app.to_string().as_str(), name.as_str()), (id, "Editor"));
        assert_eq!(read(r#"{"event":"app-gone","app":"x"}"#).ok(), None);
        assert_eq!(
            read(r#"{"event":"news","of":"tomorrow"}"#).unwrap(),
            Event::Other
        );
        let opened = read(r#"{"event":"opened","window":3,"app":"0","launch":7}"#).unwrap();
        assert_eq!(opened, Event::Opened { launch: 7 });
        assert!(read("nothing").is_err());
        let refused = read(r#"{"event":"refused","what":"a\u001b[2Jb"}"#).unwrap();
        let Event::Refused { what } = refused else {
            panic!("{refused:?}");
        };
        assert!(!what.contains('\u{1b}'), "{what:?}");
    }
}
