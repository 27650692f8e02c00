//! What the three channels' ports are called. A hypervisor gives these names to its virtio-serial ports, and
//! a guest finds them by the same names.
use medley_wire::Channel;
use std::path::PathBuf;

/// Windows, pixels, input.
pub const GUI: &str = "org.medley.gui.0";
/// Apps, monitors, offers, health.
pub const CONTROL: &str = "org.medley.control.0";
/// Bytes of clipboards, files, print jobs, icons.
pub const BULK: &str = "org.medley.bulk.0";

/// Where udev shows virtio-serial ports by name.
const FOLDER: &str = "/dev/virtio-ports";

/// A channel's port.
#[must_use]
pub const fn name(channel: Channel) -> &'static str {
    match channel {
        Channel::Gui => GUI,
        Channel::Control => CONTROL,
        Channel::Bulk => BULK,
    }
}

/// Where a guest finds a channel's port.
#[must_use]
pub fn device(channel: Channel) -> PathBuf {
    [FOLDER, name(channel)].iter().collect()
}
