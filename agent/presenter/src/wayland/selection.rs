//! The host's clipboard on Wayland: owned lazily, asked lazily. A compositor tells a client of copies only
//! while one of its windows has the keyboard, and lets it copy only after a key or click: what the model wants is
//! the same.
//!
//! Bytes go through pipes, whose other ends are strangers': none is waited for, and each has its time.
use super::globals::Globals;
use super::{Display, State};
use crate::error::Result;
use crate::screen::{Content, Form, Forms, Heard, Said};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wayland_client::protocol::wl_data_device::{self, WlDataDevice};
use wayland_client::protocol::wl_data_offer::{self, WlDataOffer};
use wayland_client::protocol::wl_data_source::{self, WlDataSource};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::{Connection, Dispatch, Proxy, QueueHandle, event_created_child};

/// How long the other end of a pipe may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pastes of host apps at once; more get nothing.
const PASTES: usize = 8;

/// What text is called, the best name first.
const TEXTS: [&str; 5] = [
    "text/plain;charset=utf-8",
    "UTF8_STRING",
    "text/plain",
    "STRING",
    "TEXT",
];

/// What a picture is called.
const PICTURE: &str = "image/png";

/// Names that an offer has.
#[derive(Debug, Default)]
struct Names {
    /// The best of text's so far, by its place in [`TEXTS`].
    text: Mutex<Option<usize>>,
    /// Whether a picture's is among them.
    picture: AtomicBool,
}

/// The clipboard, and what is on its way.
#[derive(Debug, Default)]
pub(super) struct Selection {
    device: Option<WlDataDevice>,
    /// Forms that may cross; none, while nobody listens.
    wanted: Forms,
    offer: Option<WlDataOffer>,
    source: Option<WlDataSource>,
    /// Forms in which it is ours.
    owned: Forms,
    tickets: u32,
    /// Apps that paste, and wait for the guest.
    pastes: BTreeMap<u32, File>,
    /// What goes to an app.
    writes: Vec<Writing>,
    /// What comes from the owner.
    reading: Option<Reading>,
    /// What can be said without anything coming.
    said: Vec<Said>,
}

#[derive(Debug)]
struct Writing {
    pipe: File,
    bytes: Vec<u8>,
    done: usize,
    until: Instant,
}

#[derive(Debug)]
struct Reading {
    pipe: File,
    form: Form,
    /// More bytes are not kept.
    most: u64,
    bytes: Vec<u8>,
    until: Instant,
}

/// An end of a pipe that waits for nobody.
fn patient_no_more(fd: OwnedFd) -> Option<File> {
    let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL).ok()?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).ok()?;
    Some(File::from(fd))
}

impl Writing {
    /// Writes what goes. Tells whether there is more to write, and time for it.
    fn go_on(&mut self, now: Instant) -> bool {
        loop {
            match self.pipe.write(&self.bytes[self.done..]) {
                Ok(0) => return false,
                Ok(count) => self.done += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return now < self.until,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It has hung up.
                Err(_) => return false,
            }
        }
    }
}

impl Reading {
    /// Reads what is there. Says what came of it, once that is known.
    fn go_on(&mut self, now: Instant) -> Option<Option<Content>> {
        let mut room = [0; 16 << 10];
        loop {
            match self.pipe.read(&mut room) {
                Ok(0) => return Some(Content::of(self.form, std::mem::take(&mut self.bytes))),
                Ok(count) => self.bytes.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return (now >= self.until).then_some(None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Some(None),
            }
            if self.bytes.len() as u64 > self.most {
                return Some(None);
            }
        }
    }
}

impl Selection {
    /// There is a seat, and with it a clipboard.
    pub fn begin(&mut self, globals: &Globals, seat: &WlSeat, qh: &QueueHandle<State>) {
        let copies = globals.copies.as_ref();
        self.device = copies.map(|copies| copies.get_data_device(seat, qh, ()));
    }

    pub fn fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let writes = self.writes.iter();
        let mut fds: Vec<_> = writes
            .map(|writing| (writing.pipe.as_fd(), PollFlags::POLLOUT))
            .collect();
        let reading = self.reading.as_ref();
        fds.extend(reading.map(|reading| (reading.pipe.as_fd(), PollFlags::POLLIN)));
        fds
    }

    pub fn deadline(&self) -> Option<Instant> {
        let writes = self.writes.iter().map(|writing| writing.until);
        let reading = self.reading.iter().map(|reading| reading.until);
        writes.chain(reading).min()
    }

    /// Moves what can be moved.
    pub fn go_on(&mut self, now: Instant, heard: &mut Heard) {
        self.writes.retain_mut(|writing| writing.go_on(now));
        if let Some(reading) = &mut self.reading
            && let Some(content) = reading.go_on(now)
        {
            self.reading = None;
            self.said.push(Said::Got(content));
        }
        heard.clipboard.append(&mut self.said);
    }

    /// Forms of what the desktop has, as far as they may cross.
    fn forms(&self) -> Forms {
        let has = |form| {
            let offer = self.offer.as_ref();
            offer.and_then(|offer| name_of(offer, form)).is_some()
        };
        let forms = Forms {
            text: has(Form::Text),
            picture: has(Form::Picture),
        };
        forms.and(self.wanted)
    }

    /// The desktop has another copy, or none, or it is ours.
    fn changed(&mut self, offer: Option<WlDataOffer>) {
        if let Some(old) = std::mem::replace(&mut self.offer, offer) {
            old.destroy();
        }
        if self.source.is_none() && self.wanted.any() {
            self.said.push(Said::Copied(self.forms()));
        }
    }

    /// An app pastes what we own.
    fn pasted(&mut self, form: Form, fd: OwnedFd) {
        let Some(pipe) = patient_no_more(fd).filter(|_| self.pastes.len() < PASTES) else {
            return;
        };
        self.tickets = self.tickets.wrapping_add(1);
        self.pastes.insert(self.tickets, pipe);
        self.said.push(Said::Pastes(self.tickets, form));
    }

    fn drop_source(&mut self) -> bool {
        let source = self.source.take();
        if let Some(source) = &source {
            source.destroy();
        }
        source.is_some()
    }
}

/// The best name of a form that an offer has.
fn name_of(offer: &WlDataOffer, form: Form) -> Option<&'static str> {
    let names = offer.data::<Names>()?;
    match form {
        Form::Text => {
            let best = *names.text.lock().ok()?;
            TEXTS.get(best?).copied()
        }
        Form::Picture => names.picture.load(Ordering::Relaxed).then_some(PICTURE),
    }
}

/// The form that a name is of.
fn form_of(name: &str) -> Option<Form> {
    if name == PICTURE {
        return Some(Form::Picture);
    }
    TEXTS.contains(&name).then_some(Form::Text)
}

impl Display {
    /// From now on the clipboard is heard. Tells in which forms some app has copied something already: that is known
    /// once a window has the keyboard.
    ///
    /// # Errors
    /// None.
    pub fn clipboard(&mut self, wanted: Forms) -> Result<Forms> {
        self.state.selection.wanted = wanted;
        Ok(self.state.selection.forms())
    }

    /// The guest's copy becomes the host's.
    ///
    /// # Errors
    /// None.
    pub fn own(&mut self, forms: Forms) -> Result<()> {
        let state = &mut self.state;
        let (Some(copies), Some(device)) = (&state.globals.copies, &state.selection.device) else {
            return Ok(());
        };
        let source = copies.create_data_source(&state.qh, ());
        let names = TEXTS.into_iter().chain([PICTURE]);
        for name in names.filter(|name| form_of(name).is_some_and(|form| forms.has(form))) {
            source.offer(name.to_owned());
        }
        device.set_selection(Some(&source), state.keyboard.serial);
        state.selection.drop_source();
        state.selection.source = Some(source);
        state.selection.owned = forms;
        Ok(())
    }

    /// It is the host's no longer.
    ///
    /// # Errors
    /// None.
    pub fn disown(&mut self) -> Result<()> {
        // A source that is gone is nobody's copy.
        self.state.selection.drop_source();
        Ok(())
    }

    /// Asks the owner for its copy.
    ///
    /// # Errors
    /// None.
    pub fn fetch(&mut self, form: Form, most: u64) -> Result<()> {
        let selection = &mut self.state.selection;
        let asked = selection.offer.as_ref().and_then(|offer| {
            let name = name_of(offer, form)?;
            let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC).ok()?;
            offer.receive(name.to_owned(), theirs.as_fd());
            patient_no_more(ours)
        });
        match asked {
            Some(pipe) => {
                selection.reading = Some(Reading {
                    pipe,
                    form,
                    most,
                    bytes: Vec::new(),
                    until: Instant::now() + PATIENCE,
                });
            }
            None => selection.said.push(Said::Got(None)),
        }
        self.flush()
    }

    /// Gives a host's app what it waits for, or says that there is nothing.
    ///
    /// # Errors
    /// None.
    pub fn give(&mut self, ticket: u32, content: Option<Content>) -> Result<bool> {
        let selection = &mut self.state.selection;
        let pipe = selection.pastes.remove(&ticket);
        // Without content the pipe ends at once.
        let (Some(pipe), Some(content)) = (pipe, content) else {
            return Ok(false);
        };
        let now = Instant::now();
        let mut writing = Writing {
            pipe,
            bytes: content.into_bytes(),
            done: 0,
            until: now + PATIENCE,
        };
        if writing.go_on(now) {
            selection.writes.push(writing);
        }
        Ok(true)
    }
}

impl Dispatch<WlDataDevice, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlDataDevice,
        event: wl_data_device::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use wl_data_device::Event;
        match event {
            Event::Selection { id } => state.selection.changed(id),
            // Nothing can be dropped on a guest's window.
            Event::Enter { id: Some(id), .. } => id.destroy(),
            _ => {}
        }
    }

    event_created_child!(State, WlDataDevice, [
        wl_data_device::EVT_DATA_OFFER_OPCODE => (WlDataOffer, Names::default()),
    ]);
}

impl Dispatch<WlDataOffer, Names> for State {
    fn event(
        _: &mut Self,
        _: &WlDataOffer,
        event: wl_data_offer::Event,
        names: &Names,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let wl_data_offer::Event::Offer { mime_type } = event else {
            return;
        };
        if mime_type == PICTURE {
            names.picture.store(true, Ordering::Relaxed);
        } else if let Some(at) = TEXTS.iter().position(|name| *name == mime_type)
            && let Ok(mut best) = names.text.lock()
        {
            *best = Some(best.map_or(at, |best| best.min(at)));
        }
    }
}

impl Dispatch<WlDataSource, ()> for State {
    fn event(
        state: &mut Self,
        source: &WlDataSource,
        event: wl_data_source::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let ours = state.selection.source.as_ref() == Some(source);
        match event {
            wl_data_source::Event::Send { mime_type, fd } if ours => {
                let form = form_of(&mime_type);
                if let Some(form) = form.filter(|form| state.selection.owned.has(*form)) {
                    state.selection.pasted(form, fd);
                }
            }
            // Another app copied: what, is told when one of our windows has the keyboard.
            wl_data_source::Event::Cancelled if ours => {
                state.selection.drop_source();
                let there = state.selection.forms();
                state.selection.said.push(Said::Copied(there));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (File, File) {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        (
            patient_no_more(read).unwrap(),
            patient_no_more(write).unwrap(),
        )
    }

    #[test]
    fn a_text_larger_than_a_pipe_crosses_it() {
        let (from, to) = pipe();
        let now = Instant::now();
        let text: Vec<u8> = (0..300_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
        let until = now + PATIENCE;
        let mut writing = Writing {
            pipe: to,
            bytes: text.clone(),
            done: 0,
            until,
        };
        let mut reading = Reading {
            pipe: from,
            form: Form::Text,
            most: 1 << 20,
            bytes: Vec::new(),
            until,
        };
        while writing.go_on(now) {
            assert_eq!(reading.go_on(now), None);
        }
        drop(writing);
        assert_eq!(reading.go_on(now), Some(Content::of(Form::Text, text)));
    }

    #[test]
    fn nobody_is_waited_for() {
        let (from, to) = pipe();
        let now = Instant::now();
        let mut reading = Reading {
            pipe: from,
            form: Form::Text,
            most: 1 << 20,
            bytes: Vec::new(),
            until: now + PATIENCE,
        };
        assert_eq!(reading.go_on(now), None);
        assert_eq!(reading.go_on(now + PATIENCE), Some(None));
        let mut writing = Writing {
            pipe: to,
            bytes: vec![b'a'; 300_000],
            done: 0,
            until: now + PATIENCE,
        };
        assert!(writing.go_on(now));
        assert!(!writing.go_on(now + PATIENCE), "nobody reads");
        drop(reading);
        assert!(!writing.go_on(now), "the reader is gone");
    }
}
