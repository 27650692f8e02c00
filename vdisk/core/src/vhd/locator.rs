//! Parent locators: the names under which a differencing disk's writer knew its parent, one per
//! platform. Reading them gives candidate paths; nothing here opens a file.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// The longest locator that is read, in bytes: far more than any system's longest path.
pub const MAX_LOCATOR: u32 = 64 << 10;

/// Whose names a locator speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// `W2ru`: relative Windows path in UTF-16.
    W2ru,
    /// `W2ku`: absolute Windows path in UTF-16.
    W2ku,
    /// `MacX`: a file URL in UTF-8.
    MacX,
    /// `Wi2r`: relative Windows path in bytes; deprecated.
    Wi2r,
    /// `Wi2k`: absolute Windows path in bytes; deprecated.
    Wi2k,
    /// `Mac `: a Mac OS alias, which only a Mac of old resolves.
    MacAlias,
    /// A code that the format does not know.
    Unknown(u32),
}

impl Platform {
    const KNOWN: [Self; 6] = [
        Self::W2ru,
        Self::W2ku,
        Self::MacX,
        Self::Wi2r,
        Self::Wi2k,
        Self::MacAlias,
    ];

    /// The platform of a code; 0 stands for an entry that is not used.
    pub fn from_code(code: u32) -> Option<Self> {
        if code == 0 {
            return None;
        }
        let known = Self::KNOWN.into_iter().find(|p| p.code() == code);
        Some(known.unwrap_or(Self::Unknown(code)))
    }

    /// Its code on disk.
    pub fn code(self) -> u32 {
        u32::from_be_bytes(match self {
            Self::W2ru => *b"W2ru",
            Self::W2ku => *b"W2ku",
            Self::MacX => *b"MacX",
            Self::Wi2r => *b"Wi2r",
            Self::Wi2k => *b"Wi2k",
            Self::MacAlias => *b"Mac ",
            Self::Unknown(code) => return code,
        })
    }

    /// In which order locators are tried: relative names move with the files, so they come first.
    pub fn rank(self) -> u8 {
        match self {
            Self::W2ru => 0,
            Self::Wi2r => 1,
            Self::W2ku => 2,
            Self::MacX => 3,
            Self::Wi2k => 4,
            Self::MacAlias | Self::Unknown(_) => 5,
        }
    }

    /// The path that a locator's bytes spell, as this system writes it, relative or absolute. `None` for
    /// what does not spell one: aliases, drive letters and servers of another system, nothing at all.
    pub fn path(self, data: &[u8]) -> Option<PathBuf> {
        let path = match self {
            Self::W2ru | Self::W2ku => windows_path(utf16(data).as_bytes()),
            Self::Wi2r | Self::Wi2k => windows_path(until_zero(data)),
            Self::MacX => file_url(until_zero(data))?,
            Self::MacAlias | Self::Unknown(_) => return None,
        };
        let foreign = has_drive(&path) || path.as_os_str().as_bytes().starts_with(b"//");
        (path.file_name().is_some() && !foreign).then_some(path)
    }

    /// The last part of the name that a locator's bytes spell, whatever stands before it.
    pub fn file_name(self, data: &[u8]) -> Option<PathBuf> {
        let path = match self {
            Self::W2ru | Self::W2ku => windows_path(utf16(data).as_bytes()),
            Self::Wi2r | Self::Wi2k => windows_path(until_zero(data)),
            Self::MacX => file_url(until_zero(data))?,
            Self::MacAlias | Self::Unknown(_) => return None,
        };
        path.file_name().map(PathBuf::from)
    }
}

fn until_zero(data: &[u8]) -> &[u8] {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    &data[..end]
}

/// Text in UTF-16 up to its end or first zero. The format says little-endian; some writers thought
/// otherwise, and since every path has a separator or a dot, its zero bytes tell.
pub fn utf16(data: &[u8]) -> String {
    let zeros = |odd: usize| {
        data.iter()
            .skip(odd)
            .step_by(2)
            .filter(|b| **b == 0)
            .count()
    };
    let marked = data.starts_with(&[0xfe, 0xff]);
    let big = marked || (!data.starts_with(&[0xff, 0xfe]) && zeros(0) > zeros(1));
    let units: Vec<u16> = data
        .chunks_exact(2)
        .map(|c| match big {
            true => u16::from_be_bytes([c[0], c[1]]),
            false => u16::from_le_bytes([c[0], c[1]]),
        })
        .skip_while(|unit| *unit == 0xfeff)
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}

fn windows_path(bytes: &[u8]) -> PathBuf {
    let turned: Vec<u8> = bytes
        .iter()
        .map(|b| if *b == b'\\' { b'/' } else { *b })
        .collect();
    PathBuf::from(std::ffi::OsString::from_vec(turned))
}

/// Whether a path starts with a drive letter, which this system does not have.
fn has_drive(path: &Path) -> bool {
    matches!(path.as_os_str().as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// The path of a `file:` URL on this host, percent signs resolved.
fn file_url(url: &[u8]) -> Option<PathBuf> {
    let rest = url.strip_prefix(b"file:")?;
    let rest = match rest.strip_prefix(b"//") {
        Some(rest) => rest.strip_prefix(b"localhost").unwrap_or(rest),
        None => rest,
    };
    let mut path = Vec::with_capacity(rest.len());
    let mut at = 0;
    while let Some(byte) = rest.get(at) {
        let hex = rest
            .get(at + 1..at + 3)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (byte, hex) {
            (b'%', Some(0) | None) => return None,
            (b'%', Some(byte)) => {
                path.push(byte);
                at += 3;
            }
            _ => {
                path.push(*byte);
                at += 1;
            }
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

/// The `file:` URL of an absolute path, byte for byte.
fn to_file_url(path: &Path) -> Vec<u8> {
    let mut url = b"file://".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => url.push(*byte),
            b if b.is_ascii_alphanumeric() => url.push(*b),
            b => url.extend(format!("%{b:02X}").bytes()),
        }
    }
    url
}

fn to_windows(path: &str) -> Vec<u8> {
    path.encode_utf16()
        .map(|unit| {
            if unit == u16::from(b'/') {
                u16::from(b'\\')
            } else {
                unit
            }
        })
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// The locators we write for a parent: relative to the child's folder, absolute, and as a URL, which
/// alone keeps names that are no Unicode or have backslashes. Both paths must be absolute and without
/// links or dots.
pub fn locators_for(child_folder: &Path, parent: &Path) -> Vec<(Platform, Vec<u8>)> {
    let mut found = Vec::with_capacity(3);
    let spelled = |path: &Path| path.to_str().filter(|p| !p.contains('\\')).map(to_windows);
    if let Some(data) = spelled(&relative(child_folder, parent)) {
        found.push((Platform::W2ru, data));
    }
    if let Some(data) = spelled(parent) {
        found.push((Platform::W2ku, data));
    }
    found.push((Platform::MacX, to_file_url(parent)));
    found
}

/// How to get from a folder to a file, both absolute.
fn relative(folder: &Path, file: &Path) -> PathBuf {
    let common = folder
        .components()
        .zip(file.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = folder.components().count() - common;
    let mut path = PathBuf::new();
    if up == 0 {
        path.push(Component::CurDir);
    }
    path.extend(std::iter::repeat_n(Component::ParentDir, up));
    path.extend(file.components().skip(common));
    path
}

/// A name as the header's 512 bytes of big-endian UTF-16 keep it, cut where it must be.
pub fn header_name(name: &OsStr) -> [u8; 512] {
    let mut bytes = [0; 512];
    let units = name.to_string_lossy().encode_utf16().collect::<Vec<_>>();
    for (slot, unit) in bytes.chunks_exact_mut(2).take(255).zip(units) {
        slot.copy_from_slice(&unit.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn le(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn be(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }

    fn path(platform: Platform, data: &[u8]) -> Option<String> {
        platform.path(data).map(|p| p.to_str().unwrap().to_owned())
    }

    #[test]
    fn windows_paths_turn_their_backslashes() {
        let relative = r".\..\disks\übung.vhd";
        for data in [
            le(relative),
            be(relative),
            le(&format!("\u{feff}{relative}\0junk")),
        ] {
            assert_eq!(
                path(Platform::W2ru, &data).as_deref(),
                Some("./../disks/übung.vhd")
            );
        }
        assert_eq!(
            path(Platform::Wi2r, b"..\\base.vhd\0\0\0").as_deref(),
            Some("../base.vhd")
        );
        assert_eq!(
            path(Platform::W2ku, &le(r"\srv\base.vhd")).as_deref(),
            Some("/srv/base.vhd")
        );
    }

    #[test]
    fn names_of_other_systems_are_no_paths_but_end_in_a_name() {
        for text in [r"C:\disks\base.vhd", r"\\server\share\base.vhd"] {
            assert_eq!(path(Platform::W2ku, &le(text)), None);
            assert_eq!(Platform::W2ku.file_name(&le(text)), Some("base.vhd".into()));
            assert_eq!(path(Platform::Wi2k, text.as_bytes()), None);
        }
        for data in [&b""[..], b"\0\0", b"..", b"/"] {
            assert_eq!(path(Platform::Wi2r, data), None);
        }
        assert_eq!(path(Platform::MacAlias, b"anything"), None);
    }

    #[test]
    fn urls_are_resolved_byte_for_byte() {
        let cases = [
            ("file:///srv/a%20b.vhd", Some("/srv/a b.vhd")),
            ("file://localhost/srv/a.vhd", Some("/srv/a.vhd")),
            ("file:/srv/a.vhd", Some("/srv/a.vhd")),
            ("http://srv/a.vhd", None),
            ("file:///srv/%00.vhd", None),
            ("file:///srv/%4", None),
        ];
        for (url, expected) in cases {
            assert_eq!(
                path(Platform::MacX, url.as_bytes()).as_deref(),
                expected,
                "{url}"
            );
        }
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"/srv/\xff\\ %.vhd"));
        assert_eq!(Platform::MacX.path(&to_file_url(odd)).as_deref(), Some(odd));
    }

    #[test]
    fn what_we_write_leads_back() {
        for (folder, parent, relative) in [
            ("/a/b", "/a/b/base.vhd", "./base.vhd"),
            ("/a/b/c", "/a/x/base.vhd", "../../x/base.vhd"),
            ("/", "/base.vhd", "./base.vhd"),
        ] {
            let locators = locators_for(Path::new(folder), Path::new(parent));
            let paths: Vec<_> = locators.iter().map(|(p, data)| path(*p, data)).collect();
            let expected = [relative, parent, parent].map(|p| Some(p.to_owned()));
            assert_eq!(paths, expected);
        }
    }

    #[test]
    fn codes_come_back() {
        for platform in Platform::KNOWN {
            assert_eq!(Platform::from_code(platform.code()), Some(platform));
        }
        assert_eq!(Platform::from_code(0), None);
        assert_eq!(Platform::from_code(7), Some(Platform::Unknown(7)));
    }
}
