//! Tokens: JSON objects that a header carries for others, for example policy and lease of a workspace. This crate
//! keeps them, it does not understand them.

use serde_json::Value;

use crate::edit::object;
use crate::metadata::{MAX_OBJECTS, TokenId};
use crate::{Error, ErrorKind, Header, Result};

impl Header {
    /// The tokens in order of their numbers.
    pub fn tokens(&self) -> Vec<(TokenId, &Value)> {
        self.meta
            .tokens
            .keys()
            .filter_map(|&id| Some((id, self.token(id)?)))
            .collect()
    }

    /// One token.
    pub fn token(&self, id: TokenId) -> Option<&Value> {
        self.json.get("tokens")?.get(id.to_string())
    }

    /// Adds a token: an object with a `type` (a name of yours, `luks2-` is reserved) and `keyslots`, an array with
    /// the numbers of the slots it is about as strings, empty if none.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when it is no such object, [`ErrorKind::NoSpace`] when 32 tokens are there or the JSON
    /// area is full.
    pub fn add_token(&mut self, token: Value) -> Result<TokenId> {
        let id = (0..MAX_OBJECTS)
            .find(|id| !self.meta.tokens.contains_key(id))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::NoSpace,
                    "tokens",
                    format!("all {MAX_OBJECTS} tokens are taken"),
                )
            })?;
        self.put_token(id, token)?;
        Ok(id)
    }

    /// Puts another token in the place of one.
    ///
    /// # Errors
    /// As [`Header::add_token`], and [`ErrorKind::NotFound`].
    pub fn replace_token(&mut self, id: TokenId, token: Value) -> Result<()> {
        self.check_token(id)?;
        self.put_token(id, token)
    }

    /// Removes a token.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn remove_token(&mut self, id: TokenId) -> Result<()> {
        self.check_token(id)?;
        let mut json = self.json.clone();
        object(&mut json, "tokens")?.remove(&id.to_string());
        self.commit(json, self.binary.clone())
    }

    fn put_token(&mut self, id: TokenId, token: Value) -> Result<()> {
        let mut json = self.json.clone();
        object(&mut json, "tokens")?.insert(id.to_string(), token);
        self.commit(json, self.binary.clone())
            .map_err(|e| match e.kind() {
                // The header was sound, so it is the token that is not.
                ErrorKind::Corrupt => Error::input(
                    e.field().to_owned(),
                    "not a token: an object with `type` and `keyslots`",
                ),
                _ => e,
            })
    }

    fn check_token(&self, id: TokenId) -> Result<()> {
        match self.meta.tokens.contains_key(&id) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::NotFound,
                format!("tokens.{id}"),
                "no such token",
            )),
        }
    }
}
