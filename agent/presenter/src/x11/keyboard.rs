//! The keyboard's state as xkb keeps it: which modifiers are held, which are locked, which layout. Held keys
//! repeat as presses without releases between, so that a guest can tell a repeat from a new press.
use crate::error::{Error, Result};
use medley_wire::window::Modifiers;
use medley_x11::Conn;
use x11rb::connection::RequestConnection;
use x11rb::protocol::xkb::{self, ConnectionExt, EventType, MapPart, PerClientFlag, StatePart};
use x11rb::protocol::xproto::ModMask;

/// What is held and locked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyboard {
    pub held: Modifiers,
    pub locked: Modifiers,
    pub group: u8,
}

fn modifiers(mask: ModMask) -> Modifiers {
    Modifiers::known((u16::from(mask) & 0xff) as u8)
}

impl Keyboard {
    pub fn open(conn: &Conn) -> Result<Self> {
        let missing = Error::Unfit {
            what: "it has no XKEYBOARD extension, so that keys cannot be told from repeats",
        };
        if conn
            .extension_information(xkb::X11_EXTENSION_NAME)?
            .is_none()
        {
            return Err(missing);
        }
        if !conn.xkb_use_extension(1, 0)?.reply()?.supported {
            return Err(missing);
        }
        let core = xkb::ID::USE_CORE_KBD.into();
        let detectable = PerClientFlag::DETECTABLE_AUTO_REPEAT;
        let none = xkb::BoolCtrl::default();
        conn.xkb_per_client_flags(core, detectable, detectable, none, none, none)?
            .reply()?;
        let parts = StatePart::MODIFIER_BASE
            | StatePart::MODIFIER_LATCH
            | StatePart::MODIFIER_LOCK
            | StatePart::GROUP_STATE;
        let details = xkb::SelectEventsAux::new().state_notify(xkb::SelectEventsAuxStateNotify {
            affect_state: parts,
            state_details: parts,
        });
        conn.xkb_select_events(
            core,
            EventType::default(),
            EventType::default(),
            MapPart::default(),
            MapPart::default(),
            &details,
        )?;
        let state = conn.xkb_get_state(core)?.reply()?;
        Ok(Self {
            held: modifiers(state.base_mods | state.latched_mods),
            locked: modifiers(state.locked_mods),
            group: u8::from(state.group) & 3,
        })
    }

    pub fn changed(&mut self, event: &xkb::StateNotifyEvent) {
        self.held = modifiers(event.base_mods | event.latched_mods);
        self.locked = modifiers(event.locked_mods);
        self.group = u8::from(event.group) & 3;
    }
}
