//! Who copies and who pastes on the host: an app of its own that counts how often it is asked for its text.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ConnectionExt, CreateWindowAux, EventMask, PropMode, SelectionNotifyEvent, Window,
    WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::desktop::Desktop;

/// An app that has copied a text. It serves it until it is dropped or somebody else copies.
#[derive(Debug)]
pub struct Copied {
    asked: Arc<AtomicU32>,
    owner: Window,
}

fn invisible(conn: &RustConnection, root: Window) -> Result<Window> {
    let window = conn.generate_id()?;
    let aux = CreateWindowAux::new().event_mask(EventMask::PROPERTY_CHANGE);
    let class = WindowClass::INPUT_ONLY;
    conn.create_window(0, window, root, 0, 0, 1, 1, 0, class, 0, &aux)?;
    Ok(window)
}

impl Copied {
    /// How often anybody asked for the text.
    #[must_use]
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Desktop {
    /// An app of the host's copies a text.
    ///
    /// # Errors
    /// The display is gone.
    pub fn copy(&self, text: &str) -> Result<Copied> {
        let (conn, screen) = x11rb::connect(Some(&self.name))?;
        let root = conn.setup().roots[screen].root;
        let owner = invisible(&conn, root)?;
        let (clipboard, utf8) = (self.atom("CLIPBOARD")?, self.atom("UTF8_STRING")?);
        conn.set_selection_owner(owner, clipboard, x11rb::CURRENT_TIME)?;
        // Asked on the same connection, and so after it was done.
        let real = conn.get_selection_owner(clipboard)?.reply()?.owner;
        ensure!(real == owner, "the clipboard has another owner");
        let asked = Arc::new(AtomicU32::new(0));
        let (count, text) = (asked.clone(), text.to_owned());
        // It ends with the display, or when somebody else copies.
        std::thread::spawn(move || -> Result<()> {
            loop {
                let request = match conn.wait_for_event()? {
                    Event::SelectionRequest(request) => request,
                    Event::SelectionClear(_) => return Ok(()),
                    _ => continue,
                };
                let mut property = request.property;
                if request.target == utf8 || request.target == u32::from(AtomEnum::STRING) {
                    count.fetch_add(1, Ordering::SeqCst);
                    conn.change_property8(
                        PropMode::REPLACE,
                        request.requestor,
                        property,
                        request.target,
                        text.as_bytes(),
                    )?;
                } else {
                    property = x11rb::NONE;
                }
                let notify = SelectionNotifyEvent {
                    response_type: x11rb::protocol::xproto::SELECTION_NOTIFY_EVENT,
                    sequence: 0,
                    time: request.time,
                    requestor: request.requestor,
                    selection: request.selection,
                    target: request.target,
                    property,
                };
                conn.send_event(false, request.requestor, EventMask::NO_EVENT, notify)?;
                conn.flush()?;
            }
        });
        Ok(Copied { asked, owner })
    }

    /// Whether that is still what was copied last.
    ///
    /// # Errors
    /// The display is gone.
    pub fn owns(&self, copied: &Copied) -> Result<bool> {
        let clipboard = self.atom("CLIPBOARD")?;
        Ok(self.conn.get_selection_owner(clipboard)?.reply()?.owner == copied.owner)
    }

    /// Whether anybody but that app says to have copied something last.
    ///
    /// # Errors
    /// The display is gone.
    pub fn another_owns(&self, copied: &Copied) -> Result<bool> {
        let clipboard = self.atom("CLIPBOARD")?;
        let owner = self.conn.get_selection_owner(clipboard)?.reply()?.owner;
        Ok(owner != copied.owner && owner != x11rb::NONE)
    }

    /// Begins to paste in an app of the host's.
    ///
    /// # Errors
    /// The display is gone.
    pub fn paste(&self) -> Result<Paste> {
        let (conn, screen) = x11rb::connect(Some(&self.name))?;
        let root = conn.setup().roots[screen].root;
        let window = invisible(&conn, root)?;
        let (clipboard, utf8) = (self.atom("CLIPBOARD")?, self.atom("UTF8_STRING")?);
        let here = self.atom("MEDLEY_HERE")?;
        conn.convert_selection(window, clipboard, utf8, here, x11rb::CURRENT_TIME)?;
        conn.flush()?;
        Ok(Paste {
            conn,
            window,
            property: here,
        })
    }
}

/// A paste whose answer has not been looked at.
#[derive(Debug)]
pub struct Paste {
    conn: RustConnection,
    window: Window,
    property: u32,
}

impl Paste {
    /// What was pasted; nothing, if the owner had nothing to give.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn text(self, limit: Duration) -> Result<Option<String>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(Event::SelectionNotify(notify)) = self.conn.poll_for_event()? {
                if notify.property == x11rb::NONE {
                    return Ok(None);
                }
                let any = AtomEnum::ANY;
                let asked =
                    self.conn
                        .get_property(false, self.window, self.property, any, 0, 1 << 16)?;
                let bytes = asked.reply()?.value;
                return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
            }
            ensure!(Instant::now() < until, "nobody answers a paste");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
