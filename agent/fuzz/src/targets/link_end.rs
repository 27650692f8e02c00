//! One end of a channel whose other side says anything, in any pieces: what it hands out is what a decoder makes
//! of the whole, and what it says itself is always the protocol.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use medley_link::{End, Error, Greets, Progress};
use medley_wire::{
    Channel, Decoder, Dice, Encoder, FaultKind, Features, HEADER, Hello, Set, bulk, control, gui,
};

use super::Target;

pub const TARGET: Target = Target {
    name: "link_end",
    about: "the other side's bytes on a socket, made up, damaged or raw, in any pieces; the first byte chooses whose",
    max_len: 4096,
    run,
};

fn run(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let (side, pieces) = (dice.below(6), dice.below(256));
    match side {
        0 => end::<gui::FromGuest<'static>, gui::FromHost<'static>>(&mut dice, pieces, true),
        1 => end::<gui::FromHost<'static>, gui::FromGuest<'static>>(&mut dice, pieces, false),
        2 => {
            end::<control::FromGuest<'static>, control::FromHost<'static>>(&mut dice, pieces, true)
        }
        3 => {
            end::<control::FromHost<'static>, control::FromGuest<'static>>(&mut dice, pieces, false)
        }
        4 => end::<bulk::FromGuest<'static>, bulk::FromHost<'static>>(&mut dice, pieces, true),
        _ => end::<bulk::FromHost<'static>, bulk::FromGuest<'static>>(&mut dice, pieces, false),
    }
}

/// How a stream ends for who reads it.
#[derive(Debug, PartialEq)]
enum Ending {
    /// It goes on, and then its other side goes.
    Gone,
    /// The other side begins anew.
    Anew,
    Fault,
    Disagreement,
}

/// What was handed out: each message's kind and bytes.
type Handed = Vec<(u32, Vec<u8>)>;

fn hello(channel: Channel) -> Hello {
    Hello::new(channel, Features::ALL, [7; 32])
}

/// What the other side says: a hello, and then messages that are allowed, such with one wrong byte, and bytes.
fn stream<In: Greets>(dice: &mut Dice<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::<In>::new();
    if dice.below(8) != 7 {
        put::<In>(&mut encoder, &In::greeting(hello(In::CHANNEL)), &mut out);
    }
    while !dice.is_empty() {
        let from = out.len();
        match dice.below(16) {
            0..=12 => {
                let Some(message) = dice.message::<In>() else {
                    break;
                };
                // Who says hello again is out.
                let again = In::hello(&message).is_some();
                if !again || dice.below(8) == 7 {
                    put::<In>(&mut encoder, &message, &mut out);
                }
            }
            13 => {
                if let Some(message) = dice.message::<In>() {
                    put::<In>(&mut encoder, &message, &mut out);
                    let at = dice.below(64) as usize % (out.len() - from).max(1);
                    if let Some(byte) = out.get_mut(from + at) {
                        *byte = dice.below(256) as u8;
                    }
                }
            }
            // One that may be skipped.
            14 => {
                let length = dice.below(40);
                out.extend((length + HEADER as u32).to_le_bytes());
                out.extend((60000 + dice.below(9) as u16).to_le_bytes());
                out.extend(medley_wire::SKIPPABLE.to_le_bytes());
                out.extend(dice.below(9).to_le_bytes());
                out.extend(dice.bytes(length as usize));
            }
            _ => {
                let length = dice.below(200) as usize;
                out.extend(dice.bytes(length));
            }
        }
    }
    out
}

fn put<S: Set>(encoder: &mut Encoder<S>, message: &S::Message<'_>, out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + HEADER + S::len(message), 0);
    let length = encoder.encode(message, &mut out[from..]);
    assert_eq!(length, Ok(out.len() - from));
}

fn body<S: Set>(message: &S::Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    put::<S>(&mut Encoder::new(), message, &mut bytes);
    bytes
}

/// What a decoder makes of the whole.
fn expected<In: Greets>(mut stream: &[u8]) -> (Handed, Ending) {
    let mut decoder = Decoder::<In>::new();
    let mut handed = Vec::new();
    loop {
        match decoder.push(&mut stream) {
            Ok(Some(received)) => match In::hello(&received.message) {
                Some(theirs) if hello(In::CHANNEL).agree(theirs).is_err() => {
                    return (handed, Ending::Disagreement);
                }
                Some(_) => {}
                None => handed.push((received.serial, body::<In>(&received.message))),
            },
            Ok(None) => return (handed, Ending::Gone),
            Err(fault) => {
                let anew = fault.message == "Hello"
                    && matches!(fault.kind, FaultKind::Serial { got: 0, .. });
                let ending = if anew { Ending::Anew } else { Ending::Fault };
                return (handed, ending);
            }
        }
    }
}

fn end<In: Greets, Out: Greets>(dice: &mut Dice<'_>, pieces: u32, host: bool) {
    let stream = stream::<In>(dice);
    let (far, near) = UnixStream::pair().expect("two sockets");
    far.set_nonblocking(true).expect("a socket's flag");
    let hello = hello(In::CHANNEL);
    let made = if host {
        End::<In, Out>::host(OwnedFd::from(near), hello)
    } else {
        End::<In, Out>::guest(OwnedFd::from(near), hello)
    };
    let mut end = made.expect("a socket");
    let mut handed = Handed::new();
    let mut ending = None;
    let (mut rest, mut state) = (stream.as_slice(), pieces);
    while !rest.is_empty() && ending.is_none() {
        let (piece, after) = rest.split_at(piece(pieces, &mut state).min(rest.len()));
        // A few KiB always find room.
        (&far).write_all(piece).expect("room in a socket");
        rest = after;
        ending = step(&mut end, &mut handed, false);
    }
    if ending.is_none() {
        far.shutdown(Shutdown::Write)
            .expect("a socket that is open");
        ending = step(&mut end, &mut handed, true);
    }
    let (messages, how) = expected::<In>(&stream);
    assert!(handed == messages, "other messages than in one piece");
    assert_eq!(ending, Some(how));
    drop(end);
    answers::<Out>(&far, host);
}

/// Bytes of the next piece: all at once, one by one, or mixed.
fn piece(pieces: u32, state: &mut u32) -> usize {
    match pieces {
        0 => usize::MAX,
        1 => 1,
        _ => {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let small = (*state >> 28) == 0;
            (*state >> 20) as usize % if small { 2048 } else { 48 } + 1
        }
    }
}

/// Reads what is there; tells how it ended, if it did. `gone` says that the other side has hung up.
fn step<In: Greets, Out: Greets>(
    end: &mut End<In, Out>,
    handed: &mut Handed,
    gone: bool,
) -> Option<Ending> {
    let read = end.read(|_, received| -> Result<(), Error> {
        handed.push((received.serial, body::<In>(&received.message)));
        Ok(())
    });
    match read {
        Ok(Progress::Open) => {
            // A hello always finds room.
            let flushed = end.flush();
            assert!(flushed.is_ok_and(|all| all) && !end.wants_write());
            None
        }
        Ok(Progress::Ended) if gone => Some(Ending::Gone),
        Ok(Progress::Ended) => Some(Ending::Anew),
        Err(Error::Fault { .. }) => Some(Ending::Fault),
        Err(Error::Disagree { .. }) => Some(Ending::Disagreement),
        Err(error) => panic!("{error}"),
    }
}

/// All that an end says is what the other side takes, beginning with a hello; only a host may part without one.
fn answers<Out: Greets>(mut far: &UnixStream, host: bool) {
    let mut said = Vec::new();
    // A socket of a side that went without reading all may say so, after what it said.
    let _ = far.read_to_end(&mut said);
    let (mut decoder, mut rest) = (Decoder::<Out>::new(), said.as_slice());
    let mut first = true;
    while let Some(received) = decoder.push(&mut rest).expect("the protocol") {
        let greeting = Out::hello(&received.message).is_some();
        assert_eq!(first && (greeting || !host), greeting, "no greeting first");
        first = false;
    }
    assert!(decoder.is_between());
}
