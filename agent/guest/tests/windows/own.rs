//! An app that is the test itself: it asks its window manager for whatever it likes.
use super::*;

/// A window of the test's own, that its connection owns.
pub struct Own<'s> {
    server: &'s Desktop,
    pub window: u32,
}

impl<'s> Own<'s> {
    pub fn new(server: &'s Desktop, class: &str, owner: Option<u32>) -> Self {
        use x11rb::protocol::xproto::{
            AtomEnum, CreateWindowAux, EventMask, PropMode, WindowClass,
        };
        use x11rb::wrapper::ConnectionExt as _;
        let x = &server.conn;
        let window = x.generate_id().unwrap();
        let look = CreateWindowAux::new()
            .background_pixel(0x33_66_99)
            .event_mask(
                EventMask::POINTER_MOTION
                    | EventMask::ENTER_WINDOW
                    | EventMask::LEAVE_WINDOW
                    | EventMask::BUTTON_PRESS
                    | EventMask::STRUCTURE_NOTIFY,
            );
        let depth = x11rb::COPY_DEPTH_FROM_PARENT;
        let kind = WindowClass::INPUT_OUTPUT;
        x.create_window(
            depth,
            window,
            server.root,
            50,
            60,
            200,
            100,
            3,
            kind,
            0,
            &look,
        )
        .unwrap();
        let both = format!("{class}\0{class}\0");
        let (replace, string) = (PropMode::REPLACE, AtomEnum::STRING);
        x.change_property8(replace, window, AtomEnum::WM_CLASS, string, both.as_bytes())
            .unwrap();
        if let Some(owner) = owner {
            let of = AtomEnum::WM_TRANSIENT_FOR;
            x.change_property32(replace, window, of, AtomEnum::WINDOW, &[owner])
                .unwrap();
        }
        x.map_window(window).unwrap();
        x.flush().unwrap();
        Self { server, window }
    }

    /// Sends a message to the window manager about this window.
    pub fn ask(&self, kind: &str, data: [u32; 5]) {
        use x11rb::protocol::xproto::{ClientMessageEvent, EventMask};
        let server = self.server;
        let message = ClientMessageEvent::new(32, self.window, server.atom(kind).unwrap(), data);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        server
            .conn
            .send_event(false, server.root, mask, message)
            .unwrap();
        server.conn.flush().unwrap();
    }

    /// Waits for an event that is wanted.
    pub fn hears<T>(&self, what: &str, wanted: impl Fn(&x11rb::protocol::Event) -> Option<T>) -> T {
        wait_for(what, || {
            std::iter::from_fn(|| self.server.conn.poll_for_event().unwrap())
                .find_map(|e| wanted(&e))
        })
    }
}
