//! The workspace's own menu in the desktop's, with the folders of the guest's in it, by the Desktop Menu
//! Specification: a file that is merged into the desktop's menu, and one for each folder that has its name.
use super::Menu;
use super::entry::value;
use crate::app::App;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Folders of one guest; apps of others stand beside them.
const FOLDERS: usize = 64;

/// What a menu's folders need.
#[derive(Debug)]
pub(super) struct Folders {
    /// Names and texts of the folders' files.
    pub directories: Vec<(String, String)>,
    /// The file that is merged into the desktop's menu.
    pub menu: String,
}

impl Menu {
    pub(super) fn folders(&self, apps: &[App]) -> Folders {
        let mut by_folder: BTreeMap<&str, Vec<&App>> = BTreeMap::new();
        for app in apps {
            let known = by_folder.contains_key(app.folder.as_str());
            let folder = match known || by_folder.len() < FOLDERS {
                true => app.folder.as_str(),
                false => "",
            };
            by_folder.entry(folder).or_default().push(app);
        }
        let mut directories = Vec::new();
        if !apps.is_empty() {
            directories.push((self.directory(""), directory(&self.label)));
        }
        // Our own names and digits only: nothing here has to be escaped.
        let mut menu = String::from(
            "<!DOCTYPE Menu PUBLIC \"-//freedesktop//DTD Menu 1.0//EN\"\n \
             \"http://www.freedesktop.org/standards/menu-spec/1.0/menu.dtd\">\n\
             <Menu>\n<Name>Applications</Name>\n",
        );
        let _ = writeln!(
            menu,
            "<Menu>\n<Name>{}</Name>\n<Directory>{}</Directory>",
            self.prefix,
            self.directory("")
        );
        self.include(&mut menu, by_folder.get("").map_or(&[], Vec::as_slice));
        for (folder, apps) in by_folder.iter().filter(|(folder, _)| !folder.is_empty()) {
            let name = self.directory(&digits(folder));
            directories.push((name.clone(), directory(folder)));
            let _ = writeln!(
                menu,
                "<Menu>\n<Name>{name}</Name>\n<Directory>{name}</Directory>"
            );
            self.include(&mut menu, apps);
            menu.push_str("</Menu>\n");
        }
        menu.push_str("</Menu>\n</Menu>\n");
        Folders { directories, menu }
    }

    fn include(&self, menu: &mut String, apps: &[&App]) {
        if apps.is_empty() {
            return;
        }
        menu.push_str("<Include>\n");
        for app in apps {
            let _ = writeln!(menu, "<Filename>{}</Filename>", self.entry_name(app));
        }
        menu.push_str("</Include>\n");
    }

    /// The name of a folder's file; no digits are the workspace's own.
    fn directory(&self, digits: &str) -> String {
        let dot = if digits.is_empty() { "" } else { "." };
        format!("{}{dot}{digits}.directory", self.prefix)
    }
}

/// Stands for a folder's name in the names of files.
fn digits(folder: &str) -> String {
    let digest = Sha256::digest(folder);
    digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn directory(name: &str) -> String {
    format!(
        "[Desktop Entry]\nType=Directory\nName={}\nIcon=folder\n",
        value(name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn app(id: u32, folder: &str) -> App {
        App {
            id: format!("{id:032x}"),
            name: format!("App {id}"),
            folder: folder.into(),
            ..App::default()
        }
    }

    fn menu() -> Menu {
        let nowhere = Path::new("/nowhere");
        Menu::below(nowhere, nowhere, "office <&>", vec!["m".into()])
    }

    #[test]
    fn folders_are_menus_in_the_workspaces_menu() {
        let menu = menu();
        let apps = [
            app(1, ""),
            app(2, "Tools\n</Menu>"),
            app(3, "Tools\n</Menu>"),
            app(4, "Games"),
        ];
        let folders = menu.folders(&apps);
        let names: Vec<_> = folders
            .directories
            .iter()
            .map(|(_, text)| text.lines().nth(2).unwrap_or_default())
            .collect();
        assert_eq!(
            names,
            ["Name=office <&>", "Name=Games", "Name=Tools </Menu>"]
        );
        let text = &folders.menu;
        assert_eq!(
            text.matches("<Menu>").count(),
            text.matches("</Menu>").count()
        );
        assert_eq!(text.matches("<Menu>").count(), 4);
        for app in &apps {
            let file = format!("<Filename>{}</Filename>", menu.entry_name(app));
            assert_eq!(text.matches(&file).count(), 1);
        }
        assert!(
            !text.contains("Tools") && !text.contains("office <"),
            "{text}"
        );
        for (name, _) in &folders.directories {
            let named = format!("<Directory>{name}</Directory>");
            assert_eq!(text.matches(&named).count(), 1, "{name}: {text}");
            assert!(
                super::super::is_ours(name.strip_prefix(&menu.prefix).unwrap()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_guest_does_not_fill_the_menu_with_folders() {
        let apps: Vec<_> = (0..1000).map(|n| app(n, &format!("f{n}"))).collect();
        let folders = menu().folders(&apps);
        assert_eq!(folders.directories.len(), FOLDERS + 1);
        assert_eq!(folders.menu.matches("<Filename>").count(), apps.len());
    }
}
