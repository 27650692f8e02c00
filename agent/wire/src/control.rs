//! The messages of the control channel: what is seldom and small. Apps, monitors, keymap, clipboard, files and
//! print jobs as offers (their bytes go over the bulk channel), notifications, tray, health, sleep, time, log.
use crate::codec::List;
use crate::geometry::{Rect, Size};
use crate::hello::{Bye, Hello};
use crate::ids::AppId;
use crate::limits::*;
use crate::text::Text;
use crate::untrusted::Untrusted;

messages! {
    /// What a guest says on the control channel.
    pub enum FromGuest on Control {
        1 Hello(Hello), 2 Bye(Bye<'a>),
        100 Stage(Stage<'a>), 101 Health(Health), 102 Log(Log<'a>), 103 Ready(Ready), 104 ClockRead(ClockRead),
        110 App(App<'a>), 111 AppGone(AppGone), 112 AppsEnd(AppsEnd), 113 Launched(Launched<'a>),
        120 ClipboardOffer(ClipboardOffer), 121 ClipboardRequest(ClipboardRequest),
        122 FileOffer(FileOffer<'a>), 123 PrintJob(PrintJob<'a>), 124 Answer(Answer), 125 OpenUrl(OpenUrl<'a>),
        130 Note(Note<'a>), 131 NoteGone(NoteGone),
        132 Tray(Tray<'a>), 133 TrayMenu(TrayMenu<'a>), 134 TrayGone(TrayGone),
        135 PrintTicket(PrintTicket<'a>),
    }
}

messages! {
    /// What a host says on the control channel.
    pub enum FromHost on Control {
        1 Hello(Hello), 2 Bye(Bye<'a>),
        150 Settings(Settings<'a>), 151 Monitors(Monitors), 152 Keymap(Keymap<'a>),
        153 Heartbeat(Heartbeat), 154 Sleep(Sleep), 155 Awake(Awake), 156 Clock(Clock<'a>),
        160 ListApps(ListApps), 161 Launch(Launch<'a>),
        120 ClipboardOffer(ClipboardOffer), 121 ClipboardRequest(ClipboardRequest),
        122 FileOffer(FileOffer<'a>), 124 Answer(Answer), 163 Update(Update),
        170 NoteAnswer(NoteAnswer), 171 TrayClick(TrayClick), 172 TrayChoice(TrayChoice),
    }
}

choice! {
    /// How far a guest has come.
    pub enum Progress {
        /// The agent runs.
        Agent = 0,
        /// Somebody is logged in.
        Session = 1,
        /// Windows can be shown.
        Display = 2,
        /// Apps are listed and can be launched.
        Apps = 3,
        /// It goes no further: the words say why.
        Stuck = 4,
        /// It shuts down.
        Ending = 5,
    }
}
choice! {
    /// How grave a line of the log is.
    pub enum Level {
        /// Something failed.
        Error = 0,
        /// Something is odd.
        Warning = 1,
        /// Something happened.
        Info = 2,
        /// For whoever looks for a fault.
        Debug = 3,
    }
}
choice! {
    /// What came of a launch.
    pub enum Outcome {
        /// It runs.
        Started = 0,
        /// No app has that id.
        Unknown = 1,
        /// The guest will not start it.
        Refused = 2,
        /// It could not be started.
        Failed = 3,
        /// Nobody is logged in yet.
        TooEarly = 4,
    }
}
choice! {
    /// A form of what was copied. A closed list: no name that a guest makes up becomes a target on the host.
    pub enum ClipboardKind {
        /// UTF-8.
        Text = 0,
        /// A picture, as PNG; the host makes it anew before anybody sees it.
        Picture = 1,
        /// Rich text.
        Rtf = 2,
        /// HTML; the host cleans it.
        Html = 3,
        /// Files, which follow as [`FileOffer`]s.
        Files = 4,
    }
}
choice! {
    /// What became of an offer or a request.
    pub enum Verdict {
        /// It is welcome, or it comes: a bulk stream with the same transfer number follows.
        Yes = 0,
        /// A policy forbids it.
        Policy = 1,
        /// It is too large.
        TooLarge = 2,
        /// It is no longer there: something else was copied, the file is gone.
        Stale = 3,
        /// The name or the kind is not taken.
        Kind = 4,
        /// Somebody said no.
        Declined = 5,
        /// It failed.
        Failed = 6,
    }
}
choice! {
    /// The language of a print job.
    pub enum PrintFormat {
        /// PDF.
        Pdf = 0,
        /// PWG raster.
        Raster = 1,
    }
}
choice! {
    /// Which sides of a sheet are printed.
    pub enum Sides {
        /// As the printer does by itself.
        Usual = 0,
        /// One.
        One = 1,
        /// Both, as a book is turned.
        LongEdge = 2,
        /// Both, as a calendar is turned.
        ShortEdge = 3,
    }
}
choice! {
    /// How many colours are printed.
    pub enum Ink {
        /// As the printer does by itself.
        Usual = 0,
        /// All.
        Colour = 1,
        /// Black alone.
        Black = 2,
    }
}
choice! {
    /// How carefully is printed.
    pub enum Care {
        /// As the printer does by itself.
        Usual = 0,
        /// Fast.
        Draft = 1,
        /// As most do.
        Normal = 2,
        /// Slowly.
        High = 3,
    }
}
choice! {
    /// How urgent a notification is.
    pub enum Urgency {
        /// Not at all.
        Low = 0,
        /// As most are.
        Normal = 1,
        /// Very.
        Critical = 2,
    }
}
choice! {
    /// How a tray item wants to be seen.
    pub enum TrayState {
        /// It may be hidden.
        Passive = 0,
        /// It is shown.
        Active = 1,
        /// It wants to be looked at.
        Attention = 2,
    }
}
choice! {
    /// What was done with a tray item.
    pub enum Click {
        /// The main button.
        Main = 0,
        /// The middle button.
        Middle = 1,
        /// The menu is wanted.
        Menu = 2,
    }
}
choice! {
    /// How deep a sleep is.
    pub enum Depth {
        /// It is paused and stays in memory.
        Pause = 0,
        /// Its memory goes to a file; connections will be new.
        Disk = 1,
    }
}
bits! {
    /// Where in a menu an app belongs: the main categories of the freedesktop menu.
    pub struct Categories: u16 {
        /// Sound and video.
        MEDIA = 0,
        /// Development.
        DEVELOPMENT = 1,
        /// Education.
        EDUCATION = 2,
        /// Games.
        GAME = 3,
        /// Graphics.
        GRAPHICS = 4,
        /// Network.
        NETWORK = 5,
        /// Office.
        OFFICE = 6,
        /// Science.
        SCIENCE = 7,
        /// Settings.
        SETTINGS = 8,
        /// System.
        SYSTEM = 9,
        /// Accessories.
        UTILITY = 10,
    }
}
bits! {
    /// What a policy allows. The guest need not offer the rest; the host refuses it in any case.
    pub struct Allowed: u32 {
        /// Copy in the host, paste in the guest.
        CLIPBOARD_IN = 0,
        /// Copy in the guest, paste in the host.
        CLIPBOARD_OUT = 1,
        /// Files to the guest.
        FILES_IN = 2,
        /// Files from the guest.
        FILES_OUT = 3,
        /// Print on the host's printers.
        PRINT = 4,
        /// Notifications.
        NOTES = 5,
        /// Tray items.
        TRAY = 6,
        /// Addresses that the host's browser opens.
        URLS = 7,
        /// Windows as large as a monitor.
        FULLSCREEN = 8,
        /// Cursors as pictures.
        CURSOR_PICTURES = 9,
    }
}
bits! {
    /// How an entry of a menu looks.
    pub struct EntryLook: u8 {
        /// It can be chosen.
        ENABLED = 0,
        /// It has a mark that is on.
        CHECKED = 1,
        /// It is a line, and has no words.
        SEPARATOR = 2,
    }
}

/// A guest's name for something: an app, a folder, a button.
pub type Name<'a> = Untrusted<Text<'a, NAME_BYTES>>;
/// A guest's sentence.
pub type Sentence<'a> = Untrusted<Text<'a, SENTENCE_BYTES>>;

record! {
    /// How far the guest has come.
    pub struct Stage<'a> {
        /// How far.
        pub progress: Progress,
        /// In words.
        pub words: Sentence<'a>,
    }
}
record! {
    /// The answer to a [`Heartbeat`].
    pub struct Health {
        /// The heartbeat's number.
        pub sequence: u32,
        /// Milliseconds since the guest booted.
        pub uptime: u64,
        /// Bytes of memory that the agent uses.
        pub memory: u64,
        /// Load of the last minute, in hundredths.
        pub load: u32,
        /// Errors of the guest's display since the agent began.
        pub errors: u32,
    }
}
record! {
    /// A line of the agent's log.
    pub struct Log<'a> {
        /// How grave.
        pub level: Level,
        /// Lines that were left out before it, because there were too many.
        pub dropped: u32,
        /// The part that speaks.
        pub part: Untrusted<Text<'a, CLASS_BYTES>>,
        /// What it says.
        pub words: Untrusted<Text<'a, LOG_BYTES>>,
    }
}
record! {
    /// The guest is ready for [`Sleep`]: nothing is on its way.
    pub struct Ready {
        /// The sleep's number.
        pub sequence: u32,
    }
}
record! {
    /// What the guest's clock says, answering [`Clock`].
    pub struct ClockRead {
        /// The clock's number.
        pub sequence: u32,
        /// Nanoseconds since 1970 UTC, before it was set.
        pub now: i64,
    }
}
record! {
    /// A further action of an app.
    pub struct Action<'a> {
        /// Its number in this app.
        pub number: u8,
        /// What it is called.
        pub name: Name<'a>,
    }
}
record! {
    /// An app that can be launched, or what has changed about it.
    pub struct App<'a> {
        /// Its id.
        pub id: AppId,
        /// Where in a menu it belongs.
        pub categories: Categories,
        /// What it is called, in the language of [`Settings::locale`].
        pub name: Name<'a>,
        /// The folder of the guest's menu that it is in.
        pub folder: Name<'a>,
        /// What it does.
        pub comment: Sentence<'a>,
        /// Other words to find it by, with commas between.
        pub keywords: Sentence<'a>,
        /// Types of documents that it opens.
        pub types: List<Untrusted<Text<'a, MIME_BYTES>>, MIME_TYPES>,
        /// URL schemes that it opens.
        pub schemes: List<Untrusted<Text<'a, SCHEME_BYTES>>, SCHEMES>,
        /// What else it can be launched to do.
        pub actions: List<Action<'a>, ACTIONS>,
    }
}
record! {
    /// An app is gone.
    pub struct AppGone {
        /// Its id.
        pub id: AppId,
    }
}
record! {
    /// The list that [`ListApps`] asked for is whole: an app that is not in it is gone.
    pub struct AppsEnd {
        /// The number that [`ListApps`] gave.
        pub generation: u32,
        /// How many there were.
        pub count: u16,
    }
}
record! {
    /// What came of a [`Launch`].
    pub struct Launched<'a> {
        /// Its number.
        pub request: u32,
        /// What came of it.
        pub outcome: Outcome,
        /// Why, if it failed.
        pub words: Sentence<'a>,
    }
}
record! {
    /// One form of what was copied.
    pub struct ClipboardForm {
        /// Which.
        pub kind: ClipboardKind,
        /// How many bytes, if that is known; else zero.
        pub size: u64,
    }
}
record! {
    /// Something was copied. Nothing is sent until it is asked for. Without forms: nothing is there now.
    pub struct ClipboardOffer {
        /// Counts copies on this side; whatever speaks of an older one is out of date.
        pub sequence: u32,
        /// The forms it can be had in.
        pub forms: List<ClipboardForm, CLIPBOARD_KINDS>,
    }
}
record! {
    /// Somebody pastes what the other side offered. [`Answer`] follows.
    pub struct ClipboardRequest {
        /// The asker's number for what follows.
        pub transfer: u32,
        /// The offer's number.
        pub sequence: u32,
        /// The form that is wanted.
        pub kind: ClipboardKind,
    }
}
record! {
    /// A file that the other side may have. [`Answer`] follows.
    pub struct FileOffer<'a> {
        /// The number of what follows.
        pub transfer: u32,
        /// How many bytes.
        pub size: Untrusted<u64>,
        /// What it is called: a name, no path.
        pub name: Untrusted<Text<'a, FILE_NAME_BYTES>>,
    }
}
record! {
    /// Something to print. [`Answer`] follows.
    pub struct PrintJob<'a> {
        /// The number of what follows.
        pub transfer: u32,
        /// How many bytes.
        pub size: Untrusted<u64>,
        /// In which language.
        pub format: PrintFormat,
        /// How often.
        pub copies: u16,
        /// How many pages, as the guest counts.
        pub pages: u32,
        /// What it is called.
        pub title: Name<'a>,
    }
}
record! {
    /// Some pages of a document, counted from one.
    pub struct PageRange {
        /// The first.
        pub first: u32,
        /// The last.
        pub last: u32,
    }
}
record! {
    /// How the next [`PrintJob`] is to be printed, if it has the same number. Said only where both sides have
    /// [`PRINT_TICKETS`](crate::Features::PRINT_TICKETS).
    pub struct PrintTicket<'a> {
        /// The number of the job that follows.
        pub transfer: u32,
        /// On which sides.
        pub sides: Sides,
        /// With which colours.
        pub ink: Ink,
        /// How carefully.
        pub care: Care,
        /// On which paper, by its name in PWG 5101.1; empty for the printer's usual one.
        pub paper: Untrusted<Text<'a, PAPER_BYTES>>,
        /// Only these pages; all of them if there are none.
        pub ranges: List<PageRange, PAGE_RANGES>,
    }
}
record! {
    /// The answer to an offer, a request or a print job.
    pub struct Answer {
        /// Its number.
        pub transfer: u32,
        /// What becomes of it.
        pub verdict: Verdict,
    }
}
record! {
    /// An address that the host's browser should open.
    pub struct OpenUrl<'a> {
        /// Which.
        pub url: Untrusted<Text<'a, URL_BYTES>>,
    }
}
record! {
    /// A notification, or what has changed about it.
    pub struct Note<'a> {
        /// Its number.
        pub id: u32,
        /// Whose.
        pub app: AppId,
        /// How urgent.
        pub urgency: Urgency,
        /// In a few words.
        pub summary: Name<'a>,
        /// In more: lines, without markup.
        pub body: Untrusted<Text<'a, NOTE_BYTES>>,
        /// Its buttons.
        pub buttons: List<Name<'a>, NOTE_BUTTONS>,
    }
}
record! {
    /// A notification is taken back.
    pub struct NoteGone {
        /// Its number.
        pub id: u32,
    }
}
record! {
    /// A tray item, or what has changed about it. Its picture comes over the bulk channel.
    pub struct Tray<'a> {
        /// Its number.
        pub id: u32,
        /// Whose.
        pub app: AppId,
        /// How it wants to be seen.
        pub state: TrayState,
        /// What it is called.
        pub title: Name<'a>,
    }
}
record! {
    /// An entry of a menu.
    pub struct TrayEntry<'a> {
        /// Its number, not zero.
        pub id: u16,
        /// The entry whose menu it is in; zero is the first menu.
        pub parent: u16,
        /// How it looks.
        pub look: EntryLook,
        /// What it says.
        pub label: Name<'a>,
    }
}
record! {
    /// A tray item's whole menu.
    pub struct TrayMenu<'a> {
        /// The item's number.
        pub id: u32,
        /// Its entries, a menu before what is in it.
        pub entries: List<TrayEntry<'a>, TRAY_ENTRIES>,
    }
}
record! {
    /// A tray item is gone.
    pub struct TrayGone {
        /// Its number.
        pub id: u32,
    }
}

record! {
    /// What holds for this session. Follows the host's hello, and whenever it changes.
    pub struct Settings<'a> {
        /// What a policy allows.
        pub allowed: Allowed,
        /// Whether the host's desktop is dark.
        pub dark: bool,
        /// The language that people read, as in `de_DE.UTF-8`.
        pub locale: Text<'a, CLASS_BYTES>,
        /// The workspace's name, for people.
        pub workspace: Text<'a, NAME_BYTES>,
    }
}
record! {
    /// A monitor.
    pub struct Monitor {
        /// Its number, the same as long as it is plugged in.
        pub id: u32,
        /// Where it is among the others.
        pub rect: Rect,
        /// The part of it that windows may cover when they are maximised.
        pub work: Rect,
        /// Millimetres across and down; zero if nobody knows.
        pub millimetres: [u32; 2],
        /// How large things are drawn, in 120ths.
        pub scale: u16,
        /// Whether it is the main one.
        pub main: bool,
    }
}
record! {
    /// All monitors of the host, from now on.
    pub struct Monitors {
        /// They; at least one.
        pub monitors: List<Monitor, MONITORS>,
    }
}
record! {
    /// The host's keyboard.
    pub struct Keymap<'a> {
        /// Milliseconds before a held key repeats, and between repeats: for apps that ask.
        pub repeat: [u32; 2],
        /// The keyboard's model.
        pub model: Text<'a, KEYMAP_NAME_BYTES>,
        /// Its layouts.
        pub layout: Text<'a, KEYMAP_NAME_BYTES>,
        /// Their variants.
        pub variant: Text<'a, KEYMAP_NAME_BYTES>,
        /// Options.
        pub options: Text<'a, KEYMAP_NAME_BYTES>,
        /// The whole keymap in xkb's own words, if the names do not say it all.
        pub compiled: Text<'a, KEYMAP_BYTES>,
    }
}
record! {
    /// Are you well? [`Health`] answers.
    pub struct Heartbeat {
        /// Counts.
        pub sequence: u32,
    }
}
record! {
    /// The guest will sleep. It finishes what is on its way and says [`Ready`].
    pub struct Sleep {
        /// Counts.
        pub sequence: u32,
        /// How deep.
        pub depth: Depth,
        /// Milliseconds until it happens in any case.
        pub deadline: u32,
    }
}
record! {
    /// The guest has slept. [`Clock`] and [`Resync`](crate::gui::Resync) follow.
    pub struct Awake {
        /// Milliseconds.
        pub slept: u64,
    }
}
record! {
    /// What time it is. The guest sets its clock and answers with [`ClockRead`].
    pub struct Clock<'a> {
        /// Counts.
        pub sequence: u32,
        /// Nanoseconds since 1970 UTC.
        pub now: i64,
        /// The time zone's name, as in `Europe/Berlin`.
        pub zone: Text<'a, CLASS_BYTES>,
    }
}
record! {
    /// Which apps are there? Each comes as [`App`], then [`AppsEnd`].
    pub struct ListApps {
        /// Comes back in [`AppsEnd`].
        pub generation: u32,
        /// Width and height of the icons that are wanted.
        pub icons: Size,
    }
}
record! {
    /// Launch an app that the guest listed. The guest knows what that means; the host only knows the id.
    pub struct Launch<'a> {
        /// Comes back in [`Launched`] and in [`Create`](crate::gui::Create); never zero.
        pub request: u32,
        /// Which.
        pub app: AppId,
        /// Which of its actions; zero is the app itself.
        pub action: u8,
        /// Addresses for it to open.
        pub arguments: List<Text<'a, ARGUMENT_BYTES>, ARGUMENTS>,
        /// Files for it to open: numbers of transfers that are done.
        pub files: List<u32, LAUNCH_FILES>,
    }
}
record! {
    /// A newer agent, which follows as a bulk stream.
    pub struct Update {
        /// The number of what follows.
        pub transfer: u32,
        /// How many bytes.
        pub size: u64,
        /// Their SHA-256.
        pub digest: [u8; 32],
    }
}
record! {
    /// Somebody did something with a notification.
    pub struct NoteAnswer {
        /// Its number.
        pub id: u32,
        /// The button, counted from one; zero closed it.
        pub button: u8,
    }
}
record! {
    /// Somebody clicked on a tray item.
    pub struct TrayClick {
        /// Its number.
        pub id: u32,
        /// How.
        pub click: Click,
    }
}
record! {
    /// Somebody chose from a tray item's menu.
    pub struct TrayChoice {
        /// The item's number.
        pub id: u32,
        /// The entry's number.
        pub entry: u16,
    }
}
