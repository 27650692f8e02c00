//! What a chain asks for. Its first 16 readable bytes say it, its last writable byte takes the answer,
//! however the driver cut them into descriptors.

use super::chain::Chain;
use super::memory::Memory;

/// Kinds of requests, with the disk's sector where they have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Fill the writable bytes.
    Read(u64),
    /// Take the readable bytes.
    Write(u64),
    /// Make durable what was written.
    Flush,
    /// Tell the serial number.
    Identify,
    /// Forget ranges.
    Discard,
    /// Make ranges zero.
    WriteZeroes,
    /// Something that we do not know.
    Unknown,
}

/// A request, whose data is what its chain still holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub kind: Kind,
    /// Guest address of the byte that takes the status.
    pub status: u64,
}

/// A chain that is no request.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where the driver looks for a status, if that could be told.
    pub status: Option<u64>,
    /// What is wrong.
    pub why: &'static str,
}

/// Reads header and status address off a chain that was walked with this result.
pub fn parse(
    memory: &Memory,
    chain: &mut Chain,
    walked: Result<(), &'static str>,
) -> Result<Request, Malformed> {
    let status = chain
        .writable
        .take_last_byte()
        .filter(|at| memory.holds(*at, 1));
    let malformed = |why| Malformed { status, why };
    walked.map_err(malformed)?;
    let mut header = [0; 16];
    chain
        .readable
        .copy_out(memory, &mut header)
        .ok_or(malformed("a request without a header in memory"))?;
    let Some(status) = status else {
        return Err(malformed("a request without room for its status"));
    };
    let [t0, t1, t2, t3, _, _, _, _, s @ ..] = header;
    let sector = u64::from_le_bytes(s);
    let kind = match u32::from_le_bytes([t0, t1, t2, t3]) {
        0 => Kind::Read(sector),
        1 => Kind::Write(sector),
        4 => Kind::Flush,
        8 => Kind::Identify,
        11 => Kind::Discard,
        13 => Kind::WriteZeroes,
        _ => Kind::Unknown,
    };
    Ok(Request { kind, status })
}
