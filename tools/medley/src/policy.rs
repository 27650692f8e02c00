//! Policies in files: TOML, or JSON where the file's name ends in `.json`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::exit::{Failure, Result};

/// The most a policy's file may have.
const MAX_POLICY: u64 = 1 << 20;

/// Reads one. What it means is the caller's to judge.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let name = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_POLICY + 1).read_to_string(&mut text))
        .map_err(Failure::io(format!("{name}: cannot read the policy")))?;
    if text.len() as u64 > MAX_POLICY {
        return Err(Failure::usage(format!("{name}: too large for a policy")));
    }
    let policy = match path.extension().is_some_and(|end| end == "json") {
        true => serde_json::from_str(&text).map_err(|error| error.to_string()),
        false => toml::from_str(&text).map_err(|error| error.to_string()),
    };
    policy.map_err(|error| Failure::usage(format!("{name}: not a policy: {}", error.trim_end())))
}
