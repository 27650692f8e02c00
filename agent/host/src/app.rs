//! An app of the guest's, as everybody here knows it.
use serde::{Deserialize, Serialize};

/// An app of the guest's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// Its name, fit for display.
    pub name: String,
}
