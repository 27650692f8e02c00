//! What a job's attributes ask for, as far as the printer can do it.
use crate::capabilities::Capabilities;
use crate::media::Medium;
use crate::ticket::{COPIES, Quality, Sides, Ticket, rising};
use crate::values::{Attributes, each_of, unsupported, words};
use ipp::attribute::IppAttributeGroup;
use ipp::value::IppValue;

/// Attributes of a job that are understood.
pub const UNDERSTOOD: [&str; 14] = [
    "copies",
    "finishings",
    "media",
    "media-col",
    "multiple-document-handling",
    "orientation-requested",
    "output-bin",
    "page-ranges",
    "print-color-mode",
    "print-content-optimize",
    "print-quality",
    "print-rendering-intent",
    "printer-resolution",
    "sides",
];

/// What a job asks for, and what of it cannot be had.
pub fn judge(
    group: Option<&IppAttributeGroup>,
    capabilities: &Capabilities,
) -> (Ticket, Attributes) {
    let mut ticket = Ticket::default();
    let mut refused = Attributes::default();
    for attribute in group.into_iter().flatten() {
        let (name, value) = (attribute.name().as_str(), attribute.value());
        match grant(&mut ticket, name, value, capabilities) {
            Some(true) => {}
            Some(false) => refused.push(attribute.clone()),
            None => refused.put(name, unsupported()),
        }
    }
    (ticket, refused)
}

/// Whether it can be had; nothing if the attribute is not known.
fn grant(
    ticket: &mut Ticket,
    name: &str,
    value: &IppValue,
    capabilities: &Capabilities,
) -> Option<bool> {
    let word = words(value);
    Some(match name {
        "copies" => number(value)
            .and_then(|count| u16::try_from(count).ok())
            .filter(|count| (1..=COPIES).contains(count))
            .is_some_and(|count| {
                ticket.copies = count;
                true
            }),
        "sides" => {
            ticket.sides = (word.and_then(Sides::from_keyword))
                .filter(|sides| capabilities.sides.contains(sides));
            ticket.sides.is_some()
        }
        "media" => {
            let known = |name| {
                capabilities
                    .media
                    .iter()
                    .find(|medium| medium.name() == name)
            };
            ticket.media = word.and_then(known).cloned().or(ticket.media.take());
            word.and_then(known).is_some()
        }
        "media-col" => {
            let medium = medium_of(value, capabilities);
            ticket.media = medium.cloned().or(ticket.media.take());
            medium.is_some()
        }
        "print-color-mode" => match word {
            Some("auto") => true,
            Some("monochrome") => {
                ticket.colour = Some(false);
                true
            }
            Some("color") if capabilities.colour => {
                ticket.colour = Some(true);
                true
            }
            _ => false,
        },
        "print-quality" => {
            ticket.quality = number(value).and_then(Quality::from_number);
            ticket.quality.is_some()
        }
        "page-ranges" => ranges(value).is_some_and(|ranges| {
            ticket.ranges = ranges;
            true
        }),
        // A document is printed as it lies; the dots of a raster are its own affair.
        "orientation-requested" | "finishings" => number(value) == Some(3),
        "printer-resolution" => match value {
            IppValue::Resolution {
                cross_feed,
                feed,
                units: 3,
            } => {
                let known = |dpi: &u16| i32::from(*dpi) == *cross_feed;
                cross_feed == feed && capabilities.resolutions.iter().any(known)
            }
            _ => false,
        },
        "output-bin" => word == Some("face-down"),
        "print-content-optimize" | "print-rendering-intent" => word == Some("auto"),
        "multiple-document-handling" => word == Some("separate-documents-collated-copies"),
        "job-hold-until" => word == Some("no-hold"),
        "job-sheets" => word == Some("none"),
        _ => return None,
    })
}

fn number(value: &IppValue) -> Option<i32> {
    match value {
        IppValue::Integer(number) | IppValue::Enum(number) => Some(*number),
        _ => None,
    }
}

fn medium_of<'a>(value: &IppValue, capabilities: &'a Capabilities) -> Option<&'a Medium> {
    let IppValue::Collection(members) = value else {
        return None;
    };
    if let Some(name) = members.get("media-size-name").and_then(words) {
        return (capabilities.media.iter()).find(|medium| medium.name() == name);
    }
    let Some(IppValue::Collection(size)) = members.get("media-size") else {
        return None;
    };
    let side = |name| {
        size.get(name)
            .and_then(number)
            .and_then(|side| u32::try_from(side).ok())
    };
    capabilities.medium_of(side("x-dimension")?, side("y-dimension")?)
}

fn ranges(value: &IppValue) -> Option<Vec<(u32, u32)>> {
    let ranges: Option<Vec<_>> = each_of(value)
        .iter()
        .map(|range| match range {
            IppValue::RangeOfInteger { min, max } => {
                Some((u32::try_from(*min).ok()?, u32::try_from(*max).ok()?))
            }
            _ => None,
        })
        .collect();
    ranges.filter(|ranges| rising(ranges))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::ticket as attributes;
    use crate::values::{collection, integer, keyword, several};
    use ipp::model::DelimiterTag;

    fn judged(list: &[(&str, IppValue)]) -> (Ticket, Vec<String>) {
        let mut group = IppAttributeGroup::new(DelimiterTag::JobAttributes);
        let mut asked = Attributes::default();
        for (name, value) in list {
            asked.put(name, value.clone());
        }
        *group.attributes_mut() = asked.into_inner();
        let (ticket, refused) = judge(Some(&group), &Capabilities::default());
        let refused = refused.into_inner();
        let refused = refused.iter().map(|one| one.name().to_string()).collect();
        (ticket, refused)
    }

    #[test]
    fn wishes_that_can_be_had_are_a_ticket() {
        let ticket = Ticket {
            copies: 3,
            sides: Some(Sides::TwoSidedShortEdge),
            media: Some(Medium::letter()),
            colour: Some(false),
            quality: Some(Quality::High),
            ranges: vec![(1, 2), (5, 5)],
        };
        let list: Vec<_> = attributes(&ticket)
            .into_iter()
            .map(|one| (one.name().to_string(), one.into_value()))
            .collect();
        let list: Vec<_> = (list.iter())
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        assert_eq!(judged(&list), (ticket, Vec::new()));
    }

    #[test]
    fn paper_may_be_said_by_its_size() {
        let size = collection([
            ("x-dimension", integer(20990)),
            ("y-dimension", integer(29704)),
        ]);
        let (ticket, refused) = judged(&[("media-col", collection([("media-size", size)]))]);
        assert_eq!((ticket.media, refused), (Some(Medium::a4()), Vec::new()));
        let size = collection([
            ("x-dimension", integer(-1)),
            ("y-dimension", integer(29704)),
        ]);
        let (_, refused) = judged(&[("media-col", collection([("media-size", size)]))]);
        assert_eq!(refused, ["media-col"]);
    }

    #[test]
    fn wishes_that_cannot_be_had_are_told() {
        let range = |min, max| IppValue::RangeOfInteger { min, max };
        let list = [
            ("copies", integer(0)),
            ("copies", keyword("2")),
            ("sides", keyword("three-sided")),
            ("media", keyword("iso_a0_841x1189mm")),
            ("media-col", integer(1)),
            ("print-quality", IppValue::Enum(6)),
            ("page-ranges", several([range(5, 6), range(1, 2)])),
            ("page-ranges", range(-1, 2)),
            ("overrides", collection([])),
            ("finishings", IppValue::Enum(4)),
            ("x", IppValue::NoValue),
        ];
        let (ticket, refused) = judged(&list);
        assert_eq!(ticket, Ticket::default());
        let names: Vec<_> = list.iter().map(|(name, _)| *name).collect();
        assert_eq!(refused, names);
    }
}
