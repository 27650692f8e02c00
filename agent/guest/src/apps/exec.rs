//! The command of a desktop entry, as arguments. No shell is involved: quotes and field codes are all there is.
use super::entry::Entry;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Why there is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// The entry's own fault.
    Entry(&'static str),
    /// What it was asked to open.
    Address(&'static str),
}

/// The commands that open `addresses` with an app: one, or one for each address if the app takes one at a time.
/// `place` is the entry's own path.
///
/// # Errors
/// The command is broken, or cannot open what it is given.
pub fn commands(
    exec: &str,
    entry: &Entry,
    place: &str,
    addresses: &[&str],
) -> Result<Vec<Vec<String>>, Bad> {
    let words = words(exec)?;
    for address in addresses {
        let scheme = address.split_once(':').map(|(scheme, _)| scheme);
        let named = scheme.is_some_and(|scheme| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        });
        // An address that looks like an option or a path would be one to the app.
        if !named || address.contains(char::is_control) {
            return Err(Bad::Address("it is no address with a scheme"));
        }
    }
    let takes = |code: &str| words.iter().any(|word| !word.quoted && word.text == code);
    let one = takes("%u") || takes("%f");
    if !addresses.is_empty() && !one && !takes("%U") && !takes("%F") {
        return Err(Bad::Address("the app opens no addresses"));
    }
    let rounds: Vec<&[&str]> = if one && addresses.len() > 1 {
        addresses.chunks(1).collect()
    } else {
        vec![addresses]
    };
    rounds
        .into_iter()
        .map(|addresses| expand(&words, entry, place, addresses))
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Word {
    text: String,
    quoted: bool,
}

fn words(exec: &str) -> Result<Vec<Word>, Bad> {
    let mut words = Vec::new();
    let mut letters = exec.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == ' ' || letter == '\t' || letter == '\n' {
            continue;
        }
        let mut text = String::new();
        let quoted = letter == '"';
        if quoted {
            loop {
                match letters.next() {
                    Some('"') => break,
                    Some('\\') => match letters.next() {
                        Some(other @ ('"' | '`' | '$' | '\\')) => text.push(other),
                        Some(other) => text.extend(['\\', other]),
                        None => return Err(Bad::Entry("its command ends in a backslash")),
                    },
                    Some(other) => text.push(other),
                    None => return Err(Bad::Entry("a quote in its command is not closed")),
                }
            }
        } else {
            text.push(letter);
            while let Some(other) = letters.next_if(|c| !c.is_ascii_whitespace()) {
                text.push(other);
            }
        }
        words.push(Word { text, quoted });
    }
    if words
        .first()
        .is_none_or(|word| word.text.is_empty() || word.text.contains('='))
    {
        return Err(Bad::Entry("its command has no program"));
    }
    Ok(words)
}

fn expand(
    words: &[Word],
    entry: &Entry,
    place: &str,
    addresses: &[&str],
) -> Result<Vec<String>, Bad> {
    let mut out = Vec::new();
    for word in words {
        match (word.text.as_str(), word.quoted) {
            ("%u" | "%U", false) => out.extend(addresses.iter().map(|a| (*a).to_owned())),
            ("%f" | "%F", false) => {
                for address in addresses {
                    out.push(path_of(address)?);
                }
            }
            ("%i", false) => {
                if let Some(icon) = &entry.icon {
                    out.extend(["--icon".to_owned(), icon.clone()]);
                }
            }
            (text, _) => out.extend(fill(text, entry, place)?),
        }
    }
    Ok(out)
}

/// A word with the codes that may stand inside one.
fn fill(text: &str, entry: &Entry, place: &str) -> Result<Option<String>, Bad> {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('%') => out.push('%'),
            Some('c') => out.push_str(&entry.name),
            Some('k') => out.push_str(place),
            // Codes of former versions of the specification mean nothing.
            Some('d' | 'D' | 'n' | 'N' | 'v' | 'm') => {}
            // Inside of a word these are an error of the entry; they open nothing then.
            Some('f' | 'F' | 'u' | 'U' | 'i') => {}
            _ => return Err(Bad::Entry("its command has an unknown field code")),
        }
    }
    Ok((!out.is_empty() || text.is_empty()).then_some(out))
}

/// The `file:` address of a path.
#[must_use]
pub fn address_of(path: &Path) -> String {
    let mut address = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            address.push(char::from(*byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    address
}

/// The path in a `file:` address.
fn path_of(address: &str) -> Result<String, Bad> {
    let bad = Bad::Address("the app opens files only");
    let rest = address.strip_prefix("file://").ok_or(bad.clone())?;
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(bad);
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| (b? as char).to_digit(16);
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let value = high
            .zip(low)
            .map(|(high, low)| high * 16 + low)
            .filter(|v| *v != 0);
        bytes.push(value.ok_or(bad.clone())? as u8);
    }
    String::from_utf8(bytes).map_err(|_| bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(exec: &str, addresses: &[&str]) -> Result<Vec<Vec<String>>, Bad> {
        let entry = Entry {
            name: "My App".into(),
            icon: Some("my-icon".into()),
            ..Entry::default()
        };
        commands(
            exec,
            &entry,
            "/usr/share/applications/my.desktop",
            addresses,
        )
    }

    fn one(exec: &str, addresses: &[&str]) -> Vec<String> {
        let mut all = run(exec, addresses).unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn words_quotes_and_codes() {
        assert_eq!(one("app", &[]), ["app"]);
        assert_eq!(one("app %U", &[]), ["app"]);
        assert_eq!(
            one(r#""/opt/my app/run" "a \"b\" \$c \\ `" --x=%%  %k"#, &[]),
            [
                "/opt/my app/run",
                "a \"b\" $c \\ `",
                "--x=%",
                "/usr/share/applications/my.desktop"
            ]
        );
        assert_eq!(
            one("app %i --name %c %m", &[]),
            ["app", "--icon", "my-icon", "--name", "My App"]
        );
        assert_eq!(
            one("app ; rm -rf $(x) | y > z", &[])[1..4],
            [";", "rm", "-rf"],
            "no shell"
        );
    }

    #[test]
    fn addresses_go_where_the_entry_says() {
        let two = ["https://a/?b=c d", "note:x"];
        assert_eq!(
            one("app --open %U -- end", &two),
            ["app", "--open", two[0], two[1], "--", "end"]
        );
        let each = run("app %u", &two).unwrap();
        assert_eq!(each, [["app", two[0]], ["app", two[1]]]);
        assert_eq!(
            one("app %F", &["file:///a%20b", "file://localhost/c"]),
            ["app", "/a b", "/c"]
        );
    }

    #[test]
    fn paths_become_addresses_and_paths_again() {
        for path in ["/a b/100%.txt", "/Ü/日本.odt", "/x?y#z&;'\"", "/-._~"] {
            let address = address_of(Path::new(path));
            assert!(
                address.is_ascii() && !address.contains([' ', '?', '#']),
                "{address}"
            );
            assert_eq!(one("app %f", &[&address]), ["app", path]);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for exec in [
            "",
            "  ",
            "A=b app",
            "app \"x",
            "app \"x\\",
            "app %z",
            "\"\" x",
        ] {
            assert!(matches!(run(exec, &[]), Err(Bad::Entry(_))), "{exec}");
        }
        for address in [
            "--option",
            "/etc/passwd",
            "x",
            "",
            "1x:y",
            "http://a\nb",
            "a b:c",
        ] {
            assert!(
                matches!(run("app %U", &[address]), Err(Bad::Address(_))),
                "{address}"
            );
        }
        assert!(matches!(run("app", &["http://a"]), Err(Bad::Address(_))));
        for address in ["http://a", "file://host/x", "file:///%00", "file:///%zz"] {
            assert!(
                matches!(run("app %f", &[address]), Err(Bad::Address(_))),
                "{address}"
            );
        }
    }
}
