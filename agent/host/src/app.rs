//! An app of the guest's, as everybody here knows it.
use crate::clean;
use medley_wire::limits::{ACTIONS, MIME_TYPES, SCHEMES};
use medley_wire::{AppId, Text, Untrusted};
use serde::{Deserialize, Deserializer, Serialize};

/// An app of the guest's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct App {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// Its name, fit for display, as all its texts are.
    pub name: String,
    /// The folder of the guest's menu that it is in; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub folder: String,
    /// What it does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Other words to find it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// Types of documents that it opens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Schemes of addresses that it opens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemes: Vec<String>,
    /// What else it can be launched to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
}

/// A further action of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Its number, not zero.
    pub number: u8,
    /// What it is called.
    pub name: String,
}

/// An app as a presenter lists it. What is not there is empty; what makes no sense is left out.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Listed {
    #[serde(deserialize_with = "clean::app")]
    pub app: AppId,
    #[serde(deserialize_with = "clean::text")]
    name: String,
    #[serde(default, deserialize_with = "clean::text")]
    folder: String,
    #[serde(default, deserialize_with = "clean::text")]
    comment: String,
    #[serde(default, deserialize_with = "keywords")]
    keywords: Vec<String>,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    schemes: Vec<String>,
    #[serde(default)]
    actions: Vec<Action>,
}

impl Listed {
    /// The app, once more held to what each of its fields may be.
    pub fn judged(self) -> (AppId, App) {
        let claim = |text: &str| Untrusted::claim(Text::<256>::cut(text)).mime_type();
        let types = self.types.iter().filter_map(|text| claim(text));
        let scheme = |text: &str| Untrusted::claim(Text::<256>::cut(text)).scheme();
        let schemes = self.schemes.iter().filter_map(|text| scheme(text));
        let named = |action: Action| Action {
            number: action.number,
            name: clean::line(&action.name),
        };
        let app = App {
            id: self.app.to_string(),
            name: self.name,
            folder: self.folder,
            comment: self.comment,
            keywords: self.keywords,
            types: types
                .map(|name| name.to_string())
                .take(MIME_TYPES)
                .collect(),
            schemes: schemes.map(|name| name.to_string()).take(SCHEMES).collect(),
            actions: self
                .actions
                .into_iter()
                .filter(|action| action.number != 0)
                .map(named)
                .take(ACTIONS)
                .collect(),
        };
        (self.app, app)
    }
}

/// Words with commas between.
fn keywords<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let words = clean::text(from)?;
    let words = words.split([',', ';']).map(str::trim);
    Ok(words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_sense_is_kept() {
        let line = r#"{"app":"00112233445566778899aabbccddeeff","name":"Ed\u001b[1m",
            "folder":"Office","comment":"Edits","keywords":"text, note,,",
            "types":["text/plain","x\nExec=evil","Text/Plain"],"schemes":["mailto","a b"],
            "actions":[{"number":1,"name":"New\nwindow"},{"number":0,"name":"none"}],"more":1}"#;
        let (_, app) = serde_json::from_str::<Listed>(line).unwrap().judged();
        assert_eq!(app.name, "Ed\u{fffd}[1m");
        assert_eq!(
            (app.folder.as_str(), app.comment.as_str()),
            ("Office", "Edits")
        );
        assert_eq!(app.keywords, ["text", "note"]);
        assert_eq!(
            (app.types, app.schemes),
            (vec!["text/plain".into()], vec!["mailto".into()])
        );
        let [Action { number: 1, name }] = &app.actions[..] else {
            panic!("{:?}", app.actions);
        };
        assert_eq!(name, "New window");
    }

    #[test]
    fn a_name_is_enough() {
        let line = r#"{"app":"00112233445566778899aabbccddeeff","name":"Ed"}"#;
        let (_, app) = serde_json::from_str::<Listed>(line).unwrap().judged();
        let words = serde_json::to_string(&app).unwrap();
        assert_eq!(
            words,
            r#"{"id":"00112233445566778899aabbccddeeff","name":"Ed"}"#
        );
        assert_eq!(serde_json::from_str::<App>(&words).unwrap(), app);
    }
}
