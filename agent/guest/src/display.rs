//! The guest's X display as the agent holds it: connection, atoms, extensions, and the office of window
//! manager and compositor, which only one program can have.
use anyhow::{Context, Result, bail};
use medley_x11::Conn;
use std::collections::{BTreeSet, VecDeque};
use x11rb::connection::{Connection, RequestConnection};
use x11rb::errors::{ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ClientMessageEvent, ConnectionExt, CreateWindowAux,
    EventMask, PropMode, Timestamp, Window, WindowClass,
};
use x11rb::protocol::{Event, composite, damage, randr, res, shape, shm, xfixes, xkb, xtest};
use x11rb::wrapper::ConnectionExt as _;
use x11rb::{COPY_DEPTH_FROM_PARENT, CURRENT_TIME, NONE};

x11rb::atom_manager! {
    /// The names that window managers and apps exchange.
    pub Atoms: AtomsCookie {
        UTF8_STRING, COMPOUND_TEXT, TEXT, INCR, TARGETS, TIMESTAMP, MULTIPLE, CLIPBOARD, SAVE_TARGETS,
        TEXT_UTF8: b"text/plain;charset=utf-8", TEXT_PLAIN: b"text/plain", IMAGE_PNG: b"image/png",
        TEXT_HTML: b"text/html", TEXT_RTF: b"text/rtf",
        WM_S0, _NET_WM_CM_S0, _XSETTINGS_S0, _XSETTINGS_SETTINGS, MANAGER,
        WM_STATE, WM_PROTOCOLS, WM_DELETE_WINDOW, WM_TAKE_FOCUS, WM_CHANGE_STATE, WM_WINDOW_ROLE,
        _NET_SUPPORTED, _NET_SUPPORTING_WM_CHECK, _NET_WM_NAME, _NET_CLIENT_LIST,
        _NET_CLIENT_LIST_STACKING, _NET_ACTIVE_WINDOW, _NET_WORKAREA, _NET_FRAME_EXTENTS,
        _NET_REQUEST_FRAME_EXTENTS, _NET_NUMBER_OF_DESKTOPS, _NET_CURRENT_DESKTOP,
        _NET_DESKTOP_GEOMETRY, _NET_DESKTOP_VIEWPORT, _NET_CLOSE_WINDOW, _NET_MOVERESIZE_WINDOW,
        _NET_WM_MOVERESIZE, _NET_RESTACK_WINDOW, _NET_WM_PING, _NET_WM_PID, _NET_STARTUP_ID,
        _NET_WM_ICON, _NET_WM_DESKTOP, _NET_WM_ALLOWED_ACTIONS, _NET_WM_USER_TIME,
        _NET_WM_ACTION_MOVE, _NET_WM_ACTION_RESIZE, _NET_WM_ACTION_MINIMIZE,
        _NET_WM_ACTION_MAXIMIZE_HORZ, _NET_WM_ACTION_MAXIMIZE_VERT, _NET_WM_ACTION_FULLSCREEN,
        _NET_WM_ACTION_CLOSE,
        _NET_WM_STATE, _NET_WM_STATE_MODAL, _NET_WM_STATE_MAXIMIZED_VERT,
        _NET_WM_STATE_MAXIMIZED_HORZ, _NET_WM_STATE_SKIP_TASKBAR, _NET_WM_STATE_HIDDEN,
        _NET_WM_STATE_FULLSCREEN, _NET_WM_STATE_DEMANDS_ATTENTION, _NET_WM_STATE_FOCUSED,
        _NET_WM_WINDOW_TYPE, _NET_WM_WINDOW_TYPE_NORMAL, _NET_WM_WINDOW_TYPE_DIALOG,
        _NET_WM_WINDOW_TYPE_UTILITY, _NET_WM_WINDOW_TYPE_TOOLBAR, _NET_WM_WINDOW_TYPE_MENU,
        _NET_WM_WINDOW_TYPE_SPLASH, _NET_WM_WINDOW_TYPE_DROPDOWN_MENU,
        _NET_WM_WINDOW_TYPE_POPUP_MENU, _NET_WM_WINDOW_TYPE_TOOLTIP,
        _NET_WM_WINDOW_TYPE_NOTIFICATION, _NET_WM_WINDOW_TYPE_COMBO, _NET_WM_WINDOW_TYPE_DND,
        _NET_WM_WINDOW_TYPE_DESKTOP, _NET_WM_WINDOW_TYPE_DOCK,
        _NET_SYSTEM_TRAY_S0, _NET_SYSTEM_TRAY_OPCODE, _NET_SYSTEM_TRAY_ORIENTATION,
        _NET_SYSTEM_TRAY_VISUAL, _XEMBED, _XEMBED_INFO,
        _MEDLEY_TIME, _MEDLEY_CLIPBOARD, _MEDLEY_STATES,
    }
}

/// What `None` means where a window that has gone is no failure.
pub fn gone<T>(reply: Result<T, ReplyError>) -> Result<Option<T>, ConnectionError> {
    match reply {
        Ok(value) => Ok(Some(value)),
        Err(ReplyError::X11Error(_)) => Ok(None),
        Err(ReplyError::ConnectionError(error)) => Err(error),
    }
}

/// The display.
#[derive(Debug)]
pub struct Display {
    /// The connection.
    pub x: Conn,
    /// The only screen's root.
    pub root: Window,
    /// Atoms.
    pub atoms: Atoms,
    /// The agent's own window: it owns selections, and has the keyboard when no app has.
    pub own: Window,
    /// Covers everything, invisibly, while the pointer is in no window of the guest, so that nothing there
    /// believes the pointer is over it.
    pub veil: Window,
    /// Windows of the agent's around tray icons: none of the host's business.
    pub sockets: BTreeSet<Window>,
    /// Errors that the server reported. Most are windows that went while they were asked about.
    pub errors: u32,
    /// Bits of an id that its client chose.
    id_mask: u32,
    set_aside: VecDeque<Event>,
}

impl Display {
    /// Connects, and becomes window manager and compositor.
    ///
    /// # Errors
    /// No such display, an extension is missing, or somebody else is the window manager.
    pub fn open(name: Option<&str>) -> Result<Self> {
        // The library counts ports from 6000, and has no answer to numbers beyond them.
        const MOST: u32 = u16::MAX as u32 - 6000;
        if let Some(name) = name {
            let number = name.rsplit(':').next().and_then(|n| n.split('.').next());
            if !number.is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n <= MOST)) {
                bail!("{name:?} is no X display; it must be as in :0");
            }
        }
        let (x, screen) = medley_x11::connect(name).with_context(|| {
            format!(
                "cannot reach the X display {}; is the server running, and may this user use it?",
                name.unwrap_or("in DISPLAY")
            )
        })?;
        let setup = x.setup();
        let id_mask = setup.resource_id_mask;
        let screen = &setup.roots[screen];
        let root = screen.root;
        let (across, down) = (screen.width_in_pixels, screen.height_in_pixels);
        let atoms = Atoms::new(&x)?.reply()?;
        check_extensions(&x)?;

        let own = x.generate_id()?;
        let hidden = CreateWindowAux::new()
            .override_redirect(1)
            .event_mask(EventMask::PROPERTY_CHANGE);
        x.create_window(
            COPY_DEPTH_FROM_PARENT,
            own,
            root,
            -10,
            -10,
            1,
            1,
            0,
            WindowClass::INPUT_ONLY,
            0,
            &hidden,
        )?;
        x.map_window(own)?;
        let veil = x.generate_id()?;
        x.create_window(
            COPY_DEPTH_FROM_PARENT,
            veil,
            root,
            0,
            0,
            across,
            down,
            0,
            WindowClass::INPUT_ONLY,
            0,
            &CreateWindowAux::new().override_redirect(1),
        )?;
        let mut display = Self {
            x,
            root,
            atoms,
            own,
            veil,
            sockets: BTreeSet::new(),
            errors: 0,
            id_mask,
            set_aside: VecDeque::new(),
        };
        display.take_office()?;
        Ok(display)
    }

    fn take_office(&mut self) -> Result<()> {
        let taken = "another window manager runs on this display; end it, or give the agent a display \
                     of its own";
        let mask = EventMask::SUBSTRUCTURE_REDIRECT
            | EventMask::SUBSTRUCTURE_NOTIFY
            | EventMask::STRUCTURE_NOTIFY
            | EventMask::PROPERTY_CHANGE;
        let attributes = ChangeWindowAttributesAux::new().event_mask(mask);
        let asked = self
            .x
            .change_window_attributes(self.root, &attributes)?
            .check();
        match asked {
            Ok(()) => {}
            Err(ReplyError::X11Error(_)) => bail!(taken),
            Err(error) => return Err(error.into()),
        }
        let now = self.now()?;
        for office in [self.atoms.WM_S0, self.atoms._NET_WM_CM_S0] {
            if self.x.get_selection_owner(office)?.reply()?.owner != NONE {
                bail!(taken);
            }
            self.x.set_selection_owner(self.own, office, now)?;
            let announce = ClientMessageEvent::new(
                32,
                self.root,
                self.atoms.MANAGER,
                [now, office, self.own, 0, 0],
            );
            self.x
                .send_event(false, self.root, EventMask::STRUCTURE_NOTIFY, announce)?;
        }
        let redirected =
            composite::redirect_subwindows(&self.x, self.root, composite::Redirect::MANUAL)?
                .check();
        match redirected {
            Ok(()) => {}
            Err(ReplyError::X11Error(_)) => bail!(
                "another compositor runs on this display; end it, or give the agent a display of its own"
            ),
            Err(error) => return Err(error.into()),
        }
        xfixes::select_cursor_input(&self.x, self.root, xfixes::CursorNotifyMask::DISPLAY_CURSOR)?;
        self.announce()?;
        Ok(())
    }

    /// The properties by which apps see what their window manager can.
    fn announce(&self) -> Result<()> {
        let a = &self.atoms;
        let supported = [
            a._NET_SUPPORTED,
            a._NET_SUPPORTING_WM_CHECK,
            a._NET_WM_NAME,
            a._NET_CLIENT_LIST,
            a._NET_CLIENT_LIST_STACKING,
            a._NET_ACTIVE_WINDOW,
            a._NET_WORKAREA,
            a._NET_FRAME_EXTENTS,
            a._NET_REQUEST_FRAME_EXTENTS,
            a._NET_NUMBER_OF_DESKTOPS,
            a._NET_CURRENT_DESKTOP,
            a._NET_DESKTOP_GEOMETRY,
            a._NET_DESKTOP_VIEWPORT,
            a._NET_CLOSE_WINDOW,
            a._NET_MOVERESIZE_WINDOW,
            a._NET_WM_MOVERESIZE,
            a._NET_RESTACK_WINDOW,
            a._NET_WM_PING,
            a._NET_WM_ALLOWED_ACTIONS,
            a._NET_WM_STATE,
            a._NET_WM_STATE_MODAL,
            a._NET_WM_STATE_MAXIMIZED_VERT,
            a._NET_WM_STATE_MAXIMIZED_HORZ,
            a._NET_WM_STATE_SKIP_TASKBAR,
            a._NET_WM_STATE_HIDDEN,
            a._NET_WM_STATE_FULLSCREEN,
            a._NET_WM_STATE_DEMANDS_ATTENTION,
            a._NET_WM_STATE_FOCUSED,
            a._NET_WM_WINDOW_TYPE,
            a._NET_WM_WINDOW_TYPE_NORMAL,
            a._NET_WM_WINDOW_TYPE_DIALOG,
            a._NET_WM_WINDOW_TYPE_UTILITY,
            a._NET_WM_WINDOW_TYPE_SPLASH,
            a._NET_WM_WINDOW_TYPE_DROPDOWN_MENU,
            a._NET_WM_WINDOW_TYPE_POPUP_MENU,
            a._NET_WM_WINDOW_TYPE_TOOLTIP,
            a._NET_WM_WINDOW_TYPE_COMBO,
            a._NET_WM_WINDOW_TYPE_DND,
        ];
        self.words(self.root, a._NET_SUPPORTED, AtomEnum::ATOM, &supported)?;
        for window in [self.root, self.own] {
            let check = a._NET_SUPPORTING_WM_CHECK;
            self.words(window, check, AtomEnum::WINDOW, &[self.own])?;
        }
        self.x.change_property8(
            PropMode::REPLACE,
            self.own,
            a._NET_WM_NAME,
            a.UTF8_STRING,
            b"Medley",
        )?;
        self.words(
            self.root,
            a._NET_NUMBER_OF_DESKTOPS,
            AtomEnum::CARDINAL,
            &[1],
        )?;
        self.words(self.root, a._NET_CURRENT_DESKTOP, AtomEnum::CARDINAL, &[0])?;
        self.words(
            self.root,
            a._NET_DESKTOP_VIEWPORT,
            AtomEnum::CARDINAL,
            &[0, 0],
        )?;
        Ok(())
    }

    /// Sets a property of 32-bit numbers.
    ///
    /// # Errors
    /// The display is gone.
    pub fn words(
        &self,
        window: Window,
        property: u32,
        kind: impl Into<u32>,
        values: &[u32],
    ) -> Result<(), ConnectionError> {
        let kind: u32 = kind.into();
        self.x
            .change_property32(PropMode::REPLACE, window, property, kind, values)
            .map(|_| ())
    }

    /// Reads a property of 32-bit numbers; empty, if it or its window is not there.
    ///
    /// # Errors
    /// The display is gone.
    pub fn read_words(
        &self,
        window: Window,
        property: u32,
        kind: AtomEnum,
    ) -> Result<Vec<u32>, ConnectionError> {
        let reply = self
            .x
            .get_property(false, window, property, kind, 0, 1024)?
            .reply();
        Ok(gone(reply)?
            .and_then(|reply| reply.value32().map(Iterator::collect))
            .unwrap_or_default())
    }

    /// The server's time. Whoever asks for the focus must say a real one.
    ///
    /// # Errors
    /// The display is gone.
    pub fn now(&mut self) -> Result<Timestamp, ConnectionError> {
        self.x.change_property8(
            PropMode::APPEND,
            self.own,
            self.atoms._MEDLEY_TIME,
            AtomEnum::CARDINAL,
            &[],
        )?;
        self.x.flush()?;
        loop {
            match self.x.wait_for_event()? {
                Event::PropertyNotify(event)
                    if event.window == self.own && event.atom == self.atoms._MEDLEY_TIME =>
                {
                    return Ok(event.time);
                }
                other => self.set_aside.push_back(other),
            }
        }
    }

    /// The next event, if one is there. Errors are counted and left out.
    ///
    /// # Errors
    /// The display is gone.
    pub fn event(&mut self) -> Result<Option<Event>, ConnectionError> {
        loop {
            let event = match self.set_aside.pop_front() {
                Some(event) => Some(event),
                None => self.x.poll_for_event()?,
            };
            match event {
                Some(Event::Error(error)) => {
                    self.errors = self.errors.wrapping_add(1);
                    tracing::debug!(
                        kind = ?error.error_kind,
                        request = error.request_name,
                        value = error.bad_value,
                        "the display refused something"
                    );
                }
                other => return Ok(other),
            }
        }
    }

    /// Whether an event is here already. Every answer that is awaited may have brought some, and then the
    /// connection has nothing left to be polled for.
    ///
    /// # Errors
    /// The display is gone.
    pub fn has_event(&mut self) -> Result<bool, ConnectionError> {
        if self.set_aside.is_empty()
            && let Some(event) = self.x.poll_for_event()?
        {
            self.set_aside.push_back(event);
        }
        Ok(!self.set_aside.is_empty())
    }

    /// Whether two ids belong to the same app's connection.
    #[must_use]
    pub const fn same_client(&self, one: u32, other: u32) -> bool {
        (one & !self.id_mask) == (other & !self.id_mask)
    }

    /// Sends a `WM_PROTOCOLS` message.
    ///
    /// # Errors
    /// The display is gone.
    pub fn tell(
        &self,
        window: Window,
        protocol: u32,
        time: Timestamp,
        about: u32,
    ) -> Result<(), ConnectionError> {
        let data = [protocol, time, about, 0, 0];
        let message = ClientMessageEvent::new(32, window, self.atoms.WM_PROTOCOLS, data);
        self.x
            .send_event(false, window, EventMask::NO_EVENT, message)
            .map(|_| ())
    }

    /// Takes the keyboard away from every app.
    ///
    /// # Errors
    /// The display is gone.
    pub fn unfocus(&self) -> Result<(), ConnectionError> {
        use x11rb::protocol::xproto::InputFocus;
        self.x
            .set_input_focus(InputFocus::POINTER_ROOT, self.own, CURRENT_TIME)?;
        self.words(
            self.root,
            self.atoms._NET_ACTIVE_WINDOW,
            AtomEnum::WINDOW,
            &[NONE],
        )
    }
}

/// Everything that the agent is made of; without one of them it could not do its work.
fn check_extensions(x: &Conn) -> Result<()> {
    let names = [
        composite::X11_EXTENSION_NAME,
        damage::X11_EXTENSION_NAME,
        xfixes::X11_EXTENSION_NAME,
        shape::X11_EXTENSION_NAME,
        shm::X11_EXTENSION_NAME,
        xtest::X11_EXTENSION_NAME,
        xkb::X11_EXTENSION_NAME,
        randr::X11_EXTENSION_NAME,
        res::X11_EXTENSION_NAME,
    ];
    for name in names {
        if x.extension_information(name)?.is_none() {
            bail!(
                "the X server lacks the extension {name}; use Xorg with the dummy driver, or Xvfb"
            );
        }
    }
    let versions = || -> Result<bool, ReplyOrIdError> {
        let composite = composite::query_version(x, 0, 4)?.reply()?;
        damage::query_version(x, 1, 1)?.reply()?;
        let fixes = xfixes::query_version(x, 5, 0)?.reply()?;
        let shm = shm::query_version(x)?.reply()?;
        xtest::get_version(x, 2, 2)?.reply()?;
        let xkb = xkb::use_extension(x, 1, 0)?.reply()?;
        randr::query_version(x, 1, 5)?.reply()?;
        res::query_version(x, 1, 2)?.reply()?;
        Ok((composite.major_version, composite.minor_version) >= (0, 2)
            && fixes.major_version >= 2
            && (shm.major_version, shm.minor_version) >= (1, 2)
            && xkb.supported)
    };
    match versions() {
        Ok(true) => Ok(()),
        Ok(false) => bail!(
            "the X server is too old (Composite 0.2, XFixes 2, MIT-SHM 1.2 and XKB are needed)"
        ),
        Err(error) => Err(error).context("cannot ask the X server what it can"),
    }
}
