//! One line of an allow-list: to whom, on which ports, by which protocol.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What a guest may reach, written `TARGET[:PORTS][/PROTOCOL]`: `10.0.0.0/8:443/tcp`,
/// `[2001:db8::]/32`, `updates.example.org:80-90`, `*.example.org:443/tcp`, `192.0.2.1/icmp`.
///
/// Without ports, all of them; without a protocol, TCP and UDP with ports, and everything without.
/// `*.` stands for one label or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    /// To whom.
    pub target: Target,
    /// On which ports; `None` is all, and protocols without ports too.
    pub ports: Option<RangeInclusive<u16>>,
    /// By which protocol; `None` is any.
    pub protocol: Option<Protocol>,
}

/// To whom a rule lets the guest speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every address whose first `prefix` bits are those of `address`; the others are zero.
    Net {
        /// The first address.
        address: IpAddr,
        /// How many bits count.
        prefix: u8,
    },
    /// Whatever addresses the guest's name server gives for a name, for as long as it says.
    Name {
        /// The name in lower case, without a dot at its end.
        name: String,
        /// Whether names below it are meant, and not the name itself.
        below: bool,
    },
}

/// A protocol a rule may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6 echo.
    Icmp,
}

impl Target {
    /// Whether the address is meant. A name means none by itself.
    pub fn has_address(&self, to: IpAddr) -> bool {
        match self {
            Target::Net { address, prefix } => masked(to, *prefix) == Some(*address),
            Target::Name { .. } => false,
        }
    }

    /// Whether the name, in lower case, is meant.
    pub fn has_name(&self, asked: &str) -> bool {
        match self {
            Target::Net { .. } => false,
            Target::Name { name, below: false } => asked == name,
            Target::Name { name, below: true } => asked
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }
}

impl Rule {
    /// Whether the protocol and port are meant; `port` is `None` where there are none.
    pub fn has_service(&self, protocol: Option<Protocol>, port: Option<u16>) -> bool {
        (self.protocol.is_none() || self.protocol == protocol)
            && match &self.ports {
                None => true,
                Some(ports) => port.is_some_and(|port| ports.contains(&port)),
            }
    }
}

/// The address with all but its first bits zero; `None` if it has not so many bits.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let rest = 32u32.checked_sub(prefix)?;
            let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
            Some(IpAddr::V4((v4.to_bits() & mask).into()))
        }
        IpAddr::V6(v6) => {
            let rest = 128u32.checked_sub(prefix)?;
            let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
            Some(IpAddr::V6((v6.to_bits() & mask).into()))
        }
    }
}

/// A host name in lower case without its last dot, if it is one.
pub(crate) fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    ((1..=253).contains(&name.len()) && name.split('.').all(label))
        .then(|| name.to_ascii_lowercase())
}

/// Whether an interface of Linux may be called so, and no option of a program.
pub(crate) fn interface_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let plain = (1..=15).contains(&name.len()) && name.chars().all(good);
    match plain && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        true => Ok(()),
        false => Err(format!(
            "{name:?} is not 1 to 15 of A-Z a-z 0-9 - _ . and begins with a letter or digit"
        )),
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Rule, String> {
        let (rest, protocol) = protocol(text)?;
        let (target, ports) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest
                    .split_once(']')
                    .ok_or_else(|| format!("{text:?} opens a bracket and does not close it"))?;
                let address = address
                    .parse()
                    .map(IpAddr::V6)
                    .map_err(|_| format!("{address:?} is no IPv6 address"))?;
                let (prefix, ports) = match after.split_once(':') {
                    Some((prefix, ports)) => (prefix, Some(ports)),
                    None => (after, None),
                };
                let prefix = match prefix.strip_prefix('/') {
                    Some(bits) => Some(bits),
                    None if prefix.is_empty() => None,
                    None => return Err(format!("{prefix:?} behind the bracket says nothing")),
                };
                (net(address, prefix)?, ports)
            }
            None if rest.matches(':').count() > 1 => {
                return Err(format!(
                    "{text:?}: an IPv6 address is written in [brackets]"
                ));
            }
            None => match rest.split_once(':') {
                Some((target, ports)) => (plain(target)?, Some(ports)),
                None => (plain(rest)?, None),
            },
        };
        let ports = ports.map(self::ports).transpose()?;
        if ports.is_some() && protocol == Some(Protocol::Icmp) {
            return Err(format!("{text:?}: ICMP has no ports"));
        }
        Ok(Rule {
            target,
            ports,
            protocol,
        })
    }
}

fn protocol(text: &str) -> Result<(&str, Option<Protocol>), String> {
    let Some((rest, last)) = text.rsplit_once('/') else {
        return Ok((text, None));
    };
    Ok(match last {
        "tcp" => (rest, Some(Protocol::Tcp)),
        "udp" => (rest, Some(Protocol::Udp)),
        "icmp" => (rest, Some(Protocol::Icmp)),
        bits if bits.starts_with(|c: char| c.is_ascii_digit()) => (text, None),
        other => return Err(format!("{other:?} is not tcp, udp or icmp")),
    })
}

fn plain(text: &str) -> Result<Target, String> {
    let (host, prefix) = match text.split_once('/') {
        Some((host, prefix)) => (host, Some(prefix)),
        None => (text, None),
    };
    if let Ok(address) = host.parse() {
        return net(IpAddr::V4(address), prefix);
    }
    if prefix.is_some() {
        return Err(format!("{host:?} is no IPv4 address"));
    }
    let (name, below) = match host.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (host, false),
    };
    // What ends in a number is an address that somebody mistyped.
    let numeric = |name: &str| {
        name.rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()))
    };
    match host_name(name) {
        Some(name) if !numeric(&name) => Ok(Target::Name { name, below }),
        _ => Err(format!("{host:?} is neither an address nor a host name")),
    }
}

fn net(address: IpAddr, prefix: Option<&str>) -> Result<Target, String> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => most,
        Some(text) => text
            .parse()
            .ok()
            .filter(|bits| *bits <= most)
            .ok_or_else(|| format!("{text:?} is not a prefix length of 0 to {most}"))?,
    };
    match masked(address, prefix) {
        Some(first) if first == address => Ok(Target::Net { address, prefix }),
        Some(first) => Err(format!(
            "{address}/{prefix} has bits behind its prefix; did you mean {first}/{prefix}?"
        )),
        None => Err(format!("{prefix} is too long a prefix")),
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("{text:?} is not a port or a range of 1 to 65535")),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Net { address, prefix } if address.is_ipv6() => {
                write!(f, "[{address}]/{prefix}")?;
            }
            Target::Net { address, prefix } => write!(f, "{address}/{prefix}")?,
            Target::Name { name, below } => write!(f, "{}{name}", if *below { "*." } else { "" })?,
        }
        if let Some(ports) = &self.ports {
            write!(f, ":{}", ports.start())?;
            if ports.start() != ports.end() {
                write!(f, "-{}", ports.end())?;
            }
        }
        f.write_str(match self.protocol {
            None => "",
            Some(Protocol::Tcp) => "/tcp",
            Some(Protocol::Udp) => "/udp",
            Some(Protocol::Icmp) => "/icmp",
        })
    }
}

impl TryFrom<String> for Rule {
    type Error = String;

    fn try_from(text: String) -> Result<Rule, String> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> String {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_are_read_as_they_are_meant() {
        let rule: Rule = "10.0.0.0/8:443/tcp".parse().unwrap();
        assert!(rule.target.has_address("10.200.0.1".parse().unwrap()));
        assert!(!rule.target.has_address("11.0.0.1".parse().unwrap()));
        assert!(!rule.target.has_address("::ffff:10.0.0.1".parse().unwrap()));
        assert!(rule.has_service(Some(Protocol::Tcp), Some(443)));
        assert!(!rule.has_service(Some(Protocol::Udp), Some(443)));
        assert!(!rule.has_service(Some(Protocol::Tcp), Some(80)));
        let all: Rule = "[::]/0".parse().unwrap();
        assert!(all.target.has_address("2001:db8::1".parse().unwrap()));
        assert!(all.has_service(None, None));
        let below: Rule = "*.Example.org:80-81".parse().unwrap();
        assert!(below.target.has_name("a.b.example.org"));
        for other in [
            "example.org",
            ".example.org",
            "badexample.org",
            "example.org.evil",
        ] {
            assert!(!below.target.has_name(other), "{other}");
        }
        assert!(!below.has_service(None, None));
    }

    #[test]
    fn what_is_not_a_rule_is_refused() {
        for bad in [
            "",
            ":443",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.256",
            "300.1.1.1",
            "a..b",
            "-a.b",
            "a.b:0",
            "a.b:9-8",
            "a.b:65536",
            "a.b/sctp",
            "a.b/24",
            "2001:db8::1",
            "[::1",
            "[::1]x",
            "[10.0.0.1]",
            "a.b:80/icmp",
            "*",
            "*.",
            "a b",
            "10.0.0.1:80:81",
            "a.b/",
            "a.b:",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back_as_itself(text in "[0-9a-f.:/*\\[\\]-]{0,24}(/tcp|/udp|/icmp)?") {
            if let Ok(rule) = text.parse::<Rule>() {
                prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
            }
        }

        #[test]
        fn any_bytes_do_no_harm(text in ".{0,64}") {
            let _ = text.parse::<Rule>();
        }

        #[test]
        fn a_net_has_what_agrees_in_its_bits(base: u32, other: u32, prefix in 0u8..=32) {
            let rest = 32 - u32::from(prefix);
            let first = if rest == 32 { 0 } else { base >> rest << rest };
            let rule: Rule = format!("{}/{prefix}", std::net::Ipv4Addr::from_bits(first)).parse().unwrap();
            let same = rest == 32 || first >> rest == other >> rest;
            prop_assert_eq!(rule.target.has_address(IpAddr::V4(other.into())), same);
        }
    }
}
