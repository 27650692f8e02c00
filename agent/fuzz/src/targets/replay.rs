//! The presenter's state machine: as its own entry makes up a guest, and as recordings of real sessions are
//! played against it.

use std::time::Duration;

use medley_presenter::canvas::Pool;
use medley_wire::gui::{FromGuest, FromHost};
use medley_wire::record::{MAGIC, Replayer};
use medley_wire::{Channel, Decoder, GuestRect, PoolBuffer};

use super::Target;
use super::desktop::Desktop;

pub const MODEL: Target = Target {
    name: "presenter_model",
    about: "a guest and a desktop made up from the bytes, against the presenter's state machine",
    max_len: 8192,
    run: |bytes| {
        medley_presenter::model::fuzz_model(bytes);
    },
};

pub const REPLAY: Target = Target {
    name: "presenter_replay",
    about: "bytes as a recording of the gui channel, played against the presenter's state machine",
    max_len: 16384,
    run: |bytes| {
        replay(bytes);
    },
};

/// Messages of one run: more would only make it slow.
const MESSAGES: usize = 600;

/// Memory that guest and host share. The guest writes while the host reads: no two copies are the same.
struct Shared(std::cell::Cell<u8>);

impl Shared {
    const BYTES: usize = 1 << 20;
}

impl Pool for Shared {
    fn bytes(&self) -> usize {
        Self::BYTES
    }

    fn copy(&self, buffer: &PoolBuffer, rect: GuestRect, to: &mut [u8]) -> bool {
        let mut done = 0;
        for row in buffer.rows(rect) {
            assert!(row.end <= Self::BYTES, "{row:?} lies beyond the pool");
            let Some(here) = to.get_mut(done..done + row.len()) else {
                return false;
            };
            self.0.set(self.0.get().wrapping_add(1));
            here.fill(self.0.get());
            done += row.len();
        }
        true
    }
}

/// Plays a recording; tells how many messages were played, and whether the guest went on to its end. What the host said in it is what happens on the desktop; records of other channels are
/// the desktop's doings that no message tells of, such as a lock.
pub fn replay(bytes: &[u8]) -> (usize, bool) {
    let mut file = Vec::new();
    if !bytes.starts_with(&MAGIC) {
        file.extend(MAGIC);
    }
    file.extend(bytes);
    let Ok(replayer) = Replayer::new(&file) else {
        return (0, false);
    };
    let pool = Shared(std::cell::Cell::new(0));
    let mut desktop = Desktop::new(bytes.len());
    let mut guest = Decoder::<FromGuest<'static>>::new();
    let mut host = Decoder::<FromHost<'static>>::new();
    let mut messages = 0;
    for record in replayer.map_while(Result::ok) {
        let now = Duration::from_micros(record.at);
        if record.channel != Channel::Gui {
            desktop.happens(record.bytes, now);
            continue;
        }
        let mut rest = record.bytes;
        loop {
            if desktop.model.is_ended() || messages > MESSAGES {
                return (messages, false);
            }
            if record.from_guest {
                match guest.push(&mut rest) {
                    Ok(Some(received)) => desktop.guest(received.message, now, &pool),
                    Ok(None) => break,
                    Err(_) => return (messages, false),
                }
            } else {
                match host.push(&mut rest) {
                    Ok(Some(received)) => desktop.host(&received.message, now),
                    Ok(None) => break,
                    Err(_) => return (messages, false),
                }
            }
            messages += 1;
        }
    }
    (messages, !desktop.model.is_ended())
}
