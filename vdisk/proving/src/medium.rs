//! The bytes of a medium as a value: copies share their pages, so that a hundred thousand of them that
//! differ in a few sectors cost little.

use std::sync::Arc;

const PAGE: usize = 4096;

type Page = [u8; PAGE];

/// A sparse file's length and bytes. A page that was never written is a hole.
#[derive(Debug, Clone, Default)]
pub struct Medium {
    pages: Vec<Option<Arc<Page>>>,
    len: u64,
}

/// The pages of a range: page, from where in it, how many bytes.
fn pages(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let (mut at, end) = (offset as usize, offset as usize + len);
    std::iter::from_fn(move || {
        let within = at % PAGE;
        let here = (PAGE - within).min(end - at);
        let part = (here > 0).then_some((at / PAGE, within, here));
        at += here;
        part
    })
}

impl Medium {
    /// A medium that holds `bytes`; whole pages of zeros become holes.
    pub fn new(bytes: &[u8]) -> Self {
        let page = |bytes: &[u8]| {
            let mut page = [0; PAGE];
            page[..bytes.len()].copy_from_slice(bytes);
            bytes.iter().any(|b| *b != 0).then(|| Arc::new(page))
        };
        Self {
            pages: bytes.chunks(PAGE).map(page).collect(),
            len: bytes.len() as u64,
        }
    }

    /// All bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        for (to, page) in bytes.chunks_mut(PAGE).zip(&self.pages) {
            if let Some(page) = page {
                to.copy_from_slice(&page[..to.len()]);
            }
        }
        bytes
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buf` from `offset`; says whether all of it lies within the medium.
    #[must_use]
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> bool {
        if offset
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > self.len)
        {
            return false;
        }
        let mut rest = buf;
        for (page, within, here) in pages(offset, rest.len()) {
            let (part, after) = rest.split_at_mut(here);
            match &self.pages[page] {
                Some(page) => part.copy_from_slice(&page[within..within + here]),
                None => part.fill(0),
            }
            rest = after;
        }
        true
    }

    /// Writes `bytes` at `offset`, growing the medium where needed.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.set_len(self.len.max(offset + bytes.len() as u64));
        let mut rest = bytes;
        for (page, within, here) in pages(offset, rest.len()) {
            let (part, after) = rest.split_at(here);
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + here].copy_from_slice(part);
            rest = after;
        }
    }

    /// Cuts the medium, or grows it with zeros.
    pub fn set_len(&mut self, len: u64) {
        let tail = (len % PAGE as u64) as usize;
        self.pages.resize((len as usize).div_ceil(PAGE), None);
        if len < self.len
            && tail > 0
            && let Some(Some(last)) = self.pages.last_mut()
        {
            Arc::make_mut(last)[tail..].fill(0);
        }
        self.len = len;
    }

    /// Makes a range read as zeros; what is past the end is ignored.
    pub fn punch(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.len);
        for (page, within, here) in pages(offset, end.saturating_sub(offset) as usize) {
            if here == PAGE {
                self.pages[page] = None;
            } else if let Some(page) = &mut self.pages[page] {
                Arc::make_mut(page)[within..within + here].fill(0);
            }
        }
    }

    /// Whether the bytes at `offset` may be something else than zeros, and for how many of the next `len`
    /// that holds.
    pub fn allocated(&self, offset: u64, len: u64) -> (bool, u64) {
        let mut found = None;
        let mut run = 0;
        for (page, _, here) in pages(offset, len as usize) {
            let data = self.pages.get(page).is_some_and(Option::is_some);
            if *found.get_or_insert(data) != data {
                break;
            }
            run += here as u64;
        }
        (found.unwrap_or(true), run.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// Whatever is done to it, a medium is what a vector of bytes would be; and so is its copy from before.
    #[test]
    fn a_medium_is_its_bytes() {
        let mut random = Random::new(1);
        let mut bytes = vec![3; 10_000];
        let mut medium = Medium::new(&bytes);
        for round in 0..2000 {
            let (copy, before) = (medium.clone(), bytes.clone());
            let offset = random.below(40_000);
            let len = random.below(9000);
            let end = (offset + len) as usize;
            match random.below(4) {
                0 => {
                    let new = vec![round as u8; len as usize];
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[offset as usize..end].copy_from_slice(&new);
                    medium.write(offset, &new);
                }
                1 => {
                    let end = end.min(bytes.len());
                    if let Some(range) = bytes.get_mut(offset as usize..end) {
                        range.fill(0);
                    }
                    medium.punch(offset, len);
                }
                2 => {
                    bytes.resize(offset as usize, 0);
                    medium.set_len(offset);
                }
                _ => {
                    let mut found = vec![1; len as usize];
                    let there = bytes.get(offset as usize..end);
                    assert_eq!(medium.read(offset, &mut found), there.is_some());
                    if let Some(there) = there {
                        assert_eq!(found, there);
                    }
                    let (data, run) = medium.allocated(offset, len);
                    let run = bytes.iter().skip(offset as usize).take(run as usize);
                    assert!(data || run.into_iter().all(|b| *b == 0));
                }
            }
            assert_eq!(medium.to_bytes(), bytes);
            assert_eq!(copy.to_bytes(), before);
        }
    }
}
