//! What the guest's agent reads of its apps: desktop entries, commands, icons. They are files of the guest's, so
//! nothing of the host depends on them; but an agent that one bad file ends shows no windows at all.

use medley_guest::apps::entry::Entry;
use medley_guest::apps::exec::commands;
use medley_guest::apps::icon::of_window;

use super::Target;

pub const ENTRY: Target = Target {
    name: "guest_entry",
    about: "text of a desktop entry: read or not listed, and its commands are words of it",
    max_len: 4096,
    run: entry,
};

pub const EXEC: Target = Target {
    name: "guest_exec",
    about: "a command on the first line, addresses on the others: words or refused, nothing an option",
    max_len: 2048,
    run: exec,
};

pub const ICON: Target = Target {
    name: "guest_icon",
    about: "_NET_WM_ICON of a window: a picture within the wire's bounds, or none; the first byte is the side",
    max_len: 8192,
    run: icon,
};

fn entry(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for locale in ["", "de_DE.UTF-8@euro", "@", "_"] {
        let Ok(entry) = Entry::parse(&text, locale, "Medley") else {
            continue;
        };
        assert!(!entry.exec.is_empty());
        // Escapes make text shorter, never longer.
        assert!(entry.name.len() + entry.exec.len() <= text.len());
        let all = entry.actions.iter().map(|(_, exec)| exec);
        for command in all.chain([&entry.exec]) {
            check(command, &entry, &[]);
            check(command, &entry, &["https://a/?b=c", "file:///tmp/a%20b"]);
        }
    }
}

fn exec(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let command = lines.next().unwrap_or_default();
    let addresses: Vec<_> = lines.collect();
    let entry = Entry {
        name: "My %u App".into(),
        icon: Some("icon".into()),
        ..Entry::default()
    };
    check(command, &entry, &addresses);
}

/// No field code of the entry's own text is expanded again, and no address becomes more than one argument.
fn check(command: &str, entry: &Entry, addresses: &[&str]) {
    let Ok(all) = commands(command, entry, "/place", addresses) else {
        return;
    };
    assert!(!all.is_empty() && all.len() <= addresses.len().max(1));
    let fields = command.split('%').count();
    for words in &all {
        // A word of the command is one argument, an icon two, a list as many as there are addresses.
        let most = command.len() + fields * (addresses.len() + 2);
        assert!(words.len() <= most, "{} arguments", words.len());
    }
    for address in addresses {
        assert!(
            !address.starts_with('-') && !address.contains(char::is_control),
            "{address:?} was passed on"
        );
    }
}

fn icon(bytes: &[u8]) {
    let Some((side, rest)) = bytes.split_first() else {
        return;
    };
    // Widths and heights of real icons are small; a byte for each word, and whole words now and then.
    let words: Vec<u32> = if side % 2 == 0 {
        rest.iter().map(|byte| u32::from(*byte)).collect()
    } else {
        let words = rest.as_chunks::<4>().0;
        words.iter().map(|word| u32::from_le_bytes(*word)).collect()
    };
    for side in [u32::from(*side), 0, 16, u32::MAX] {
        let Some(icon) = of_window(&words, side) else {
            continue;
        };
        let picture = icon.picture().expect("what was made can be sent");
        let size = picture.size();
        assert!(size.width().max(size.height()) <= side.max(1));
    }
}
