//! A store in memory that takes space only where something other than zeros was written: an image may
//! claim terabytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vdisk::store::Store;
use vdisk::{Error, ErrorKind, Result};

const PAGE: usize = 4096;
/// No file system takes longer files.
const MAX_LEN: u64 = 1 << 60;
/// Pages that may be taken: 64 MiB.
const MAX_PAGES: usize = 16 << 10;

/// Clones are handles on the same bytes: one stays behind when the disk that uses another is closed.
#[derive(Clone, Default)]
pub struct SparseStore(Arc<Mutex<Pages>>);

#[derive(Clone, Default)]
struct Pages {
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    len: u64,
}

impl SparseStore {
    /// A store that holds `bytes`.
    pub fn with(bytes: &[u8]) -> Self {
        let store = Self::default();
        let mut inner = store.lock();
        inner.write(0, bytes);
        drop(inner);
        store
    }

    /// A store of its own with the same bytes.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Takes the bytes of another store, and keeps none of its own.
    pub fn become_copy_of(&self, other: &Self) {
        let copy = other.lock().clone();
        *self.lock() = copy;
    }

    /// What is not zero, page by page.
    pub fn pages(&self) -> Vec<(u64, Box<[u8; PAGE]>)> {
        let inner = self.lock();
        let pages = inner.pages.iter();
        pages
            .map(|(n, page)| (n * PAGE as u64, page.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages of a range: number, first byte within, and the range of the caller's bytes.
fn split(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let here = (len - done).min(PAGE - within);
        let range = done..done + here;
        done += here;
        (here > 0).then_some((at / PAGE as u64, within, range))
    })
}

impl Pages {
    fn write(&mut self, offset: u64, buf: &[u8]) {
        for (number, within, range) in split(offset, buf.len()) {
            let part = &buf[range];
            if let Some(page) = self.pages.get_mut(&number) {
                page[within..within + part.len()].copy_from_slice(part);
            } else if part.iter().any(|b| *b != 0) {
                let mut page = Box::new([0; PAGE]);
                page[within..within + part.len()].copy_from_slice(part);
                self.pages.insert(number, page);
            }
        }
        self.len = self.len.max(offset + buf.len() as u64);
    }

    fn zero(&mut self, offset: u64, end: u64) {
        let (first, last) = (offset / PAGE as u64, end.div_ceil(PAGE as u64));
        let touched: Vec<u64> = self
            .pages
            .range(first..last.max(first))
            .map(|(n, _)| *n)
            .collect();
        for number in touched {
            let start = number * PAGE as u64;
            let (from, to) = (offset.max(start), end.min(start + PAGE as u64));
            if to - from == PAGE as u64 {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                page[(from - start) as usize..(to - start) as usize].fill(0);
            }
        }
    }
}

impl Store for SparseStore {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let inner = self.lock();
        if offset
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > inner.len)
        {
            return Err(Error::corrupt("read past the end").at_offset(offset));
        }
        for (number, within, range) in split(offset, buf.len()) {
            let part = &mut buf[range];
            match inner.pages.get(&number) {
                Some(page) => part.copy_from_slice(&page[within..within + part.len()]),
                None => part.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let mut inner = self.lock();
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > MAX_LEN) || inner.pages.len() > MAX_PAGES {
            return Err(Error::new(ErrorKind::NoSpace, "the store is full").at_offset(offset));
        }
        inner.write(offset, buf);
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        Ok(self.lock().len)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        if len > MAX_LEN {
            return Err(Error::new(ErrorKind::NoSpace, "the store is full"));
        }
        let mut inner = self.lock();
        let old = inner.len;
        inner.zero(len.min(old), old);
        inner.len = len;
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let mut inner = self.lock();
        let end = offset.saturating_add(len).min(inner.len);
        if offset < end {
            inner.zero(offset, end);
        }
        Ok(())
    }

    fn allocated(&self, offset: u64, len: u64) -> Result<(bool, u64)> {
        let inner = self.lock();
        let (number, size) = (offset / PAGE as u64, PAGE as u64);
        let next = inner.pages.range(number..).next().map(|(n, _)| *n);
        Ok(match next {
            Some(next) if next == number => (true, len.min(size - offset % size)),
            Some(next) => (false, len.min(next * size - offset)),
            None => (false, len),
        })
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vdisk::store::MemoryStore;

    #[test]
    fn behaves_like_plain_memory() {
        let (sparse, plain) = (SparseStore::default(), MemoryStore::default());
        let stores: [&dyn Store; 2] = [&sparse, &plain];
        let mut seed = 1u64;
        let mut random = |n: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for step in 0..2000 {
            let (what, at, len) = (random(8), random(20_000), random(9_000));
            for store in stores {
                match what {
                    0 => store.set_len(at).unwrap(),
                    1 | 2 => store.punch(at, len).unwrap(),
                    3 => store.write_at(at, &vec![0; len as usize]).unwrap(),
                    _ => store
                        .write_at(at, &vec![step as u8 | 1; len as usize])
                        .unwrap(),
                }
            }
            let len = plain.len().unwrap();
            assert_eq!(sparse.len().unwrap(), len);
            let mut found = vec![1; len as usize];
            sparse.read_at(0, &mut found).unwrap();
            assert!(found == plain.contents(), "after step {step}");
            assert!(sparse.read_at(1, &mut found).is_err() || found.is_empty());
            let mut at = 0;
            while at < len {
                let (data, run) = sparse.allocated(at, len - at).unwrap();
                assert!(data || found[at as usize..][..run as usize].iter().all(|b| *b == 0));
                at += run;
            }
        }
    }
}
