//! Words without markup. Servers that render none still get some from apps that do not ask.

/// Elements that notifications may hold. Whatever else stands between such brackets is text.
const ELEMENTS: [&str; 6] = ["b", "i", "u", "a", "img", "br"];

/// Entities, and what they stand for.
const ENTITIES: [(&str, char); 5] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
];

/// The longest entity that is looked for.
const LONGEST: usize = 10;

/// A body without its markup: elements go, a picture leaves its words, entities become letters.
#[must_use]
pub fn strip(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        let here = &rest[at..];
        let found = if here.starts_with('<') {
            element(here)
        } else {
            entity(here)
        };
        match found {
            Some((text, used)) => {
                out.push_str(&text);
                rest = &here[used..];
            }
            None => {
                out.push_str(&here[..1]);
                rest = &here[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// An element at the front: what it leaves, and how long it is.
fn element(text: &str) -> Option<(String, usize)> {
    let end = text.find('>')?;
    let inside = text.get(1..end)?;
    let closes = inside.starts_with('/');
    let inside = inside.trim_start_matches('/').trim_end_matches('/');
    let (name, attributes) = match inside.split_once(char::is_whitespace) {
        Some((name, attributes)) => (name, attributes),
        None => (inside, ""),
    };
    if !ELEMENTS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
    {
        return None;
    }
    let left = match name.to_ascii_lowercase().as_str() {
        "br" => "\n".to_owned(),
        "img" if !closes => quoted(attributes, "alt=").map(strip).unwrap_or_default(),
        _ => String::new(),
    };
    Some((left, end + 1))
}

fn quoted<'t>(attributes: &'t str, name: &str) -> Option<&'t str> {
    let value = &attributes[attributes.find(name)? + name.len()..];
    let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    value[1..].split(quote).next()
}

fn entity(text: &str) -> Option<(String, usize)> {
    let end = text.bytes().take(LONGEST).position(|byte| byte == b';')?;
    let name = &text[1..end];
    let known = ENTITIES.iter().find(|(entity, _)| *entity == name);
    let letter = match (known, name.strip_prefix('#')) {
        (Some((_, letter)), _) => *letter,
        (None, Some(number)) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
        (None, None) => return None,
    };
    Some((letter.to_string(), end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_goes_and_text_stays() {
        for (body, left) in [
            ("plain — ünïcödé", "plain — ünïcödé"),
            ("<b>bold</b> <I>it</I>", "bold it"),
            ("<a href=\"https://x/?a>b\">link</a>", "b\">link"),
            ("<a href='https://x/'>link</a>", "link"),
            ("see <img src=\"x.png\" alt=\"a &amp; b\"/>!", "see a & b!"),
            ("one<br/>two<br>three", "one\ntwo\nthree"),
            ("1 < 2 && 3 > 2", "1 < 2 && 3 > 2"),
            ("<vec> stays", "<vec> stays"),
            (
                "&lt;b&gt; &#228; &#xe4; &nbsp; &#0x; &",
                "<b> ä ä &nbsp; &#0x; &",
            ),
            ("end <b", "end <b"),
            ("&ä;", "&ä;"),
            ("<img alt=\"", "<img alt=\""),
            ("<", "<"),
        ] {
            assert_eq!(strip(body), left, "{body}");
        }
    }

    #[test]
    fn depth_is_bounded_by_length() {
        let body = "<img alt='".repeat(2000) + &"'>".repeat(2000);
        assert!(strip(&body).len() <= body.len());
    }
}
