//! `medley boot --windows`: the channels, the shared memory and the presenter by which a guest's apps become
//! windows of this desktop.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use clap::Args;
use medley_host::menu::{Menu, Opens, Published};
use medley_host::{Command, Desk, Notice};
use medley_hypervisor::{Channel, MachineSpec, SharedMemory};
use medley_link::ports;

use super::screen::Place;
use super::services::ServiceArgs;
use crate::exit::{Failure, Kind, Result};
use crate::run_dir::RunDir;
use crate::size;

/// Of the memory that host and guest share for pixels: two frames of a large screen, and some more.
const POOL_MIB: u32 = 64;
/// Of what happened, so much waits to be told.
const NOTICES: usize = 64;
/// The program that shows windows; it lies beside this one.
const PRESENTER: &str = "medley-presenter";

/// Options of machines whose apps are windows here.
#[derive(Debug, Args)]
pub struct WindowArgs {
    /// Show the guest's apps as windows of this desktop; the guest needs Medley's agent
    #[arg(long, requires = "folder", help_heading = "Windows")]
    windows: bool,
    /// What windows, frames and menus call the workspace [default: the disk's name]
    #[arg(
        long,
        value_name = "NAME",
        requires = "shown",
        help_heading = "Windows"
    )]
    label: Option<String>,
    /// Colour of the frames around the guest's windows
    #[arg(
        long,
        value_name = "RRGGBB",
        requires = "shown",
        default_value = "0000c0",
        value_parser = colour,
        help_heading = "Windows"
    )]
    colour: String,
    /// Put this app of the guest's into the desktop's menu, or `all`; may be given more than once
    #[arg(
        long,
        value_name = "APP",
        requires = "windows",
        help_heading = "Windows"
    )]
    publish: Vec<String>,
    /// With `--publish all`: leave this one out
    #[arg(
        long,
        value_name = "APP",
        requires = "publish",
        help_heading = "Windows"
    )]
    unpublish: Vec<String>,
    /// When the guest may have what was copied here: never, when Super+Shift+V is pressed, or while it has the
    /// keyboard
    #[arg(long, value_enum, default_value_t = Clipboard::Denied, requires = "windows", help_heading = "Windows")]
    clipboard_in: Clipboard,
    /// When this desktop may have what was copied in the guest: Super+Shift+C
    #[arg(long, value_enum, default_value_t = Clipboard::Denied, requires = "windows", help_heading = "Windows")]
    clipboard_out: Clipboard,
    /// Largest picture that may be copied, either way; without it pictures do not cross
    #[arg(
        long,
        value_name = "SIZE",
        requires = "windows",
        default_value = "0",
        value_parser = size::parse,
        help_heading = "Windows"
    )]
    clipboard_pictures: u64,
    /// Which of this desktop's window systems to use; auto is X11 where it answers (also in a Wayland desktop that has
    /// both), since only there windows can be put where the guest has them; on Wayland no other program sees them
    #[arg(
        long,
        value_enum,
        default_value_t = DisplayServer::Auto,
        requires = "windows",
        help_heading = "Windows"
    )]
    display_server: DisplayServer,
    /// Launch this app of the guest's when it is there, once in a session that boots; may be given more than
    /// once
    #[arg(
        long,
        value_name = "APP",
        requires = "windows",
        help_heading = "Windows"
    )]
    autostart: Vec<String>,
    /// Let published apps open such documents and addresses of this desktop's, as far as they say that they can:
    /// application/pdf, x-scheme-handler/mailto
    #[arg(
        long,
        value_name = "TYPE,TYPE",
        value_delimiter = ',',
        requires = "publish",
        help_heading = "Windows"
    )]
    handle: Vec<String>,
    #[command(flatten)]
    services: ServiceArgs,
}

fn colour(text: &str) -> Result<String, String> {
    let digits = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let wrong = || "a colour is six hexadecimal digits, as in 0000c0".to_owned();
    digits.then(|| text.to_owned()).ok_or_else(wrong)
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Clipboard {
    Denied,
    Chord,
    Focus,
}

impl Clipboard {
    const fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Chord => "chord",
            Self::Focus => "focus",
        }
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum DisplayServer {
    Auto,
    X11,
    Wayland,
}

impl DisplayServer {
    const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::X11 => "x11",
            Self::Wayland => "wayland",
        }
    }
}

/// What a machine with windows needs before it is made.
pub struct Ground {
    pool: RunDir,
    sockets: [PathBuf; 3],
}

/// Windows that are shown.
pub struct Windows {
    // In this order: who answers before what it answers for, the memory last.
    _answers: Box<dyn std::any::Any>,
    desk: Desk,
    notices: Receiver<Notice>,
    _pool: RunDir,
}

impl WindowArgs {
    /// What the workspace is called.
    pub fn label(&self, disk: &Path) -> String {
        let stem = disk.file_stem().unwrap_or_default().to_string_lossy();
        self.label.clone().unwrap_or_else(|| stem.into_owned())
    }

    /// The colour of its frames.
    pub fn colour(&self) -> &str {
        &self.colour
    }

    /// Adds to a machine what its windows need; nothing, if there are to be none.
    pub fn prepare(&self, spec: &mut MachineSpec) -> Result<Option<Ground>> {
        if !self.windows {
            return Ok(None);
        }
        presenter()?;
        let pool = RunDir::in_memory()?;
        let file = pool.path().join("pixels");
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .and_then(|file| file.set_len(u64::from(POOL_MIB) << 20))
            .map_err(Failure::io("cannot make the memory for the guest's pixels"))?;
        spec.shared_memory = Some(SharedMemory {
            file,
            mib: POOL_MIB,
        });
        let names = [ports::GUI, ports::CONTROL, ports::BULK];
        let sockets = names.map(|name| spec.run_dir.join(format!("{name}.sock")));
        let channels = names.iter().zip(&sockets);
        spec.channels.extend(channels.map(|(name, socket)| Channel {
            name: (*name).into(),
            socket: socket.clone(),
        }));
        Ok(Some(Ground { pool, sockets }))
    }

    /// Shows them, for a machine that has been made. `booted` says that the guest has not run before.
    pub fn show(
        &self,
        ground: Ground,
        disk: &Path,
        session: &Path,
        booted: bool,
        place: Option<&Place>,
    ) -> Result<Windows> {
        let label = self.label(disk);
        let [gui, control, bulk] = ground.sockets;
        let pictures = self.clipboard_pictures.to_string();
        let options = [
            ("--colour", self.colour.as_str()),
            ("--clipboard-pictures", &pictures),
            ("--clipboard-in", self.clipboard_in.word()),
            ("--clipboard-out", self.clipboard_out.word()),
            ("--display-server", self.display_server.word()),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name, value]);
        let command = Command {
            program: presenter()?,
            workspace: label.clone(),
            gui,
            control,
            bulk,
            pool: Some(ground.pool.path().join("pixels")),
            options: options.map(OsString::from).collect(),
        };
        let (notify, notices) = sync_channel(NOTICES);
        let policy = self.services.policy(&label)?;
        let opens = Opens {
            types: self.handle.clone(),
            files: policy.files_in.is_some(),
        };
        let mut desk = Desk::open(command, policy, notify)?;
        let answers = desk.answer_in(session)?;
        let published = match self.publish.iter().any(|name| name == "all") {
            true => Published::AllBut(self.unpublish.clone()),
            false if self.publish.is_empty() => Published::None,
            false => Published::Only(self.publish.clone()),
        };
        if published != Published::None {
            let own = std::env::current_exe().map_err(Failure::io("cannot find this program"))?;
            let words = [own.as_path(), Path::new("run"), session];
            let command = words.map(|word| word.to_string_lossy().into_owned());
            let menu = Menu::of_user(&label, command.into()).ok_or_else(|| {
                Failure::new(Kind::Missing, "there is no home folder for menu entries")
                    .remedy("set HOME or XDG_DATA_HOME")
            })?;
            desk.publish(menu.opening(opens), published)?;
        }
        if booted && !self.autostart.is_empty() {
            desk.autostart(self.autostart.clone())?;
        }
        if let Some(place) = place {
            desk.mark_locks(place.mark());
        }
        Ok(Windows {
            _answers: Box::new(answers),
            desk,
            notices,
            _pool: ground.pool,
        })
    }
}

impl Windows {
    /// The machine woke, and runs.
    pub fn renew(&self) {
        self.desk.renew();
    }

    /// What happened since it was last asked.
    pub fn notices(&self) -> impl Iterator<Item = Notice> {
        self.notices.try_iter().take(NOTICES)
    }
}

/// The presenter that belongs to this program.
fn presenter() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(Failure::io("cannot find this program"))?;
    let program = own.with_file_name(PRESENTER);
    if program.is_file() {
        return Ok(program);
    }
    let what = format!("{}: not there", program.display());
    Err(Failure::new(Kind::Missing, what)
        .remedy("install medley-presenter beside medley; it shows windows"))
}
