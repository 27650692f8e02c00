//! Files both ways, a paste beside them, between real ends of real sockets, with files on a disk: as a presenter
//! and a guest's agent have them.
#![allow(clippy::unwrap_used)]
use medley_link::{End, Progress};
use medley_services::{Event, Gate, Order, Ordered, Policy, Service};
use medley_wire::bulk::{self, Cancel, Carries, Chunk, Open, Received};
use medley_wire::control::{self, Answer, FileOffer, FromHost, Verdict};
use medley_wire::limits::CHUNK_BYTES;
use medley_wire::{Bytes, Channel, Features, Hello, Text, Untrusted};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

type GuestControl = End<FromHost<'static>, control::FromGuest<'static>>;
type GuestBulk = End<bulk::FromHost<'static>, bulk::FromGuest<'static>>;
type HostControl = End<control::FromGuest<'static>, FromHost<'static>>;
type HostBulk = End<bulk::FromGuest<'static>, bulk::FromHost<'static>>;

fn hello(channel: Channel) -> Hello {
    Hello::new(channel, Features::NONE, [7; 32])
}

/// A presenter's half: the gate between its two ends.
struct Host {
    gate: Gate,
    control: HostControl,
    bulk: HostBulk,
    pasted: Vec<Vec<u8>>,
    began: Instant,
    /// The most that was ever held, in the gate and in the channel's queue.
    most: usize,
}

impl Host {
    fn turn(&mut self) -> Vec<Event> {
        let (gate, pasted, now) = (&mut self.gate, &mut self.pasted, self.began.elapsed());
        let read = self
            .control
            .read(|_, said| -> Result<(), medley_link::Error> {
                gate.guest_says(&said.message, now).unwrap();
                Ok(())
            });
        assert_eq!(read.unwrap(), Progress::Open);
        let read = self.bulk.read(|_, said| -> Result<(), medley_link::Error> {
            let said = gate
                .bulk_says(&said.message, |_| Some(1 << 20), now)
                .unwrap();
            pasted.extend(said.and_then(|said| said.bytes));
            Ok(())
        });
        assert_eq!(read.unwrap(), Progress::Open);
        let out = self.gate.drain();
        if self.control.agreed().is_some() {
            for word in out.words {
                self.control.send(word.message()).unwrap();
            }
        } else {
            assert!(out.words.is_empty());
        }
        self.control.flush().unwrap();
        if self.bulk.agreed().is_some() {
            self.gate.work(self.bulk.outgoing(), now).unwrap();
            self.most = self
                .most
                .max(self.gate.held() + self.bulk.outgoing().queued());
            self.bulk.flush().unwrap();
        }
        out.events.into()
    }
}

/// An agent's half.
struct Guest {
    control: GuestControl,
    bulk: GuestBulk,
    /// What is sent over stream 3, and how far it is.
    going: Vec<u8>,
    sent: usize,
    received: usize,
    came: Vec<u8>,
    whole: bool,
    refused: bool,
}

impl Guest {
    fn turn(&mut self) {
        let mut start = false;
        let read = self
            .control
            .read(|out, said| -> Result<(), medley_link::Error> {
                match said.message {
                    FromHost::Answer(answer) => {
                        assert_eq!(
                            answer,
                            Answer {
                                transfer: 9,
                                verdict: Verdict::Yes
                            }
                        );
                        start = true;
                    }
                    FromHost::FileOffer(offer) => {
                        let (transfer, verdict) = (offer.transfer, Verdict::Yes);
                        out.send(&Answer { transfer, verdict }.into())?;
                    }
                    other => panic!("{other:?}"),
                }
                Ok(())
            });
        assert_eq!(read.unwrap(), Progress::Open);
        if start {
            let open = Open {
                stream: 3,
                transfer: 9,
                carries: Carries::File,
                size: Untrusted::claim(self.going.len() as u64),
            };
            self.bulk.send(open).unwrap();
        }
        let (came, whole, received) = (&mut self.came, &mut self.whole, &mut self.received);
        let refused = &mut self.refused;
        let read = self
            .bulk
            .read(|out, said| -> Result<(), medley_link::Error> {
                match said.message {
                    bulk::FromHost::Open(_) => {}
                    bulk::FromHost::Chunk(chunk) => {
                        assert_eq!(chunk.offset, came.len() as u64);
                        came.extend_from_slice(chunk.data.0);
                        let (stream, bytes) = (chunk.stream, came.len() as u64);
                        out.send(&Received { stream, bytes }.into())?;
                    }
                    bulk::FromHost::End(_) => *whole = true,
                    bulk::FromHost::Received(got) if got.stream == 3 => {
                        *received = got.bytes as usize
                    }
                    bulk::FromHost::Received(_) => {}
                    bulk::FromHost::Cancel(Cancel {
                        stream: 3,
                        own: false,
                    }) => *refused = true,
                    other => panic!("{other:?}"),
                }
                Ok(())
            });
        assert_eq!(read.unwrap(), Progress::Open);
        while !self.refused
            && (start || self.sent > 0)
            && self.sent < self.going.len()
            && self.sent - self.received < 4 * CHUNK_BYTES
        {
            let end = self.going.len().min(self.sent + CHUNK_BYTES);
            let chunk = Chunk {
                stream: 3,
                offset: self.sent as u64,
                data: Bytes(&self.going[self.sent..end]),
            };
            self.bulk.send(chunk).unwrap();
            self.sent = end;
            if end == self.going.len() {
                let (stream, size) = (3, end as u64);
                self.bulk.send(bulk::End { stream, size }).unwrap();
            }
        }
        self.control.flush().unwrap();
        self.bulk.flush().unwrap();
    }
}

fn pair(policy: Policy) -> (Host, Guest) {
    let ends = || UnixStream::pair().map(|(a, b)| (OwnedFd::from(a), OwnedFd::from(b)));
    let ((ours, theirs), (our_bulk, their_bulk)) = (ends().unwrap(), ends().unwrap());
    let host = Host {
        gate: Gate::new(policy),
        control: End::host(ours, hello(Channel::Control)).unwrap(),
        bulk: End::host(our_bulk, hello(Channel::Bulk)).unwrap(),
        pasted: Vec::new(),
        began: Instant::now(),
        most: 0,
    };
    let guest = Guest {
        control: End::guest(theirs, hello(Channel::Control)).unwrap(),
        bulk: End::guest(their_bulk, hello(Channel::Bulk)).unwrap(),
        going: Vec::new(),
        sent: 0,
        received: 0,
        came: Vec::new(),
        whole: false,
        refused: false,
    };
    (host, guest)
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "waited in vain for {what}"
        );
    }
}

fn greet(host: &mut Host, guest: &mut Guest) {
    until("the greeting", || {
        guest.turn();
        host.turn();
        let guest = guest.control.agreed().is_some() && guest.bulk.agreed().is_some();
        guest && host.control.agreed().is_some() && host.bulk.agreed().is_some()
    });
}

fn pattern(length: usize) -> Vec<u8> {
    let numbers = (0_u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    numbers.take(length).collect()
}

/// Five megabytes each way at the same time, and a paste.
#[test]
fn files_cross() {
    let policy = Policy::allowing([Service::FilesIn, Service::FilesOut]);
    let (mut host, mut guest) = pair(policy);
    greet(&mut host, &mut guest);
    let (inward, outward) = (pattern(5_000_001), pattern(5_300_000));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in");
    File::create(&path).unwrap().write_all(&inward).unwrap();
    let order = Order::Give {
        file: 1,
        name: "in.bin".into(),
        size: inward.len() as u64,
    };
    let file = OwnedFd::from(File::open(&path).unwrap());
    let now = host.began.elapsed();
    assert_eq!(host.gate.order(order, Some(file), now), Ordered::Done);
    guest.going = outward.clone();
    let offer = FileOffer {
        transfer: 9,
        size: Untrusted::claim(outward.len() as u64),
        name: Untrusted::claim(Text::cut("out.bin")),
    };
    guest.control.send(offer).unwrap();
    let (mut given, mut came) = (false, false);
    let out = folder.path().join("out");
    until("both files", || {
        guest.turn();
        for event in host.turn() {
            match event {
                Event::FileOffered { transfer, name, .. } => {
                    assert_eq!(name, "out.bin");
                    let file = Some(OwnedFd::from(File::create(&out).unwrap()));
                    let now = host.began.elapsed();
                    host.gate.order(Order::Take { transfer }, file, now);
                }
                Event::Given {
                    file: 1,
                    refused: None,
                } => given = true,
                Event::Came { .. } => came = true,
                other => panic!("{other:?}"),
            }
        }
        given && came
    });
    assert!(guest.whole && guest.came == inward);
    let mut bytes = Vec::new();
    File::open(&out).unwrap().read_to_end(&mut bytes).unwrap();
    assert!(bytes == outward);
    // A chunk from the file, what waits for the socket, and acknowledgements.
    assert!(host.most <= 6 * CHUNK_BYTES + 1000, "{} bytes", host.most);
    let paste = Open {
        stream: 0,
        transfer: 1,
        carries: Carries::Clipboard,
        size: Untrusted::claim(5),
    };
    guest.bulk.send(paste).unwrap();
    let data = Bytes(&b"paste"[..]);
    guest
        .bulk
        .send(Chunk {
            stream: 0,
            offset: 0,
            data,
        })
        .unwrap();
    guest.bulk.send(bulk::End { stream: 0, size: 5 }).unwrap();
    until("the paste", || {
        guest.turn();
        host.turn();
        !host.pasted.is_empty()
    });
    assert_eq!(host.pasted, [b"paste"]);
}

/// A disk that is full after a while: the guest is told to stop, and the connection lives on.
#[test]
fn a_full_disk() {
    let (mut host, mut guest) = pair(Policy::allowing([Service::FilesOut]));
    greet(&mut host, &mut guest);
    guest.going = pattern(3_000_000);
    let offer = FileOffer {
        transfer: 9,
        size: Untrusted::claim(3_000_000),
        name: Untrusted::claim(Text::cut("out.bin")),
    };
    guest.control.send(offer).unwrap();
    let mut broke = Vec::new();
    until("the end", || {
        guest.turn();
        for event in host.turn() {
            match event {
                Event::FileOffered { transfer, .. } => {
                    let full = File::options().write(true).open("/dev/full").unwrap();
                    let now = host.began.elapsed();
                    let take = Order::Take { transfer };
                    host.gate.order(take, Some(full.into()), now);
                }
                Event::Broke { transfer } => broke.push(transfer),
                other => panic!("{other:?}"),
            }
        }
        guest.refused
    });
    assert_eq!(broke, [1]);
    assert!(guest.sent < 3_000_000, "it stopped");
}
