//! How two sides that may be of different age agree. Each says which versions it speaks and what else it
//! can; both come to the same answer without a further message.
use crate::codec::{Reader, Wire, Writer};
use crate::fault::Fault;
use crate::fuzz::Dice;
use crate::limits::SENTENCE_BYTES;
use crate::text::Text;
use core::fmt;

/// The version of the protocol that this crate speaks. Whatever changes a golden vector changes it.
pub const VERSION: u16 = 1;

/// The oldest version that this crate still speaks.
pub const OLDEST: u16 = 1;

/// The first bytes of a hello's body.
pub const MAGIC: [u8; 8] = *b"medley\0w";

/// [`MAGIC`], and nothing else: whoever says something else speaks another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Magic;

impl<'a> Wire<'a> for Magic {
    const MIN: usize = <[u8; 8]>::MIN;
    const MAX: usize = <[u8; 8]>::MIN;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let bytes = Wire::take(reader)?;
        if bytes == MAGIC {
            Ok(Self)
        } else {
            Err(Fault::value(u64::from_le_bytes(bytes)))
        }
    }
    fn put(&self, writer: &mut Writer<'_>) {
        MAGIC.put(writer);
    }
    fn invent(_: &mut Dice<'a>) -> Self {
        Self
    }
}

choice! {
    /// The three ways between host and guest. They are separate so that files never delay keys.
    pub enum Channel {
        /// Windows, pixels, input.
        Gui = 0,
        /// Apps, monitors, clipboard offers, notifications, health.
        Control = 1,
        /// The bytes of clipboards, files, print jobs, icons.
        Bulk = 2,
    }
}

bits! {
    /// What a side can beyond the version's own. Both use what both have.
    pub struct Features: u64 {
        /// Pixels in memory that guest and host share.
        SHARED_PIXELS = 0,
        /// LZ4 patches.
        LZ4 = 1,
        /// Zstandard patches.
        ZSTD = 2,
        /// Cursors as pictures.
        CURSOR_PICTURES = 3,
        /// Touch.
        TOUCH = 4,
        /// Text of input methods.
        INPUT_TEXT = 5,
        /// Tray items.
        TRAY = 6,
        /// Printing.
        PRINT = 7,
        /// Print jobs with more than a number of copies: [`PrintTicket`](crate::control::PrintTicket).
        PRINT_TICKETS = 8,
    }
}

record! {
    /// The first message of either side on every channel; the guest's comes first.
    pub struct Hello {
        /// [`MAGIC`].
        pub magic: Magic,
        /// The channel it is meant for, so that crossed wires show at once.
        pub channel: Channel,
        /// The oldest version that the side speaks.
        pub oldest: u16,
        /// The newest version that the side speaks.
        pub newest: u16,
        /// What else it can: kept as a number, for a newer side has bits that an older one cannot name.
        pub features: u64,
        /// Which build it is: the beginning of a digest, for the log and for updates.
        pub build: [u8; 32],
    }
}

choice! {
    /// Why a side ends a connection.
    pub enum Reason {
        /// It stops, and that is all.
        Done = 0,
        /// The versions have none in common.
        Version = 1,
        /// The other side broke the protocol.
        Violation = 2,
        /// A limit was exceeded.
        Limit = 3,
        /// A policy forbids it.
        Policy = 4,
        /// It will be back: it restarts, updates itself, or falls asleep.
        Restart = 5,
        /// It failed.
        Failure = 6,
    }
}

record! {
    /// The last message of a side.
    pub struct Bye<'a> {
        /// Why.
        pub reason: Reason,
        /// The same in words, for the log.
        pub words: crate::Untrusted<Text<'a, SENTENCE_BYTES>>,
    }
}

/// What both sides came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The newest version that both speak.
    pub version: u16,
    /// What both can.
    pub features: Features,
}

/// Why two sides cannot speak with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disagreement {
    /// The oldest version is newer than the newest.
    Nonsense,
    /// The hello is meant for another channel.
    Channel(Channel),
    /// No version is spoken by both; the other side speaks these.
    Versions {
        /// The oldest that it speaks.
        oldest: u16,
        /// The newest that it speaks.
        newest: u16,
    },
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nonsense => {
                f.write_str("the other side's versions make no sense; install it again")
            }
            Self::Channel(channel) => write!(
                f,
                "the other side takes this for the {channel:?} channel; the ports are crossed"
            ),
            Self::Versions { oldest, newest } => write!(
                f,
                "the other side speaks versions {oldest} to {newest}, this one {OLDEST} to {VERSION}; \
                 update the older of the two"
            ),
        }
    }
}

impl core::error::Error for Disagreement {}

impl Hello {
    /// What this side says.
    #[must_use]
    pub fn new(channel: Channel, features: Features, build: [u8; 32]) -> Self {
        let features = features.bits();
        Self {
            magic: Magic,
            channel,
            oldest: OLDEST,
            newest: VERSION,
            features,
            build,
        }
    }

    /// What this side and the other come to.
    ///
    /// # Errors
    /// If they have nothing in common; the host then says [`Bye`] with [`Reason::Version`].
    pub fn agree(&self, theirs: &Self) -> Result<Agreed, Disagreement> {
        if theirs.oldest > theirs.newest {
            return Err(Disagreement::Nonsense);
        }
        if theirs.channel != self.channel {
            return Err(Disagreement::Channel(theirs.channel));
        }
        let version = self.newest.min(theirs.newest);
        if version < self.oldest.max(theirs.oldest) {
            return Err(Disagreement::Versions {
                oldest: theirs.oldest,
                newest: theirs.newest,
            });
        }
        let features = Features::known(self.features & theirs.features);
        Ok(Agreed { version, features })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(oldest: u16, newest: u16, features: u64) -> Hello {
        let ours = Hello::new(Channel::Gui, Features::ALL, [0; 32]);
        Hello {
            oldest,
            newest,
            features,
            ..ours
        }
    }

    #[test]
    fn both_sides_come_to_the_same() {
        let both = Features::LZ4.with(Features::TRAY);
        let old = hello(1, 3, both.bits());
        let new = hello(2, 7, u64::MAX);
        let agreed = Agreed {
            version: 3,
            features: both,
        };
        assert_eq!(old.agree(&new), Ok(agreed));
        assert_eq!(new.agree(&old), Ok(agreed));
    }

    #[test]
    fn strangers_are_told_apart() {
        let ours = hello(3, 5, 0);
        let versions = |oldest, newest| Err(Disagreement::Versions { oldest, newest });
        assert_eq!(ours.agree(&hello(1, 2, 0)), versions(1, 2));
        assert_eq!(ours.agree(&hello(6, 9, 0)), versions(6, 9));
        assert_eq!(ours.agree(&hello(4, 3, 0)), Err(Disagreement::Nonsense));
        let crossed = Hello {
            channel: Channel::Bulk,
            ..hello(3, 5, 0)
        };
        assert_eq!(
            ours.agree(&crossed),
            Err(Disagreement::Channel(Channel::Bulk))
        );
    }
}
