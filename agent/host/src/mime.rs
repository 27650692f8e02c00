//! What kind of document a file is, by its name: as the host's shared MIME database says, which guests have, too.
use medley_wire::{Text, Untrusted};
use std::path::{Path, PathBuf};

/// The type of a file, by its name.
pub(crate) fn of_file(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let absolute = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let home = absolute("XDG_DATA_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(absolute("HOME")?).join(".local/share")));
    let shared = absolute("XDG_DATA_DIRS").unwrap_or_else(|| "/usr/local/share:/usr/share".into());
    let folders = home.into_iter().chain(shared.split(':').map(PathBuf::from));
    // The first that knows it decides.
    folders.into_iter().find_map(|folder| {
        let globs = std::fs::read_to_string(folder.join("mime/globs2")).ok()?;
        by_globs(&globs, name)
    })
}

/// The type by the lines of a `globs2`: weight, type, pattern. The heaviest pattern wins, then the longest.
fn by_globs(globs: &str, name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let lines = globs.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let weight: u32 = parts.next()?.parse().ok()?;
        let (kind, pattern) = (parts.next()?, parts.next()?);
        let exact = parts
            .next()
            .is_some_and(|flags| flags.split(',').any(|flag| flag == "cs"));
        // As it is written first: `a.C` is another language than `a.c`.
        let as_written = fits(pattern, name);
        let fits = as_written || (!exact && fits(&pattern.to_lowercase(), &lower));
        fits.then(|| ((as_written, weight, pattern.len()), kind.to_owned()))
    });
    lines.max_by_key(|(rank, _)| *rank).map(|(_, kind)| kind)
}

/// Others than `*.end` and whole names are rare, and mean nothing that a user would send.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => !end.contains(['*', '?', '[']) && name.ends_with(end) && name != end,
        None => pattern == name,
    }
}

/// The scheme of an address, if it is one.
pub(crate) fn scheme(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once(':')?;
    let clean = !url.contains(|c: char| c.is_whitespace() || c.is_control());
    let scheme = Untrusted::claim(Text::<64>::whole(scheme)?).scheme()?;
    (clean && !rest.is_empty()).then(|| scheme.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_and_longest_pattern_wins() {
        let globs = "# made by a program\n50:application/gzip:*.gz\n50:application/x-compressed-tar:*.tar.gz\n\
                     60:text/x-heavy:*.heavy\n50:text/x-light:*.heavy\n50:text/x-makefile:makefile\n\
                     50:text/x-c++src:*.C:cs\n50:text/x-csrc:*.c\nnonsense\n";
        for (name, kind) in [
            ("a.tar.gz", Some("application/x-compressed-tar")),
            ("A.GZ", Some("application/gzip")),
            ("x.heavy", Some("text/x-heavy")),
            ("Makefile", Some("text/x-makefile")),
            ("a.C", Some("text/x-c++src")),
            ("a.c", Some("text/x-csrc")),
            (".gz", None),
            ("none", None),
        ] {
            assert_eq!(by_globs(globs, name).as_deref(), kind, "{name}");
        }
    }

    #[test]
    fn addresses_have_schemes() {
        assert_eq!(scheme("mailto:a@b").as_deref(), Some("mailto"));
        assert_eq!(scheme("https://x/").as_deref(), Some("https"));
        for bad in ["x", "/etc/passwd", "a b:c", "mailto:", "mailto:a\nb", ":x"] {
            assert_eq!(scheme(bad), None, "{bad:?}");
        }
    }
}
