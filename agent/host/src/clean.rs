//! Texts of a presenter's, made fit for display here once more: one that a guest has taken over says what it
//! likes.
use medley_wire::limits::{NOTE_BYTES, NOTE_LINES};
use medley_wire::{AppId, Text, Untrusted};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

/// A text as one line.
pub(crate) fn line(text: &str) -> String {
    let text = Untrusted::claim(Text::<256>::cut(text)).display();
    text.as_str().to_owned()
}

/// A text as a few lines.
pub(crate) fn lines(text: &str) -> String {
    let text = Untrusted::claim(Text::<NOTE_BYTES>::cut(text));
    let lines: Vec<_> = text.lines(NOTE_LINES).collect();
    let lines: Vec<_> = lines.iter().map(|line| line.as_str()).collect();
    lines.join("\n").trim_end().to_owned()
}

/// A text of an event's, as one line.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(line(&String::deserialize(from)?))
}

/// An app's id.
pub(crate) fn app<'de, D: Deserializer<'de>>(from: D) -> Result<AppId, D::Error> {
    let text = String::deserialize(from)?;
    AppId::parse(&text).ok_or_else(|| serde::de::Error::custom("no app's id"))
}

/// A name as part of a file's name or of an id: letters and digits of ASCII, `_` and `-`.
pub(crate) fn plain(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    name.chars().take(64).map(plain).collect()
}

/// The same, and two names are hardly ever the same: one that does not look like itself ends in its digest.
pub(crate) fn own(name: &str) -> String {
    let mut plain = plain(name);
    if plain != name {
        let digest = Sha256::digest(name);
        plain.extend(digest[..4].iter().map(|byte| format!("{byte:02x}")));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_workspaces_share_a_folder() {
        assert_eq!(own("office"), "office");
        assert_ne!(own("a b"), own("a-b"));
        assert!(
            own("../x")
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-')
        );
    }
}
