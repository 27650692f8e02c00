//! What a host knows of a guest from what it was told, and nothing else.
#![allow(dead_code, clippy::unwrap_used)]
use medley_link::{Outgoing, Pool};
use medley_wire::pixels::Payload;
use medley_wire::window::{Kind, States};
use medley_wire::{AppId, PoolBuffer, Rect, Size, WindowId, bulk, control, gui};
use std::collections::{BTreeMap, HashMap};

/// Far larger than any screen here: nothing is clipped by it.
fn everywhere() -> Rect {
    Rect::new(-8000, -8000, Size::new(16384, 16384).unwrap()).unwrap()
}

pub struct Win {
    pub id: WindowId,
    pub rect: Rect,
    pub app: AppId,
    pub launch: u32,
    pub title: String,
    pub class: (String, String),
    pub kind: Option<Kind>,
    pub parent: Option<WindowId>,
    pub unmanaged: bool,
    pub mapped: bool,
    pub states: States,
    pub hints: Option<medley_wire::window::SizeHints>,
    pub outline: usize,
    pub frames: u32,
    /// Patches or rectangles since the beginning.
    pub patches: u32,
    /// Serials that were answered, and wishes.
    pub answers: Vec<u32>,
    pub wishes: Vec<Rect>,
    pub canvas: Vec<u8>,
    pub buffer: Option<PoolBuffer>,
}

impl std::fmt::Debug for Win {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} {:?} {:?} {:?} parent {:?} unmanaged {} mapped {} {:?} frames {} answers {:?} wishes {:?}",
            self.title,
            self.class,
            self.rect,
            self.kind,
            self.parent,
            self.unmanaged,
            self.mapped,
            self.states,
            self.frames,
            self.answers,
            self.wishes,
        )
    }
}

impl Win {
    fn resize(&mut self, rect: Rect) {
        if rect.size() != self.rect.size() {
            self.canvas = vec![0; rect.size().bytes()];
        }
        self.rect = rect;
    }

    /// The canvas without a border of that width.
    pub fn inner(&self, border: usize) -> Vec<u8> {
        let (width, height) = (
            self.rect.size().width() as usize,
            self.rect.size().height() as usize,
        );
        (border..height - border)
            .flat_map(|row| {
                let start = (row * width + border) * 4;
                self.canvas[start..start + (width - 2 * border) * 4].to_vec()
            })
            .collect()
    }
}

/// A notification as it was told last.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    pub app: AppId,
    pub urgency: control::Urgency,
    pub summary: String,
    pub body: Vec<String>,
    pub buttons: Vec<String>,
}

/// A tray item as it was told last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tray {
    pub app: Option<AppId>,
    pub state: Option<control::TrayState>,
    pub title: String,
    /// Numbers, parents, looks, labels.
    pub menu: Vec<(u16, u16, control::EntryLook, String)>,
}

/// A print job's number, sides, paper and pages.
pub type Ticket = (u32, control::Sides, String, Vec<(u32, u32)>);

#[derive(Default)]
pub struct Model {
    pub windows: BTreeMap<WindowId, Win>,
    pub snapshots: Vec<u32>,
    pub said_windows: u16,
    seen: Vec<WindowId>,
    pub pool: Option<Pool>,
    pub apps: HashMap<AppId, String>,
    pub lists: Vec<(u32, u16)>,
    pub launched: Vec<(u32, control::Outcome, String)>,
    pub stages: Vec<control::Progress>,
    pub health: Vec<control::Health>,
    pub answers: Vec<(u32, control::Verdict)>,
    pub offers: Vec<(u32, Vec<control::ClipboardKind>)>,
    pub requests: Vec<control::ClipboardRequest>,
    pub icons: HashMap<AppId, (u32, u32)>,
    pub window_icons: HashMap<WindowId, (u32, u32)>,
    pub streams: HashMap<u32, Vec<u8>>,
    open: HashMap<u8, u32>,
    pub ended: Vec<u32>,
    pub cancelled: Vec<u32>,
    pub carries: HashMap<u32, bulk::Carries>,
    /// Bytes of streams are acknowledged.
    pub acknowledges: bool,
    /// The highest byte of the host's own streams that the guest has dealt with.
    pub received: HashMap<u8, u64>,
    pub refused: Vec<u8>,
    pub files: Vec<(u32, String, u64)>,
    /// Transfers, bytes, languages, copies, pages.
    pub jobs: Vec<(u32, u64, control::PrintFormat, u16, u32)>,
    pub tickets: Vec<Ticket>,
    pub titles: Vec<String>,
    pub urls: Vec<String>,
    pub notes: BTreeMap<u32, Note>,
    pub notes_gone: Vec<u32>,
    pub note_icons: HashMap<u32, Vec<u8>>,
    pub trays: BTreeMap<u32, Tray>,
    pub trays_gone: Vec<u32>,
    /// They come over another channel, and may come sooner or later than their items.
    pub tray_icons: HashMap<u32, Vec<u8>>,
    pub logs: Vec<(control::Level, u32, String, String)>,
    pub bells: u32,
    pub cursors: Vec<String>,
    pub drags: Vec<medley_wire::window::Grip>,
    pub stacks: Vec<WindowId>,
    pub destroyed: u32,
    pub messages: u64,
    pub bytes: u64,
    /// Frames of every window are acknowledged.
    pub silent: bool,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("windows", &self.windows.values())
            .field("apps", &self.apps)
            .field("launched", &self.launched)
            .field("offers", &self.offers)
            .field("requests", &self.requests)
            .field("answers", &self.answers)
            .field("ended", &self.ended)
            .field("files", &self.files)
            .field("jobs", &self.jobs)
            .field("urls", &self.urls)
            .field("notes", &self.notes)
            .field("notes_gone", &self.notes_gone)
            .field("trays", &self.trays)
            .field("logs", &self.logs)
            .finish_non_exhaustive()
    }
}

impl Model {
    pub fn new(pool: Option<Pool>) -> Self {
        Self {
            pool,
            ..Self::default()
        }
    }

    pub fn find(&self, class: &str) -> Option<&Win> {
        self.windows
            .values()
            .find(|w| w.class.1 == class || w.class.0 == class)
    }

    /// The stream over which a transfer comes just now.
    pub fn stream_of(&self, transfer: u32) -> Option<u8> {
        let mut open = self.open.iter();
        open.find(|(_, t)| **t == transfer)
            .map(|(stream, _)| *stream)
    }

    pub fn popup(&self) -> Option<&Win> {
        self.windows.values().find(|w| w.unmanaged && w.mapped)
    }

    fn win(&mut self, id: WindowId) -> &mut Win {
        self.windows
            .get_mut(&id)
            .expect("a window that was not created")
    }

    pub fn gui(&mut self, message: gui::FromGuest<'_>, out: &mut Outgoing<gui::FromHost<'static>>) {
        use gui::FromGuest as M;
        self.messages += 1;
        match message {
            M::Hello(_) => panic!("a second hello"),
            M::Bye(_) => {}
            M::Create(m) => {
                let rect = m.rect.clip(everywhere()).unwrap().get();
                let win = Win {
                    id: m.window,
                    rect,
                    app: m.app,
                    launch: m.launch,
                    title: String::new(),
                    class: Default::default(),
                    kind: None,
                    parent: None,
                    unmanaged: false,
                    mapped: false,
                    states: States::NONE,
                    hints: None,
                    outline: 0,
                    frames: 0,
                    patches: 0,
                    answers: Vec::new(),
                    wishes: Vec::new(),
                    canvas: vec![0; rect.size().bytes()],
                    buffer: None,
                };
                self.seen.push(m.window);
                let known = self.windows.insert(m.window, win);
                assert!(known.is_none() || self.snapshots.is_empty() || !self.seen.is_empty());
            }
            M::Destroy(m) => {
                self.windows
                    .remove(&m.window)
                    .expect("an unknown window went");
                self.destroyed += 1;
                out.send(&gui::Destroyed { window: m.window }.into())
                    .unwrap();
            }
            M::Map(m) => {
                if let Some(parent) = m.parent {
                    assert!(self.windows.contains_key(&parent), "an unknown parent");
                }
                let win = self.win(m.window);
                win.mapped = true;
                win.kind = Some(m.kind);
                win.parent = m.parent;
                win.unmanaged = m.unmanaged;
            }
            M::Unmap(m) => self.win(m.window).mapped = false,
            M::Configure(m) => {
                let win = self.win(m.window);
                let rect = m.rect.clip(everywhere()).unwrap().get();
                if m.answers == 0 {
                    win.wishes.push(rect);
                    // What is unmanaged is there already; what is managed waits for leave.
                    if win.unmanaged {
                        win.resize(rect);
                    }
                } else {
                    win.answers.push(m.answers);
                    win.resize(rect);
                }
            }
            M::Stack(m) => self.stacks.push(m.window),
            M::Title(m) => self.win(m.window).title = m.title.display().as_str().to_owned(),
            M::Class(m) => {
                let class = (
                    m.instance.display().as_str().to_owned(),
                    m.class.display().as_str().to_owned(),
                );
                let win = self.win(m.window);
                win.class = class;
                win.app = m.app;
            }
            M::Hints(m) => self.win(m.window).hints = Some(m.hints.sensible()),
            M::State(m) => {
                let win = self.win(m.window);
                win.states = m.change.apply(win.states);
            }
            M::Shape(m) => {
                if m.of == medley_wire::window::ShapeOf::Outline {
                    self.win(m.window).outline = m.rects.len();
                }
            }
            M::Drag(m) => self.drags.push(m.grip),
            M::Attach(m) => {
                let pool = self.pool.as_ref().unwrap().len();
                let buffer = m.buffer.within(pool).expect("a buffer outside of the pool");
                let win = self.win(m.window);
                assert_eq!(buffer.size(), win.rect.size());
                win.buffer = Some(buffer);
            }
            M::Damage(m) => {
                let pool = self.pool.take().unwrap();
                let win = self.win(m.window);
                let buffer = win.buffer.expect("damage before a buffer");
                for rect in m.rects.iter() {
                    let rect = rect.clip(Rect::whole(win.rect.size())).unwrap();
                    let mut pixels = vec![0; rect.get().size().bytes()];
                    pool.copy_out(&buffer, rect, &mut pixels).unwrap();
                    win.patches += 1;
                    blit(win, rect.get(), &pixels);
                }
                self.pool = Some(pool);
                self.done(m.window, m.frame, out);
            }
            M::Pixels(m) => {
                let win = self.win(m.window);
                let placed = m.patch.place(win.rect.size()).expect("a patch outside");
                assert_eq!(placed.skip, (0, 0), "the agent cuts by itself");
                let size = placed.size.bytes();
                let pixels = match placed.payload {
                    Payload::Raw(bytes) => bytes.0.to_vec(),
                    Payload::Lz4(bytes) => lz4_flex::block::decompress(bytes.0, size).unwrap(),
                    Payload::Solid(pixel) => pixel.repeat(size / 4),
                    other => panic!("not understood: {other:?}"),
                };
                assert_eq!(pixels.len(), size);
                win.patches += 1;
                blit(win, placed.rect.get(), &pixels);
                if m.last {
                    self.done(m.window, m.frame, out);
                }
            }
            M::Cursor(m) => self.cursors.push(format!("{:?}", m.shape)),
            M::CursorPicture(m) => self.cursors.push(format!("{:?}", m.picture.size())),
            M::Bell(_) => self.bells += 1,
            M::Snapshot(m) => {
                self.seen.clear();
                self.said_windows = m.windows;
                self.windows.clear();
            }
            M::SnapshotEnd(m) => {
                assert_eq!(self.seen.len(), usize::from(self.said_windows));
                self.snapshots.push(m.generation);
            }
        }
    }

    fn done(&mut self, window: WindowId, frame: u32, out: &mut Outgoing<gui::FromHost<'static>>) {
        self.win(window).frames += 1;
        if !self.silent {
            let took = [0; 2];
            let done = gui::FrameDone {
                window,
                frame,
                took,
            };
            out.send(&done.into()).unwrap();
        }
    }

    pub fn control(&mut self, message: control::FromGuest<'_>) {
        use control::FromGuest as M;
        match message {
            M::Stage(m) => self.stages.push(m.progress),
            M::Health(m) => self.health.push(m),
            M::App(m) => {
                self.apps.insert(m.id, m.name.display().as_str().to_owned());
            }
            M::AppGone(m) => {
                self.apps.remove(&m.id);
            }
            M::AppsEnd(m) => self.lists.push((m.generation, m.count)),
            M::Launched(m) => {
                let words = m.words.display().as_str().to_owned();
                self.launched.push((m.request, m.outcome, words));
            }
            M::ClipboardOffer(m) => {
                let kinds = m.forms.iter().map(|form| form.kind).collect();
                self.offers.push((m.sequence, kinds));
            }
            M::ClipboardRequest(m) => self.requests.push(m),
            M::Answer(m) => self.answers.push((m.transfer, m.verdict)),
            M::FileOffer(m) => {
                let name = m.name.file_name().expect("a name that no file may have");
                let size = m.size.at_most(u64::MAX).unwrap();
                self.files
                    .push((m.transfer, name.as_str().to_owned(), size));
            }
            M::PrintTicket(m) => {
                let ranges = m.ranges.iter().map(|range| (range.first, range.last));
                let paper = m.paper.display().as_str().to_owned();
                self.tickets
                    .push((m.transfer, m.sides, paper, ranges.collect()));
            }
            M::PrintJob(m) => {
                self.titles.push(m.title.display().as_str().to_owned());
                let size = m.size.at_most(u64::MAX).unwrap();
                self.jobs
                    .push((m.transfer, size, m.format, m.copies, m.pages));
            }
            M::OpenUrl(m) => self.urls.push(m.url.web_url().unwrap().as_str().to_owned()),
            M::Note(m) => {
                let buttons = m.buttons.iter().map(|b| b.display().as_str().to_owned());
                let body = m.body.lines(32).map(|line| line.as_str().to_owned());
                let note = Note {
                    app: m.app,
                    urgency: m.urgency,
                    summary: m.summary.display().as_str().to_owned(),
                    body: body.collect(),
                    buttons: buttons.collect(),
                };
                self.notes.insert(m.id, note);
            }
            M::NoteGone(m) => {
                self.notes.remove(&m.id);
                self.notes_gone.push(m.id);
            }
            M::Tray(m) => {
                let tray = self.trays.entry(m.id).or_default();
                tray.app = Some(m.app);
                tray.state = Some(m.state);
                tray.title = m.title.display().as_str().to_owned();
            }
            M::TrayMenu(m) => {
                let tray = self.trays.get_mut(&m.id).expect("a menu before its item");
                let entry = |e: &control::TrayEntry<'_>| {
                    (
                        e.id,
                        e.parent,
                        e.look,
                        e.label.display().as_str().to_owned(),
                    )
                };
                tray.menu = m.entries.iter().map(entry).collect();
            }
            M::TrayGone(m) => {
                self.trays.remove(&m.id).expect("an unknown item went");
                self.trays_gone.push(m.id);
            }
            M::Log(m) => {
                let (part, words) = (m.part.display(), m.words.display());
                let texts = (part.as_str().to_owned(), words.as_str().to_owned());
                self.logs.push((m.level, m.dropped, texts.0, texts.1));
            }
            _ => {}
        }
    }

    pub fn bulk(
        &mut self,
        message: bulk::FromGuest<'_>,
        out: &mut Outgoing<bulk::FromHost<'static>>,
    ) {
        use bulk::FromGuest as M;
        match message {
            M::Icon(m) => {
                let size = (m.picture.size().width(), m.picture.size().height());
                match m.owner {
                    bulk::Owner::App(app) => {
                        self.icons.insert(app, size);
                    }
                    bulk::Owner::Window(window) => {
                        self.window_icons.insert(window, size);
                    }
                    bulk::Owner::Note(id) => {
                        self.note_icons.insert(id, m.picture.pixels().to_vec());
                    }
                    bulk::Owner::Tray(id) => {
                        self.tray_icons.insert(id, m.picture.pixels().to_vec());
                    }
                }
            }
            M::Open(m) => {
                self.open.insert(m.stream, m.transfer);
                self.streams.insert(m.transfer, Vec::new());
                self.carries.insert(m.transfer, m.carries);
            }
            M::Chunk(m) => {
                let transfer = self.open[&m.stream];
                let stream = self.streams.get_mut(&transfer).unwrap();
                assert_eq!(stream.len() as u64, m.offset);
                stream.extend_from_slice(m.data.0);
                if self.acknowledges {
                    let (stream, bytes) = (m.stream, stream.len() as u64);
                    out.send(&bulk::Received { stream, bytes }.into()).unwrap();
                }
            }
            M::Received(m) => {
                self.received.insert(m.stream, m.bytes);
            }
            M::Cancel(m) if m.own => {
                self.cancelled.push(self.open.remove(&m.stream).unwrap());
            }
            M::Cancel(m) => self.refused.push(m.stream),
            M::End(m) => {
                let transfer = self.open.remove(&m.stream).unwrap();
                assert_eq!(self.streams[&transfer].len() as u64, m.size);
                self.ended.push(transfer);
            }
            _ => {}
        }
    }
}

fn blit(win: &mut Win, rect: Rect, pixels: &[u8]) {
    let stride = win.rect.size().width() as usize * 4;
    let row = rect.size().width() as usize * 4;
    for (index, line) in pixels.chunks_exact(row).enumerate() {
        let y = rect.y() as usize + index;
        let start = y * stride + rect.x() as usize * 4;
        win.canvas[start..start + row].copy_from_slice(line);
    }
}
