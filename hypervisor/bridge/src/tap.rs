//! A tap device on a bridge: the few words with the kernel that the standard library has none for.

use crate::Refusal;
use nix::errno::Errno;
use nix::libc::{self, ifreq};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

/// What the kernel calls the devices; it fills in the first free number.
const NAME: &str = "medley%d";
// From linux/sockios.h.
const SIOCBRADDIF: libc::c_ulong = 0x89a2;

nix::ioctl_write_ptr_bad!(tun_set_iff, libc::TUNSETIFF, ifreq);
nix::ioctl_write_ptr_bad!(bridge_add, SIOCBRADDIF, ifreq);
nix::ioctl_readwrite_bad!(get_mtu, libc::SIOCGIFMTU, ifreq);
nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, ifreq);
nix::ioctl_readwrite_bad!(get_hardware, libc::SIOCGIFHWADDR, ifreq);
nix::ioctl_write_ptr_bad!(set_hardware, libc::SIOCSIFHWADDR, ifreq);
nix::ioctl_readwrite_bad!(get_flags, libc::SIOCGIFFLAGS, ifreq);
nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, ifreq);

/// A device that is up, on the bridge, and gone with its last descriptor.
pub fn on_bridge(bridge: &str) -> Result<OwnedFd, Refusal> {
    if_nametoindex(bridge).map_err(|_| {
        format!("this host has no bridge {bridge}; as root, make it, or name another")
    })?;
    let device = File::options().read(true).write(true).open("/dev/net/tun");
    let device = device.map_err(|error| {
        format!("cannot open /dev/net/tun: {error}; as root, modprobe tun, or use nat")
    })?;
    let asks = |what: String| move |error: Errno| format!("cannot {what}: {}", error.desc());
    let mut made = request(NAME)?;
    made.ifr_ifru.ifru_flags = flags(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR)?;
    // SAFETY: TUNSETIFF reads an ifreq and writes the device's name into it, within its bounds; the kernel's
    // prototype says "write", so nix passes a const pointer, and `made` is a local whose address is taken as
    // mutable here.
    unsafe { tun_set_iff(device.as_raw_fd(), &raw mut made) }
        .map_err(asks("make a tap device".into()))?;
    let name = name_of(&made)?;

    // Any socket reaches the kernel's interfaces.
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(asks("ask for interfaces".into()))?;
    let socket = socket.as_raw_fd();
    // A bridge takes over the smallest size of packets among its devices.
    let mut of_bridge = request(bridge)?;
    // SAFETY: reads the name from a whole ifreq and writes a number into its union.
    unsafe { get_mtu(socket, &raw mut of_bridge) }.map_err(asks(format!("ask {bridge}'s MTU")))?;
    let mut ours = request(&name)?;
    // SAFETY: the call above filled in this member of the union; it is a plain number.
    ours.ifr_ifru.ifru_mtu = unsafe { of_bridge.ifr_ifru.ifru_mtu };
    // SAFETY: reads a whole ifreq, of which name and number are filled in.
    unsafe { set_mtu(socket, &raw const ours) }.map_err(asks(format!(
        "have the MTU of {bridge}, as a bridge's devices must"
    )))?;
    // A bridge takes over the smallest address among its devices: it must not be one that goes again.
    let mut ours = request(&name)?;
    // SAFETY: reads the name from a whole ifreq and writes an address into its union.
    unsafe { get_hardware(socket, &raw mut ours) }.map_err(asks("ask its address".into()))?;
    // SAFETY: the call above filled in this member of the union; every byte of it may have any value.
    unsafe { ours.ifr_ifru.ifru_hwaddr.sa_data[0] = libc::c_char::from_ne_bytes([0xfe]) };
    // SAFETY: reads a whole ifreq, of which name and address are filled in.
    unsafe { set_hardware(socket, &raw const ours) }.map_err(asks("set its address".into()))?;
    // The host itself says nothing on it; where there is no IPv6, there is no such file.
    let quiet = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    drop(std::fs::write(quiet, "1"));

    let index = if_nametoindex(name.as_str()).map_err(asks(format!("find {name}")))?;
    let mut ours = request(bridge)?;
    ours.ifr_ifru.ifru_ifindex =
        libc::c_int::try_from(index).map_err(|_| "no such number of an interface")?;
    // SAFETY: reads a whole ifreq, of which name and number are filled in.
    unsafe { bridge_add(socket, &raw const ours) }.map_err(|error| match error {
        Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOTTY => {
            format!("{bridge} is no bridge; name one, as root: ip link show type bridge")
        }
        error => format!("cannot join {bridge}: {}", error.desc()),
    })?;
    let mut ours = request(&name)?;
    // SAFETY: reads the name from a whole ifreq and writes a number into its union.
    unsafe { get_flags(socket, &raw mut ours) }.map_err(asks(format!("ask about {name}")))?;
    // SAFETY: the call above filled in this member of the union; it is a plain number.
    unsafe { ours.ifr_ifru.ifru_flags |= flags(libc::IFF_UP)? };
    // SAFETY: reads a whole ifreq, of which name and flags are filled in.
    unsafe { set_flags(socket, &raw const ours) }.map_err(asks(format!("switch {name} on")))?;
    Ok(device.into())
}

fn flags(flags: libc::c_int) -> Result<libc::c_short, Refusal> {
    libc::c_short::try_from(flags).map_err(|_| "a flag that does not fit".into())
}

/// A question about an interface.
fn request(name: &str) -> Result<ifreq, Refusal> {
    // SAFETY: an ifreq is bytes and numbers throughout; zeros are one.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if name.len() >= request.ifr_name.len() {
        return Err(format!("{name}: too long for an interface"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

fn name_of(request: &ifreq) -> Result<String, Refusal> {
    let bytes = request.ifr_name.iter().map(|c| c.to_ne_bytes()[0]);
    let name: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    String::from_utf8(name).map_err(|_| "the kernel gave it no name".into())
}
