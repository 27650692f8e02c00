//! The host's clipboard on X11: owned lazily, asked lazily. A window of its own that is never mapped stands for
//! it. What an owner sends in pieces is put together; what goes to an app goes at once.
use super::{Atoms, Display};
use crate::error::Result;
use crate::screen::{Content, Form, Forms, Said};
use medley_x11::Conn;
use std::collections::BTreeMap;
use x11rb::connection::Connection;
use x11rb::protocol::xfixes::{ConnectionExt as _, SelectionEventMask};
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ConnectionExt, CreateWindowAux, EventMask, GetPropertyReply, PropMode,
    Property, PropertyNotifyEvent, SELECTION_NOTIFY_EVENT, SelectionNotifyEvent,
    SelectionRequestEvent, Timestamp, Window, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

/// Apps that wait for a copy at once; more are told that there is nothing.
const WAITING: usize = 64;

/// The clipboard's window, and who waits for what.
#[derive(Debug)]
pub(super) struct Selection {
    window: Window,
    /// Forms that may cross. Of an owner it is asked which it has only if that is not text alone.
    wanted: Forms,
    /// Forms in which the guest's copy is the host's.
    owned: Forms,
    since: Timestamp,
    tickets: u32,
    waiting: BTreeMap<u32, SelectionRequestEvent>,
    /// Bytes of one property.
    most: usize,
    fetch: Option<Fetch>,
    /// Where the next fetch's bytes shall come, so that those of one that was given up are not taken for them.
    turn: bool,
}

/// What was asked of the owner.
#[derive(Debug)]
struct Fetch {
    form: Form,
    property: Atom,
    /// More bytes are not kept.
    most: u64,
    /// What came so far, of an owner that sends in pieces.
    pieces: Option<Vec<u8>>,
}

impl Display {
    /// From now on the clipboard is heard. Tells in which forms some app has copied something already: text, until it
    /// has said more.
    ///
    /// # Errors
    /// The display is gone.
    pub fn clipboard(&mut self, wanted: Forms) -> Result<Forms> {
        let mut selection = Selection::open(&self.conn, &self.atoms, self.root)?;
        selection.wanted = wanted;
        let owner = self.conn.get_selection_owner(self.atoms.CLIPBOARD)?;
        let owner = owner.reply()?.owner;
        let there = owner != x11rb::NONE && owner != selection.window;
        let asks = there && wanted != Forms::TEXT;
        if asks {
            selection.ask_forms(&self.conn, &self.atoms)?;
        }
        self.selection = Some(selection);
        Ok(if there && !asks {
            Forms::TEXT
        } else {
            Forms::NONE
        })
    }

    /// Whether that window stands for the clipboard.
    pub(super) fn is_selection(&self, window: Window) -> bool {
        let selection = self.selection.as_ref();
        selection.is_some_and(|selection| selection.window == window)
    }

    /// The guest's copy becomes the host's.
    ///
    /// # Errors
    /// The display is gone.
    pub fn own(&mut self, forms: Forms) -> Result<()> {
        if let Some(selection) = &mut self.selection {
            selection.since = self.time;
            let clipboard = self.atoms.CLIPBOARD;
            self.conn
                .set_selection_owner(selection.window, clipboard, selection.since)?;
            selection.owned = forms;
        }
        Ok(())
    }

    /// It is the host's no longer.
    ///
    /// # Errors
    /// The display is gone.
    pub fn disown(&mut self) -> Result<()> {
        if let Some(selection) = &mut self.selection
            && std::mem::take(&mut selection.owned).any()
        {
            let clipboard = self.atoms.CLIPBOARD;
            self.conn
                .set_selection_owner(x11rb::NONE, clipboard, selection.since)?;
        }
        Ok(())
    }

    /// Asks the owner for its copy.
    ///
    /// # Errors
    /// The display is gone.
    pub fn fetch(&mut self, form: Form, most: u64) -> Result<()> {
        if let Some(selection) = &mut self.selection {
            let (conn, atoms) = (&self.conn, &self.atoms);
            let property = selection.next_property(atoms);
            let target = match form {
                Form::Text => atoms.UTF8_STRING,
                Form::Picture => atoms.IMAGE_PNG,
            };
            conn.delete_property(selection.window, property)?;
            let clipboard = atoms.CLIPBOARD;
            conn.convert_selection(selection.window, clipboard, target, property, self.time)?;
            selection.fetch = Some(Fetch {
                form,
                property,
                most,
                pieces: None,
            });
        }
        Ok(())
    }

    /// Gives a host's app what it waits for, or says that there is nothing; whether something was given.
    ///
    /// # Errors
    /// The display is gone.
    pub fn give(&mut self, ticket: u32, content: Option<Content>) -> Result<bool> {
        let selection = self.selection.as_mut();
        let waiting = selection.and_then(|selection| {
            let request = selection.waiting.remove(&ticket)?;
            Some((request, selection.most, selection.window))
        });
        let Some((request, most, window)) = waiting else {
            return Ok(false);
        };
        let mut content = content.filter(|content| content.bytes().len() <= most);
        // Somebody may have copied anew, and the word of it still be on its way: what is old is not given.
        if content.is_some() {
            let owner = self.conn.get_selection_owner(self.atoms.CLIPBOARD)?;
            content = content.filter(|_| owner.reply().is_ok_and(|reply| reply.owner == window));
        }
        if let Some(content) = &content {
            self.conn.change_property8(
                PropMode::REPLACE,
                request.requestor,
                property(&request),
                request.target,
                content.bytes(),
            )?;
        }
        notify(&self.conn, &request, content.is_some())?;
        Ok(content.is_some())
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
    fn open(conn: &Conn, atoms: &Atoms, root: Window) -> Result<Self> {
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
            wanted: Forms::TEXT,
            owned: Forms::NONE,
            since: x11rb::CURRENT_TIME,
            tickets: 0,
            waiting: BTreeMap::new(),
            most: conn.maximum_request_bytes().saturating_sub(64),
            fetch: None,
            turn: false,
        })
    }

    fn next_property(&mut self, atoms: &Atoms) -> Atom {
        self.turn = !self.turn;
        if self.turn {
            atoms.MEDLEY_SELECTION
        } else {
            atoms.MEDLEY_SELECTION_NEXT
        }
    }

    /// Asks the owner in which forms its copy can be had.
    fn ask_forms(&self, conn: &Conn, atoms: &Atoms) -> Result<()> {
        let (targets, now) = (atoms.TARGETS, x11rb::CURRENT_TIME);
        conn.convert_selection(self.window, atoms.CLIPBOARD, targets, targets, now)?;
        Ok(())
    }

    fn hear(
        &mut self,
        event: &x11rb::protocol::Event,
        conn: &Conn,
        atoms: &Atoms,
    ) -> Result<Option<Said>> {
        use x11rb::protocol::Event;
        match event {
            Event::XfixesSelectionNotify(notify) if notify.selection == atoms.CLIPBOARD => {
                if notify.owner == self.window {
                    return Ok(None);
                }
                self.owned = Forms::NONE;
                Ok(Some(Said::Copied(if notify.owner == x11rb::NONE {
                    Forms::NONE
                } else if self.wanted == Forms::TEXT {
                    Forms::TEXT
                } else {
                    // What was there is there no longer; what is now, is known when the owner has said it.
                    self.ask_forms(conn, atoms)?;
                    Forms::NONE
                })))
            }
            Event::SelectionRequest(request) if request.owner == self.window => {
                self.requested(*request, conn, atoms)
            }
            Event::SelectionNotify(notify) if notify.requestor == self.window => {
                if notify.target == atoms.TARGETS {
                    self.forms(notify, conn, atoms)
                } else {
                    self.answered(notify, conn, atoms)
                }
            }
            Event::PropertyNotify(notify) => self.piece(notify, conn),
            _ => Ok(None),
        }
    }

    fn requested(
        &mut self,
        request: SelectionRequestEvent,
        conn: &Conn,
        atoms: &Atoms,
    ) -> Result<Option<Said>> {
        let targets = [atoms.TARGETS, atoms.TIMESTAMP];
        let offered = || {
            let forms = form_targets(atoms).into_iter();
            forms.filter(|(_, form)| self.owned.has(*form))
        };
        let asked = offered().find(|(target, _)| *target == request.target);
        let old = request.time != x11rb::CURRENT_TIME && request.time < self.since;
        let replace = PropMode::REPLACE;
        let full = self.waiting.len() >= WAITING;
        if !self.owned.any() || request.selection != atoms.CLIPBOARD || old || full {
            notify(conn, &request, false)?;
        } else if request.target == atoms.TARGETS {
            let offered = offered().map(|(target, _)| target);
            let all: Vec<u32> = targets.into_iter().chain(offered).collect();
            let at = property(&request);
            conn.change_property32(replace, request.requestor, at, AtomEnum::ATOM, &all)?;
            notify(conn, &request, true)?;
        } else if request.target == atoms.TIMESTAMP {
            let (at, time) = (property(&request), [self.since]);
            conn.change_property32(replace, request.requestor, at, AtomEnum::INTEGER, &time)?;
            notify(conn, &request, true)?;
        } else if let Some((_, form)) = asked {
            self.tickets = self.tickets.wrapping_add(1);
            self.waiting.insert(self.tickets, request);
            return Ok(Some(Said::Pastes(self.tickets, form)));
        } else {
            notify(conn, &request, false)?;
        }
        Ok(None)
    }

    /// The owner says in which forms its copy can be had; one that does not say has text.
    fn forms(
        &self,
        notify: &SelectionNotifyEvent,
        conn: &Conn,
        atoms: &Atoms,
    ) -> Result<Option<Said>> {
        if self.owned.any() {
            return Ok(None);
        }
        let mut forms = Forms::TEXT;
        if notify.property != x11rb::NONE {
            let reply = self.take(notify.property, conn)?;
            let names: Vec<u32> = reply.value32().into_iter().flatten().collect();
            let has = |wanted: Form| {
                let mut targets = form_targets(atoms).into_iter();
                targets.any(|(target, form)| form == wanted && names.contains(&target))
            };
            forms = Forms {
                text: has(Form::Text),
                picture: has(Form::Picture),
            };
        }
        Ok(Some(Said::Copied(forms)))
    }

    /// The owner gives its copy: whole, in pieces, or not.
    fn answered(
        &mut self,
        notify: &SelectionNotifyEvent,
        conn: &Conn,
        atoms: &Atoms,
    ) -> Result<Option<Said>> {
        let Some(fetch) = &mut self.fetch else {
            return Ok(None);
        };
        if notify.property == x11rb::NONE {
            self.fetch = None;
            return Ok(Some(Said::Got(None)));
        }
        if notify.property != fetch.property || fetch.pieces.is_some() {
            return Ok(None);
        }
        let (form, at) = (fetch.form, fetch.property);
        let reply = self.take(at, conn)?;
        if reply.type_ == atoms.INCR {
            // Taking the property has asked for the first piece.
            if let Some(fetch) = &mut self.fetch {
                fetch.pieces = Some(Vec::new());
            }
            return Ok(None);
        }
        self.fetch = None;
        let whole = reply.bytes_after == 0 && reply.format == 8;
        let content = whole.then(|| Content::of(form, reply.value)).flatten();
        Ok(Some(Said::Got(content)))
    }

    /// A piece of the owner's copy is there; an empty one is the end.
    fn piece(&mut self, notify: &PropertyNotifyEvent, conn: &Conn) -> Result<Option<Said>> {
        let comes = self.fetch.as_ref().is_some_and(|fetch| {
            fetch.pieces.is_some()
                && fetch.property == notify.atom
                && notify.state == Property::NEW_VALUE
        });
        if !comes {
            return Ok(None);
        }
        let reply = self.take(notify.atom, conn)?;
        let Some(Fetch {
            pieces: Some(pieces),
            most,
            form,
            ..
        }) = &mut self.fetch
        else {
            return Ok(None);
        };
        let (form, ends) = (*form, reply.value.is_empty());
        pieces.extend_from_slice(&reply.value);
        let over = pieces.len() as u64 > *most || reply.bytes_after > 0;
        if !ends && !over {
            return Ok(None);
        }
        // Of what is too large, as much is given as shows that it is.
        let all = std::mem::take(pieces);
        self.fetch = None;
        Ok(Some(Said::Got(Content::of(form, all))))
    }

    /// Takes a property of ours away: its owner sees that it was read.
    fn take(&self, at: Atom, conn: &Conn) -> Result<GetPropertyReply> {
        let words = u32::try_from(self.most / 4).unwrap_or(u32::MAX);
        Ok(conn
            .get_property(true, self.window, at, AtomEnum::ANY, 0, words)?
            .reply()?)
    }
}

/// What forms are called, the best name of each first.
const fn form_targets(atoms: &Atoms) -> [(Atom, Form); 4] {
    [
        (atoms.UTF8_STRING, Form::Text),
        (atoms.TEXT_PLAIN_UTF8, Form::Text),
        (atoms.TEXT_PLAIN, Form::Text),
        (atoms.IMAGE_PNG, Form::Picture),
    ]
}

/// Old apps name no property, and mean the target's name.
fn property(request: &SelectionRequestEvent) -> u32 {
    if request.property == x11rb::NONE {
        request.target
    } else {
        request.property
    }
}

fn notify(conn: &Conn, request: &SelectionRequestEvent, yes: bool) -> Result<()> {
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
