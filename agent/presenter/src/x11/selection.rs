//! The host's clipboard on X11: owned lazily, asked lazily. A window of its own that is never mapped stands for
//! it. Text only; what comes in several pieces is too large.
use super::{Atoms, Display};
use crate::error::Result;
use crate::screen::Said;
use std::collections::BTreeMap;
use x11rb::connection::Connection;
use x11rb::protocol::xfixes::{ConnectionExt as _, SelectionEventMask};
use x11rb::protocol::xproto::{
    AtomEnum, ConnectionExt, CreateWindowAux, EventMask, PropMode, SELECTION_NOTIFY_EVENT,
    SelectionNotifyEvent, SelectionRequestEvent, Timestamp, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

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

impl Display {
    /// From now on the clipboard is heard. Tells whether some app has copied something already.
    ///
    /// # Errors
    /// The display is gone.
    pub fn clipboard(&mut self) -> Result<bool> {
        let selection = Selection::open(&self.conn, &self.atoms, self.root)?;
        let owner = self.conn.get_selection_owner(self.atoms.CLIPBOARD)?;
        let owner = owner.reply()?.owner;
        let there = owner != x11rb::NONE && owner != selection.window;
        self.selection = Some(selection);
        Ok(there)
    }

    /// The guest's copy becomes the host's.
    ///
    /// # Errors
    /// The display is gone.
    pub fn own(&mut self) -> Result<()> {
        if let Some(selection) = &mut self.selection {
            selection.since = self.time;
            let clipboard = self.atoms.CLIPBOARD;
            self.conn
                .set_selection_owner(selection.window, clipboard, selection.since)?;
            selection.owned = true;
        }
        Ok(())
    }

    /// It is the host's no longer.
    ///
    /// # Errors
    /// The display is gone.
    pub fn disown(&mut self) -> Result<()> {
        if let Some(selection) = &mut self.selection
            && std::mem::take(&mut selection.owned)
        {
            let clipboard = self.atoms.CLIPBOARD;
            self.conn
                .set_selection_owner(x11rb::NONE, clipboard, selection.since)?;
        }
        Ok(())
    }

    /// Asks the owner for its text.
    ///
    /// # Errors
    /// The display is gone.
    pub fn fetch(&mut self) -> Result<()> {
        if let Some(selection) = &self.selection {
            let (conn, atoms) = (&self.conn, &self.atoms);
            conn.delete_property(selection.window, atoms.MEDLEY_SELECTION)?;
            conn.convert_selection(
                selection.window,
                atoms.CLIPBOARD,
                atoms.UTF8_STRING,
                atoms.MEDLEY_SELECTION,
                self.time,
            )?;
        }
        Ok(())
    }

    /// Gives a host's app what it waits for, or says that there is nothing.
    ///
    /// # Errors
    /// The display is gone.
    pub fn give(&mut self, ticket: u32, text: Option<&str>) -> Result<()> {
        let selection = self.selection.as_mut();
        let waiting = selection.and_then(|selection| {
            let request = selection.waiting.remove(&ticket)?;
            Some((request, selection.most))
        });
        let Some((request, most)) = waiting else {
            return Ok(());
        };
        let text = text.filter(|text| text.len() <= most);
        if let Some(text) = text {
            self.conn.change_property8(
                PropMode::REPLACE,
                request.requestor,
                property(&request),
                request.target,
                text.as_bytes(),
            )?;
        }
        notify(&self.conn, &request, text.is_some())
    }

    /// Takes an event of the server's, if it is about the clipboard.
    pub(super) fn selected(&mut self, event: &x11rb::protocol::Event) -> Result<Option<Said>> {
        match &mut self.selection {
            Some(selection) => selection.hear(event, &self.conn, &self.atoms),
            None => Ok(None),
        }
    }
}

impl Selection {
    fn open(conn: &RustConnection, atoms: &Atoms, root: Window) -> Result<Self> {
        use x11rb::connection::RequestConnection;
        let window = conn.generate_id()?;
        conn.create_window(
            0,
            window,
            root,
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

    fn hear(
        &mut self,
        event: &x11rb::protocol::Event,
        conn: &RustConnection,
        atoms: &Atoms,
    ) -> Result<Option<Said>> {
        use x11rb::protocol::Event;
        match event {
            Event::XfixesSelectionNotify(notify) if notify.selection == atoms.CLIPBOARD => {
                if notify.owner == self.window {
                    return Ok(None);
                }
                self.owned = false;
                Ok(Some(Said::Copied(notify.owner != x11rb::NONE)))
            }
            Event::SelectionRequest(request) if request.owner == self.window => {
                self.requested(*request, conn, atoms)
            }
            Event::SelectionNotify(notify) if notify.requestor == self.window => {
                let there = notify.property != x11rb::NONE;
                self.text(there, conn, atoms).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn requested(
        &mut self,
        request: SelectionRequestEvent,
        conn: &RustConnection,
        atoms: &Atoms,
    ) -> Result<Option<Said>> {
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

    fn text(&self, there: bool, conn: &RustConnection, atoms: &Atoms) -> Result<Said> {
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
