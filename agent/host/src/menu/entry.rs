//! The text of one app's entry, by the Desktop Entry Specification.
use super::Menu;
use crate::app::App;
use medley_wire::AppId;
use std::fmt::Write as _;

/// Begins the types by which a desktop finds who opens an address.
const SCHEME: &str = "x-scheme-handler/";

impl Menu {
    pub(super) fn entry(&self, app: &App) -> String {
        let class = AppId::parse(&app.id)
            .unwrap_or(AppId::NONE)
            .class(&self.label);
        let where_it_runs = format!("Runs in {}", self.label);
        let comment = match app.comment.as_str() {
            "" => where_it_runs,
            comment => format!("{comment} ({where_it_runs})"),
        };
        // As the host's own, a guest's "Password Safe" would be trusted.
        let name = format!("{} ({})", app.name, self.label);
        let types = self.types(app);
        // A desktop puts in files and addresses for it, also those that are dropped on it.
        let takes = !types.is_empty()
            || (self.opens.files && !(app.types.is_empty() && app.schemes.is_empty()));
        let with = if takes { " %U" } else { "" };
        let mut text = format!(
            "[Desktop Entry]\nType=Application\nVersion=1.5\nName={}\nComment={}\nExec={}{with}\nTerminal=false\n\
             StartupNotify=true\nStartupWMClass={class}\nCategories=X-Medley;\nX-Medley-App={}\n",
            value(&name),
            value(&comment),
            self.exec(&[&app.id]),
            app.id,
        );
        for (key, list) in [("Keywords", &app.keywords), ("MimeType", &types)] {
            if !list.is_empty() {
                let _ = writeln!(text, "{key}={}", values(list));
            }
        }
        if !app.actions.is_empty() {
            let names = app
                .actions
                .iter()
                .map(|action| format!("a{}", action.number));
            let names: Vec<_> = names.collect();
            let _ = writeln!(text, "Actions={}", values(&names));
        }
        for action in &app.actions {
            let number = action.number.to_string();
            let _ = write!(
                text,
                "\n[Desktop Action a{number}]\nName={}\nExec={}\n",
                value(&action.name),
                self.exec(&[&app.id, "--action", &number]),
            );
        }
        text
    }

    /// What the app opens for this desktop: what it can, and the policy lets it.
    fn types(&self, app: &App) -> Vec<String> {
        let opens = |kind: &&String| match kind.strip_prefix(SCHEME) {
            Some(scheme) => app.schemes.iter().any(|other| other == scheme),
            None => self.opens.files && app.types.contains(kind),
        };
        self.opens.types.iter().filter(opens).cloned().collect()
    }

    fn exec(&self, with: &[&str]) -> String {
        let own = self.command.iter().map(String::as_str);
        let words: Vec<_> = own.chain(with.iter().copied()).map(quoted).collect();
        words.join(" ")
    }
}

/// A text as the value of a key.
pub(super) fn value(text: &str) -> String {
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

/// Texts as the value of a key that has several.
fn values(texts: &[String]) -> String {
    let texts = texts.iter().map(|text| value(text).replace(';', "\\;"));
    texts.fold(String::new(), |all, text| all + &text + ";")
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
    use super::super::Opens;
    use super::*;
    use crate::app::Action;
    use std::path::Path;

    fn menu(command: &str) -> Menu {
        let nowhere = Path::new("/nowhere");
        Menu::below(nowhere, nowhere, "office", vec![command.into()])
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }

    #[test]
    fn a_hostile_app_stays_an_app() {
        let evil = " x\nExec=evil\r\\n%f";
        let app = App {
            id: format!("{:032x}", 1),
            name: evil.into(),
            comment: evil.into(),
            keywords: vec![evil.into(), "a;b".into()],
            actions: vec![Action {
                number: 1,
                name: evil.into(),
            }],
            ..App::default()
        };
        let text = menu("a$(b)`c`%f\"\\").entry(&app);
        let exec = r#"Exec="a\\$(b)\\`c\\`%%f\\"\\\\" "#;
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("Exec"))
            .collect();
        assert!(
            lines.len() == 2 && lines.iter().all(|line| line.starts_with(exec)),
            "{text}"
        );
        has(&text, "Name=\\sx Exec=evil \\\\n%f (office)");
        has(&text, "Comment=\\sx Exec=evil \\\\n%f (Runs in office)");
        has(&text, "Keywords=\\sx Exec=evil \\\\n%f;a\\;b;");
        assert!(!text.contains("%U"));
    }

    #[test]
    fn an_app_opens_what_it_can_and_the_policy_lets_it() {
        let app = App {
            id: format!("{:032x}", 1),
            name: "Editor".into(),
            types: vec!["text/plain".into(), "image/png".into()],
            schemes: vec!["mailto".into(), "http".into()],
            actions: vec![Action {
                number: 3,
                name: "New window".into(),
            }],
            ..App::default()
        };
        let opens = |types: &[&str], files| Opens {
            types: types.iter().map(|kind| (*kind).to_owned()).collect(),
            files,
        };
        let handled = ["text/plain", "text/html", "x-scheme-handler/mailto"];
        let text = menu("m").opening(opens(&handled, true)).entry(&app);
        has(&text, "MimeType=text/plain;x-scheme-handler/mailto;");
        has(&text, &format!("Exec=\"m\" \"{:032x}\" %U", 1));
        has(&text, "Actions=a3;");
        has(&text, "[Desktop Action a3]");
        has(
            &text,
            &format!("Exec=\"m\" \"{:032x}\" \"--action\" \"3\"", 1),
        );
        // Without leave for files only addresses are left.
        let text = menu("m").opening(opens(&handled, false)).entry(&app);
        has(&text, "MimeType=x-scheme-handler/mailto;");
        let text = menu("m").opening(opens(&["text/plain"], false)).entry(&app);
        assert!(!text.contains("MimeType") && !text.contains("%U"), "{text}");
        // Files may be dropped on it, though it is nobody's usual app.
        let text = menu("m").opening(opens(&[], true)).entry(&app);
        assert!(!text.contains("MimeType") && text.contains("%U"), "{text}");
    }
}
