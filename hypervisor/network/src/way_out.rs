//! By which way the host speaks to the world, as far as a guest behind it would notice: so that
//! interfaces of others' may come and go without pulling any guest's cable.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

const UP: u32 = 0x1;
const REJECTS: u32 = 0x200;

/// The host's routers and its own addresses towards the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WayOut {
    /// The interface and router of each family that has one, in the kernel's words.
    routers: Vec<String>,
    /// The addresses with which the host speaks.
    addresses: Vec<IpAddr>,
}

impl WayOut {
    /// As it is now.
    pub fn now() -> io::Result<WayOut> {
        let read = |path: &str| match fs::read_to_string(path) {
            // A kernel without this family.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
        let routers = [
            router_v4(&read("/proc/net/route")?),
            router_v6(&read("/proc/net/ipv6_route")?),
        ];
        Ok(WayOut {
            routers: routers.into_iter().flatten().collect(),
            addresses: addresses(),
        })
    }

    /// Whether there is one at all.
    pub fn is_there(&self) -> bool {
        !self.routers.is_empty()
    }
}

/// The default route that packets take: the one of the least metric.
fn router_v4(table: &str) -> Option<String> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [
            interface,
            "00000000",
            router,
            flags,
            _,
            _,
            metric,
            "00000000",
            ..,
        ] = words[..]
        else {
            return None;
        };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let metric: u32 = metric.parse().ok()?;
        is_way(flags).then(|| (metric, format!("{interface} {router}")))
    });
    routes.min().map(|(_, route)| route)
}

fn router_v6(table: &str) -> Option<String> {
    let zeros = "0".repeat(32);
    let routes = table.lines().filter_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [to, "00", _, _, router, metric, _, _, flags, interface] = words[..] else {
            return None;
        };
        let number = |word| u32::from_str_radix(word, 16).ok();
        let (metric, flags) = (number(metric)?, number(flags)?);
        (to == zeros && is_way(flags) && interface != "lo")
            .then(|| (metric, format!("{interface} {router}")))
    });
    routes.min().map(|(_, route)| route)
}

fn is_way(flags: u32) -> bool {
    flags & UP != 0 && flags & REJECTS == 0
}

/// Asked of the kernel: connecting a datagram socket sends nothing. The addresses asked for are
/// those that documentation may use, so that no route but the default one leads there.
fn addresses() -> Vec<IpAddr> {
    let asked: [(IpAddr, IpAddr); 2] = [
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(203, 0, 113, 1).into(),
        ),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    ];
    let own = |(any, to): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        socket.connect(SocketAddr::new(to, 9)).ok()?;
        socket.local_addr().ok().map(|own| own.ip())
    };
    asked.into_iter().filter_map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
eth1\t00000000\t0200000A\t0203\t0\t0\t1\t00000000\t0\t0\t0
";
    const V6: &str = "\
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
";

    #[test]
    fn the_route_that_packets_take_counts() {
        assert_eq!(router_v4(V4).unwrap(), "eth0 0100000A");
        assert_eq!(
            router_v6(V6).unwrap(),
            "eth0 fe800000000000000000000000000001"
        );
        assert_eq!(router_v4(""), None);
        assert_eq!(router_v6(V6.lines().nth(1).unwrap()), None);
        assert!(!WayOut::default().is_there());
    }

    proptest! {
        #[test]
        fn any_table_is_read(text in "([0-9a-f]{1,8}|lo|eth0|00000000| |\n){0,80}") {
            router_v4(&text);
            router_v6(&text);
        }
    }
}
