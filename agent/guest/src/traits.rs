//! What an app says about a window of its own, read from its properties: name, class, kind, hints, wishes.
//! All of it is asked for before the first answer is awaited, so it costs one round trip.
use crate::display::{Atoms, Display, gone};
use anyhow::Result;
use medley_wire::window::{Given, Hints, Kind, States};
use x11rb::connection::Connection;
use x11rb::properties::{WmHints, WmHintsState, WmSizeHints};
use x11rb::protocol::xproto::{AtomEnum, ConnectionExt, GetPropertyReply, Window};

/// Words of a property that are read: titles and lists of atoms are short.
const SHORT: u32 = 256;

/// What an app says about its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traits {
    /// What it is called.
    pub title: String,
    /// The two halves of `WM_CLASS`.
    pub class: (String, String),
    /// What it is for; nothing if it does not say.
    pub kind: Option<Kind>,
    /// It is the desktop's background or a panel, and not for the host.
    pub furniture: bool,
    /// The window that it stands before.
    pub transient_for: Option<Window>,
    /// How its size may change.
    pub hints: Hints,
    /// States that it wishes to begin with.
    pub states: States,
    /// It may be given the keyboard.
    pub takes_input: bool,
    /// It wants to be asked before it is closed.
    pub deletes: bool,
    /// It gives the keyboard to one of its own windows.
    pub takes_focus: bool,
    /// It answers pings.
    pub answers: bool,
    /// It wants to be looked at.
    pub urgent: bool,
    /// It wants to begin minimised.
    pub iconic: bool,
    /// Which launch led to it, as an app says that was handed one while it ran.
    pub startup: String,
}

impl Traits {
    /// Reads them all.
    ///
    /// # Errors
    /// The display is gone. A window that is gone has no traits, and that is no error.
    pub fn read(display: &Display, window: Window) -> Result<Self> {
        let a = &display.atoms;
        let ask = |property: u32, kind: AtomEnum| {
            display
                .x
                .get_property(false, window, property, kind, 0, SHORT)
        };
        let net_name = ask(a._NET_WM_NAME, AtomEnum::ANY)?;
        let name = ask(AtomEnum::WM_NAME.into(), AtomEnum::ANY)?;
        let class = ask(AtomEnum::WM_CLASS.into(), AtomEnum::STRING)?;
        let kind = ask(a._NET_WM_WINDOW_TYPE, AtomEnum::ATOM)?;
        let parent = ask(AtomEnum::WM_TRANSIENT_FOR.into(), AtomEnum::WINDOW)?;
        let sizes = ask(AtomEnum::WM_NORMAL_HINTS.into(), AtomEnum::WM_SIZE_HINTS)?;
        let states = ask(a._NET_WM_STATE, AtomEnum::ATOM)?;
        let hints = ask(AtomEnum::WM_HINTS.into(), AtomEnum::WM_HINTS)?;
        let protocols = ask(a.WM_PROTOCOLS, AtomEnum::ATOM)?;
        let startup = ask(a._NET_STARTUP_ID, AtomEnum::ANY)?;

        let net_name = gone(net_name.reply())?;
        let name = gone(name.reply())?;
        let class = gone(class.reply())?;
        let kinds = numbers(gone(kind.reply())?);
        let parent = numbers(gone(parent.reply())?);
        let sizes = gone(sizes.reply())?;
        let states = numbers(gone(states.reply())?);
        let hints = gone(hints.reply())?
            .and_then(|reply| WmHints::from_reply(&reply).ok())
            .flatten();
        let protocols = numbers(gone(protocols.reply())?);
        let startup = gone(startup.reply())?;

        let title = net_name
            .filter(|reply| !reply.value.is_empty())
            .map(|reply| String::from_utf8_lossy(&reply.value).into_owned())
            .or_else(|| name.map(|reply| old_text(a, &reply)))
            .unwrap_or_default();
        let class = class.map(|reply| {
            let mut halves = reply.value.split(|byte| *byte == 0).map(latin);
            (
                halves.next().unwrap_or_default(),
                halves.next().unwrap_or_default(),
            )
        });
        Ok(Self {
            title,
            class: class.unwrap_or_default(),
            kind: kinds.iter().find_map(|atom| kind_of(a, *atom)),
            furniture: kinds.first().is_some_and(|atom| {
                [a._NET_WM_WINDOW_TYPE_DESKTOP, a._NET_WM_WINDOW_TYPE_DOCK].contains(atom)
            }),
            transient_for: parent.first().copied().filter(|parent| *parent != 0),
            hints: size_hints(sizes.as_ref()),
            states: states
                .iter()
                .fold(States::NONE, |all, atom| all.with(state_of(a, *atom))),
            takes_input: hints.is_none_or(|hints| hints.input.unwrap_or(true)),
            deletes: protocols.contains(&a.WM_DELETE_WINDOW),
            takes_focus: protocols.contains(&a.WM_TAKE_FOCUS),
            answers: protocols.contains(&a._NET_WM_PING),
            urgent: hints.is_some_and(|hints| hints.urgent),
            iconic: hints
                .is_some_and(|hints| matches!(hints.initial_state, Some(WmHintsState::Iconic))),
            startup: startup.map_or_else(String::new, |reply| latin(&reply.value)),
        })
    }
}

fn numbers(reply: Option<GetPropertyReply>) -> Vec<u32> {
    reply
        .and_then(|reply| reply.value32().map(Iterator::collect))
        .unwrap_or_default()
}

/// Latin-1, or the UTF-8 that apps put there all the same.
fn latin(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// A name as apps of the last century give it.
fn old_text(atoms: &Atoms, reply: &GetPropertyReply) -> String {
    if reply.type_ == atoms.UTF8_STRING {
        String::from_utf8_lossy(&reply.value).into_owned()
    } else if reply.type_ == atoms.COMPOUND_TEXT {
        compound(&reply.value)
    } else {
        latin(&reply.value)
    }
}

/// Compound text: Latin-1, in which an escape begins something else. Of what it can begin, UTF-8 is read, which
/// is what Xlib writes for everything beyond Latin-1; letters of other sets are left out.
fn compound(bytes: &[u8]) -> String {
    const UTF8: &[u8] = b"\x1b%G";
    const BACK: &[u8] = b"\x1b%@";
    let mut text = String::new();
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        if let Some(utf8) = rest.strip_prefix(UTF8) {
            let end = utf8
                .windows(BACK.len())
                .position(|window| window == BACK)
                .unwrap_or(utf8.len());
            text.push_str(&String::from_utf8_lossy(&utf8[..end]));
            rest = utf8.get(end + BACK.len()..).unwrap_or_default();
        } else if *byte == 0x1b {
            // Some bytes that say what kind, then one that says which.
            let kind = after
                .iter()
                .take_while(|b| (0x20..0x30).contains(*b))
                .count();
            rest = after.get(kind + 1..).unwrap_or_default();
        } else {
            text.push(char::from(*byte));
            rest = after;
        }
    }
    text
}

fn kind_of(a: &Atoms, atom: u32) -> Option<Kind> {
    let table = [
        (a._NET_WM_WINDOW_TYPE_NORMAL, Kind::Normal),
        (a._NET_WM_WINDOW_TYPE_DIALOG, Kind::Dialog),
        (a._NET_WM_WINDOW_TYPE_UTILITY, Kind::Utility),
        (a._NET_WM_WINDOW_TYPE_TOOLBAR, Kind::Utility),
        // A menu that was torn off and stays.
        (a._NET_WM_WINDOW_TYPE_MENU, Kind::Utility),
        (a._NET_WM_WINDOW_TYPE_SPLASH, Kind::Splash),
        (a._NET_WM_WINDOW_TYPE_DROPDOWN_MENU, Kind::DropdownMenu),
        (a._NET_WM_WINDOW_TYPE_POPUP_MENU, Kind::PopupMenu),
        (a._NET_WM_WINDOW_TYPE_TOOLTIP, Kind::Tooltip),
        (a._NET_WM_WINDOW_TYPE_NOTIFICATION, Kind::Note),
        (a._NET_WM_WINDOW_TYPE_COMBO, Kind::Combo),
        (a._NET_WM_WINDOW_TYPE_DND, Kind::Drag),
    ];
    table
        .iter()
        .find(|(name, _)| *name == atom)
        .map(|(_, kind)| *kind)
}

/// Names of states and what they are on the wire.
#[must_use]
pub const fn state_names(a: &Atoms) -> [(u32, States); 7] {
    [
        (a._NET_WM_STATE_MAXIMIZED_HORZ, States::MAXIMISED_ACROSS),
        (a._NET_WM_STATE_MAXIMIZED_VERT, States::MAXIMISED_DOWN),
        (a._NET_WM_STATE_FULLSCREEN, States::FULLSCREEN),
        (a._NET_WM_STATE_HIDDEN, States::MINIMISED),
        (a._NET_WM_STATE_DEMANDS_ATTENTION, States::ATTENTION),
        (a._NET_WM_STATE_MODAL, States::MODAL),
        (a._NET_WM_STATE_SKIP_TASKBAR, States::NO_TASK_BAR),
    ]
}

/// A state by its name; none, if the name is of no state that crosses.
#[must_use]
pub fn state_of(a: &Atoms, atom: u32) -> States {
    state_names(a)
        .iter()
        .find(|(name, _)| *name == atom)
        .map_or(States::NONE, |(_, state)| *state)
}

fn size_hints(reply: Option<&GetPropertyReply>) -> Hints {
    let hints = reply
        .and_then(|reply| WmSizeHints::from_reply(reply).ok())
        .flatten()
        .unwrap_or_default();
    // A negative number is as mad as a huge one, and is dropped by the host as such.
    let pair = |(width, height): (i32, i32)| [width.cast_unsigned(), height.cast_unsigned()];
    let mut all = Hints {
        given: Given::NONE,
        smallest: [0; 2],
        largest: [0; 2],
        step: [0; 2],
        base: [0; 2],
        aspect: [0; 4],
    };
    let mut give = |bit, value: Option<(i32, i32)>, into: &mut [u32; 2]| {
        if let Some(value) = value {
            all.given = all.given.with(bit);
            *into = pair(value);
        }
    };
    give(Given::SMALLEST, hints.min_size, &mut all.smallest);
    give(Given::LARGEST, hints.max_size, &mut all.largest);
    give(Given::STEP, hints.size_increment, &mut all.step);
    give(Given::BASE, hints.base_size, &mut all.base);
    if let Some((low, high)) = hints.aspect {
        all.given = all.given.with(Given::ASPECT);
        let [a, b] = pair((low.numerator, low.denominator));
        let [c, d] = pair((high.numerator, high.denominator));
        all.aspect = [a, b, c, d];
    }
    all
}

/// The process that a window's app is, as the server knows it: no app can claim another's.
///
/// # Errors
/// The display is gone.
pub fn process_of(display: &Display, window: Window) -> Result<Option<u32>> {
    use x11rb::protocol::res;
    let mask = res::ClientIdMask::LOCAL_CLIENT_PID;
    let spec = res::ClientIdSpec {
        client: window,
        mask,
    };
    let reply = gone(res::query_client_ids(&display.x, &[spec])?.reply())?;
    display.x.flush()?;
    Ok(reply.and_then(|reply| {
        reply
            .ids
            .iter()
            .find(|id| id.spec.mask == mask)
            .and_then(|id| id.value.first().copied())
    }))
}

#[cfg(test)]
mod tests {
    use super::compound;

    #[test]
    fn compound_text_is_read_as_far_as_xlib_writes_it() {
        assert_eq!(compound(b"T\xedtle"), "Títle");
        assert_eq!(
            compound(b"T\xedtle \x1b%G\xe2\x80\x94\x1b%@ 1"),
            "Títle — 1"
        );
        assert_eq!(compound(b"\x1b%G\xe2\x80\x94"), "—");
        assert_eq!(compound(b"a\x1b-Bb\x1b$(Bc\x1b"), "abc");
        assert_eq!(compound(b""), "");
    }
}
