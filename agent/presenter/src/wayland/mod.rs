//! The back end for Wayland: host windows for what the model shows, and events of the host's for the model.
//!
//! Wayland's clients know neither where their windows are nor what lies over them, and cannot put them anywhere.
//! The guest gets a desk of its own instead, on which its windows are where it wants them, those that
//! somebody touches on top ([`desk`]); menus are placed by the compositor beside their parents ([`popup`]).
//!
//! Every window is one surface without subsurfaces. Its buffer holds frame and pixels, and is filled by us: what
//! the guest paints goes to [`Inside`](crate::frame::Inside) places only ([`paint`]).
//!
//! The wire's own crate speaks it, without libwayland and libxkbcommon: keys come as evdev's codes, modifiers as
//! X's, and the keymap is the guest's to read, so that nothing of it is parsed here.
mod activation;
mod buffer;
mod card;
mod cursor;
mod damage;
mod desk;
mod globals;
mod icon;
mod keyboard;
mod letters;
mod outputs;
mod paint;
mod pointer;
mod popup;
mod repeat;
mod selection;
mod shell;
mod window;

use crate::error::{Error, Result};
use crate::model::{Action, Layout, Model};
use crate::screen::{Dress, Heard, Keymap};
use card::Card;
use cursor::Cursors;
use globals::Globals;
use keyboard::Keyboard;
use medley_wire::WindowId;
use nix::libc;
use nix::poll::PollFlags;
use outputs::Outputs;
use paint::Painter;
use pointer::Pointer;
use popup::Parked;
use selection::Selection;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wayland_client::backend::WaylandError;
use wayland_client::{Connection, EventQueue, QueueHandle};
use window::Host;

/// Calls that this back end needs besides those of every presenter: a buffer of another size is memory without
/// a name, which the compositor is given; keymaps are read where the compositor put them; what is pasted comes
/// through a pipe. None of them reaches a file that is not open.
pub const CALLS: &[libc::c_long] = &[
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_pread64,
    libc::SYS_pipe2,
];

/// How long the compositor may take nothing of what is said: longer, and a guest's wishes would pile up without end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose a surface is. Surfaces carry it, so that events need no table of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    /// A window's of the guest.
    Window(WindowId),
    /// The card's that stands for all of them.
    Card,
}

/// The host's display and the guest's windows on it.
pub struct Display {
    conn: Connection,
    queue: EventQueue<State>,
    state: State,
    /// Since when the compositor has not taken all that was said.
    full: Option<Instant>,
}

/// What events change.
struct State {
    qh: QueueHandle<State>,
    globals: Globals,
    dress: Dress,
    painter: Painter,
    hosts: BTreeMap<Name, Host>,
    parked: Parked,
    /// Managed windows, the one that was touched last at the end.
    order: Vec<WindowId>,
    outputs: Outputs,
    keyboard: Keyboard,
    pointer: Pointer,
    cursors: Cursors,
    selection: Selection,
    icons: icon::Icons,
    card: Option<Card>,
    /// Buffers of windows that are gone or have another size, until the compositor is done with them.
    retired: Vec<buffer::Buffer>,
    heard: Heard,
}

impl std::fmt::Debug for Display {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Display")
            .field("windows", &self.state.hosts.len())
            .field("layout", self.state.outputs.layout())
            .finish_non_exhaustive()
    }
}

/// Connects to a compositor: by its socket's name or path, or to the environment's.
fn connect(name: Option<&str>) -> Result<Connection> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Compositor {
        name: name.unwrap_or("of the environment").to_owned(),
        source,
    };
    let Some(name) = name else {
        return Connection::connect_to_env().map_err(|error| failed(error.into()));
    };
    // A path stays what it is; a name is one in the folder of the session's sockets.
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let path = folder.unwrap_or_default().join(name);
    let stream = UnixStream::connect(path).map_err(|error| failed(error.into()))?;
    Connection::from_socket(stream).map_err(|error| failed(error.into()))
}

impl Display {
    /// Opens a display (by default the environment's), and all that is needed later: files are not opened
    /// once the guest is heard.
    ///
    /// # Errors
    /// It cannot be opened, or lacks what windows are made of.
    pub fn open(name: Option<&str>, dress: Dress) -> Result<Self> {
        let conn = connect(name)?;
        let (globals, mut queue) = globals::list(&conn)?;
        let qh = queue.handle();
        let bound = Globals::bind(&globals, &qh)?;
        let cursors = Cursors::load(&bound, &qh, dress.look.colour());
        let mut state = State {
            painter: Painter::new(&dress),
            selection: Selection::default(),
            cursors,
            globals: bound,
            dress,
            hosts: BTreeMap::new(),
            parked: Parked::default(),
            order: Vec::new(),
            outputs: Outputs::default(),
            keyboard: Keyboard::default(),
            pointer: Pointer::default(),
            icons: icon::Icons::default(),
            card: None,
            retired: Vec::new(),
            heard: Heard::default(),
            qh,
        };
        state.meet(&globals);
        // Once for what there is, once for what it says of itself.
        for _ in 0..2 {
            queue
                .roundtrip(&mut state)
                .map_err(|error| Error::wayland("its outputs were asked for", error))?;
        }
        state.outputs.settle();
        // Whoever opened it asks for the layout and the keymap.
        state.heard = Heard::default();
        Ok(Self {
            conn,
            queue,
            state,
            full: None,
        })
    }

    /// The monitors as they are.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        self.state.outputs.layout()
    }

    /// The keymap as the compositor gave it.
    ///
    /// # Errors
    /// None.
    pub fn keymap(&self) -> Result<Option<Keymap>> {
        Ok(self.state.keyboard.keymap())
    }

    /// Descriptors to wait for: the connection's, and those of pastes.
    #[must_use]
    pub fn fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut flags = PollFlags::POLLIN;
        if self.full.is_some() {
            flags |= PollFlags::POLLOUT;
        }
        let mut fds = vec![(self.conn.as_fd(), flags)];
        fds.extend(self.state.selection.fds());
        fds
    }

    /// When something is due without anything coming.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let covered = self.state.hosts.values().filter_map(Host::patience);
        let more = [
            self.state.keyboard.deadline(),
            self.state.selection.deadline(),
        ];
        covered.chain(more.into_iter().flatten()).min()
    }

    /// Takes all that is there to be heard.
    ///
    /// # Errors
    /// The display is gone.
    pub fn hear(&mut self) -> Result<Heard> {
        let mut events = self.dispatch()?;
        self.flush()?;
        if let Some(guard) = self.queue.prepare_read() {
            match guard.read() {
                Ok(_) => {}
                Err(WaylandError::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(Error::wayland("events were read", error)),
            }
            events += self.dispatch()?;
        }
        let now = Instant::now();
        self.state.tick(now);
        self.state.selection.go_on(now, &mut self.state.heard);
        self.flush()?;
        let mut heard = std::mem::take(&mut self.state.heard);
        heard.any |= events > 0 || !heard.events.is_empty() || !heard.clipboard.is_empty();
        Ok(heard)
    }

    fn dispatch(&mut self) -> Result<usize> {
        let dispatched = self.queue.dispatch_pending(&mut self.state);
        let count = dispatched.map_err(|error| Error::wayland("events were read", error))?;
        self.state.pointer.rest(&mut self.state.heard);
        Ok(count)
    }

    fn flush(&mut self) -> Result<()> {
        match self.conn.flush() {
            Ok(()) => self.full = None,
            Err(WaylandError::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                let since = *self.full.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    return Err(Error::wayland("it took no requests", error));
                }
            }
            Err(error) => return Err(Error::wayland("requests were sent", error)),
        }
        Ok(())
    }

    /// Does what the model wants.
    ///
    /// # Errors
    /// The display is gone.
    pub fn act(&mut self, action: Action, model: &Model) -> Result<()> {
        let state = &mut self.state;
        match action {
            Action::Show(appearance) => state.show(*appearance),
            Action::Hide(window) => state.hide(window),
            Action::Place { window, rect } => state.place(window, rect),
            Action::Title { window, title } => state.title(window, title),
            Action::App { window, app } => state.app(window, app),
            Action::Hints { window, hints } => state.hints(window, hints),
            Action::States { window, begin, end } => state.states(window, begin, end),
            // Nobody but the compositor stacks windows.
            Action::Stack { .. } => {}
            Action::Drag { window, grip, .. } => state.drag(window, grip),
            Action::Paint { window, rect } => {
                if let (Some(host), Some(canvas)) = (
                    state.hosts.get_mut(&Name::Window(window)),
                    model.canvas(window),
                ) {
                    host.damage.add(rect, canvas.size());
                }
            }
            Action::Cursor(shape) => {
                state.cursors.name(shape);
                state.dress_pointer();
            }
            Action::Picture {
                size,
                hotspot,
                pixels,
            } => {
                state
                    .cursors
                    .picture(&state.globals, &state.qh, size, hotspot, &pixels);
                state.dress_pointer();
            }
            // There is no bell that all compositors have.
            Action::Bell => {}
            Action::Card(shown) => state.lock_card(shown),
        }
        Ok(())
    }

    /// Paints what is due and may be painted now. Tells whether all of it is on its way to the screen: the
    /// compositor says when it wants more of a window.
    ///
    /// # Errors
    /// The display is gone.
    pub fn paint(&mut self, model: &Model) -> Result<bool> {
        let done = self.state.paint(model);
        self.flush()?;
        Ok(done)
    }
}
