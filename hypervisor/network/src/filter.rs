//! What may leave a guest: a judgement on each frame, without I/O.
//!
//! Names are allowed by listening: the filter sees the guest's questions, refuses those for names
//! that are not on the list (a question is a message to the world, too), and lets the addresses
//! of the answers pass for as long as the name server says that they are good.

use crate::dns::is_martian;
use crate::frame::{Frame, Packet, SYN, TCP, UDP};
use crate::question::{Answer, Question};
use crate::rule::{Protocol, Rule};
use serde::Serialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// An address is good for so long at least: programs keep answers a little longer than they may.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// As many addresses, open questions and refusals are kept.
const MOST: usize = 4096;
/// A question that is older has no answer any more.
const PATIENCE: Duration = Duration::from_secs(15);
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What becomes of a frame from the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is forgotten.
    Drop,
    /// It is forgotten, and the guest gets this frame, so that it need not wait.
    Answer(Vec<u8>),
}

/// What was refused, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// To whom; for a question the name server.
    pub to: IpAddr,
    /// The number of the protocol over IP.
    pub protocol: u8,
    /// The port, of TCP and UDP.
    pub port: Option<u16>,
    /// The name that was asked for.
    pub name: Option<String>,
    /// How often.
    pub count: u64,
}

/// Who asked what, until it is answered: the guest's port, the question's number, its name.
type Open = (u16, u16, String);

/// Judges frames of one guest.
#[derive(Debug)]
pub struct Filter {
    /// `None` lets everything pass but what nobody may.
    rules: Option<Vec<Rule>>,
    resolvers: Vec<IpAddr>,
    /// Until when an address may be called by which rule.
    learnt: HashMap<(IpAddr, usize), Instant>,
    open: HashMap<Open, Instant>,
    refused: HashMap<(IpAddr, u8, Option<u16>, Option<String>), u64>,
}

impl Filter {
    /// Lets pass what `rules` allow (without rules, everything but the host's loopback) and
    /// questions to `resolvers` for the names among them.
    pub fn new(rules: Option<Vec<Rule>>, resolvers: Vec<IpAddr>) -> Filter {
        Filter {
            rules,
            resolvers,
            learnt: HashMap::new(),
            open: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    /// The name servers from now on.
    pub fn set_resolvers(&mut self, resolvers: Vec<IpAddr>) {
        self.resolvers = resolvers;
        self.open.clear();
    }

    /// What was refused so far. The first 4096 different things are counted.
    pub fn refusals(&self) -> Vec<Refusal> {
        let each = self
            .refused
            .iter()
            .map(|((to, protocol, port, name), count)| Refusal {
                to: *to,
                protocol: *protocol,
                port: *port,
                name: name.clone(),
                count: *count,
            });
        each.collect()
    }

    /// Judges a frame from the guest.
    pub fn outgoing(&mut self, frame: &[u8], now: Instant) -> Verdict {
        match Frame::read(frame) {
            Frame::Arp => Verdict::Pass,
            Frame::Other => Verdict::Drop,
            Frame::Unusual { to } if self.rules.is_none() && !is_martian(to) => Verdict::Pass,
            Frame::Unusual { .. } => Verdict::Drop,
            Frame::Packet(packet) if is_configuration(&packet) => Verdict::Pass,
            Frame::Packet(packet) if is_martian(packet.to) => self.refuse(&packet, None),
            Frame::Packet(_) if self.rules.is_none() => Verdict::Pass,
            Frame::Packet(packet) if self.is_allowed(&packet, now) => Verdict::Pass,
            Frame::Packet(packet) => self.question(&packet, now),
        }
    }

    /// Learns from a frame on its way to the guest.
    pub fn incoming(&mut self, frame: &[u8], now: Instant) {
        if self.open.is_empty() {
            return;
        }
        let Frame::Packet(packet) = Frame::read(frame) else {
            return;
        };
        let (Some((53, port)), Some(data)) = (packet.ports(), packet.datagram()) else {
            return;
        };
        if !self.resolvers.contains(&packet.from) {
            return;
        }
        let Some(answer) = Answer::read(data) else {
            return;
        };
        let name = answer.question.name;
        let asked = self.open.remove(&(port, answer.question.id, name.clone()));
        if asked.is_none_or(|asked| now.duration_since(asked) > PATIENCE) {
            return;
        }
        let rules = self.rules.iter().flatten().enumerate();
        for (index, _) in rules.filter(|(_, rule)| rule.target.has_name(&name)) {
            for (address, ttl) in &answer.addresses {
                if self.learnt.len() >= MOST {
                    self.learnt.retain(|_, until| *until > now);
                }
                if self.learnt.len() < MOST {
                    let life = Duration::from_secs(u64::from(*ttl)).clamp(SHORTEST, LONGEST);
                    let until = self.learnt.entry((*address, index)).or_insert(now);
                    *until = (*until).max(now + life);
                }
            }
        }
    }

    fn is_allowed(&self, packet: &Packet<'_>, now: Instant) -> bool {
        let protocol = match (packet.protocol, packet.to) {
            (TCP, _) => Some(Protocol::Tcp),
            (UDP, _) => Some(Protocol::Udp),
            (ICMP, IpAddr::V4(_)) | (ICMPV6, IpAddr::V6(_)) => Some(Protocol::Icmp),
            _ => None,
        };
        let port = packet.ports().map(|(_, to)| to);
        // A connection lives on when the name it was made by is no longer good: without its first
        // segment passt opens nothing.
        let goes_on = packet.tcp_flags().is_some_and(|flags| flags & SYN == 0);
        let mut rules = self.rules.iter().flatten().enumerate();
        rules.any(|(index, rule)| {
            let learnt = || self.learnt.get(&(packet.to, index));
            rule.has_service(protocol, port)
                && (rule.target.has_address(packet.to)
                    || learnt().is_some_and(|until| goes_on || *until > now))
        })
    }

    /// Lets a question for an allowed name pass, and refuses everything else.
    fn question(&mut self, packet: &Packet<'_>, now: Instant) -> Verdict {
        let question = match (packet.ports(), packet.datagram()) {
            (Some((_, 53)), Some(data)) if self.resolvers.contains(&packet.to) => {
                Question::read(data)
            }
            _ => None,
        };
        let (Some(question), Some((port, _))) = (question, packet.ports()) else {
            return self.refuse(packet, None);
        };
        let mut rules = self.rules.iter().flatten();
        if !rules.any(|rule| rule.target.has_name(&question.name)) {
            return self.refuse(packet, Some(&question));
        }
        if self.open.len() >= MOST {
            self.open
                .retain(|_, asked| now.duration_since(*asked) <= PATIENCE);
        }
        if self.open.len() >= MOST {
            return Verdict::Drop;
        }
        self.open.insert((port, question.id, question.name), now);
        Verdict::Pass
    }

    fn refuse(&mut self, packet: &Packet<'_>, question: Option<&Question<'_>>) -> Verdict {
        let port = packet.ports().map(|(_, to)| to);
        let name = question.map(|question| question.name.clone());
        let key = (packet.to, packet.protocol, port, name);
        let room = self.refused.len() < MOST;
        match self.refused.get_mut(&key) {
            Some(count) => *count += 1,
            None if room => {
                tracing::info!(to = %key.0, protocol = key.1, port, name = key.3, "refused to a guest");
                self.refused.insert(key, 1);
            }
            None => {}
        }
        let answer = match question {
            Some(question) => packet.reply(&question.refusal()),
            None if packet.tcp_flags().is_some_and(|flags| flags & SYN != 0) => packet.reset(),
            None => None,
        };
        answer.map_or(Verdict::Drop, Verdict::Answer)
    }
}

/// How a guest learns its address and neighbours: passt answers these by itself.
fn is_configuration(packet: &Packet<'_>) -> bool {
    match (packet.to, packet.ports()) {
        (IpAddr::V4(to), Some(ports)) => {
            packet.protocol == UDP && to.is_broadcast() && ports == (68, 67)
        }
        (IpAddr::V6(to), Some(ports)) => {
            packet.protocol == UDP
                && to.segments() == [0xff02, 0, 0, 0, 0, 0, 1, 2]
                && ports == (546, 547)
        }
        // Neighbours and routers.
        (IpAddr::V6(to), None) => {
            packet.protocol == ICMPV6
                && matches!(packet.body.first(), Some(133 | 135 | 136))
                && (to.is_unicast_link_local() || to.segments()[0] == 0xff02)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::tests::{packet, tcp, udp};
    use crate::question::tests::{ask, tell};
    use proptest::prelude::*;

    const GUEST: &str = "10.0.2.15";

    fn filter(rules: &[&str]) -> Filter {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Filter::new(Some(rules), vec!["10.0.2.3".parse().unwrap()])
    }

    fn call(filter: &mut Filter, to: &str, port: u16, now: Instant) -> bool {
        filter.outgoing(&packet(GUEST, to, TCP, &tcp(5000, port, SYN)), now) == Verdict::Pass
    }

    #[test]
    fn only_what_is_allowed_passes_and_calls_are_refused_at_once() {
        let mut filter = filter(&["192.0.2.0/24:443/tcp", "198.51.100.7/icmp"]);
        let now = Instant::now();
        assert!(call(&mut filter, "192.0.2.9", 443, now));
        assert!(!call(&mut filter, "192.0.2.9", 80, now));
        let verdict = filter.outgoing(
            &packet(GUEST, "203.0.113.1", TCP, &tcp(5000, 443, SYN)),
            now,
        );
        let Verdict::Answer(reset) = verdict else {
            panic!("{verdict:?}")
        };
        assert!(matches!(Frame::read(&reset), Frame::Packet(p) if p.to.to_string() == GUEST));
        let dropped =
            |filter: &mut Filter, frame: &[u8]| filter.outgoing(frame, now) == Verdict::Drop;
        assert!(dropped(
            &mut filter,
            &packet(GUEST, "192.0.2.9", UDP, &udp(1, 443, b""))
        ));
        assert!(dropped(
            &mut filter,
            &packet(GUEST, "203.0.113.1", TCP, &tcp(5000, 443, 0x10))
        ));
        assert!(!dropped(
            &mut filter,
            &packet(GUEST, "198.51.100.7", ICMP, &[8, 0])
        ));
        assert!(dropped(
            &mut filter,
            &packet(GUEST, "192.0.2.9", ICMP, &[8, 0])
        ));
        let refused = filter.refusals();
        assert!(
            refused
                .iter()
                .any(|r| r.to.to_string() == "203.0.113.1" && r.count == 2)
        );
    }

    #[test]
    fn nobody_reaches_loopback_whatever_the_rules_say() {
        let now = Instant::now();
        for mut filter in [Filter::new(None, vec![]), filter(&["0.0.0.0/0", "[::]/0"])] {
            assert!(call(&mut filter, "192.0.2.9", 22, now));
            for to in ["127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1"] {
                assert!(!call(&mut filter, to, 22, now), "{to}");
            }
        }
    }

    #[test]
    fn a_guest_may_ask_for_its_address_with_an_empty_list() {
        let mut filter = filter(&[]);
        let now = Instant::now();
        let dhcp = packet("0.0.0.0", "255.255.255.255", UDP, &udp(68, 67, b"discover"));
        assert_eq!(filter.outgoing(&dhcp, now), Verdict::Pass);
        let router = packet("fe80::1", "ff02::2", ICMPV6, &[133, 0, 0, 0]);
        assert_eq!(filter.outgoing(&router, now), Verdict::Pass);
        let dhcp = packet("0.0.0.0", "203.0.113.1", UDP, &udp(68, 67, b"discover"));
        assert_eq!(filter.outgoing(&dhcp, now), Verdict::Drop);
    }

    #[test]
    fn a_name_opens_its_addresses_for_as_long_as_they_are_good() {
        let mut filter = filter(&["*.example.org:443/tcp"]);
        let now = Instant::now();
        let later = now + Duration::from_secs(301);
        let question = packet(
            GUEST,
            "10.0.2.3",
            UDP,
            &udp(4000, 53, &ask(9, "www.example.org")),
        );
        let answer = |id, from| {
            let data = tell(id, "www.example.org", [192, 0, 2, 1], 300);
            packet(from, GUEST, UDP, &udp(53, 4000, &data))
        };
        filter.incoming(&answer(9, "10.0.2.3"), now);
        assert!(
            !call(&mut filter, "192.0.2.1", 443, now),
            "nobody had asked"
        );
        assert_eq!(filter.outgoing(&question, now), Verdict::Pass);
        filter.incoming(&answer(8, "10.0.2.3"), now);
        filter.incoming(&answer(9, "192.0.2.66"), now);
        assert!(!call(&mut filter, "192.0.2.1", 443, now), "a forged answer");
        filter.incoming(&answer(9, "10.0.2.3"), now);
        assert!(call(&mut filter, "192.0.2.1", 443, now));
        assert!(!call(&mut filter, "192.0.2.1", 80, now));
        assert!(
            !call(&mut filter, "192.0.2.1", 443, later),
            "no longer good"
        );
        let segment = packet(GUEST, "192.0.2.1", TCP, &tcp(5000, 443, 0x10));
        assert_eq!(
            filter.outgoing(&segment, later),
            Verdict::Pass,
            "but the connection lives on"
        );
    }

    #[test]
    fn a_question_is_a_message_too() {
        let mut filter = filter(&["a.example"]);
        let now = Instant::now();
        let mut asked = |server, name: &str, port| {
            let frame = packet(GUEST, server, UDP, &udp(4000, port, &ask(1, name)));
            filter.outgoing(&frame, now)
        };
        assert_eq!(asked("10.0.2.3", "a.example", 53), Verdict::Pass);
        assert_eq!(asked("192.0.2.53", "a.example", 53), Verdict::Drop);
        assert_eq!(asked("10.0.2.3", "a.example", 54), Verdict::Drop);
        let Verdict::Answer(refusal) = asked("10.0.2.3", "secret.evil.example", 53) else {
            panic!()
        };
        let Frame::Packet(refusal) = Frame::read(&refusal) else {
            panic!()
        };
        assert_eq!(refusal.datagram().unwrap()[3], 5);
    }

    proptest! {
        #[test]
        fn with_an_empty_list_no_packet_passes(a: u32, ports: (u16, u16), flags: u8, protocol: u8, data: Vec<u8>) {
            let to = std::net::Ipv4Addr::from(a).to_string();
            let body = match protocol % 3 {
                0 => tcp(ports.0, ports.1, flags),
                1 => udp(ports.0, ports.1, &data),
                _ => data,
            };
            let protocol = [TCP, UDP, protocol][usize::from(protocol % 3)];
            let verdict = filter(&[]).outgoing(&packet(GUEST, &to, protocol, &body), Instant::now());
            prop_assert_ne!(verdict, Verdict::Pass);
        }
    }
}
