//! Names that a guest gives and that mean something to the host: of files, types, schemes and pages. Each
//! becomes a type of its own or nothing. None is a path, and none is ever part of a command.
use crate::text::Text;
use crate::untrusted::Untrusted;
use alloc::string::String;
use core::fmt;

macro_rules! name {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The name of one file in the inbox: a single component, visible, the same to every system that may
    /// open it later, and shown to a person exactly as it is.
    FileName
);
name!(
    /// A MIME type in lower case, like `image/png`.
    MimeType
);
name!(
    /// A URL's scheme in lower case, like `mailto`.
    Scheme
);
name!(
    /// An address of the web: `http` or `https`, a host without credentials, printable ASCII.
    WebUrl
);

/// Names that Windows takes for devices, whatever their extension.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

fn is_device(name: &str) -> bool {
    let stem = name
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_lowercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix)
            .is_some_and(|n| matches!(n.as_bytes(), [b'0'..=b'9']))
    };
    DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

fn is_token(text: &[u8], also: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_lowercase)
        && text
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || also.contains(b))
}

impl<const N: usize> Untrusted<Text<'_, N>> {
    /// The text as the name of a file, or nothing: see [`FileName`].
    #[must_use]
    pub fn file_name(&self) -> Option<FileName> {
        let name = self.raw().as_str()?;
        let good = !name.is_empty()
            && name.len() <= crate::limits::FILE_NAME_BYTES
            && !name.starts_with(['.', '-', '~'])
            && !name.ends_with('.')
            && !name.contains([
                '/',
                '\\',
                ':',
                '*',
                '?',
                '"',
                '<',
                '>',
                '|',
                char::REPLACEMENT_CHARACTER,
            ])
            && !is_device(name)
            && self.display().as_str() == name;
        good.then(|| FileName(name.into()))
    }

    /// The text as a MIME type, or nothing.
    #[must_use]
    pub fn mime_type(&self) -> Option<MimeType> {
        let name = self.raw().as_str()?;
        let (kind, form) = name.split_once('/')?;
        let digits = form.trim_start_matches(|c: char| c.is_ascii_digit());
        (is_token(kind.as_bytes(), b"-") && is_token(digits.as_bytes(), b"-+._"))
            .then(|| MimeType(name.into()))
    }

    /// The text as a URL's scheme, or nothing.
    #[must_use]
    pub fn scheme(&self) -> Option<Scheme> {
        let name = self.raw().as_str()?;
        is_token(name.as_bytes(), b"+-.").then(|| Scheme(name.into()))
    }

    /// The text as an address of the web, or nothing. Where it may lead is for a policy to say.
    #[must_use]
    pub fn web_url(&self) -> Option<WebUrl> {
        let url = self.raw().as_str()?;
        let rest = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"))?;
        let host = rest.split(['/', '?', '#']).next()?;
        let good = !host.is_empty()
            && !host.contains('@')
            && url
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b));
        good.then(|| WebUrl(url.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Untrusted<Text<'_, 300>> {
        Untrusted::claim(Text::cut(text))
    }

    #[test]
    fn file_names() {
        for good in [
            "a",
            "Report 2026 (final).pdf",
            "Übung.odt",
            "conference.txt",
            "日本.txt",
        ] {
            assert_eq!(claim(good).file_name().map(|n| n.0).as_deref(), Some(good));
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            ".",
            "..",
            ".bashrc",
            "-rf",
            "~x",
            "a/b",
            "/etc/passwd",
            "..\\x",
            "c:x",
            "a.",
            " a",
            "a ",
            "a  b",
            "con",
            "CON.txt",
            "lpt1.pdf",
            "nul .txt",
            "x\u{202e}fdp.exe",
            "a\nb",
            "a\0",
            "zero\u{200b}width",
            &long,
        ] {
            assert_eq!(claim(bad).file_name(), None, "{bad:?}");
        }
    }

    #[test]
    fn types_and_schemes() {
        for good in [
            "text/plain",
            "image/svg+xml",
            "application/vnd.oasis.opendocument.text",
            "video/3gpp",
        ] {
            assert!(claim(good).mime_type().is_some(), "{good}");
        }
        for bad in [
            "",
            "text",
            "/",
            "text/",
            "Text/plain",
            "text/plain; x",
            "a/b/c",
            "text/pl\nain",
            "a/1",
        ] {
            assert_eq!(claim(bad).mime_type(), None, "{bad:?}");
        }
        assert!(claim("mailto").scheme().is_some() && claim("web+x").scheme().is_some());
        for bad in ["", "HTTP", "a b", "x;y", "a/b", "1a"] {
            assert_eq!(claim(bad).scheme(), None, "{bad:?}");
        }
    }

    #[test]
    fn addresses() {
        for good in [
            "http://a",
            "https://example.org/x?y=%20#z",
            "http://[::1]:8080/",
        ] {
            assert!(claim(good).web_url().is_some(), "{good}");
        }
        for bad in [
            "",
            "http://",
            "https:///x",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "HTTP://a",
            "http://bank.example@evil.example/",
            "http://a b",
            "http://a\nb",
            "http://a\"b",
            "http://ä",
        ] {
            assert_eq!(claim(bad).web_url(), None, "{bad:?}");
        }
    }
}
