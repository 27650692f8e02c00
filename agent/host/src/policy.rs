//! What host and guest may hand to each other besides windows and the clipboard. Nothing, unless somebody says
//! otherwise: a workspace is made to keep things apart.
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// A policy of all services. What is `None` is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServicesPolicy {
    /// Files of the host's that a user sends to the guest.
    pub files_in: Option<FilesIn>,
    /// Files of the guest's, which come into an inbox.
    pub files_out: Option<FilesOut>,
    /// Print jobs of the guest's.
    pub print: Option<Print>,
    /// Notifications of the guest's on this desktop.
    pub notes: Option<Notes>,
    /// Tray items of the guest's in this desktop's panel.
    pub tray: Option<Tray>,
    /// Addresses of the web that the guest wants opened here.
    pub urls: Option<Urls>,
}

/// Which files pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Filter {
    /// Only names that end so (`pdf`, without the dot). None means all but those that a desktop would run.
    pub types: Vec<String>,
    /// Bytes of one file.
    pub bytes: u64,
    /// A program that is given each file's path as its only argument, and ends with 0 if the file is clean.
    pub scan: Option<PathBuf>,
    /// How long it may take; a file that took longer does not pass.
    pub scan_seconds: u32,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            types: Vec::new(),
            bytes: 1 << 30,
            scan: None,
            scan_seconds: 120,
        }
    }
}

/// Kinds of files that a desktop runs, installs or starts things by when they are opened.
const RUN: [&str; 33] = [
    "appimage",
    "bat",
    "chm",
    "cmd",
    "com",
    "cpl",
    "deb",
    "desktop",
    "directory",
    "exe",
    "flatpak",
    "flatpakref",
    "flatpakrepo",
    "hta",
    "jar",
    "jnlp",
    "js",
    "jse",
    "lnk",
    "msi",
    "msp",
    "ps1",
    "reg",
    "rpm",
    "run",
    "scr",
    "service",
    "sh",
    "snap",
    "url",
    "vbe",
    "vbs",
    "wsf",
];

impl Filter {
    /// The longest that a scan may take.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.scan_seconds.into())
    }

    /// Whether a file with this name may pass, as far as its name tells.
    pub(crate) fn takes(&self, name: &str) -> bool {
        let end = name.rsplit_once('.').map(|(_, end)| end.to_lowercase());
        let is = |listed: &str| {
            let listed = listed.trim_start_matches('.').to_lowercase();
            end.as_deref().is_some_and(|end| end == listed)
        };
        match self.types.is_empty() {
            true => !RUN.into_iter().any(is),
            false => self.types.iter().any(|listed| is(listed)),
        }
    }
}

/// Files that go into the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FilesIn {
    /// Which.
    pub filter: Filter,
}

/// Files that come out of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FilesOut {
    /// The inbox: a folder that is made if it is not there.
    pub folder: PathBuf,
    /// Which.
    #[serde(default)]
    pub filter: Filter,
    /// Files that may lie in the inbox; a guest that has filled it waits until somebody takes some away.
    #[serde(default = "FilesOut::most_files")]
    pub most_files: u32,
    /// Bytes that may lie in the inbox.
    #[serde(default = "FilesOut::most_bytes")]
    pub most_bytes: u64,
}

impl FilesOut {
    /// An inbox in this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, filter: Filter) -> Self {
        Self {
            folder: folder.into(),
            filter,
            most_files: Self::most_files(),
            most_bytes: Self::most_bytes(),
        }
    }

    const fn most_files() -> u32 {
        1000
    }

    const fn most_bytes() -> u64 {
        16 << 30
    }

    /// Where a workspace's inbox is if nobody said: `~/Workspace-Incoming/NAME`.
    #[must_use]
    pub fn usual_folder(workspace: &str) -> Option<PathBuf> {
        let home = std::env::var_os("HOME").map(PathBuf::from)?;
        let name = crate::clean::own(workspace);
        home.is_absolute()
            .then(|| home.join("Workspace-Incoming").join(name))
    }
}

/// Print jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Print {
    /// The printer's address; the host's default printer if there is none.
    pub printer: Option<String>,
    /// Bytes of one job.
    pub bytes: u64,
}

impl Default for Print {
    fn default() -> Self {
        Self {
            printer: None,
            bytes: 256 << 20,
        }
    }
}

/// Notifications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Notes {
    /// They may have buttons.
    pub buttons: bool,
}

/// Tray items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tray {}

/// Addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Urls {
    /// What opens them: a program that is given the address as its only argument.
    pub with: PathBuf,
}

impl Default for Urls {
    fn default() -> Self {
        Self {
            with: "xdg-open".into(),
        }
    }
}

impl ServicesPolicy {
    /// What is allowed, in the words of the presenter's option `--allow`.
    #[must_use]
    pub fn allowed(&self) -> String {
        let services = [
            ("files-in", self.files_in.is_some()),
            ("files-out", self.files_out.is_some()),
            ("print", self.print.is_some()),
            ("notes", self.notes.is_some()),
            ("tray", self.tray.is_some()),
            ("urls", self.urls.is_some()),
        ];
        let allowed = services.iter().filter(|(_, allowed)| *allowed);
        let names: Vec<_> = allowed.map(|(name, _)| *name).collect();
        names.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_unless_somebody_says_so() {
        let none = ServicesPolicy::default();
        assert_eq!(none.allowed(), "");
        assert_eq!(serde_json::from_str::<ServicesPolicy>("{}").unwrap(), none);
        assert!(serde_json::from_str::<ServicesPolicy>(r#"{"urlz":{}}"#).is_err());
        let some = r#"{"urls":{},"notes":{"buttons":true},"files-out":{"folder":"/x"}}"#;
        let some: ServicesPolicy = serde_json::from_str(some).unwrap();
        assert_eq!(some.allowed(), "files-out,notes,urls");
        assert_eq!(some.files_out, Some(FilesOut::new("/x", Filter::default())));
    }

    #[test]
    fn names_are_held_against_the_list() {
        let any = Filter::default();
        for (name, takes) in [
            ("Report.pdf", true),
            ("README", true),
            ("report.pdf.desktop", false),
            ("Setup.EXE", false),
        ] {
            assert_eq!(any.takes(name), takes, "{name}");
        }
        let only = Filter {
            types: vec!["pdf".into(), ".ODT".into()],
            ..Filter::default()
        };
        for (name, takes) in [
            ("Report.PDF", true),
            ("a.odt", true),
            ("pdf", false),
            ("a.pdf.txt", false),
        ] {
            assert_eq!(only.takes(name), takes, "{name}");
        }
    }
}
