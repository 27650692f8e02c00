//! The administrator's list of who may join which bridge.
//!
//! A rule is a line, `#` begins a remark:
//!
//! ```text
//! allow BRIDGE user NAME
//! allow BRIDGE group NAME
//! allow BRIDGE everyone
//! deny  BRIDGE …
//! ```
//!
//! `*` stands for every bridge; names may be numbers. Whatever is denied is denied, in whatever order, and
//! what nobody allows is not allowed. A list with a line that is not understood allows nothing: its author
//! may have meant to deny.

use crate::Refusal;
use crate::caller::{Caller, group, user};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// As long as a list may be.
const LONGEST: u64 = 64 << 10;

/// A list that was read.
#[derive(Debug)]
pub struct List {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Debug, PartialEq)]
struct Rule {
    line: usize,
    allows: bool,
    /// `None` is every bridge.
    bridge: Option<String>,
    who: Who,
}

#[derive(Debug, PartialEq)]
enum Who {
    Everyone,
    User(String),
    Group(String),
}

impl List {
    /// Reads it, if nobody but root can have written it.
    pub fn read(path: &Path) -> Result<List, Refusal> {
        let name = path.display().to_string();
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "{name}: there is no such list, so nobody may join a bridge; as root, write into it a line \
                 like: allow br0 user alice"
            ),
            _ => format!("{name}: cannot read it: {error}; as root, chmod 644 it"),
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let meta = folder.symlink_metadata().map_err(failed)?;
        judge_owner(&folder.display().to_string(), meta.is_dir(), &meta)?;
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits())
            .open(path);
        let file = file.map_err(failed)?;
        // Of what is open, and not of what has its name by now.
        let meta = file.metadata().map_err(failed)?;
        judge_owner(&name, meta.is_file(), &meta)?;
        let mut text = String::new();
        file.take(LONGEST + 1)
            .read_to_string(&mut text)
            .map_err(failed)?;
        if text.len() as u64 > LONGEST {
            return Err(format!("{name}: longer than {} KiB", LONGEST >> 10));
        }
        let rules = parse(&text)
            .map_err(|why| format!("{name}: {why}; nobody may join until it is mended"))?;
        Ok(List { name, rules })
    }

    /// Refuses what it does not allow this caller.
    pub fn judge(&self, bridge: &str, caller: &Caller) -> Result<(), Refusal> {
        let name = &self.name;
        let mut allowed = false;
        for rule in &self.rules {
            if rule.bridge.as_deref().is_some_and(|of| of != bridge) {
                continue;
            }
            let line = rule.line;
            let meant = match &rule.who {
                Who::Everyone => Ok(true),
                Who::User(name) => user(name).map(|id| id == Some(caller.user)),
                Who::Group(name) => {
                    group(name).map(|id| id.is_some_and(|id| caller.groups.contains(&id)))
                }
            };
            let meant =
                meant.map_err(|why| format!("{name}, line {line}: {why}; try again later"))?;
            if meant && !rule.allows {
                return Err(format!("{name}, line {line}, denies you {bridge}"));
            }
            allowed |= meant;
        }
        match allowed {
            true => Ok(()),
            false => Err(format!(
                "{name} does not allow you {bridge}; ask for a line like: allow {bridge} user {}",
                caller.user
            )),
        }
    }
}

fn judge_owner(name: &str, is_kind: bool, meta: &std::fs::Metadata) -> Result<(), Refusal> {
    if !is_kind {
        return Err(format!(
            "{name}: not what it should be: a plain file in a folder"
        ));
    }
    if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return Err(format!(
            "{name}: others than root may write it; chown root and chmod go-w it"
        ));
    }
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        let words: Vec<_> = text
            .split('#')
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        let (word, bridge, who) = match words[..] {
            [] => continue,
            [word, bridge, "everyone"] => (word, bridge, Who::Everyone),
            [word, bridge, "user", name] => (word, bridge, Who::User(name.into())),
            [word, bridge, "group", name] => (word, bridge, Who::Group(name.into())),
            _ => {
                return Err(format!(
                    "line {line} is no rule: allow or deny, a bridge, then user NAME, group NAME or everyone"
                ));
            }
        };
        let allows = match word {
            "allow" => true,
            "deny" => false,
            _ => return Err(format!("line {line} begins with neither allow nor deny")),
        };
        let bridge = (bridge != "*").then(|| bridge.to_owned());
        rules.push(Rule {
            line,
            allows,
            bridge,
            who,
        });
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str, bridge: &str) -> Result<(), Refusal> {
        let list = List {
            name: "list".into(),
            rules: parse(text)?,
        };
        let caller = Caller {
            user: 1000,
            groups: vec![1000, 27],
        };
        list.judge(bridge, &caller)
    }

    #[test]
    fn what_is_denied_is_denied_and_what_nobody_allows_is_not_allowed() {
        for good in [
            "allow br0 user 1000",
            "allow * user 1000 # remark",
            "# remark\n\nallow br0 group 27",
            "allow br0 everyone",
            "deny br1 everyone\nallow br0 everyone",
            "deny br0 user 1001\nallow br0 everyone",
        ] {
            judge(good, "br0").unwrap();
        }
        for (bad, why) in [
            ("", "does not allow"),
            ("allow br1 user 1000", "does not allow"),
            ("allow br0 user 1001", "does not allow"),
            ("allow br0 group 1001", "does not allow"),
            ("allow br0 user no-such-user-at-all", "does not allow"),
            ("allow br0 everyone\ndeny br0 group 27", "line 2, denies"),
            ("deny * user 1000\nallow br0 everyone", "line 1, denies"),
        ] {
            let refusal = judge(bad, "br0").unwrap_err();
            assert!(refusal.contains(why), "{bad}: {refusal}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_spoils_the_list() {
        for bad in [
            "allow br0",
            "allow br0 everyone else",
            "permit br0 everyone",
            "allow br0 user",
            "allow br0 users alice",
            "Allow br0 everyone",
        ] {
            let refusal = judge(&format!("allow br0 everyone\n{bad}"), "br0").unwrap_err();
            assert!(refusal.contains("line 2"), "{bad}: {refusal}");
        }
    }

    #[test]
    fn only_a_list_that_root_alone_writes_counts() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let refusal = List::read(&path).unwrap_err();
        assert!(refusal.contains("no such list"), "{refusal}");
        std::fs::write(&path, "allow br0 everyone\n").unwrap();
        let mode = |mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            List::read(&path).map(|list| list.rules.len())
        };
        let root = nix::unistd::geteuid().is_root();
        assert_eq!(mode(0o644).is_ok(), root, "as {}", nix::unistd::geteuid());
        for writable in [0o664, 0o646] {
            assert!(mode(writable).unwrap_err().contains("others than root"));
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(List::read(&link).is_err());
        std::fs::write(&path, vec![b'#'; 65 << 10]).unwrap();
        assert!(mode(0o644).is_err());
    }
}
