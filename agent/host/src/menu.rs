//! Published apps: entries in the desktop's menu that launch an app of a guest by its id.
//!
//! The guest's text stands in an entry's name and nowhere else, escaped, without what a desktop would
//! interpret. What is executed is ours: `medley run FOLDER ID`.
use crate::app::App;
use crate::{Error, Result};
use medley_wire::AppId;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where entries of one workspace go, and what they say.
#[derive(Clone, Debug)]
pub struct Menu {
    /// `applications` of the user's data folder.
    folder: PathBuf,
    /// The workspace's name, as its windows have it.
    label: String,
    /// Begins the names of its entries: no two sessions share one.
    prefix: String,
    /// What starts an app: program and arguments, before the app's id.
    command: Vec<String>,
}

/// Which of the guest's apps are published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Published {
    /// None.
    #[default]
    None,
    /// Those with these names.
    Only(Vec<String>),
    /// All but those with these names.
    AllBut(Vec<String>),
}

impl Published {
    /// Whether an app is published. Case does not matter.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let named = |names: &[String]| {
            names
                .iter()
                .any(|other| other.to_lowercase() == name.to_lowercase())
        };
        match self {
            Self::None => false,
            Self::Only(names) => named(names),
            Self::AllBut(names) => !named(names),
        }
    }
}

impl Menu {
    /// The menu of this user, where the desktop looks for it: `$XDG_DATA_HOME`, else `~/.local/share`.
    #[must_use]
    pub fn of_user(label: &str, command: Vec<String>) -> Option<Self> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let data =
            absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
        Some(Self::below(&data, label, command))
    }

    /// A menu below another data folder.
    #[must_use]
    pub fn below(data: &Path, label: &str, command: Vec<String>) -> Self {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '-'
            }
        };
        let name: String = label.chars().take(64).map(plain).collect();
        let session = Sha256::digest(command.join("\0"));
        let session: String = session[..4].iter().map(|b| format!("{b:02x}")).collect();
        Self {
            folder: data.join("applications"),
            prefix: format!("medley-{name}-{session}."),
            label: label.to_owned(),
            command,
        }
    }

    /// Makes the menu show exactly these apps: adds, renames, removes. Each entry appears whole or not at
    /// all.
    ///
    /// # Errors
    /// A file cannot be written or removed.
    pub fn publish(&self, title: &str, apps: &[App]) -> Result<()> {
        std::fs::create_dir_all(&self.folder)
            .map_err(Error::file("cannot make the menu's folder", &self.folder))?;
        let mut kept = BTreeSet::new();
        for app in apps {
            let name = format!("{}{}.desktop", self.prefix, app.id);
            let path = self.folder.join(&name);
            let entry = self.entry(title, app);
            if std::fs::read(&path).ok().as_deref() != Some(entry.as_bytes()) {
                let failed = || Error::file("cannot write a menu entry", &path);
                let mut file = tempfile::NamedTempFile::new_in(&self.folder).map_err(failed())?;
                file.write_all(entry.as_bytes()).map_err(failed())?;
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
                file.as_file().set_permissions(mode).map_err(failed())?;
                file.persist(&path).map_err(|error| failed()(error.error))?;
            }
            kept.insert(name);
        }
        self.remove(|name| !kept.contains(name))
    }

    /// Takes all entries of this workspace out of the menu.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn clear(&self) -> Result<()> {
        self.remove(|_| true)
    }

    fn remove(&self, mut which: impl FnMut(&str) -> bool) -> Result<()> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file("cannot list the menu", &self.folder)(error)),
        };
        let prefix = &self.prefix;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let id = name
                .strip_prefix(prefix.as_str())
                .and_then(|rest| rest.strip_suffix(".desktop"));
            let ours = id.is_some_and(|id| AppId::parse(id).is_some());
            if ours && which(&name) {
                let path = entry.path();
                std::fs::remove_file(&path)
                    .map_err(Error::file("cannot remove a menu entry", &path))?;
            }
        }
        Ok(())
    }

    fn entry(&self, title: &str, app: &App) -> String {
        let mut exec = String::new();
        for word in self.command.iter().chain([&app.id]) {
            let _ = write!(exec, "{} ", quoted(word));
        }
        let class = AppId::parse(&app.id)
            .unwrap_or(AppId::NONE)
            .class(&self.label);
        format!(
            "[Desktop Entry]\nType=Application\nVersion=1.5\nName={}\nComment={}\nExec={}\nTerminal=false\n\
             StartupNotify=true\nStartupWMClass={class}\nCategories=X-Medley;\nX-Medley-App={}\n",
            value(&app.name),
            value(&format!("Runs in {title}")),
            exec.trim_end(),
            app.id,
        )
    }
}

/// A text as the value of a key.
fn value(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    // A space in front would be taken off.
    match out.strip_prefix(' ') {
        Some(rest) => format!("\\s{rest}"),
        None => out,
    }
}

/// A word of a command: quoted as `Exec` wants it, then escaped as every value; `%` is doubled.
fn quoted(word: &str) -> String {
    let mut inner = String::from("\"");
    for c in word.chars() {
        if matches!(c, '"' | '`' | '$' | '\\') {
            inner.push('\\');
        }
        if c == '%' {
            inner.push('%');
        }
        inner.push(c);
    }
    inner.push('"');
    value(&inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(id: u32, name: &str) -> App {
        App {
            id: format!("{id:032x}"),
            name: name.into(),
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

    #[test]
    fn the_menu_shows_what_is_published_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let command = ["medley", "run", "/home/a b/office"].map(String::from);
        let menu = Menu::below(data.path(), "of/fice", command.into());
        let folder = data.path().join("applications");
        menu.publish("office", &[app(1, "Editor"), app(2, "Terminal")])
            .unwrap();
        let other = Menu::below(data.path(), "home", vec!["medley".into()]);
        other.publish("home", &[app(1, "Editor")]).unwrap();
        std::fs::write(folder.join("medley-of-fice.note.desktop"), "not ours").unwrap();
        menu.publish("office", &[app(2, "Terminal")]).unwrap();
        let terminal = format!("{}{:032x}.desktop", menu.prefix, 2);
        let home = format!("{}{:032x}.desktop", other.prefix, 1);
        // The same disk's name, another session.
        let twin = Menu::below(data.path(), "of/fice", vec!["medley".into()]);
        twin.publish("office", &[app(9, "Editor")]).unwrap();
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
        menu.clear().unwrap();
        assert_eq!(names(&folder), [home, "medley-of-fice.note.desktop".into()]);
    }

    #[test]
    fn a_hostile_name_stays_a_name() {
        let data = tempfile::tempdir().unwrap();
        let menu = Menu::below(data.path(), "office", vec!["a$(b)`c`%f\"\\".into()]);
        let text = menu.entry("office", &app(1, " x\nExec=evil\r\\n%f"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines
                .iter()
                .filter(|line| line.starts_with("Exec="))
                .count(),
            1,
            "{text}"
        );
        assert!(lines.contains(&"Name=\\sx Exec=evil \\\\n%f"), "{text}");
        let exec = r#"Exec="a\\$(b)\\`c\\`%%f\\"\\\\" "#;
        assert!(text.contains(exec), "{text}");
    }

    #[test]
    fn lists_include_or_exclude() {
        let names = vec!["Editor".to_owned()];
        assert!(!Published::None.has("Editor"));
        assert!(
            Published::Only(names.clone()).has("editor")
                && !Published::Only(names.clone()).has("x")
        );
        assert!(
            !Published::AllBut(names.clone()).has("EDITOR") && Published::AllBut(names).has("x")
        );
    }
}
