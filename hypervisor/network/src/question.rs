//! Questions about names, and the addresses in their answers: as much of DNS as an allow-list
//! needs. Bytes in, values out.

use std::net::IpAddr;

const HEADER: usize = 12;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const RECURSION_DESIRED: u16 = 0x0100;
const REFUSED: u16 = 5;
/// As many records as are looked at.
const MOST_RECORDS: u16 = 64;

/// A message with one question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question<'a> {
    message: &'a [u8],
    /// The number that ties an answer to it.
    pub id: u16,
    /// The name in lower case, without a dot at its end.
    pub name: String,
    /// Behind the question.
    end: usize,
    flags: u16,
}

impl<'a> Question<'a> {
    /// A standard question; `None` if it is anything else.
    pub fn read(message: &'a [u8]) -> Option<Question<'a>> {
        Question::of(message).filter(|question| question.flags & (RESPONSE | OPCODE) == 0)
    }

    fn of(message: &'a [u8]) -> Option<Question<'a>> {
        if message.len() < HEADER || u16_at(message, 4)? != 1 {
            return None;
        }
        let mut name = String::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            let label = message.get(at..at + length)?;
            let plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
            if length > 63 || !label.iter().all(plain) || name.len() + length > 253 {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
            at += length;
        }
        message.get(at..at + 4)?;
        Some(Question {
            message,
            id: u16_at(message, 0)?,
            name,
            end: at + 4,
            flags: u16_at(message, 2)?,
        })
    }

    /// The answer that a name server gives which must not.
    pub fn refusal(&self) -> Vec<u8> {
        let flags = RESPONSE | (self.flags & RECURSION_DESIRED) | REFUSED;
        let mut answer = Vec::with_capacity(self.end);
        answer.extend(self.id.to_be_bytes());
        answer.extend(flags.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        answer.extend(&self.message[HEADER..self.end]);
        answer
    }
}

/// An answer: the question it repeats, and the addresses with the seconds they are good for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub question: Question<'a>,
    pub addresses: Vec<(IpAddr, u32)>,
}

impl<'a> Answer<'a> {
    /// An answer without an error; `None` if it is anything else. Records behind one that is
    /// damaged are passed over.
    pub fn read(message: &'a [u8]) -> Option<Answer<'a>> {
        let question = Question::of(message)?;
        if question.flags & RESPONSE == 0 || question.flags & 0xf != 0 {
            return None;
        }
        let count = u16_at(message, 6)?.min(MOST_RECORDS);
        let mut at = question.end;
        let mut addresses = Vec::new();
        for _ in 0..count {
            let Some((address, next)) = record(message, at) else {
                break;
            };
            addresses.extend(address);
            at = next;
        }
        Some(Answer {
            question,
            addresses,
        })
    }
}

/// The address in the record at `at`, if it holds one, and where the next begins.
fn record(message: &[u8], mut at: usize) -> Option<(Option<(IpAddr, u32)>, usize)> {
    loop {
        match *message.get(at)? {
            0 => break at += 1,
            pointer if pointer >= 0xc0 => break at += 2,
            length if length < 0x40 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let (kind, class) = (u16_at(message, at)?, u16_at(message, at + 2)?);
    let ttl = message.get(at + 4..at + 8)?.first_chunk::<4>()?;
    let length = usize::from(u16_at(message, at + 8)?);
    let data = message.get(at + 10..at + 10 + length)?;
    let address = match (class, kind, length) {
        (1, 1, 4) => data.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        (1, 28, 16) => data.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    };
    let address = address.map(|address| (address, u32::from_be_bytes(*ttl)));
    Some((address, at + 10 + length))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|two| u16::from_be_bytes(*two))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn ask(id: u16, name: &str) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        message
    }

    /// By way of an alias, as most names are answered.
    pub(crate) fn tell(id: u16, name: &str, address: [u8; 4], ttl: u32) -> Vec<u8> {
        let mut message = ask(id, name);
        message[2] = 0x81;
        message[7] = 2;
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0xc0, 12]);
        message.extend([1, b'x', 0xc0, 12, 0, 1, 0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend([0, 4]);
        message.extend(address);
        message
    }

    #[test]
    fn questions_and_answers_are_read() {
        let message = ask(7, "Www.Example.ORG");
        let question = Question::read(&message).unwrap();
        assert_eq!(
            (question.id, question.name.as_str()),
            (7, "www.example.org")
        );
        let refused = question.refusal();
        assert_eq!(refused[..4], [0, 7, 0x81, 5]);
        assert_eq!(Question::of(&refused).unwrap().name, "www.example.org");
        assert!(Answer::read(&refused).is_none() && Answer::read(&message).is_none());
        let message = tell(7, "www.example.org", [192, 0, 2, 1], 60);
        let answer = Answer::read(&message).unwrap();
        assert_eq!(answer.addresses, [("192.0.2.1".parse().unwrap(), 60)]);
        assert!(Question::read(&message).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, cut in 0usize..80, at in 0usize..80, byte: u8) {
            let _ = (Question::read(&bytes), Answer::read(&bytes));
            let mut message = tell(1, "a.example", [1, 2, 3, 4], 9);
            message.truncate(cut);
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            let _ = (Question::read(&message), Answer::read(&message));
        }
    }
}
