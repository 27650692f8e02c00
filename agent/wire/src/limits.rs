//! Every limit of the protocol, each with its reason. A decoder knows them at compile time: they are part
//! of the types of the fields, and a message's greatest length is the sum of its fields' greatest.
//!
//! What a policy may tighten at run time (windows, pixels, rates, sizes of transfers) begins here too:
//! these are the values that no policy may exceed.

/// Bytes of a message before both sides have greeted: enough for a hello or a refusal with its reason, so
/// that a stranger on the port costs next to nothing.
pub const GREETING_BYTES: usize = 4 << 10;

/// Bytes of a control message: the largest honest one is a keymap.
pub const CONTROL_BYTES: usize = 64 << 10;

/// Bytes of one patch of pixels, on the wire and after decompression: a 1920×1080 window is half of it,
/// larger ones come in bands. It is also the most that a decoder holds.
pub const PIXEL_BYTES: usize = 16 << 20;

/// Bytes of a message of an unknown kind that says it may be skipped. They are counted, never stored.
pub const SKIPPED_BYTES: usize = 64 << 10;

/// Windows of one guest that exist at once. Desktops have dozens; menus and tooltips come and go.
pub const WINDOWS: u16 = 512;

/// Width and height of a window. X11's coordinates end at 32767, and four 4K monitors in a row need 15360.
pub const SIDE: u32 = 16384;

/// Distance of a window's corner from the origin: X11's coordinates are 16 bits with a sign.
pub const POSITION: i32 = 32767;

/// Frames of one window that were sent and not yet acknowledged: one on the screen, one on its way.
pub const FRAMES_PER_WINDOW: u32 = 2;

/// Unacknowledged frames of a whole guest, so that many busy windows cannot queue up more than many pixels.
pub const FRAMES_PER_GUEST: u32 = 8;

/// Rectangles of one frame's damage: beyond that their union is cheaper than their list.
pub const DAMAGE_RECTS: usize = 64;

/// Rectangles of a window's shape: rounded corners need some 20.
pub const SHAPE_RECTS: usize = 64;

/// Bytes of a window's title: what a task bar shows is shorter.
pub const TITLE_BYTES: usize = 256;

/// Bytes of each half of a window's class; X11 apps use a word.
pub const CLASS_BYTES: usize = 64;

/// Width and height of a cursor's picture: what X11 servers and hardware planes take everywhere.
pub const CURSOR_SIDE: u32 = 64;

/// Width and height of an icon; 256 is the largest that menus and task bars ask for.
pub const ICON_SIDE: u32 = 256;

/// Bytes of text that one input event commits: a word of an input method.
pub const INPUT_TEXT_BYTES: usize = 64;

/// Rings of the bell in a second that a host honours.
pub const BELLS_PER_SECOND: u32 = 2;

/// Monitors: as many as Xorg's dummy driver has outputs.
pub const MONITORS: usize = 16;

/// Bytes of a compiled keymap's text; a full one of xkbcommon's is 50 to 60 KiB.
pub const KEYMAP_BYTES: usize = 60 << 10;

/// Bytes of each name in a keymap's rules (model, layout, variant) and of its list of options.
pub const KEYMAP_NAME_BYTES: usize = 128;

/// Apps that a host lists from one guest: a full Debian desktop has some 200 entries.
pub const APPS: u32 = 1024;

/// Bytes of an app's name, of a folder of the menu and of a notification's or tray item's caption.
pub const NAME_BYTES: usize = 128;

/// Bytes of a sentence: an app's comment, its keywords, a reason.
pub const SENTENCE_BYTES: usize = 256;

/// Types of documents that one app says it opens; image viewers list 40 to 60.
pub const MIME_TYPES: usize = 64;

/// Bytes of a MIME type's name: each half has at most 127 by its standard, but none in use is longer.
pub const MIME_BYTES: usize = 127;

/// URL schemes that one app says it opens.
pub const SCHEMES: usize = 16;

/// Bytes of a scheme's name.
pub const SCHEME_BYTES: usize = 32;

/// Further actions of an app ("new private window").
pub const ACTIONS: usize = 8;

/// Arguments of a launch.
pub const ARGUMENTS: usize = 16;

/// Bytes of one argument; all sixteen still fit a control message.
pub const ARGUMENT_BYTES: usize = 2048;

/// Files handed to one launch.
pub const LAUNCH_FILES: usize = 64;

/// Forms in which one clipboard is offered: there are five, see `ClipboardKind`.
pub const CLIPBOARD_KINDS: usize = 8;

/// Bytes of a clipboard in one form that no policy may exceed: a screenshot of three 4K monitors as PNG.
pub const CLIPBOARD_BYTES: u64 = 64 << 20;

/// Bytes of a file that no policy may exceed: an image of a DVD with two layers fits.
pub const FILE_BYTES: u64 = 16 << 30;

/// Bytes of a print job that no policy may exceed: a thousand pages of raster at 300 dpi, packed.
pub const PRINT_BYTES: u64 = 2 << 30;

/// Bytes of the name of a print job's paper.
pub const PAPER_BYTES: usize = 64;

/// Ranges of pages that a print job names.
pub const PAGE_RANGES: usize = 16;

/// Bytes of the agent's own update.
pub const UPDATE_BYTES: u64 = 64 << 20;

/// Bytes of a file's name: what ext4, NTFS and tmpfs take.
pub const FILE_NAME_BYTES: usize = 255;

/// Bytes of a URL: what browsers and proxies agree upon.
pub const URL_BYTES: usize = 8 << 10;

/// Bytes of a notification's text, and lines of it that are shown.
pub const NOTE_BYTES: usize = 4096;

/// Lines of a notification that are shown.
pub const NOTE_LINES: usize = 32;

/// Buttons of a notification.
pub const NOTE_BUTTONS: usize = 4;

/// Entries of a tray item's menu.
pub const TRAY_ENTRIES: usize = 128;

/// Tray items of one guest.
pub const TRAY_ITEMS: u32 = 32;

/// Bytes of one line of the agent's log.
pub const LOG_BYTES: usize = 1024;

/// Lines of log in a second that a host keeps.
pub const LOGS_PER_SECOND: u32 = 50;

/// Bytes of one chunk on the bulk channel: long enough that headers cost nothing, short enough that
/// a cancel is heard at once.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Chunks of one stream that were sent and not yet acknowledged.
pub const CHUNKS_IN_FLIGHT: u32 = 4;

/// Streams that are open at once in one direction: with the two above, at most 8 MiB are on their way.
pub const STREAMS: usize = 8;

/// Bytes that a decoder keeps between messages: an idle channel holds no more than this.
pub const IDLE_BYTES: usize = 64 << 10;

/// Bytes of one record of a recording: the largest message and its header.
pub const RECORD_BYTES: usize = PIXEL_BYTES + 256;
