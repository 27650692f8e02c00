//! XML, as much as a domain takes: elements with attributes, and children or a text.

use std::fmt;

/// An element. Whatever text is put in is escaped on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Element>,
    text: String,
}

pub(crate) fn element(name: &'static str) -> Element {
    Element {
        name,
        attributes: Vec::new(),
        children: Vec::new(),
        text: String::new(),
    }
}

impl Element {
    pub fn with(mut self, attribute: &'static str, value: impl fmt::Display) -> Element {
        self.attributes.push((attribute, value.to_string()));
        self
    }

    pub fn text(mut self, text: impl fmt::Display) -> Element {
        self.text = text.to_string();
        self
    }

    pub fn child(self, child: Element) -> Element {
        self.children([child])
    }

    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Element {
        self.children.extend(children);
        self
    }
}

/// False for what XML has no way to say: most control characters.
pub(crate) fn sayable(text: &str) -> bool {
    let bad = |c: char| (c < ' ' && !"\t\n\r".contains(c)) || c == '\u{fffe}' || c == '\u{ffff}';
    !text.contains(bad)
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            // A reader would make spaces of the last three.
            '"' | '\'' | '\t' | '\n' | '\r' => write!(f, "&#{};", u32::from(c)),
            c => write!(f, "{c}"),
        })
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}", self.name)?;
        for (name, value) in &self.attributes {
            write!(f, " {name}=\"{}\"", Escaped(value))?;
        }
        if self.children.is_empty() && self.text.is_empty() {
            return f.write_str("/>");
        }
        write!(f, ">{}", Escaped(&self.text))?;
        self.children.iter().try_for_each(|child| child.fmt(f))?;
        write!(f, "</{}>", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_stays_inside() {
        let element = element("a")
            .with("b", "x\"/><evil c='&\n")
            .child(super::element("d").text("</a>]]>"))
            .child(super::element("e"));
        assert_eq!(
            element.to_string(),
            "<a b=\"x&#34;/&gt;&lt;evil c=&#39;&amp;&#10;\"><d>&lt;/a&gt;]]&gt;</d><e/></a>"
        );
        assert!(sayable("ä\n") && !sayable("\u{1}") && !sayable("\u{ffff}"));
    }
}
