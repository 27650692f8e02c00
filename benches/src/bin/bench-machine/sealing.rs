//! The stage between a machine's state and its file, alone: from memory into a file in memory, so that
//! neither a hypervisor nor a disk is measured. The peer is what one would write first: zstd at its
//! fastest level, then AES-256-GCM, in one thread.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use medley_benches::guest_memory::Contents;
use medley_benches::rows::{Goal, Row};
use medley_sealing::{Cancel, Options, SealedFile, WrappingKey, seal};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Bytes of a stream: what a guest of 512 MiB saves at most.
const STREAM: usize = 512 << 20;
/// What the peer takes at a time.
const CHUNK: usize = 1 << 20;
const ROUNDS: usize = 4;
const CORES: usize = 2;
const PEER: &str = "zstd -1, then AES-GCM";

/// Every contents there and back, then what the size of chunks, a pipe and a disk change.
pub fn rows() -> Result<Vec<Row>> {
    let before = sched_getaffinity(Pid::from_raw(0))?;
    let rows = on_two_cores(&before).and_then(|()| measure());
    sched_setaffinity(Pid::from_raw(0), &before)?;
    rows
}

/// Keeps this thread, and those it starts, on as many processors as the goals speak of.
fn on_two_cores(usable: &CpuSet) -> Result<()> {
    let mut two = CpuSet::new();
    let usable = (0..CpuSet::count()).filter(|cpu| usable.is_set(*cpu).unwrap_or(false));
    for cpu in usable.take(CORES) {
        two.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &two)?)
}

fn measure() -> Result<Vec<Row>> {
    let memory = Path::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }?;
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let mut rows = Vec::new();
    for contents in Contents::ALL {
        let stream = contents.make(STREAM);
        let of = contents.name();
        let row = |what: &str, ours: f64| Row::new(format!("{what}, {of}"), ours, "MB/s");
        let goal = Goal::AtLeast(1000.0);

        // Of use where others keep the processors busy: what two of them would need for a GB.
        let cost =
            |what: &str, s: f64| Row::new(format!("processor time to {what}, {of}"), s, "s/GB");

        let (rate, own) = best_and_cost(|| ours_there(&stream, &ours, None))?;
        let (peer, their) = best_and_cost(|| peer_there(&stream, &theirs))?;
        rows.push(row("seal", rate).against(PEER, peer).goal(goal));
        rows.push(cost("seal", own).against(PEER, their));

        let file = SealedFile::open(&ours, &key())?;
        let unseal = || Ok(file.unseal(std::io::sink(), &Cancel::default()).map(drop)?);
        let (rate, own) = best_and_cost(unseal)?;
        let (peer, their) = best_and_cost(|| peer_back(&theirs))?;
        rows.push(row("unseal", rate).against(PEER, peer).goal(goal));
        rows.push(cost("unseal", own).against(PEER, their));
        let rate = best(|| Ok(file.verify(&Cancel::default()).map(drop)?))?;
        rows.push(row("verify a sealed file", rate));

        let percent = |file: &Path| -> Result<f64> {
            Ok(file.metadata()?.len() as f64 / STREAM as f64 * 100.0)
        };
        let size = Row::new(format!("size of the file, {of}"), percent(&ours)?, "%");
        rows.push(size.against(PEER, percent(&theirs)?));

        if contents == Contents::Guest {
            for (chunk, name) in [(64 << 10, "64 KiB"), (1 << 20, "1 MiB"), (4 << 20, "4 MiB")] {
                let (rate, own) = best_and_cost(|| ours_there(&stream, &ours, Some(chunk)))?;
                rows.push(row(&format!("seal in chunks of {name}"), rate));
                rows.push(cost(&format!("seal in chunks of {name}"), own));
            }
            let rate = best(|| through_a_pipe(&stream, &ours))?;
            rows.push(row("seal what another thread writes into a pipe", rate));
            let disk = tempfile::tempdir_in("/var/tmp")?;
            let rate = best(|| ours_there(&stream, &disk.path().join("state"), None))?;
            rows.push(row("seal onto the disk, until it is durable", rate));
        }
    }
    Ok(rows)
}

/// The best rate at which `work` gets a stream done, in MB/s.
fn best(work: impl FnMut() -> Result<()>) -> Result<f64> {
    best_and_cost(work).map(|(rate, _)| rate)
}

/// As [`best`], and the least processor time of all threads for a GB, in seconds.
fn best_and_cost(mut work: impl FnMut() -> Result<()>) -> Result<(f64, f64)> {
    let processor = || clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from);
    let (mut best, mut least) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let (start, used) = (Instant::now(), processor()?);
        work()?;
        best = best.min(start.elapsed());
        least = least.min(processor()? - used);
    }
    let gb = STREAM as f64 / 1e9;
    Ok((gb * 1000.0 / best.as_secs_f64(), least.as_secs_f64() / gb))
}

fn key() -> WrappingKey {
    WrappingKey::from_bytes(&[0x42; 32])
}

fn ours_there(stream: &[u8], path: &Path, chunk: Option<usize>) -> Result<()> {
    let mut options = Options::default();
    options.chunk_bytes = chunk.unwrap_or(options.chunk_bytes);
    seal(stream, path, &key(), b"bench", &options)?.publish()?;
    Ok(())
}

fn through_a_pipe(stream: &[u8], path: &Path) -> Result<()> {
    let (from, mut to) = std::io::pipe()?;
    fcntl(&to, FcntlArg::F_SETPIPE_SZ(1 << 20))?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || to.write_all(stream));
        seal(from, path, &key(), b"bench", &Options::default())?.publish()?;
        let written = writer.join().map_err(|_| anyhow!("the writer panicked"))?;
        written.context("the pipe broke")
    })
}

fn gcm() -> Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, &[0x42; 32]);
    Ok(LessSafeKey::new(key.map_err(|_| anyhow!("no AES-GCM"))?))
}

fn nonce(number: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn peer_there(stream: &[u8], path: &Path) -> Result<()> {
    let gcm = gcm()?;
    let mut zstd = zstd::bulk::Compressor::new(1)?;
    let mut room = vec![0; 2 * CHUNK];
    let mut file = BufWriter::new(File::create(path)?);
    for (number, chunk) in stream.chunks(CHUNK).enumerate() {
        let len = zstd.compress_to_buffer(chunk, &mut room)?;
        let packed = &mut room[..len];
        let tag = gcm
            .seal_in_place_separate_tag(nonce(number), Aad::empty(), packed)
            .map_err(|_| anyhow!("the peer cannot encrypt"))?;
        file.write_all(&(len as u32).to_le_bytes())?;
        file.write_all(packed)?;
        file.write_all(tag.as_ref())?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

fn peer_back(path: &Path) -> Result<()> {
    let gcm = gcm()?;
    let mut zstd = zstd::bulk::Decompressor::new()?;
    let (mut room, mut chunk) = (vec![0; 2 * CHUNK], vec![0; CHUNK]);
    let mut file = BufReader::new(File::open(path)?);
    for number in 0..STREAM / CHUNK {
        let mut len = [0; 4];
        file.read_exact(&mut len)?;
        let sealed = &mut room[..u32::from_le_bytes(len) as usize + 16];
        file.read_exact(sealed)?;
        let packed = gcm
            .open_in_place(nonce(number), Aad::empty(), sealed)
            .map_err(|_| anyhow!("the peer cannot decrypt"))?;
        zstd.decompress_to_buffer(packed, &mut chunk)?;
        std::hint::black_box(&mut chunk);
    }
    Ok(())
}
