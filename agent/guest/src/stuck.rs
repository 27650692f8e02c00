//! A guest without a display: the host should know at least why.
use crate::channel::{Channel, News};
use crate::options::Options;
use medley_link::Door;
use medley_wire::control::{self, Progress};
use medley_wire::{Channel as Which, Features, Hello, Reason, Text, Untrusted};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

/// The control channel.
pub type Control = Channel<control::FromHost<'static>, control::FromGuest<'static>>;

/// Which build this is, for the host's log and for updates.
pub fn build() -> [u8; 32] {
    Sha256::digest(concat!(
        env!("CARGO_PKG_NAME"),
        " ",
        env!("CARGO_PKG_VERSION")
    ))
    .into()
}

/// Without a display the host should know at least why: this waits for it a moment, and tells.
pub fn say_stuck(options: &Options, words: &str) {
    let hello = Hello::new(Which::Control, Features::NONE, build());
    let mut control = Control::new(Door::new(&options.control), hello);
    let until = Instant::now() + Duration::from_secs(2);
    let mut told = false;
    while Instant::now() < until && !told {
        if control.step(|_, _| Ok(())).is_err() {
            return;
        }
        if control.news() == News::Open {
            let _ = control.speak(|say| {
                say.say(control::Stage {
                    progress: Progress::Stuck,
                    words: Untrusted::claim(Text::cut(words)),
                });
                Ok(())
            });
            told = true;
        }
        control.flush();
        if !told {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    control.close(Reason::Failure, words);
}
