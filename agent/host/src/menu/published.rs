//! Which of the guest's apps are published.

/// Which of the guest's apps are published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Published {
    /// None.
    #[default]
    None,
    /// Those with these names.
    Only(Vec<String>),
    /// All but those with these names.
    AllBut(Vec<String>),
}

impl Published {
    /// Whether an app is published. Case does not matter.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let named = |names: &[String]| {
            names
                .iter()
                .any(|other| other.to_lowercase() == name.to_lowercase())
        };
        match self {
            Self::None => false,
            Self::Only(names) => named(names),
            Self::AllBut(names) => !named(names),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_include_or_exclude() {
        let names = vec!["Editor".to_owned()];
        assert!(!Published::None.has("Editor"));
        assert!(
            Published::Only(names.clone()).has("editor")
                && !Published::Only(names.clone()).has("x")
        );
        assert!(
            !Published::AllBut(names.clone()).has("EDITOR") && Published::AllBut(names).has("x")
        );
    }
}
