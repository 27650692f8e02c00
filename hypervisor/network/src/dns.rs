//! What the guest is told about names: from what the host knows and what the policy says.

use crate::rule::host_name;
use crate::{DnsMode, NetworkPolicy};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The address at which a guest reaches a name server that listens on the host's loopback only.
pub const FORWARDER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// As many name servers as a resolver asks.
const MOST_SERVERS: usize = 3;
/// As many search domains as passt takes.
const MOST_DOMAINS: usize = 16;

/// What the host's resolver is configured with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDns {
    /// Its name servers, in order.
    pub servers: Vec<IpAddr>,
    /// Its search domains, in order.
    pub search: Vec<String>,
}

/// What a guest is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestDns {
    /// Name servers, at most three; none means that the guest is not told any.
    pub servers: Vec<IpAddr>,
    /// The host's own name server on its loopback, which the guest reaches at [`FORWARDER`].
    pub forward: Option<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
}

impl HostDns {
    /// From the text of a `resolv.conf`. What is not understood is passed over, as resolvers do.
    pub fn parse(text: &str) -> HostDns {
        let mut dns = HostDns::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let word = words.next().unwrap_or_default();
                    // An address with a zone (fe80::1%eth0) means nothing to a guest.
                    if let Ok(address) = word.parse()
                        && !dns.servers.contains(&address)
                    {
                        dns.servers.push(address);
                    }
                }
                // The last of them counts.
                Some("search" | "domain") => {
                    dns.search.clear();
                    append(&mut dns.search, words.filter_map(host_name));
                }
                _ => {}
            }
        }
        dns
    }

    /// From this host's files. Where systemd-resolved stands between, its own servers: no guest
    /// reaches its stub, which listens on loopback.
    pub fn read() -> io::Result<HostDns> {
        HostDns::read_below(Path::new("/"))
    }

    /// As [`HostDns::read`], of the files below `root`. No `resolv.conf` is no server.
    pub fn read_below(root: &Path) -> io::Result<HostDns> {
        let read = |path: &str| match fs::read_to_string(root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        let text = read("etc/resolv.conf")?.unwrap_or_default();
        let dns = HostDns::parse(&text);
        let stub = |server: &IpAddr| {
            [53, 54]
                .map(|last| IpAddr::from([127, 0, 0, last]))
                .contains(server)
        };
        if !dns.servers.iter().any(stub) {
            return Ok(dns);
        }
        Ok(match read("run/systemd/resolve/resolv.conf")? {
            Some(real) => HostDns::parse(&real),
            None => dns,
        })
    }
}

impl GuestDns {
    /// What the policy makes of what the host has.
    pub fn plan(policy: &NetworkPolicy, host: &HostDns) -> GuestDns {
        let mut dns = GuestDns::default();
        let from_host = match policy.dns.mode {
            DnsMode::Unchanged => false,
            DnsMode::Host => true,
            DnsMode::Fixed => {
                append(&mut dns.servers, policy.dns.servers.iter().copied());
                policy.dns.append_host
            }
        };
        if from_host {
            let (local, usable): (Vec<_>, Vec<_>) =
                host.servers.iter().partition(|server| server.is_loopback());
            append(&mut dns.servers, usable);
            if dns.servers.is_empty() {
                dns.forward = local.into_iter().next();
            }
        }
        dns.servers.truncate(MOST_SERVERS);
        append(
            &mut dns.search,
            policy.search.domains.iter().filter_map(|d| host_name(d)),
        );
        if policy.search.append_host {
            append(&mut dns.search, host.search.iter().cloned());
        }
        dns.search.truncate(MOST_DOMAINS);
        dns
    }

    /// Where the guest sends its questions.
    pub fn resolvers(&self) -> Vec<IpAddr> {
        let forward = self.forward.map(|_| IpAddr::V4(FORWARDER));
        self.servers.iter().copied().chain(forward).collect()
    }

    /// The same in passt's words.
    pub(crate) fn passt_arguments(&self) -> Vec<String> {
        let mut args = Vec::new();
        let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
        if let Some(host) = self.forward {
            // The first server that passt knows is the one that it forwards to.
            option("-D", host.to_string());
            option("--dns-forward", FORWARDER.to_string());
        }
        for server in self.resolvers() {
            option("-D", server.to_string());
        }
        if self.resolvers().is_empty() {
            option("-D", "none".into());
        }
        option(
            "-S",
            match self.search.as_slice() {
                [] => "none".into(),
                domains => domains.join(" "),
            },
        );
        args
    }
}

fn append<T: PartialEq>(list: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// Whether no packet to it may leave a guest: the host's own loopback, or nobody's address.
pub(crate) fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.octets()[0] == 0 || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6 == Ipv6Addr::UNSPECIFIED
                // IPv4 written as IPv6, whichever way, would pass by the rules for IPv4.
                || v6.segments()[..5] == [0; 5]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DnsPolicy, SearchPolicy};
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_resolv_conf_is_read_as_resolvers_do() {
        let dns = HostDns::parse(
            "# nameserver 9.9.9.9\nnameserver 192.0.2.1\nnameserver nonsense\n nameserver fe80::1%eth0\n\
             nameserver 2001:db8::53\nnameserver 192.0.2.1\ndomain old.example\n\
             search Corp.Example. lab.example corp.example ;x\noptions ndots:2\n",
        );
        assert_eq!(dns.servers, [ip("192.0.2.1"), ip("2001:db8::53")]);
        assert_eq!(dns.search, ["corp.example", "lab.example"]);
    }

    #[test]
    fn the_stub_of_systemd_is_looked_through() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(
            HostDns::read_below(root.path()).unwrap(),
            HostDns::default()
        );
        put("etc/resolv.conf", "nameserver 127.0.0.53\n");
        assert_eq!(
            HostDns::read_below(root.path()).unwrap().servers,
            [ip("127.0.0.53")]
        );
        put(
            "run/systemd/resolve/resolv.conf",
            "nameserver 192.0.2.7\nsearch a.example\n",
        );
        let dns = HostDns::read_below(root.path()).unwrap();
        assert_eq!(
            (dns.servers, dns.search),
            (vec![ip("192.0.2.7")], vec!["a.example".into()])
        );
    }

    #[test]
    fn every_policy_gives_what_it_says() {
        let host = HostDns {
            servers: vec![ip("192.0.2.1"), ip("192.0.2.2")],
            search: vec!["host.example".into()],
        };
        let local = HostDns {
            servers: vec![ip("127.0.0.1"), ip("::1")],
            ..host.clone()
        };
        let fixed = vec![ip("198.51.100.1"), ip("192.0.2.2")];
        let plan = |mode, append_host, host| {
            let policy = NetworkPolicy {
                dns: DnsPolicy {
                    mode,
                    servers: fixed.clone(),
                    append_host,
                },
                ..NetworkPolicy::default()
            };
            let dns = GuestDns::plan(&policy, host);
            (dns.servers.clone(), dns.forward, dns.resolvers().len())
        };
        assert_eq!(plan(DnsMode::Unchanged, true, &host), (vec![], None, 0));
        assert_eq!(
            plan(DnsMode::Host, false, &host),
            (host.servers.clone(), None, 2)
        );
        assert_eq!(
            plan(DnsMode::Host, false, &local),
            (vec![], Some(ip("127.0.0.1")), 1)
        );
        assert_eq!(plan(DnsMode::Fixed, false, &host), (fixed.clone(), None, 2));
        let both = vec![fixed[0], fixed[1], host.servers[0]];
        assert_eq!(plan(DnsMode::Fixed, true, &host), (both, None, 3));
        assert_eq!(plan(DnsMode::Fixed, true, &local), (fixed.clone(), None, 2));
        for (append_host, wanted) in [(false, vec!["a.b"]), (true, vec!["a.b", "host.example"])] {
            let policy = NetworkPolicy {
                search: SearchPolicy {
                    domains: vec!["A.b".into()],
                    append_host,
                },
                ..NetworkPolicy::default()
            };
            assert_eq!(GuestDns::plan(&policy, &host).search, wanted);
        }
    }

    #[test]
    fn nobody_reaches_the_hosts_loopback_by_another_spelling() {
        for bad in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
        ] {
            assert!(is_martian(ip(bad)), "{bad}");
        }
        assert!(!is_martian(ip("192.0.2.1")) && !is_martian(ip("2001:db8::1")));
    }

    proptest! {
        #[test]
        fn any_file_is_read(text in "(nameserver|search|domain|#|[a-z0-9.: \n]){0,60}") {
            let host = HostDns::parse(&text);
            let dns = GuestDns::plan(&NetworkPolicy::default(), &host);
            prop_assert!(dns.servers.len() <= 3 && dns.search.len() <= 16);
            prop_assert!(dns.servers.iter().all(|server| !server.is_loopback()));
        }
    }
}
