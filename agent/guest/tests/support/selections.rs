//! Apps that copy and paste, as small as they can be: each a connection of its own.
#![allow(dead_code, clippy::unwrap_used)]
use super::PATIENCE;
use medley_desktop::Desktop;
use std::time::{Duration, Instant};
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ConnectionExt, CreateWindowAux, EventMask, PropMode,
    Property, SELECTION_NOTIFY_EVENT, SelectionNotifyEvent, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;
use x11rb::{COPY_DEPTH_FROM_PARENT, CURRENT_TIME, NONE};

pub struct App {
    x: RustConnection,
    window: Window,
}

impl App {
    pub fn new(server: &Desktop) -> Self {
        let (x, screen) = RustConnection::connect(Some(&server.name)).unwrap();
        let window = x.generate_id().unwrap();
        let events = CreateWindowAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        let root = x.setup().roots[screen].root;
        x.create_window(
            COPY_DEPTH_FROM_PARENT,
            window,
            root,
            0,
            0,
            1,
            1,
            0,
            WindowClass::INPUT_ONLY,
            0,
            &events,
        )
        .unwrap();
        Self { x, window }
    }

    pub fn atom(&self, name: &str) -> u32 {
        let cookie = self.x.intern_atom(false, name.as_bytes()).unwrap();
        cookie.reply().unwrap().atom
    }

    fn next(&self, end: Instant) -> Option<Event> {
        loop {
            if let Some(event) = self.x.poll_for_event().unwrap() {
                return Some(event);
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Copies: owns the clipboard and gives `data` in one form, in pieces of that size if it is longer, until
    /// somebody else owns it or the time is over.
    pub fn copy(
        self,
        form: &'static str,
        data: Vec<u8>,
        piece: usize,
    ) -> std::thread::JoinHandle<u32> {
        let clipboard = self.atom("CLIPBOARD");
        self.x
            .set_selection_owner(self.window, clipboard, CURRENT_TIME)
            .unwrap();
        self.x.flush().unwrap();
        std::thread::spawn(move || self.serve(form, &data, piece))
    }

    fn serve(self, form: &str, data: &[u8], piece: usize) -> u32 {
        let (targets, form, incr) = (self.atom("TARGETS"), self.atom(form), self.atom("INCR"));
        let end = Instant::now() + PATIENCE;
        let mut giving: Option<(Window, u32, usize)> = None;
        let mut asked = 0;
        while let Some(event) = self.next(end) {
            match event {
                Event::SelectionClear(_) => break,
                Event::SelectionRequest(e) => {
                    let mut property = e.property;
                    let replace = PropMode::REPLACE;
                    if e.target == targets {
                        let names = [targets, form];
                        self.x
                            .change_property32(
                                replace,
                                e.requestor,
                                property,
                                AtomEnum::ATOM,
                                &names,
                            )
                            .unwrap();
                    } else if e.target != form {
                        property = NONE;
                    } else if data.len() <= piece {
                        asked += 1;
                        self.x
                            .change_property8(replace, e.requestor, property, form, data)
                            .unwrap();
                    } else {
                        asked += 1;
                        let events =
                            ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
                        self.x
                            .change_window_attributes(e.requestor, &events)
                            .unwrap();
                        self.x
                            .change_property32(replace, e.requestor, property, incr, &[1])
                            .unwrap();
                        giving = Some((e.requestor, property, 0));
                    }
                    let notify = SelectionNotifyEvent {
                        response_type: SELECTION_NOTIFY_EVENT,
                        sequence: 0,
                        time: e.time,
                        requestor: e.requestor,
                        selection: e.selection,
                        target: e.target,
                        property,
                    };
                    self.x
                        .send_event(false, e.requestor, EventMask::NO_EVENT, notify)
                        .unwrap();
                }
                Event::PropertyNotify(e) if e.state == Property::DELETE => {
                    if let Some((window, property, at)) = giving
                        && (window, property) == (e.window, e.atom)
                    {
                        let to = data.len().min(at + piece);
                        self.x
                            .change_property8(
                                PropMode::REPLACE,
                                window,
                                property,
                                form,
                                &data[at..to],
                            )
                            .unwrap();
                        giving = (to > at).then_some((window, property, to));
                    }
                }
                _ => {}
            }
            self.x.flush().unwrap();
        }
        asked
    }

    pub fn owner(&self) -> Window {
        let clipboard = self.atom("CLIPBOARD");
        self.x
            .get_selection_owner(clipboard)
            .unwrap()
            .reply()
            .unwrap()
            .owner
    }

    /// Asks for the clipboard in a form; what comes back with `wait`.
    pub fn ask(&self, form: &str) {
        let (clipboard, here) = (self.atom("CLIPBOARD"), self.atom("HERE"));
        self.x
            .convert_selection(self.window, clipboard, self.atom(form), here, CURRENT_TIME)
            .unwrap();
        self.x.flush().unwrap();
    }

    /// What was asked for: its kind and bytes; nothing, if it was refused.
    pub fn wait(&self) -> Option<(u32, Vec<u8>)> {
        let (here, incr) = (self.atom("HERE"), self.atom("INCR"));
        let end = Instant::now() + PATIENCE;
        let take = || {
            let reply = self
                .x
                .get_property(true, self.window, here, AtomEnum::ANY, 0, 1 << 24)
                .unwrap()
                .reply()
                .unwrap();
            self.x.flush().unwrap();
            (reply.type_, reply.value)
        };
        loop {
            match self.next(end).expect("no answer to a paste") {
                Event::SelectionNotify(e) if e.property == NONE => return None,
                Event::SelectionNotify(_) => break,
                _ => {}
            }
        }
        let (kind, value) = take();
        if kind != incr {
            return Some((kind, value));
        }
        let mut all = Vec::new();
        loop {
            if let Event::PropertyNotify(e) = self.next(end).expect("the next piece")
                && e.state == Property::NEW_VALUE
                && e.atom == here
            {
                let (kind, piece) = take();
                if piece.is_empty() {
                    return Some((kind, all));
                }
                all.extend(piece);
            }
        }
    }
}
