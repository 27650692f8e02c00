//! How values lie in bytes: little-endian, one after the other, without padding; what varies in length
//! says its length first. Reading is total: it ends in a value or in a [`Fault`].
use crate::fault::{Fault, FaultKind};
use crate::fuzz::Dice;
use alloc::vec::Vec;

/// Reads values from the front of a message's bytes.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn left(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(Fault::new(FaultKind::Short))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Fault::new(FaultKind::Short))?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A length or count of two or four bytes, depending on what it may be at most.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, Fault> {
        let got = if count_width(max) == 2 {
            usize::from(u16::take(self)?)
        } else {
            u32::take(self)? as usize
        };
        if got > max {
            Err(Fault::new(FaultKind::TooMany { got, max }))
        } else {
            Ok(got)
        }
    }
}

/// Writes values into a caller's buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    rest: &'a mut [u8],
    overflow: bool,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(buffer: &'a mut [u8]) -> Self {
        Self {
            rest: buffer,
            overflow: false,
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let rest = core::mem::take(&mut self.rest);
        match rest.split_at_mut_checked(bytes.len()) {
            Some((here, rest)) => {
                here.copy_from_slice(bytes);
                self.rest = rest;
            }
            None => self.overflow = true,
        }
    }

    pub(crate) fn count(&mut self, count: usize, max: usize) {
        // A count beyond its field is beyond its limit as well, and the encoder's own check refuses that.
        if count_width(max) == 2 {
            u16::try_from(count).unwrap_or(u16::MAX).put(self);
        } else {
            u32::try_from(count).unwrap_or(u32::MAX).put(self);
        }
    }

    /// Whether exactly the whole buffer was written.
    pub(crate) const fn is_exact(&self) -> bool {
        !self.overflow && self.rest.is_empty()
    }
}

/// Bytes of a length that goes up to `max`.
pub(crate) const fn count_width(max: usize) -> usize {
    if max < u16::MAX as usize { 2 } else { 4 }
}

/// A value with one form in bytes, and with bounds of that form's length that are known beforehand.
#[allow(
    clippy::len_without_is_empty,
    reason = "a length in bytes; what has none has no form"
)]
pub trait Wire<'a>: Sized {
    /// Fewest bytes.
    const MIN: usize;
    /// Most bytes.
    const MAX: usize;
    /// Reads one value; refuses whatever the type cannot be.
    ///
    /// # Errors
    /// The first thing that is wrong.
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault>;
    /// Writes the value.
    fn put(&self, writer: &mut Writer<'_>);
    /// Bytes of this value.
    fn len(&self) -> usize {
        Self::MIN
    }
    /// Makes up a value that is allowed, from a fuzzer's bytes.
    fn invent(dice: &mut Dice<'a>) -> Self;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl<'a> Wire<'a> for $number {
            const MIN: usize = size_of::<$number>();
            const MAX: usize = size_of::<$number>();
            fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
                Ok(Self::from_le_bytes(reader.array()?))
            }
            fn put(&self, writer: &mut Writer<'_>) {
                writer.bytes(&self.to_le_bytes());
            }
            fn invent(dice: &mut Dice<'a>) -> Self {
                Self::from_le_bytes(dice.array())
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i32, i64);

impl<'a, const N: usize> Wire<'a> for [u8; N] {
    const MIN: usize = N;
    const MAX: usize = N;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        reader.array()
    }
    fn put(&self, writer: &mut Writer<'_>) {
        writer.bytes(self);
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        dice.array()
    }
}

impl<'a, const N: usize> Wire<'a> for [u32; N] {
    const MIN: usize = 4 * N;
    const MAX: usize = 4 * N;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let mut values = [0; N];
        for value in &mut values {
            *value = u32::take(reader)?;
        }
        Ok(values)
    }
    fn put(&self, writer: &mut Writer<'_>) {
        self.iter().for_each(|value| value.put(writer));
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        core::array::from_fn(|_| u32::invent(dice))
    }
}

impl<'a> Wire<'a> for bool {
    const MIN: usize = 1;
    const MAX: usize = 1;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        match u8::take(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Fault::value(other.into())),
        }
    }
    fn put(&self, writer: &mut Writer<'_>) {
        u8::from(*self).put(writer);
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        dice.below(2) == 1
    }
}

/// At most `N` values, counted before room is made for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T, const N: usize>(Vec<T>);

impl<T, const N: usize> List<T, N> {
    /// The values as they are: what does not fit is refused when it is encoded.
    #[must_use]
    pub const fn new(values: Vec<T>) -> Self {
        Self(values)
    }
}

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const N: usize> core::ops::Deref for List<T, N> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const N: usize> IntoIterator for List<T, N> {
    type Item = T;
    type IntoIter = alloc::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T: Wire<'a>, const N: usize> Wire<'a> for List<T, N> {
    const MIN: usize = count_width(N);
    const MAX: usize = Self::MIN + N * T::MAX;
    fn take(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let count = reader.count(N)?;
        if count.saturating_mul(T::MIN) > reader.left() {
            return Err(Fault::new(FaultKind::Short));
        }
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            values.push(T::take(reader)?);
        }
        Ok(Self(values))
    }
    fn put(&self, writer: &mut Writer<'_>) {
        writer.count(self.0.len(), N);
        for value in &self.0 {
            value.put(writer);
        }
    }
    fn len(&self) -> usize {
        Self::MIN + self.0.iter().map(Wire::len).sum::<usize>()
    }
    fn invent(dice: &mut Dice<'a>) -> Self {
        let count = dice.below(N.min(5) as u32 + 1);
        Self((0..count).map(|_| T::invent(dice)).collect())
    }
}
