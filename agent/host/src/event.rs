//! What a presenter says on its standard output, one line of JSON for each event.
use crate::app::Listed;
use crate::clean;
use medley_wire::AppId;
use serde::Deserialize;

/// What a presenter said.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// Of itself, its windows and the guest's apps.
    Here(Event),
    /// Of what goes between guest and host. Its texts are not judged yet.
    Service(medley_services::Event),
}

/// An event that something here follows from. Others are passed over: a newer presenter may say more.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
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
    App(Box<Listed>),
    /// It has it no longer.
    AppGone {
        /// Its id.
        #[serde(deserialize_with = "clean::app")]
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
        #[serde(default, deserialize_with = "clean::text")]
        outcome: String,
        /// In the guest's words.
        #[serde(default, deserialize_with = "clean::text")]
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
        #[serde(deserialize_with = "clean::text")]
        code: String,
        /// In words.
        #[serde(deserialize_with = "clean::text")]
        words: String,
    },
    /// Something was asked for that policy denies.
    Refused {
        /// What.
        #[serde(deserialize_with = "clean::text")]
        what: String,
    },
    /// It ends.
    Ended {
        /// Its exit code.
        code: i32,
        /// Why, if it failed.
        #[serde(default, deserialize_with = "clean::text")]
        words: String,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// Reads a line.
///
/// # Errors
/// It is no event, or one with values that it cannot have.
pub(crate) fn read(line: &[u8]) -> serde_json::Result<Said> {
    Ok(match serde_json::from_slice(line)? {
        Event::Other => match serde_json::from_slice(line) {
            Ok(event) => Said::Service(event),
            Err(error) => {
                tracing::debug!(%error, "an event that nothing here follows from");
                Said::Here(Event::Other)
            }
        },
        event => Said::Here(event),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let read = |line: &str| read(line.as_bytes());
        let id = "00112233445566778899aabbccddeeff";
        let line = format!(r#"{{"event":"app","app":"{id}","name":"Editor","more":1}}"#);
        let Ok(Said::Here(Event::App(listed))) = read(&line) else {
            panic!("{line}");
        };
        assert_eq!(listed.app.to_string(), id);
        assert!(read(r#"{"event":"app-gone","app":"x"}"#).is_err());
        for unknown in [
            r#"{"event":"news","of":"tomorrow"}"#,
            r#"{"event":"url","url":7}"#,
        ] {
            assert_eq!(
                read(unknown).unwrap(),
                Said::Here(Event::Other),
                "{unknown}"
            );
        }
        let opened = read(r#"{"event":"opened","window":3,"app":"0","launch":7}"#).unwrap();
        assert_eq!(opened, Said::Here(Event::Opened { launch: 7 }));
        assert!(read("nothing").is_err());
        let refused = read(r#"{"event":"refused","what":"a\u001b[2Jb"}"#).unwrap();
        let Said::Here(Event::Refused { what }) = refused else {
            panic!("{refused:?}");
        };
        assert!(!what.contains('\u{1b}'), "{what:?}");
        let came = read(r#"{"event":"came","transfer":3,"size":9}"#).unwrap();
        let known = medley_services::Event::Came {
            transfer: 3,
            size: 9,
        };
        assert_eq!(came, Said::Service(known));
    }
}
