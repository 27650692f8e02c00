//! The host's clipboard on X11: owned lazily, asked lazily. A window of its own that is never mapped stands for
//! it. Text only; what comes in several pieces is too large.
use crate::error::Result;
use crate::x11::{Atoms, Display};
use std::collections::BTreeMap;
use x11rb::connection::Connection;
use x11rb::protocol::xfixes::{ConnectionExt as _, SelectionEventMask};
use x11rb::protocol::xproto::{
    AtomEnum, ConnectionExt, CreateWindowAux, EventMask, PropMode, SELECTION_NOTIFY_EVENT,
    SelectionNotifyEvent, SelectionRequestEvent, Timestamp, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

/// What the host's clipboard says.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// Another app owns it now, or nobody.
    Copied(bool),
    /// A host's app wants the text.
    Pastes(u32),
    /// The text that was asked for.
    Text(Option<String>),
}

/// The clipboard's window, and who waits for what.
#[derive(Debug)]
pub(super) struct Selection {
    window: Window,
    owned: bool,
    since: Timestamp,
    tickets: u32,
    waiting: BTreeMap<u32, SelectionRequestEvent>,
    /// Bytes of one property.
    most: usize,
}

impl Selection {
    pub fn open(display: &Display) -> Result<Self> {
        use x11rb::connection::RequestConnection;
        let (conn, atoms) = (display.connection(), display.atoms());
        let window = conn.generate_id()?;
        conn.create_window(
            0,
            window,
            display.root(),
            -10,
            -10,
            1,
            1,
            0,
            WindowClass::INPUT_ONLY,
            x11rb::COPY_FROM_PARENT,
            &CreateWindowAux::new().event_mask(EventMask::PROPERTY_CHANGE),
        )?;
        conn.xfixes_query_version(5, 0)?.reply()?;
        let mask = SelectionEventMask::SET_SELECTION_OWNER
            | SelectionEventMask::SELECTION_WINDOW_DESTROY
            | SelectionEventMask::SELECTION_CLIENT_CLOSE;
        conn.xfixes_select_selection_input(window, atoms.CLIPBOARD, mask)?;
        Ok(Self {
            window,
            owned: false,
            since: x11rb::CURRENT_TIME,
            tickets: 0,
            waiting: BTreeMap::new(),
            most: conn.maximum_request_bytes().saturating_sub(64),
        })
    }

    /// Whether some app has copied something already.
    pub fn is_there(&self, display: &Display) -> Result<bool> {
        let (conn, atoms) = (display.connection(), display.atoms());
        let owner = conn.get_selection_owner(atoms.CLIPBOARD)?.reply()?.owner;
        Ok(owner != x11rb::NONE && owner != self.window)
    }

    pub fn own(&mut self, display: &Display) -> Result<()> {
        let (conn, atoms) = (display.connection(), display.atoms());
        self.since = display.time();
        conn.set_selection_owner(self.window, atoms.CLIPBOARD, self.since)?;
        self.owned = true;
        Ok(())
    }

    pub fn disown(&mut self, display: &Display) -> Result<()> {
        if std::mem::take(&mut self.owned) {
            let (conn, atoms) = (display.connection(), display.atoms());
            conn.set_selection_owner(x11rb::NONE, atoms.CLIPBOARD, self.since)?;
        }
        Ok(())
    }

    /// Asks the owner for its text.
    pub fn fetch(&self, display: &Display) -> Result<()> {
        let (conn, atoms) = (display.connection(), display.atoms());
        conn.delete_property(self.window, atoms.MEDLEY_SELECTION)?;
        conn.convert_selection(
            self.window,
            atoms.CLIPBOARD,
            atoms.UTF8_STRING,
            atoms.MEDLEY_SELECTION,
            display.time(),
        )?;
        Ok(())
    }

    /// Gives a host's app what it waits for, or says that there is nothing.
    pub fn give(&mut self, display: &Display, ticket: u32, text: Option<&str>) -> Result<()> {
        let Some(request) = self.waiting.remove(&ticket) else {
            return Ok(());
        };
        let conn = display.connection();
        let text = text.filter(|text| text.len() <= self.most);
        if let Some(text) = text {
            conn.change_property8(
                PropMode::REPLACE,
                request.requestor,
                property(&request),
                request.target,
                text.as_bytes(),
            )?;
        }
        notify(conn, &request, text.is_some())
    }

    /// Takes an event of the server's, if it is about the clipboard.
    pub fn hear(
        &mut self,
        event: &x11rb::protocol::Event,
        display: &Display,
    ) -> Result<Option<Said>> {
        use x11rb::protocol::Event;
        let atoms = display.atoms();
        match event {
            Event::XfixesSelectionNotify(notify) if notify.selection == atoms.CLIPBOARD => {
                if notify.owner == self.window {
                    return Ok(None);
                }
                self.owned = false;
                Ok(Some(Said::Copied(notify.owner != x11rb::NONE)))
            }
            Event::SelectionRequest(request) if request.owner == self.window => {
                self.requested(*request, display)
            }
            Event::SelectionNotify(notify) if notify.requestor == self.window => {
                self.text(notify.property != x11rb::NONE, display).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn requested(
        &mut self,
        request: SelectionRequestEvent,
        display: &Display,
    ) -> Result<Option<Said>> {
        let (conn, atoms) = (display.connection(), display.atoms());
        let texts = text_targets(atoms);
        let targets = [atoms.TARGETS, atoms.TIMESTAMP];
        let old = request.time != x11rb::CURRENT_TIME && request.time < self.since;
        let replace = PropMode::REPLACE;
        if !self.owned || request.selection != atoms.CLIPBOARD || old {
            notify(conn, &request, false)?;
        } else if request.target == atoms.TARGETS {
            let all: Vec<u32> = targets.into_iter().chain(texts).collect();
            let at = property(&request);
            conn.change_property32(replace, request.requestor, at, AtomEnum::ATOM, &all)?;
            notify(conn, &request, true)?;
        } else if request.target == atoms.TIMESTAMP {
            let (at, time) = (property(&request), [self.since]);
            conn.change_property32(replace, request.requestor, at, AtomEnum::INTEGER, &time)?;
            notify(conn, &request, true)?;
        } else if texts.contains(&request.target) {
            self.tickets = self.tickets.wrapping_add(1);
            self.waiting.insert(self.tickets, request);
            return Ok(Some(Said::Pastes(self.tickets)));
        } else {
            notify(conn, &request, false)?;
        }
        Ok(None)
    }

    fn text(&self, there: bool, display: &Display) -> Result<Said> {
        let (conn, atoms) = (display.connection(), display.atoms());
        if !there {
            return Ok(Said::Text(None));
        }
        let words = u32::try_from(self.most / 4).unwrap_or(u32::MAX);
        let at = atoms.MEDLEY_SELECTION;
        let reply = conn
            .get_property(true, self.window, at, AtomEnum::ANY, 0, words)?
            .reply()?;
        let whole = reply.bytes_after == 0 && reply.type_ != atoms.INCR && reply.format == 8;
        let text = String::from_utf8(reply.value).ok();
        Ok(Said::Text(text.filter(|_| whole)))
    }
}

fn text_targets(atoms: &Atoms) -> [u32; 3] {
    [atoms.UTF8_STRING, atoms.TEXT_PLAIN_UTF8, atoms.TEXT_PLAIN]
}

/// Old apps name no property, and mean the target's name.
fn property(request: &SelectionRequestEvent) -> u32 {
    if request.property == x11rb::NONE {
        request.target
    } else {
        request.property
    }
}

fn notify(conn: &RustConnection, request: &SelectionRequestEvent, yes: bool) -> Result<()> {
    let event = SelectionNotifyEvent {
        response_type: SELECTION_NOTIFY_EVENT,
        sequence: 0,
        time: request.time,
        requestor: request.requestor,
        selection: request.selection,
        target: request.target,
        property: if yes { property(request) } else { x11rb::NONE },
    };
    conn.send_event(false, request.requestor, EventMask::NO_EVENT, event)?;
    Ok(())
}
