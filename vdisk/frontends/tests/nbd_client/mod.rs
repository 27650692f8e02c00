//! A small NBD client of our own, written from the protocol and not from the server, that can also
//! misbehave.
#![allow(dead_code)]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const WRITE_ZEROES: u16 = 6;
pub const BLOCK_STATUS: u16 = 7;
pub const FUA: u16 = 1;
pub const NO_HOLE: u16 = 2;
pub const DF: u16 = 4;
pub const REQ_ONE: u16 = 8;

pub struct Client {
    pub socket: UnixStream,
    pub structured: bool,
    pub size: u64,
    pub flags: u16,
    cookie: u64,
}

/// The reply to a request: bytes read, or `(length, state)` pairs, or nothing; or an error number.
pub type Reply = Result<Vec<u8>, u32>;

impl Client {
    /// Connects and chooses the default export.
    pub fn connect(path: &Path, structured: bool) -> io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut client = Self {
            socket,
            structured,
            size: 0,
            flags: 0,
            cookie: 1000,
        };
        let hello = client.take(18)?;
        assert_eq!(&hello[..16], b"NBDMAGICIHAVEOPT");
        client.socket.write_all(&3u32.to_be_bytes())?;
        if structured {
            assert_eq!(client.option(8, &[])?.last().unwrap().0, 1);
            let mut wish = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 15];
            wish.extend(b"base:allocation");
            let replies = client.option(10, &wish)?;
            assert_eq!(replies.len(), 2, "{replies:?}");
        }
        let replies = client.option(7, &[0; 6])?;
        for (kind, data) in replies {
            if kind == 3 && data[..2] == [0, 0] {
                client.size = u64::from_be_bytes(data[2..10].try_into().unwrap());
                client.flags = u16::from_be_bytes(data[10..12].try_into().unwrap());
            }
        }
        Ok(client)
    }

    fn take(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; n];
        self.socket.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into().unwrap()))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().unwrap()))
    }

    fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into().unwrap()))
    }

    /// Sends an option; all its replies up to the last.
    pub fn option(&mut self, option: u32, data: &[u8]) -> io::Result<Vec<(u32, Vec<u8>)>> {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        self.socket.write_all(&bytes)?;
        let mut replies = Vec::new();
        loop {
            assert_eq!(self.u64()?, 0x3e889045565a9);
            assert_eq!(self.u32()?, option);
            let kind = self.u32()?;
            let len = self.u32()? as usize;
            let data = self.take(len)?;
            replies.push((kind, data));
            if kind == 1 || kind >> 31 == 1 {
                return Ok(replies);
            }
        }
    }

    /// Sends a request without waiting for its reply; its cookie.
    pub fn send(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        len: u32,
        payload: &[u8],
    ) -> io::Result<u64> {
        self.cookie += 1;
        let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend(payload);
        self.socket.write_all(&bytes)?;
        Ok(self.cookie)
    }

    /// The next reply, for a client with one request in flight; `read` is its offset and length if it
    /// was a read.
    pub fn receive(&mut self, read: Option<(u64, u32)>) -> io::Result<(u64, Reply)> {
        let mut data = vec![0; read.map_or(0, |(_, len)| len as usize)];
        let mut filled = 0;
        loop {
            let magic = self.u32()?;
            if magic == 0x6744_6698 {
                assert!(
                    !(self.structured && read.is_some()),
                    "simple reply to a read"
                );
                let error = self.u32()?;
                let cookie = self.u64()?;
                if error != 0 {
                    return Ok((cookie, Err(error)));
                }
                self.socket.read_exact(&mut data)?;
                return Ok((cookie, Ok(data)));
            }
            assert_eq!(magic, 0x668e_33ef);
            let flags = self.u16()?;
            let kind = self.u16()?;
            let cookie = self.u64()?;
            let len = self.u32()? as usize;
            let body = self.take(len)?;
            match kind {
                0 => assert!(body.is_empty()),
                1 => {
                    let (start, _) = read.expect("data for something that was no read");
                    let at = u64::from_be_bytes(body[..8].try_into().unwrap()) - start;
                    data[at as usize..][..len - 8].copy_from_slice(&body[8..]);
                    filled += len - 8;
                }
                5 => {
                    assert_eq!(body[..4], 1u32.to_be_bytes(), "context");
                    data = body[4..].to_vec();
                }
                0x8001 => {
                    let error = u32::from_be_bytes(body[..4].try_into().unwrap());
                    let text = u16::from_be_bytes(body[4..6].try_into().unwrap());
                    assert_eq!(text as usize, body.len() - 6);
                    assert_eq!(flags, 1, "errors end the reply here");
                    return Ok((cookie, Err(error)));
                }
                other => panic!("chunk of kind {other}"),
            }
            if flags & 1 == 1 {
                if let Some((_, len)) = read {
                    assert_eq!(filled, len as usize, "the whole range exactly once");
                }
                return Ok((cookie, Ok(data)));
            }
        }
    }

    /// One request and its reply.
    pub fn call(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        len: u32,
        payload: &[u8],
    ) -> Reply {
        let sent = self.send(command, flags, offset, len, payload).unwrap();
        let read = (command == READ).then_some((offset, len));
        let (cookie, reply) = self.receive(read).unwrap();
        assert_eq!(cookie, sent);
        reply
    }

    /// Extents as `(length, is a hole)`.
    pub fn map(&mut self, flags: u16, offset: u64, len: u32) -> Result<Vec<(u32, bool)>, u32> {
        let bytes = self.call(BLOCK_STATUS, flags, offset, len, &[])?;
        let pairs = bytes.chunks_exact(8).map(|pair| {
            let len = u32::from_be_bytes(pair[..4].try_into().unwrap());
            (
                len,
                match pair[7] {
                    0 => false,
                    3 => true,
                    state => panic!("state {state}"),
                },
            )
        });
        Ok(pairs.collect())
    }
}
