//! IPP's values, made and read: never longer than IPP lets them be, never a panic.
use crate::ticket::Ticket;
use ipp::attribute::{IppAttribute, IppAttributeGroup};
use ipp::value::IppValue;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// The value that says that nothing is known (RFC 8010, 3.5.2).
const UNKNOWN: u8 = 0x12;
/// The value that says that an attribute is not supported.
const UNSUPPORTED: u8 = 0x10;

/// Attributes of one group, in order.
#[derive(Default)]
pub struct Attributes(Vec<IppAttribute>);

impl Attributes {
    /// Adds one. Names are ours or came from a message, so they are short enough.
    pub fn put(&mut self, name: &str, value: IppValue) {
        match IppAttribute::with_name(name, value) {
            Ok(attribute) => self.0.push(attribute),
            Err(error) => tracing::error!(name, %error, "an attribute is left out"),
        }
    }

    pub fn push(&mut self, attribute: IppAttribute) {
        self.0.push(attribute);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_inner(self) -> Vec<IppAttribute> {
        self.0
    }
}

fn clip(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// A text that was clipped cannot be too long; should it be, the value says that there is none.
fn made<E: std::fmt::Display>(value: Result<IppValue, E>) -> IppValue {
    value.unwrap_or_else(|error| {
        tracing::error!(%error, "a value is left out");
        IppValue::NoValue
    })
}

pub fn keyword(word: &str) -> IppValue {
    made(IppValue::new_keyword(clip(word, 255)))
}

pub fn name(text: &str) -> IppValue {
    made(IppValue::new_name_without_language(clip(text, 255)))
}

pub fn text(text: &str) -> IppValue {
    made(IppValue::new_text_without_language(clip(text, 1023)))
}

pub fn uri(uri: &str) -> IppValue {
    made(IppValue::new_uri(clip(uri, 1023)))
}

pub fn mime(kind: &str) -> IppValue {
    made(IppValue::new_mime_media_type(clip(kind, 255)))
}

pub fn charset(name: &str) -> IppValue {
    made(IppValue::new_charset(clip(name, 63)))
}

pub fn language(tag: &str) -> IppValue {
    made(IppValue::new_natural_language(clip(tag, 63)))
}

pub fn integer(number: impl TryInto<i32>) -> IppValue {
    IppValue::Integer(number.try_into().unwrap_or(i32::MAX))
}

pub const fn dpi(dots: u16) -> IppValue {
    IppValue::Resolution {
        cross_feed: dots as i32,
        feed: dots as i32,
        units: 3,
    }
}

pub const fn unknown() -> IppValue {
    out_of_band(UNKNOWN)
}

pub const fn unsupported() -> IppValue {
    out_of_band(UNSUPPORTED)
}

const fn out_of_band(tag: u8) -> IppValue {
    IppValue::Other {
        tag,
        data: bytes::Bytes::new(),
    }
}

/// Several values; none, if there are none: an empty list cannot be written down.
pub fn several(values: impl IntoIterator<Item = IppValue>) -> IppValue {
    let mut values: Vec<_> = values.into_iter().collect();
    match (values.pop(), values.is_empty()) {
        (None, _) => IppValue::NoValue,
        (Some(only), true) => only,
        (Some(last), false) => {
            values.push(last);
            IppValue::Array(values)
        }
    }
}

pub fn keywords<'a>(words: impl IntoIterator<Item = &'a str>) -> IppValue {
    several(words.into_iter().map(keyword))
}

pub fn collection<'a>(members: impl IntoIterator<Item = (&'a str, IppValue)>) -> IppValue {
    let named = members.into_iter().filter_map(|(name, value)| {
        // A member's name is a name of ours.
        Some((name.try_into().ok()?, value))
    });
    IppValue::Collection(named.collect::<BTreeMap<_, _>>())
}

/// A time in UTC.
pub fn date_time(when: SystemTime) -> IppValue {
    let seconds = when
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (year, month, day) = date_of(seconds / 86400);
    let clock = seconds % 86400;
    let small = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
    IppValue::DateTime(ipp::value::IppDateTime {
        year,
        month,
        day,
        hour: small(clock / 3600),
        minutes: small(clock / 60 % 60),
        seconds: small(clock % 60),
        deci_seconds: 0,
        utc_dir: '+',
        utc_hours: 0,
        utc_mins: 0,
    })
}

/// Year, month and day of so many days after the first of January 1970.
fn date_of(days: u64) -> (u16, u8, u8) {
    let mut left = days;
    let mut year = 1970_u16;
    let leap =
        |year: u16| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    while year < u16::MAX && left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
    ] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, u8::try_from(left + 1).unwrap_or(31))
}

/// A ticket as attributes of a job: what is told about it, and what the host's printer is asked.
pub fn ticket(ticket: &Ticket) -> Vec<IppAttribute> {
    let mut job = Attributes::default();
    job.put("copies", integer(ticket.copies));
    if let Some(sides) = ticket.sides {
        job.put("sides", keyword(sides.keyword()));
    }
    if let Some(media) = &ticket.media {
        job.put("media", keyword(media.name()));
    }
    if let Some(colour) = ticket.colour {
        let mode = if colour { "color" } else { "monochrome" };
        job.put("print-color-mode", keyword(mode));
    }
    if let Some(quality) = ticket.quality {
        job.put("print-quality", IppValue::Enum(quality.number()));
    }
    if !ticket.ranges.is_empty() {
        let number = |page: u32| i32::try_from(page).unwrap_or(i32::MAX);
        let ranges = ticket
            .ranges
            .iter()
            .map(|(first, last)| IppValue::RangeOfInteger {
                min: number(*first),
                max: number(*last),
            });
        job.put("page-ranges", several(ranges));
    }
    job.into_inner()
}

/// The words of a value that has any, whatever kind it is of.
pub fn words(value: &IppValue) -> Option<&str> {
    Some(match value {
        IppValue::TextWithoutLanguage(text) | IppValue::TextWithLanguage { text, .. } => {
            text.as_ref()
        }
        IppValue::NameWithoutLanguage(name) | IppValue::NameWithLanguage { name, .. } => {
            name.as_str()
        }
        IppValue::Keyword(word) => word.as_str(),
        IppValue::Uri(uri) => uri.as_str(),
        IppValue::Charset(charset) => charset.as_str(),
        IppValue::NaturalLanguage(tag) => tag.as_str(),
        IppValue::MimeMediaType(kind) => kind.as_str(),
        _ => return None,
    })
}

/// What an attribute of a group says.
pub trait Says {
    fn value(&self, name: &str) -> Option<&IppValue>;

    fn says(&self, name: &str) -> Option<&str> {
        words(self.value(name)?)
    }

    fn number(&self, name: &str) -> Option<i32> {
        match self.value(name)? {
            IppValue::Integer(number) | IppValue::Enum(number) => Some(*number),
            _ => None,
        }
    }

    fn truth(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            IppValue::Boolean(truth) => Some(*truth),
            _ => None,
        }
    }

    /// All values of an attribute that may have several.
    fn each(&self, name: &str) -> &[IppValue] {
        self.value(name).map(each_of).unwrap_or_default()
    }
}

pub fn each_of(value: &IppValue) -> &[IppValue] {
    match value {
        IppValue::Array(values) => values,
        one => std::slice::from_ref(one),
    }
}

impl Says for IppAttributeGroup {
    fn value(&self, name: &str) -> Option<&IppValue> {
        self.get(name).map(IppAttribute::value)
    }
}

impl Says for Option<&IppAttributeGroup> {
    fn value(&self, name: &str) -> Option<&IppValue> {
        self.and_then(|group| group.value(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        assert_eq!(date_of(0), (1970, 1, 1));
        assert_eq!(date_of(11016), (2000, 2, 29));
        assert_eq!(date_of(20453), (2025, 12, 31));
        assert_eq!(date_of(20454), (2026, 1, 1));
        let _ = date_of(u64::MAX / 86400);
    }

    #[test]
    fn long_texts_are_clipped_between_letters() {
        let long = "ä".repeat(999);
        assert_eq!(words(&name(&long)).unwrap().len(), 254);
        assert_eq!(words(&text(&long)).unwrap().len(), 1022);
        assert_eq!(words(&keyword(&long)).unwrap().len(), 254);
    }
}
