//! A header's memory of a LUKS1 twin: a token that says where it lies and which of its slots follow which of ours.
//!
//! A pair also notes the salt of our slot. A slot that went, or has another passphrase by now, no matter who
//! edited the header, no longer has that salt: so it shows which slots of the twin must go.

use serde_json::json;

use crate::node::{Node, base64};
use crate::{Error, ErrorKind, Header, Json, Result, SlotId, TokenId};

/// The type of the token.
const TYPE: &str = "medley-luks1-twin";
/// Slots of a LUKS1 header.
const TWIN_SLOTS: u32 = 8;
/// Rounds that are taken from a token: what comes with a header may not make us work for hours.
const ITERATIONS: std::ops::RangeInclusive<u32> = 1000..=50_000_000;

/// What a header knows of a LUKS1 twin that was exported from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twin {
    /// The path of its file: a bare name if it lies beside the header.
    pub place: String,
    /// Its UUID as text.
    pub uuid: String,
    /// PBKDF2 rounds for its slots.
    pub iterations: u32,
    pairs: Vec<Pair>,
}

/// A slot of the header, and the slot of the twin that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    slot: SlotId,
    salt: String,
    twin: u32,
}

impl Twin {
    /// A twin without pairs.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for rounds that no token may ask for: fewer than 1000, more than 50 million.
    pub fn new(place: &str, uuid: &str, iterations: u32) -> Result<Self> {
        if !ITERATIONS.contains(&iterations) {
            let (least, most) = (ITERATIONS.start(), ITERATIONS.end());
            let what = format!("{iterations} is not within {least} to {most}");
            return Err(Error::input("iterations", what));
        }
        Ok(Self {
            place: place.to_owned(),
            uuid: uuid.to_owned(),
            iterations,
            pairs: Vec::new(),
        })
    }

    /// The twins that `header` knows of. A token of this type that makes no sense is an error, not overlooked:
    /// a twin nobody knows of keeps the passphrases that others remove.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], naming the field.
    pub fn all(header: &Header) -> Result<Vec<(TokenId, Self)>> {
        header
            .tokens()
            .into_iter()
            .filter(|(_, token)| Self::is_one(token))
            .map(|(id, token)| {
                let node = Node::root(token);
                let read = Self::read(&node);
                let named = |e: Error| Error::corrupt(format!("tokens.{id}"), e.to_string());
                Ok((id, read.map_err(named)?))
            })
            .collect()
    }

    /// Is this token of the type of twins?
    pub fn is_one(token: &Json) -> bool {
        token.get("type").and_then(Json::as_str) == Some(TYPE)
    }

    fn read(token: &Node) -> Result<Self> {
        let iterations = token.get("iterations")?.u32()?;
        let mut twin = Self::new(
            token.get("place")?.str()?,
            token.get("uuid")?.str()?,
            iterations,
        )?;
        for (number, pair) in token.get("pairs")?.numbered(TWIN_SLOTS)? {
            twin.pairs.push(Pair {
                slot: pair.get("slot")?.u32()?,
                salt: pair.get("salt")?.str()?.to_owned(),
                twin: number,
            });
        }
        Ok(twin)
    }

    /// From now on slot `twin` of the twin goes with `slot` of `header`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such a slot.
    pub fn pair(&mut self, header: &Header, slot: SlotId, twin: u32) -> Result<()> {
        let salt = salt(header, slot).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("keyslots.{slot}"),
                "no such key slot",
            )
        })?;
        self.pairs.retain(|pair| pair.twin != twin);
        self.pairs.push(Pair { slot, salt, twin });
        Ok(())
    }

    /// The slots of the twin that must go: theirs in `header` is gone or has another passphrase.
    pub fn stale(&self, header: &Header) -> Vec<u32> {
        let pairs = self.pairs.iter();
        pairs
            .filter(|pair| salt(header, pair.slot).as_ref() != Some(&pair.salt))
            .map(|pair| pair.twin)
            .collect()
    }

    /// Does a slot of the twin go with `slot`, whatever passphrase that has by now?
    pub fn follows(&self, slot: SlotId) -> bool {
        self.pairs.iter().any(|pair| pair.slot == slot)
    }

    /// Slot `twin` of the twin is no more.
    pub fn forget(&mut self, twin: u32) {
        self.pairs.retain(|pair| pair.twin != twin);
    }

    /// Writes the token to `header`: over token `id`, or as a new one.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`], [`ErrorKind::NotFound`].
    pub fn store(&self, header: &mut Header, id: Option<TokenId>) -> Result<TokenId> {
        let mut keyslots: Vec<String> = self
            .pairs
            .iter()
            .filter(|pair| salt(header, pair.slot).is_some())
            .map(|pair| pair.slot.to_string())
            .collect();
        keyslots.sort();
        keyslots.dedup();
        let pairs: serde_json::Map<String, Json> = self
            .pairs
            .iter()
            .map(|pair| {
                let value = json!({"slot": pair.slot, "salt": pair.salt});
                (pair.twin.to_string(), value)
            })
            .collect();
        let token = json!({
            "type": TYPE, "keyslots": keyslots, "place": self.place, "uuid": self.uuid,
            "iterations": self.iterations, "pairs": pairs,
        });
        match id {
            Some(id) => header.replace_token(id, token).map(|()| id),
            None => header.add_token(token),
        }
    }
}

/// The salt of a slot's key derivation, by which one passphrase of it is told from the next.
fn salt(header: &Header, slot: SlotId) -> Option<String> {
    let lock = header.meta.keyslots.get(&slot)?.lock.as_ref().ok()?;
    base64(&lock.salt).as_str().map(str::to_owned)
}
