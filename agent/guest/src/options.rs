//! Where everything is that the agent speaks to.
use crate::handover::printing;
use crate::log::Lines;
use medley_link::ports;
use medley_wire::Channel as Which;
use std::path::PathBuf;

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The X display.
    pub display: String,
    /// The gui channel's port or socket.
    pub gui: PathBuf,
    /// The control channel's.
    pub control: PathBuf,
    /// The bulk channel's.
    pub bulk: PathBuf,
    /// The memory shared with the host, if there is one.
    pub pool: Option<PathBuf>,
    /// Whether the host's clock is the guest's.
    pub sets_clock: bool,
    /// The port on which the host's printer is reached in the guest.
    pub printer_port: u16,
    /// Lines of the log for the host.
    pub log: Lines,
}

impl Options {
    /// The ports of a virtual machine, and this display.
    #[must_use]
    pub fn on(display: String) -> Self {
        Self {
            display,
            gui: ports::device(Which::Gui),
            control: ports::device(Which::Control),
            bulk: ports::device(Which::Bulk),
            pool: None,
            sets_clock: false,
            printer_port: printing::PORT,
            log: Lines::default(),
        }
    }
}
