//! Published apps: entries in the desktop's menu that launch an app of a guest by its id, in a menu of the
//! workspace's own that has the folders of the guest's.
//!
//! Texts of the guest stand in names, comments and keywords and nowhere else, escaped, without what a desktop
//! would interpret. What is executed is ours: `medley run FOLDER ID`.

mod entry;
mod folders;
mod published;

pub use published::Published;

use crate::app::App;
use crate::{Error, Result};
use medley_wire::AppId;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Where entries of one workspace go, and what they say.
#[derive(Clone, Debug)]
pub struct Menu {
    /// `applications` of the user's data folder.
    entries: PathBuf,
    /// `desktop-directories` of the same.
    directories: PathBuf,
    /// `menus/applications-merged` of the user's configuration.
    merged: PathBuf,
    /// The workspace's name, as its windows have it.
    label: String,
    /// Begins the names of its files: no two sessions share one.
    prefix: String,
    /// What starts an app: program and arguments, before the app's id.
    command: Vec<String>,
    opens: Opens,
}

/// What the guest's apps may open for this desktop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opens {
    /// Types of documents, and `x-scheme-handler/…` for addresses: only those are published as the apps'.
    pub types: Vec<String>,
    /// Files may go into the guest.
    pub files: bool,
}

impl Menu {
    /// The menu of this user, where the desktop looks for it: `$XDG_DATA_HOME` and `$XDG_CONFIG_HOME`, else
    /// `~/.local/share` and `~/.config`.
    #[must_use]
    pub fn of_user(label: &str, command: Vec<String>) -> Option<Self> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = || absolute("HOME");
        let data = absolute("XDG_DATA_HOME").or_else(|| Some(home()?.join(".local/share")))?;
        let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")))?;
        Some(Self::below(&data, &config, label, command))
    }

    /// A menu below other folders for data and configuration.
    #[must_use]
    pub fn below(data: &Path, config: &Path, label: &str, command: Vec<String>) -> Self {
        let name = crate::clean::plain(label);
        let session = Sha256::digest(command.join("\0"));
        let session: String = session[..4].iter().map(|b| format!("{b:02x}")).collect();
        Self {
            entries: data.join("applications"),
            directories: data.join("desktop-directories"),
            merged: config.join("menus/applications-merged"),
            prefix: format!("medley-{name}-{session}"),
            label: label.to_owned(),
            command,
            opens: Opens::default(),
        }
    }

    /// The same menu, whose apps also open documents and addresses of this desktop's.
    #[must_use]
    pub fn opening(mut self, opens: Opens) -> Self {
        self.opens = opens;
        self
    }

    /// Makes the menu show exactly these apps: adds, renames, removes. Each file appears whole or not at all.
    ///
    /// # Errors
    /// A file cannot be written or removed.
    pub fn publish(&self, apps: &[App]) -> Result<()> {
        let mut kept = BTreeSet::new();
        let mut changed = false;
        for app in apps {
            let name = self.entry_name(app);
            changed |= put(&self.entries, &name, &self.entry(app))?;
            kept.insert(name);
        }
        let folders = self.folders(apps);
        for (name, text) in &folders.directories {
            put(&self.directories, name, text)?;
            kept.insert(name.clone());
        }
        if !apps.is_empty() {
            let name = format!("{}.menu", self.prefix);
            put(&self.merged, &name, &folders.menu)?;
            kept.insert(name);
        }
        changed |= self.remove(|name| !kept.contains(name))?;
        if changed && !self.opens.types.is_empty() {
            self.refresh();
        }
        Ok(())
    }

    /// Takes all that is of this workspace out of the menu.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn clear(&self) -> Result<()> {
        if self.remove(|_| true)? && !self.opens.types.is_empty() {
            self.refresh();
        }
        Ok(())
    }

    fn entry_name(&self, app: &App) -> String {
        format!("{}.{}.desktop", self.prefix, app.id)
    }

    /// Removes files of ours; whether an app's was among them.
    fn remove(&self, which: impl Fn(&str) -> bool) -> Result<bool> {
        let mut apps = false;
        for folder in [&self.entries, &self.directories, &self.merged] {
            let entries = match std::fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::file("cannot list the menu", folder)(error)),
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let rest = name.strip_prefix(self.prefix.as_str());
                if rest.is_some_and(is_ours) && which(&name) {
                    let path = entry.path();
                    std::fs::remove_file(&path)
                        .map_err(Error::file("cannot remove a menu entry", &path))?;
                    apps |= folder == &self.entries;
                }
            }
        }
        Ok(apps)
    }

    /// Has the desktop read anew which app opens what, where it keeps a list of that.
    fn refresh(&self) {
        let listed = std::process::Command::new("update-desktop-database")
            .arg(&self.entries)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = listed {
            tracing::debug!(%error, "no list of who opens what");
        }
    }
}

/// Whether a file's name goes on as ours do: an app's, a folder's, the menu's.
fn is_ours(rest: &str) -> bool {
    let app = rest
        .strip_prefix('.')
        .and_then(|rest| rest.strip_suffix(".desktop"));
    let folder = rest.strip_suffix(".directory").map(|rest| {
        let digits = rest.strip_prefix('.').unwrap_or(rest);
        digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    app.is_some_and(|id| AppId::parse(id).is_some()) || folder == Some(true) || rest == ".menu"
}

/// Writes a file unless it says so already; whether it did not.
fn put(folder: &Path, name: &str, text: &str) -> Result<bool> {
    let path = folder.join(name);
    if std::fs::read(&path).ok().as_deref() == Some(text.as_bytes()) {
        return Ok(false);
    }
    std::fs::create_dir_all(folder)
        .map_err(Error::file("cannot make the menu's folder", folder))?;
    let failed = || Error::file("cannot write a menu entry", &path);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed())?;
    file.write_all(text.as_bytes()).map_err(failed())?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(failed())?;
    file.persist(&path).map_err(|error| failed()(error.error))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(id: u32, name: &str) -> App {
        App {
            id: format!("{id:032x}"),
            name: name.into(),
            ..App::default()
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn menu(dir: &Path, label: &str, command: &[&str]) -> Menu {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Menu::below(dir, &dir.join("config"), label, command)
    }

    #[test]
    fn the_menu_shows_what_is_published_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let office = menu(
            data.path(),
            "of/fice",
            &["medley", "run", "/home/a b/office"],
        );
        let folder = data.path().join("applications");
        office
            .publish(&[app(1, "Editor"), app(2, "Terminal")])
            .unwrap();
        let other = menu(data.path(), "home", &["medley"]);
        other.publish(&[app(1, "Editor")]).unwrap();
        std::fs::write(folder.join("medley-of-fice.note.desktop"), "not ours").unwrap();
        office.publish(&[app(2, "Terminal")]).unwrap();
        let terminal = format!("{}.{:032x}.desktop", office.prefix, 2);
        let home = format!("{}.{:032x}.desktop", other.prefix, 1);
        // The same disk's name, another session.
        let twin = menu(data.path(), "of/fice", &["medley"]);
        twin.publish(&[app(9, "Editor")]).unwrap();
        twin.clear().unwrap();
        let mut expected = [
            home.clone(),
            terminal.clone(),
            "medley-of-fice.note.desktop".into(),
        ];
        expected.sort();
        assert_eq!(names(&folder), expected);
        let text = std::fs::read_to_string(folder.join(terminal)).unwrap();
        let exec = format!(
            "Exec=\"medley\" \"run\" \"/home/a b/office\" \"{:032x}\"\n",
            2
        );
        assert!(text.contains(&exec), "{text}");
        office.clear().unwrap();
        assert_eq!(names(&folder), [home, "medley-of-fice.note.desktop".into()]);
        let rest = [&other.directories, &other.merged].map(|folder| names(folder).len());
        assert_eq!(rest, [1, 1], "only the other's");
    }
}
