//! passt and the filter before it, for real: in a network namespace of the test's own, with a
//! guest that consists of a few frames.
#![allow(clippy::unwrap_used)]

use medley_network::{Change, Changes, GuestDns, Nat, NatOptions, Rule, WayOut};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(20);
const INSIDE: &str = "MEDLEY_TEST_IN_NAMESPACE";

/// Runs this test again in a network namespace with a world of two addresses, 192.0.2.1 and
/// 192.0.2.2, and says whether we are there.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        world();
        return true;
    }
    let own = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(own)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("these tests need unshare, from the package util-linux");
    assert!(status.success(), "{test}, in its namespace");
    false
}

fn world() {
    let world = "ip link add w0 type veth peer name w1 && \
        ip addr add 192.0.2.1/24 dev w0 && ip addr add 192.0.2.2/24 dev w0 && \
        ip link set w0 up && ip link set w1 up && ip route add default via 192.0.2.254";
    run("sh", &["-ec", world]);
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o700))
        .tempdir()
        .unwrap()
}

fn start(folder: &tempfile::TempDir, allow: Option<&[&str]>, dns: GuestDns) -> Nat {
    let rule = |text: &&str| text.parse::<Rule>().unwrap();
    let options = NatOptions {
        dns,
        allow: allow.map(|rules| rules.iter().map(rule).collect()),
        passt: None,
    };
    Nat::start(&options, folder.path()).unwrap()
}

/// What the world says to a call.
#[derive(Debug, PartialEq)]
enum Heard {
    Accepted,
    Refused,
    Nothing,
}

/// A guest that holds its card's end of the wire.
struct Guest {
    wire: UnixStream,
    port: u16,
}

impl Guest {
    fn new(nat: &Nat) -> Guest {
        let wire = UnixStream::connect(nat.socket()).unwrap();
        Guest { wire, port: 40000 }
    }

    fn send(&mut self, to: Ipv4Addr, protocol: u8, body: &[u8]) {
        let mut ip = vec![0x45, 0];
        ip.extend(u16::try_from(20 + body.len()).unwrap().to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 2, 15]);
        ip.extend(to.octets());
        let sum = checksum(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        let mut frame = vec![0xff; 6];
        frame.extend([0x52, 0x54, 0, 1, 2, 3, 8, 0]);
        frame.extend(ip);
        frame.extend(body);
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        self.wire
            .write_all(&[&length[..], &frame].concat())
            .unwrap();
    }

    /// The next frame of IPv4: its protocol and body.
    fn receive(&mut self, until: Instant) -> Option<(u8, Vec<u8>)> {
        loop {
            let left = until.checked_duration_since(Instant::now())?;
            self.wire
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .unwrap();
            let mut length = [0; 4];
            self.wire.read_exact(&mut length).ok()?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            self.wire.read_exact(&mut frame).ok()?;
            if frame[12..15] == [8, 0, 0x45] {
                return Some((frame[23], frame[34..].to_vec()));
            }
        }
    }

    fn call(&mut self, to: Ipv4Addr, port: u16, patience: Duration) -> Heard {
        self.port += 1;
        let mut segment = [self.port.to_be_bytes(), port.to_be_bytes()].concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x40, 0, 0, 0, 0, 0]);
        let mut pseudo = [[10, 0, 2, 15], to.octets()].concat();
        pseudo.extend([0, 6, 0, 20]);
        let sum = checksum(&[&pseudo[..], &segment].concat()).to_be_bytes();
        segment[16..18].copy_from_slice(&sum);
        self.send(to, 6, &segment);
        let until = Instant::now() + patience;
        while let Some((protocol, body)) = self.receive(until) {
            if protocol == 6 && body[2..4] == self.port.to_be_bytes() {
                return if body[13] & 4 == 0 {
                    Heard::Accepted
                } else {
                    Heard::Refused
                };
            }
        }
        Heard::Nothing
    }

    fn datagram(&mut self, to: Ipv4Addr, port: u16, data: &[u8]) {
        let mut body = [4000u16.to_be_bytes(), port.to_be_bytes()].concat();
        body.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
        body.extend([0, 0]);
        body.extend(data);
        self.send(to, 17, &body);
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// Sockets of IP that listen in this namespace, as the kernel lists them.
fn listening() -> Vec<String> {
    let mut found = Vec::new();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap();
        let lines = text
            .lines()
            .skip(1)
            .filter(|line| line.split_ascii_whitespace().nth(3) == Some(state));
        found.extend(lines.map(|line| format!("{table} {line}")));
    }
    found
}

#[test]
fn a_list_lets_pass_what_it_names_and_nothing_else() {
    if !inside("a_list_lets_pass_what_it_names_and_nothing_else") {
        return;
    }
    let folder = folder();
    let nat = start(
        &folder,
        Some(&["192.0.2.1:80/tcp", "named.example:80/tcp"]),
        GuestDns {
            servers: vec![ip("192.0.2.1").into()],
            ..GuestDns::default()
        },
    );
    assert_eq!(listening(), Vec::<String>::new());
    let _servers = [("192.0.2.1", 80), ("192.0.2.1", 81), ("192.0.2.2", 80)]
        .map(|address| TcpListener::bind(address).unwrap());
    let resolver = UdpSocket::bind("192.0.2.1:53").unwrap();
    resolver.set_read_timeout(Some(LONG)).unwrap();
    let mut guest = Guest::new(&nat);
    assert_eq!(guest.call(ip("192.0.2.1"), 80, LONG), Heard::Accepted);
    assert_eq!(guest.call(ip("192.0.2.1"), 81, LONG), Heard::Refused);
    assert_eq!(guest.call(ip("192.0.2.2"), 80, LONG), Heard::Refused);

    let question = |name: &[u8]| {
        [
            &[0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
            name,
            &[7],
            b"example",
            &[0, 0, 1, 0, 1],
        ]
        .concat()
    };
    guest.datagram(ip("192.0.2.1"), 53, &question(b"\x05other"));
    let (_, refused) = guest.receive(Instant::now() + LONG).unwrap();
    assert_eq!(refused[8 + 3] & 0xf, 5);
    guest.datagram(ip("192.0.2.1"), 53, &question(b"\x05named"));
    let mut asked = [0; 512];
    let (count, from) = resolver.recv_from(&mut asked).unwrap();
    assert!(
        asked[..count].windows(5).any(|w| w == b"named"),
        "the refused question came through"
    );
    let mut answer = asked[..count].to_vec();
    answer[2] = 0x81;
    answer[7] = 1;
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 2]);
    resolver.send_to(&answer, from).unwrap();
    let until = Instant::now() + LONG;
    while guest.receive(until).expect("the answer comes").0 != 17 {}
    assert_eq!(guest.call(ip("192.0.2.2"), 80, LONG), Heard::Accepted);
    assert!(
        nat.refusals()
            .iter()
            .any(|refusal| refusal.port == Some(81) && refusal.count == 1)
    );
}

#[test]
fn without_a_list_all_but_the_hosts_loopback() {
    if !inside("without_a_list_all_but_the_hosts_loopback") {
        return;
    }
    let folder = folder();
    let nat = start(&folder, None, GuestDns::default());
    let _servers =
        [("192.0.2.2", 80), ("127.0.0.1", 80)].map(|address| TcpListener::bind(address).unwrap());
    let mut guest = Guest::new(&nat);
    assert_eq!(guest.call(ip("192.0.2.2"), 80, LONG), Heard::Accepted);
    assert_eq!(guest.call(ip("127.0.0.1"), 80, LONG), Heard::Refused);
    // The router's address is not a way to the host's loopback either.
    assert_ne!(
        guest.call(ip("10.0.2.2"), 80, Duration::from_secs(1)),
        Heard::Accepted
    );
}

#[test]
fn a_name_server_on_loopback_is_reached_and_nothing_beside_it() {
    if !inside("a_name_server_on_loopback_is_reached_and_nothing_beside_it") {
        return;
    }
    let folder = folder();
    let nat = start(
        &folder,
        None,
        GuestDns {
            forward: Some(ip("127.0.0.1").into()),
            ..GuestDns::default()
        },
    );
    let resolver = UdpSocket::bind("127.0.0.1:53").unwrap();
    resolver.set_read_timeout(Some(LONG)).unwrap();
    let _beside = TcpListener::bind("127.0.0.1:80").unwrap();
    let mut guest = Guest::new(&nat);
    guest.datagram(medley_network::FORWARDER, 53, b"a question");
    let mut asked = [0; 64];
    assert_eq!(resolver.recv_from(&mut asked).unwrap().0, 10);
    assert_ne!(
        guest.call(medley_network::FORWARDER, 80, Duration::from_secs(1)),
        Heard::Accepted
    );
}

#[test]
fn passt_may_die_and_the_machine_keeps_its_connection() {
    if !inside("passt_may_die_and_the_machine_keeps_its_connection") {
        return;
    }
    let folder = folder();
    let nat = start(&folder, None, GuestDns::default());
    let _server = TcpListener::bind("192.0.2.2:80").unwrap();
    let mut guest = Guest::new(&nat);
    assert_eq!(guest.call(ip("192.0.2.2"), 80, LONG), Heard::Accepted);
    let first = nat.pid().unwrap();
    run("kill", &["-KILL", &first.to_string()]);
    let deadline = Instant::now() + LONG;
    while guest.call(ip("192.0.2.2"), 80, Duration::from_millis(200)) != Heard::Accepted {
        assert!(Instant::now() < deadline);
    }
    let second = nat.pid().unwrap();
    assert_ne!(first, second);
    drop(nat);
    assert!(!std::path::Path::new(&format!("/proc/{second}")).exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_host_that_is_in_no_network_yet_comes_into_one_later() {
    if !inside("a_host_that_is_in_no_network_yet_comes_into_one_later") {
        return;
    }
    run("ip", &["link", "del", "w0"]);
    let before = WayOut::now().unwrap();
    assert!(!before.is_there());
    let folder = folder();
    let nat = start(&folder, None, GuestDns::default());
    let mut guest = Guest::new(&nat);
    assert_ne!(
        guest.call(ip("192.0.2.2"), 80, Duration::from_millis(300)),
        Heard::Accepted
    );
    world();
    let after = WayOut::now().unwrap();
    assert!(after.is_there() && after != before);
    let _server = TcpListener::bind("192.0.2.2:80").unwrap();
    let first = nat.pid().unwrap();
    nat.renew(GuestDns::default());
    let deadline = Instant::now() + LONG;
    while guest.call(ip("192.0.2.2"), 80, Duration::from_millis(200)) != Heard::Accepted {
        assert!(Instant::now() < deadline);
    }
    assert_ne!(nat.pid().unwrap(), first);
}

#[test]
fn the_way_out_is_another_when_the_router_or_the_address_is() {
    if !inside("the_way_out_is_another_when_the_router_or_the_address_is") {
        return;
    }
    let first = WayOut::now().unwrap();
    run("ip", &["link", "add", "guests", "type", "veth"]);
    run("ip", &["addr", "add", "198.51.100.1/24", "dev", "guests"]);
    run("ip", &["link", "set", "guests", "up"]);
    assert_eq!(WayOut::now().unwrap(), first, "others' interfaces count");
    let via = |router| {
        run("ip", &["route", "replace", "default", "via", router]);
        WayOut::now().unwrap()
    };
    assert_ne!(via("192.0.2.253"), first);
    assert_eq!(via("192.0.2.254"), first);
    let route = [
        "route",
        "replace",
        "default",
        "via",
        "192.0.2.254",
        "src",
        "192.0.2.2",
    ];
    run("ip", &route);
    assert_ne!(WayOut::now().unwrap(), first);
}

#[test]
fn changes_of_the_hosts_network_are_told() {
    if !inside("changes_of_the_hosts_network_are_told") {
        return;
    }
    let mut changes = Changes::watch().unwrap();
    let mut heard = |command: &[&str], wanted: fn(&Change) -> bool| {
        run("ip", command);
        let deadline = Instant::now() + LONG;
        while !changes
            .next(Duration::from_secs(1))
            .unwrap()
            .iter()
            .any(wanted)
        {
            assert!(Instant::now() < deadline, "{command:?}");
        }
    };
    heard(&["addr", "add", "192.0.2.3/24", "dev", "w0"], |c| {
        *c == Change::Addresses
    });
    heard(&["route", "del", "default"], |c| *c == Change::DefaultRoute);
    heard(&["link", "set", "w1", "down"], |c| {
        matches!(c, Change::LinkDown(_))
    });
    heard(&["link", "set", "w1", "up"], |c| {
        matches!(c, Change::LinkUp(_))
    });
}

#[test]
fn a_folder_that_others_may_enter_is_refused() {
    let folder = tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let options = NatOptions {
        passt: Some("/bin/true".into()),
        ..NatOptions::default()
    };
    let error = Nat::start(&options, folder.path()).unwrap_err().to_string();
    assert!(error.contains("only this user"), "{error}");
}

#[test]
fn a_passt_that_ends_is_an_error_that_says_so() {
    let folder = folder();
    let options = NatOptions {
        passt: Some("/bin/false".into()),
        ..NatOptions::default()
    };
    let error = Nat::start(&options, folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("/bin/false") && error.contains("exit status: 1"),
        "{error}"
    );
}
