//! Ethernet frames of a guest: read strictly, and answered in the world's place.
//!
//! What passt would read in another way than we do must never be understood here: so a packet is
//! either of the plainest form, or it is [`Frame::Other`].

use std::net::IpAddr;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const SYN: u8 = 0x02;
const RST_ACK: u8 = 0x14;

/// A frame, as far as it matters who may send it.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    /// A question about a neighbour, which passt answers by itself.
    Arp,
    /// An IP packet without options and whole.
    Packet(Packet<'a>),
    /// Anything else of IP: options, fragments, extension headers.
    Unusual {
        /// To whom.
        to: IpAddr,
    },
    /// Not IP, or damaged.
    Other,
}

/// An IP packet without options and whole.
#[derive(Debug)]
pub(crate) struct Packet<'a> {
    frame: &'a [u8],
    pub from: IpAddr,
    pub to: IpAddr,
    /// The protocol's number.
    pub protocol: u8,
    /// What IP carries.
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads any bytes.
    pub fn read(frame: &'a [u8]) -> Frame<'a> {
        let Some((ethernet, ip)) = frame.split_at_checked(ETHERNET) else {
            return Frame::Other;
        };
        match ethernet[12..] {
            [0x08, 0x06] => Frame::Arp,
            [0x08, 0x00] => v4(frame, ip).unwrap_or(Frame::Other),
            [0x86, 0xdd] => v6(frame, ip).unwrap_or(Frame::Other),
            _ => Frame::Other,
        }
    }
}

fn v4<'a>(frame: &'a [u8], ip: &'a [u8]) -> Option<Frame<'a>> {
    let header: &[u8; 20] = ip.first_chunk()?;
    let address = |at: usize| IpAddr::from([0, 1, 2, 3].map(|i| header[at + i]));
    let to = address(16);
    let length = usize::from(u16_at(header, 2));
    let fragment = u16_at(header, 6) & 0x3fff != 0;
    match header[0] {
        0x45 if !fragment => {}
        first if first >> 4 == 4 => return Some(Frame::Unusual { to }),
        _ => return None,
    }
    Some(Frame::Packet(Packet {
        frame,
        from: address(12),
        to,
        protocol: header[9],
        body: ip.get(20..length)?,
    }))
}

fn v6<'a>(frame: &'a [u8], ip: &'a [u8]) -> Option<Frame<'a>> {
    /// Hop-by-hop, routing, fragment, encapsulation, authentication, none, destination, mobility,
    /// host identity, shim and the two for experiments.
    const EXTENSIONS: [u8; 12] = [0, 43, 44, 50, 51, 59, 60, 135, 139, 140, 253, 254];
    let header: &[u8; 40] = ip.first_chunk()?;
    let address = |at: usize| {
        header[at..]
            .first_chunk::<16>()
            .map(|bytes| IpAddr::from(*bytes))
    };
    let to = address(24)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    if EXTENSIONS.contains(&header[6]) {
        return Some(Frame::Unusual { to });
    }
    Some(Frame::Packet(Packet {
        frame,
        from: address(8)?,
        to,
        protocol: header[6],
        body: ip.get(40..40 + usize::from(u16_at(header, 4)))?,
    }))
}

impl<'a> Packet<'a> {
    /// The ports, of TCP and UDP.
    pub fn ports(&self) -> Option<(u16, u16)> {
        (matches!(self.protocol, TCP | UDP) && self.body.len() >= 4)
            .then(|| (u16_at(self.body, 0), u16_at(self.body, 2)))
    }

    /// TCP's flags.
    pub fn tcp_flags(&self) -> Option<u8> {
        (self.protocol == TCP && self.body.len() >= 20).then(|| self.body[13])
    }

    /// What UDP carries, if all lengths agree.
    pub fn datagram(&self) -> Option<&'a [u8]> {
        let body = self.body;
        (self.protocol == UDP && body.len() >= 8 && usize::from(u16_at(body, 4)) == body.len())
            .then(|| &body[8..])
    }

    /// The frame by which the world would refuse this first segment of a connection.
    pub fn reset(&self) -> Option<Vec<u8>> {
        self.tcp_flags()?;
        let body = self.body;
        let header = usize::from(body[12] >> 4) * 4;
        let data = u32::try_from(body.len().checked_sub(header)?).ok()?;
        let sequence = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
        let mut answer = Vec::with_capacity(20);
        answer.extend([body[2], body[3], body[0], body[1]]);
        answer.extend([0; 4]);
        answer.extend(sequence.wrapping_add(1).wrapping_add(data).to_be_bytes());
        answer.extend([0x50, RST_ACK, 0, 0, 0, 0, 0, 0]);
        self.answer(answer, 16)
    }

    /// The frame that answers this datagram with `data`.
    pub fn reply(&self, data: &[u8]) -> Option<Vec<u8>> {
        let (from, to) = self.ports()?;
        let mut answer = Vec::with_capacity(8 + data.len());
        answer.extend(to.to_be_bytes());
        answer.extend(from.to_be_bytes());
        answer.extend(u16::try_from(8 + data.len()).ok()?.to_be_bytes());
        answer.extend([0, 0]);
        answer.extend(data);
        self.answer(answer, 6)
    }

    /// From whom this came, to whom it went: `body` in IP, with its checksum put at `checksum_at`.
    fn answer(&self, mut body: Vec<u8>, checksum_at: usize) -> Option<Vec<u8>> {
        let length = u16::try_from(body.len()).ok()?;
        let addresses = [octets(self.to), octets(self.from)].concat();
        let mut pseudo = addresses.clone();
        pseudo.extend([0, self.protocol]);
        pseudo.extend(length.to_be_bytes());
        // Zero would say that there is none.
        let sum = match checksum(&[&pseudo, &body]) {
            0 => 0xffff,
            sum => sum,
        };
        body[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());

        let mut frame = Vec::with_capacity(ETHERNET + 40 + body.len());
        frame.extend(&self.frame[6..12]);
        frame.extend(&self.frame[..6]);
        frame.extend(&self.frame[12..14]);
        if self.to.is_ipv4() {
            let total = length.checked_add(20)?.to_be_bytes();
            let mut header = vec![
                0x45,
                0,
                total[0],
                total[1],
                0,
                0,
                0x40,
                0,
                64,
                self.protocol,
                0,
                0,
            ];
            header.extend(&addresses);
            let sum = checksum(&[&header]).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            frame.extend(header);
        } else {
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([self.protocol, 64]);
            frame.extend(&addresses);
        }
        frame.extend(body);
        Some(frame)
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The Internet checksum over the parts, all but the last of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words
        .map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |low| u64::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Two bytes that the caller knows to be there.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet of the plainest form.
    pub(crate) fn packet(from: &str, to: &str, protocol: u8, body: &[u8]) -> Vec<u8> {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let length = u16::try_from(body.len()).unwrap();
        if to.is_ipv4() {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((length + 20).to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
        }
        frame.extend(octets(from));
        frame.extend(octets(to));
        frame.extend(body);
        frame
    }

    pub(crate) fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
        let mut body = [from.to_be_bytes(), to.to_be_bytes()].concat();
        body.extend([0, 0, 0, 9, 0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0]);
        body
    }

    pub(crate) fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
        let mut body = [from.to_be_bytes(), to.to_be_bytes()].concat();
        body.extend(u16::try_from(data.len() + 8).unwrap().to_be_bytes());
        body.extend([0, 0]);
        body.extend(data);
        body
    }

    /// That every checksum is right, and what the frame is.
    fn sound(frame: &[u8]) -> Packet<'_> {
        let Frame::Packet(packet) = Frame::read(frame) else {
            panic!("{frame:02x?}")
        };
        if packet.to.is_ipv4() {
            assert_eq!(checksum(&[&frame[14..34]]), 0);
        }
        let mut pseudo = [octets(packet.from), octets(packet.to)].concat();
        pseudo.extend([0, packet.protocol]);
        pseudo.extend(u16::try_from(packet.body.len()).unwrap().to_be_bytes());
        assert_eq!(checksum(&[&pseudo, packet.body]), 0);
        packet
    }

    #[test]
    fn answers_are_sound_packets() {
        for (from, to) in [("10.0.2.15", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
            let frame = packet(from, to, TCP, &tcp(5000, 80, SYN));
            let Frame::Packet(syn) = Frame::read(&frame) else {
                panic!()
            };
            let reset = syn.reset().unwrap();
            let reset = sound(&reset);
            assert_eq!((reset.from, reset.to), (syn.to, syn.from));
            assert_eq!(
                (reset.ports(), reset.tcp_flags()),
                (Some((80, 5000)), Some(RST_ACK))
            );
            assert_eq!(reset.body[8..12], [0, 0, 0, 10]);
            let frame = packet(from, to, UDP, &udp(5000, 53, b"ask"));
            let Frame::Packet(asked) = Frame::read(&frame) else {
                panic!()
            };
            let reply = asked.reply(b"odd").unwrap();
            let reply = sound(&reply);
            assert_eq!(
                (reply.ports(), reply.datagram()),
                (Some((53, 5000)), Some(&b"odd"[..]))
            );
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_a_packet() {
        let plain = packet("10.0.2.15", "192.0.2.1", TCP, &tcp(1, 80, SYN));
        let with = |at: usize, byte: u8| {
            let mut frame = plain.clone();
            frame[at] = byte;
            matches!(Frame::read(&frame), Frame::Packet(_))
        };
        assert!(with(14, 0x45));
        assert!(!with(14, 0x46) && !with(14, 0x65)); // options; another version
        assert!(!with(20, 0x20) && !with(21, 1)); // fragments
        assert!(!with(16, 9) && !with(17, 10)); // longer than the frame; shorter than its header
        assert!(!with(12, 0x81)); // VLAN
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(kind in 0u8..3, bytes: Vec<u8>) {
            let mut frame = vec![0; 12];
            frame.extend([[8, 0, 0x45], [0x86, 0xdd, 0x60], [8, 6, 0]][usize::from(kind)]);
            frame.extend(bytes);
            if let Frame::Packet(packet) = Frame::read(&frame) {
                let _ = (packet.ports(), packet.datagram(), packet.reset(), packet.reply(b"x"));
            }
        }
    }
}
