//! One chunk of the stream as it lies in the file: a head that says how long, the chunk as small as it
//! was cheap to make it, and a tag over both and their place.

use lz4::block::{CompressionMode, compress_to_buffer, decompress_to_buffer};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::header::Header;
use crate::keys::TAG_LEN;

/// Bytes before a frame's body.
pub(crate) const HEAD_LEN: usize = 12;
/// Bytes of the last frame's body: how many chunks and bytes came before it.
const END_LEN: usize = 16;
/// Bytes of the last frame.
pub(crate) const END_FRAME_LEN: usize = HEAD_LEN + END_LEN + TAG_LEN;

/// How a frame's body stands for its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As it is.
    Stored = 0,
    /// One byte, all over.
    Fill = 1,
    /// An LZ4 block.
    Packed = 2,
    /// No chunk: the stream is over.
    End = 255,
}

/// What a frame's head says. Not to be believed before the frame was opened, but never out of bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    form: Form,
    body: usize,
    chunk: usize,
    bytes: [u8; HEAD_LEN],
}

impl Head {
    fn new(form: Form, body: usize, chunk: usize) -> Self {
        let mut bytes = [0; HEAD_LEN];
        bytes[..4].copy_from_slice(&(body as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(chunk as u32).to_le_bytes());
        bytes[8] = form as u8;
        Self {
            form,
            body,
            chunk,
            bytes,
        }
    }

    /// The head with these bytes, if chunks of at most `chunk_bytes` can have it.
    pub(crate) fn parse(bytes: [u8; HEAD_LEN], chunk_bytes: usize) -> Option<Self> {
        let [b0, b1, b2, b3, c0, c1, c2, c3, form, 0, 0, 0] = bytes else {
            return None;
        };
        let body = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
        let chunk = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
        let (form, possible) = match form {
            0 => (Form::Stored, body == chunk),
            1 => (Form::Fill, body == 1),
            2 => (Form::Packed, 0 < body && body < chunk),
            255 => (Form::End, body == END_LEN),
            _ => return None,
        };
        let fits = match form {
            Form::End => chunk == 0,
            _ => (1..=chunk_bytes).contains(&chunk),
        };
        (possible && fits).then_some(Self {
            form,
            body,
            chunk,
            bytes,
        })
    }

    /// Bytes of the frame after its head: the body and its tag.
    pub(crate) fn sealed_len(&self) -> usize {
        self.body + TAG_LEN
    }

    /// Bytes of the chunk.
    pub(crate) fn chunk_len(&self) -> usize {
        self.chunk
    }

    /// Whether this frame says that it is the last.
    pub(crate) fn is_end(&self) -> bool {
        self.form == Form::End
    }

    /// What the tag covers beside the body: the whole header, through its digest, and this head.
    fn context(&self, header: &Header) -> [u8; 32 + HEAD_LEN] {
        let mut context = [0; 32 + HEAD_LEN];
        context[..32].copy_from_slice(header.identity.as_bytes());
        context[32..].copy_from_slice(&self.bytes);
        context
    }

    /// Decrypts `sealed`, which must be [`Head::sealed_len`] bytes of frame `number`; `None` when a
    /// single bit is not as it was written.
    pub(crate) fn open<'a>(
        &self,
        header: &Header,
        number: u64,
        sealed: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        header
            .key
            .open(number, self.is_end(), &self.context(header), sealed)
    }

    /// The chunk that an opened `body` stands for, made in `room` where need be. `None` when what was
    /// written does not decompress.
    pub(crate) fn decode<'a>(&self, body: &'a [u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
        match self.form {
            Form::Stored => Some(body),
            Form::Fill => {
                let room = room.get_mut(..self.chunk)?;
                room.fill(*body.first()?);
                Some(room)
            }
            Form::Packed => {
                let room = room.get_mut(..self.chunk)?;
                let made = decompress_to_buffer(body, Some(self.chunk as i32), room).ok()?;
                (made == room.len()).then_some(room)
            }
            Form::End => None,
        }
    }
}

/// How hard to look for what repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// As LZ4 does by itself.
    Normal,
    /// Two thirds faster, for files that are a quarter larger.
    Hasty,
    /// Not at all, except for chunks of one byte.
    Least,
}

/// Memory of one thread that makes frames, erased when dropped: it holds a guest's memory.
pub(crate) struct Packer {
    /// A chunk with room for a head and a tag around it.
    plain: Zeroizing<Vec<u8>>,
    packed: Zeroizing<Vec<u8>>,
}

impl Packer {
    /// Bytes of memory that one takes.
    pub(crate) const fn memory(chunk_bytes: usize) -> usize {
        2 * (HEAD_LEN + chunk_bytes + TAG_LEN)
    }

    pub(crate) fn new(chunk_bytes: usize) -> Self {
        let buffer = || Zeroizing::new(vec![0; HEAD_LEN + chunk_bytes + TAG_LEN]);
        Self {
            plain: buffer(),
            packed: buffer(),
        }
    }

    /// Where the next chunk goes.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let end = self.plain.len() - TAG_LEN;
        &mut self.plain[HEAD_LEN..end]
    }

    /// The first `chunk` bytes of the room as frame `number`.
    pub(crate) fn frame(
        &mut self,
        header: &Header,
        number: u64,
        chunk: usize,
        effort: Effort,
    ) -> Result<&[u8]> {
        let plain = &self.plain[HEAD_LEN..HEAD_LEN + chunk];
        // What saves less than a sixteenth is not worth unpacking; LZ4 gives up where the room ends, and
        // runs through noise faster than a sample of it could be judged.
        let worth = chunk - chunk.div_ceil(16);
        if plain[1..] == plain[..chunk - 1] {
            self.packed[HEAD_LEN] = plain[0];
            return seal(header, number, Form::Fill, 1, chunk, &mut self.packed);
        }
        let room = &mut self.packed[HEAD_LEN..HEAD_LEN + worth];
        let mode = match effort {
            Effort::Normal => Some(CompressionMode::DEFAULT),
            Effort::Hasty => Some(CompressionMode::FAST(16)),
            Effort::Least => None,
        };
        let packed = mode.and_then(|mode| compress_to_buffer(plain, Some(mode), false, room).ok());
        match packed {
            Some(body) => seal(header, number, Form::Packed, body, chunk, &mut self.packed),
            None => seal(header, number, Form::Stored, chunk, chunk, &mut self.plain),
        }
    }
}

/// The last frame, which says how much came before it.
pub(crate) fn end_frame(header: &Header, chunks: u64, bytes: u64) -> Result<[u8; END_FRAME_LEN]> {
    let mut frame = [0; END_FRAME_LEN];
    frame[HEAD_LEN..][..END_LEN].copy_from_slice(&end_body(chunks, bytes));
    seal(header, chunks, Form::End, END_LEN, 0, &mut frame)?;
    Ok(frame)
}

/// What the last frame says.
pub(crate) fn end_body(chunks: u64, bytes: u64) -> [u8; END_LEN] {
    (u128::from(chunks) | u128::from(bytes) << 64).to_le_bytes()
}

/// Puts a head before the `body` bytes that `buffer` has at [`HEAD_LEN`], encrypts them and puts their
/// tag behind them.
fn seal<'a>(
    header: &Header,
    number: u64,
    form: Form,
    body: usize,
    chunk: usize,
    buffer: &'a mut [u8],
) -> Result<&'a [u8]> {
    let head = Head::new(form, body, chunk);
    let (before, rest) = buffer.split_at_mut(HEAD_LEN);
    before.copy_from_slice(&head.bytes);
    let (content, rest) = rest.split_at_mut(body);
    let context = head.context(header);
    let tag = header
        .key
        .seal(number, form == Form::End, &context, content)?;
    rest.get_mut(..TAG_LEN)
        .ok_or_else(|| Error::internal("a frame without room for its tag"))?
        .copy_from_slice(&tag);
    Ok(&buffer[..HEAD_LEN + body + TAG_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::WrappingKey;

    #[test]
    fn every_effort_comes_back() {
        const CHUNK: usize = 4096;
        let key = WrappingKey::from_bytes(&[1; 32]);
        let (header, _) = Header::new(&key, b"", CHUNK).unwrap();
        let chunk: Vec<u8> = (0..CHUNK).map(|i| (i / 64) as u8).collect();
        let mut packer = Packer::new(CHUNK);
        for (effort, packs) in [
            (Effort::Normal, true),
            (Effort::Hasty, true),
            (Effort::Least, false),
        ] {
            packer.room()[..CHUNK].copy_from_slice(&chunk);
            let frame = packer.frame(&header, 0, CHUNK, effort).unwrap().to_vec();
            assert_eq!(frame.len() < CHUNK, packs, "{effort:?}: {}", frame.len());
            let (head, body) = frame.split_first_chunk::<HEAD_LEN>().unwrap();
            let (head, mut body) = (Head::parse(*head, CHUNK).unwrap(), body.to_vec());
            let opened = head.open(&header, 0, &mut body).unwrap();
            let mut room = vec![0; CHUNK];
            assert_eq!(head.decode(opened, &mut room).unwrap(), chunk);
        }
    }
}
