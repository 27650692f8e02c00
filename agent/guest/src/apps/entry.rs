//! Desktop entries, as the freedesktop specification has them: as much of them as a menu and a launch need.
//! Bytes in, values out.
use std::collections::HashMap;

/// Bytes of an entry that are read: the largest translated ones have some 100 KiB.
pub const MOST: u64 = 256 << 10;

type Group = HashMap<String, String>;

/// One app, as its entry describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What it is called.
    pub name: String,
    /// What it does.
    pub comment: String,
    /// Words to find it by.
    pub keywords: Vec<String>,
    /// Where it belongs.
    pub categories: Vec<String>,
    /// Types of documents and schemes that it opens.
    pub types: Vec<String>,
    /// The command.
    pub exec: String,
    /// What must be there for it to be listed.
    pub try_exec: Option<String>,
    /// The folder it starts in.
    pub folder: Option<String>,
    /// It wants a terminal.
    pub terminal: bool,
    /// The class of its windows.
    pub class: Option<String>,
    /// Its icon: a name or a path.
    pub icon: Option<String>,
    /// What else it can be launched to do: names and commands.
    pub actions: Vec<(String, String)>,
}

/// Why an entry is not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// It is no app: a link, a folder, or not an entry at all.
    NoApp,
    /// It says so itself.
    Hidden,
    /// It belongs to other desktops.
    Elsewhere,
}

impl Entry {
    /// Reads an entry for people who read `locale` (as in `de_DE.UTF-8`), on a desktop of that name.
    ///
    /// # Errors
    /// It is not to be listed.
    pub fn parse(text: &str, locale: &str, desktop: &str) -> Result<Self, Unlisted> {
        let groups = groups(text);
        let main = groups.get("Desktop Entry").ok_or(Unlisted::NoApp)?;
        let has = |key: &str| main.get(key).is_some_and(|value| value == "true");
        let list = |key: &str| main.get(key).map(split);
        if main.get("Type").map(String::as_str) != Some("Application") {
            return Err(Unlisted::NoApp);
        }
        if has("NoDisplay") || has("Hidden") {
            return Err(Unlisted::Hidden);
        }
        let ours = |names: &Vec<String>| names.iter().any(|name| name == desktop);
        if list("OnlyShowIn").is_some_and(|names| !ours(&names))
            || list("NotShowIn").is_some_and(|names| ours(&names))
        {
            return Err(Unlisted::Elsewhere);
        }
        let said = |group: &Group, key: &str| localised(group, key, locale).map(unescape);
        let name = said(main, "Name").ok_or(Unlisted::NoApp)?;
        let exec = main.get("Exec").map(unescape);
        let exec = exec
            .filter(|exec| !exec.is_empty())
            .ok_or(Unlisted::NoApp)?;
        let actions = list("Actions").unwrap_or_default();
        let actions = actions.iter().filter_map(|id| {
            let group = groups.get(&format!("Desktop Action {id}"))?;
            Some((said(group, "Name")?, unescape(group.get("Exec")?)))
        });
        Ok(Self {
            name,
            comment: said(main, "Comment").unwrap_or_default(),
            keywords: localised(main, "Keywords", locale)
                .map(split)
                .unwrap_or_default(),
            categories: list("Categories").unwrap_or_default(),
            types: list("MimeType").unwrap_or_default(),
            exec,
            try_exec: main.get("TryExec").map(unescape),
            folder: main.get("Path").map(unescape),
            terminal: has("Terminal"),
            class: main.get("StartupWMClass").map(unescape),
            icon: said(main, "Icon"),
            actions: actions.collect(),
        })
    }
}

fn groups(text: &str) -> HashMap<String, Group> {
    let mut groups: HashMap<String, Group> = HashMap::new();
    let mut current: Option<&mut Group> = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            current = Some(groups.entry(name.to_owned()).or_default());
        } else if let Some((key, value)) = line.split_once('=')
            && !line.starts_with('#')
            && let Some(group) = &mut current
        {
            // Of a key that is there twice, the first counts.
            group
                .entry(key.trim_end().to_owned())
                .or_insert_with(|| value.trim_start().to_owned());
        }
    }
    groups
}

/// A value in the language closest to `locale`: with country and modifier, with one of them, with neither.
fn localised<'g>(group: &'g Group, key: &str, locale: &str) -> Option<&'g str> {
    let (rest, modifier) = match locale.split_once('@') {
        Some((rest, modifier)) => (rest, Some(modifier)),
        None => (locale, None),
    };
    let rest = rest.split('.').next().unwrap_or_default();
    let (language, country) = match rest.split_once('_') {
        Some((language, country)) => (language, Some(country)),
        None => (rest, None),
    };
    let tries = [
        country
            .zip(modifier)
            .map(|(c, m)| format!("{key}[{language}_{c}@{m}]")),
        country.map(|c| format!("{key}[{language}_{c}]")),
        modifier.map(|m| format!("{key}[{language}@{m}]")),
        Some(format!("{key}[{language}]")),
        Some(key.to_owned()),
    ];
    tries
        .into_iter()
        .flatten()
        .find_map(|key| group.get(&key))
        .map(String::as_str)
}

fn unescape(value: impl AsRef<str>) -> String {
    let mut out = String::with_capacity(value.as_ref().len());
    let mut letters = value.as_ref().chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('s') => out.push(' '),
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('\\') => out.push('\\'),
            // Left for whoever reads the value further: a list, or a command.
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// The parts of a list, which may hold a semicolon of their own behind a backslash.
fn split(value: impl AsRef<str>) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = value.as_ref().chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some(';')) => {
                letters.next();
                if let Some(part) = parts.last_mut() {
                    part.push(';');
                }
            }
            (';', _) => parts.push(String::new()),
            _ => {
                if let Some(part) = parts.last_mut() {
                    part.push(letter);
                }
            }
        }
    }
    let whole = parts.into_iter().map(unescape);
    whole.filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDITOR: &str = "# a comment\n[Desktop Entry]\nType=Application\nName=Editor\nName[de]=Bearbeiter\n\
        Name[de_AT]=Schreiber\nName[sr@Latn]=Urednik\nComment=Writes\\stext\nKeywords[de]=Text;Brief\\;Post;\n\
        Exec=\"/opt/my editor/run\" --new %U\nCategories=Office;TextEditor;\nMimeType=text/plain;x-scheme-handler/note;\n\
        StartupWMClass=Ed\nTerminal=false\nActions=new;gone;\nX=1\nX=2\n\n[Desktop Action new]\nName=New\n\
        Exec=editor --empty\n[Other]\nName=nobody\n";

    #[test]
    fn an_entry_is_read_in_the_language_of_its_reader() {
        let name = |locale: &str| Entry::parse(EDITOR, locale, "Medley").unwrap().name;
        assert_eq!(name("de_AT.UTF-8"), "Schreiber");
        assert_eq!(name("de_DE.UTF-8"), "Bearbeiter");
        assert_eq!(name("sr_RS@Latn"), "Urednik");
        assert_eq!(name("C"), "Editor");
        assert_eq!(name(""), "Editor");
        let entry = Entry::parse(EDITOR, "de", "Medley").unwrap();
        assert_eq!(entry.keywords, ["Text", "Brief;Post"]);
        assert_eq!(entry.comment, "Writes text");
        assert_eq!(entry.types, ["text/plain", "x-scheme-handler/note"]);
        assert_eq!(entry.actions, [("New".into(), "editor --empty".into())]);
        assert_eq!(entry.class.as_deref(), Some("Ed"));
    }

    #[test]
    fn what_hides_is_not_listed() {
        let with = |line: &str| {
            let text = format!("[Desktop Entry]\nType=Application\nName=A\nExec=a\n{line}\n");
            Entry::parse(&text, "", "Medley").map(|entry| entry.name)
        };
        assert_eq!(with(""), Ok("A".into()));
        assert_eq!(with("NoDisplay=true"), Err(Unlisted::Hidden));
        assert_eq!(with("Hidden=true"), Err(Unlisted::Hidden));
        assert_eq!(with("OnlyShowIn=GNOME;KDE;"), Err(Unlisted::Elsewhere));
        assert_eq!(with("OnlyShowIn=GNOME;Medley;"), Ok("A".into()));
        assert_eq!(with("NotShowIn=Medley"), Err(Unlisted::Elsewhere));
        for broken in [
            "",
            "[Desktop Entry]",
            "[Desktop Entry]\nType=Link\nName=A\nExec=a",
            "Name=A",
        ] {
            assert_eq!(
                Entry::parse(broken, "", "Medley"),
                Err(Unlisted::NoApp),
                "{broken}"
            );
        }
    }
}
