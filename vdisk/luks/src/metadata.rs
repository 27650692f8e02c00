//! The JSON area as types, judged: whoever holds a [`Metadata`] may index by its references and trust that the
//! key-slot areas lie inside the header and apart from each other.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::binary::BINARY_LEN;
use crate::digest::KeyDigest;
use crate::hash::Hash;
use crate::kdf::Kdf;
use crate::material::sealed_len;
use crate::node::Node;
use crate::{Error, Result};

/// Number of a key slot, 0 to 31.
pub type SlotId = u32;
/// Number of a token, 0 to 31.
pub type TokenId = u32;

/// The format's bound on slots, tokens, segments and digests alike.
pub(crate) const MAX_OBJECTS: u32 = 32;
/// Areas begin and end at multiples of this.
pub(crate) const AREA_ALIGN: u64 = 4096;
/// The most that all key-slot areas may take: 128 MiB.
pub(crate) const MAX_KEYSLOTS_SIZE: u64 = 128 << 20;
/// The one cipher of our key-slot areas and disks.
pub(crate) const CIPHER: &str = "aes-xts-plain64";

#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    pub keyslots: BTreeMap<SlotId, Keyslot>,
    pub tokens: BTreeMap<TokenId, Vec<SlotId>>,
    /// `None` for a segment that is not encrypted.
    pub segments: BTreeMap<u32, Option<Segment>>,
    pub digests: BTreeMap<u32, Digest>,
    pub keyslots_size: u64,
    /// What a reader must understand or keep off.
    pub requirements: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Keyslot {
    /// Length of the volume key inside, in bytes.
    pub key_size: u32,
    pub priority: Priority,
    pub area: Area,
    /// How to open it, or the reason why this crate cannot.
    pub lock: std::result::Result<Lock, String>,
}

/// Everything needed to open a slot of type `luks2`.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    pub kdf: Kdf,
    pub salt: Vec<u8>,
    pub af_hash: Hash,
    pub af_stripes: u32,
}

/// A byte range of the header file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub offset: u64,
    pub size: u64,
}

impl Area {
    /// One past the last byte. Judged areas do not overflow.
    pub(crate) fn end(self) -> u64 {
        self.offset.saturating_add(self.size)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }
}

/// When a slot is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Only when asked for by number.
    Ignore,
    /// After those of high priority.
    Normal,
    /// First.
    High,
}

/// A stretch of the disk that the volume key encrypts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// First byte of the ciphertext in the data file; 0 with a detached header.
    pub offset: u64,
    /// Length in bytes; `None` is all the rest of the data file.
    pub size: Option<u64>,
    /// Cipher in dm-crypt's words: `aes-xts-plain64`.
    pub cipher: String,
    /// Bytes per data unit: 512 to 4096.
    pub sector_size: u32,
    /// Added to the number of every 512-byte sector before it becomes the tweak.
    pub iv_tweak: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Digest {
    pub keyslots: Vec<SlotId>,
    pub segments: Vec<u32>,
    pub digest: std::result::Result<KeyDigest, String>,
}

impl Metadata {
    /// Reads and judges the JSON of a header whose copies are `copy_size` long.
    pub(crate) fn parse(json: &Value, copy_size: u64) -> Result<Self> {
        let root = Node::root(json);
        let config = root.get("config")?;
        let json_size = config.get("json_size")?;
        if json_size.u64_string()?.checked_add(BINARY_LEN as u64) != Some(copy_size) {
            return Err(json_size.corrupt(format!("contradicts the header size {copy_size}")));
        }
        let size = config.get("keyslots_size")?;
        let keyslots_size = size.u64_string()?;
        if keyslots_size > MAX_KEYSLOTS_SIZE || !keyslots_size.is_multiple_of(AREA_ALIGN) {
            return Err(size.corrupt(format!(
                "{keyslots_size} is above 128 MiB or no multiple of {AREA_ALIGN}"
            )));
        }
        let metadata = Self {
            keyslots: numbered(&root, "keyslots", keyslot)?,
            tokens: numbered(&root, "tokens", token)?,
            segments: numbered(&root, "segments", segment)?,
            digests: numbered(&root, "digests", digest)?,
            keyslots_size,
            requirements: requirements(&config)?,
        };
        metadata.check_areas(copy_size)?;
        metadata.check_references()?;
        Ok(metadata)
    }

    /// Refuses headers that want more than we know.
    pub(crate) fn check_requirements(&self) -> Result<()> {
        match self.requirements.first() {
            None => Ok(()),
            Some(name) => Err(Error::unsupported(
                "config.requirements.mandatory",
                format!("the header requires `{name:.60}`, which is unknown here"),
            )),
        }
    }

    /// The first encrypted segment: the disk.
    pub(crate) fn disk_segment(&self) -> Option<(u32, &Segment)> {
        self.segments
            .iter()
            .find_map(|(&id, segment)| Some((id, segment.as_ref()?)))
    }

    /// The digest of the key that encrypts the disk.
    pub(crate) fn disk_digest(&self) -> Result<(u32, &Digest)> {
        let disk = self.disk_segment().map(|(id, _)| id);
        let mut digests = self.digests.iter();
        digests
            .find(|(_, d)| disk.is_some_and(|id| d.segments.contains(&id)))
            .map(|(&id, d)| (id, d))
            .ok_or_else(|| Error::unsupported("digests", "none is bound to an encrypted segment"))
    }

    /// Where key-slot areas may lie.
    pub(crate) fn keyslots_area(&self, copy_size: u64) -> Area {
        Area {
            offset: 2 * copy_size,
            size: self.keyslots_size,
        }
    }

    fn check_areas(&self, copy_size: u64) -> Result<()> {
        let room = self.keyslots_area(copy_size);
        let mut areas: Vec<(Area, SlotId)> =
            self.keyslots.iter().map(|(&id, k)| (k.area, id)).collect();
        areas.sort_by_key(|(area, _)| area.offset);
        for (area, id) in &areas {
            let end = area.offset.checked_add(area.size);
            if area.offset < room.offset || end.is_none_or(|end| end > room.end()) {
                return Err(Error::corrupt(
                    format!("keyslots.{id}.area"),
                    format!(
                        "{}+{} lies outside {}..{}",
                        area.offset,
                        area.size,
                        room.offset,
                        room.end()
                    ),
                ));
            }
        }
        for pair in areas.windows(2) {
            if let [(a, first), (b, second)] = pair
                && a.overlaps(*b)
            {
                return Err(Error::corrupt(
                    format!("keyslots.{second}.area"),
                    format!("overlaps that of slot {first}"),
                ));
            }
        }
        Ok(())
    }

    fn check_references(&self) -> Result<()> {
        let missing = |at: String, what: &str, id: u32| {
            Err(Error::corrupt(
                at,
                format!("names {what} {id}, which is missing"),
            ))
        };
        for (id, digest) in &self.digests {
            for slot in &digest.keyslots {
                if !self.keyslots.contains_key(slot) {
                    return missing(format!("digests.{id}.keyslots"), "key slot", *slot);
                }
            }
            for segment in &digest.segments {
                if !self.segments.contains_key(segment) {
                    return missing(format!("digests.{id}.segments"), "segment", *segment);
                }
            }
        }
        for (id, slots) in &self.tokens {
            if let Some(slot) = slots.iter().find(|slot| !self.keyslots.contains_key(slot)) {
                return missing(format!("tokens.{id}.keyslots"), "key slot", *slot);
            }
        }
        for id in self.keyslots.keys() {
            let owners = self
                .digests
                .values()
                .filter(|d| d.keyslots.contains(id))
                .count();
            if owners != 1 {
                return Err(Error::corrupt(
                    format!("keyslots.{id}"),
                    format!("belongs to {owners} digests instead of one"),
                ));
            }
        }
        Ok(())
    }
}

/// All objects of the section `name`.
fn numbered<T>(
    root: &Node,
    name: &str,
    read: impl Fn(&Node) -> Result<T>,
) -> Result<BTreeMap<u32, T>> {
    root.get(name)?
        .numbered(MAX_OBJECTS)?
        .into_iter()
        .map(|(id, node)| Ok((id, read(&node)?)))
        .collect()
}

fn keyslot(node: &Node) -> Result<Keyslot> {
    let kind = node.get("type")?.str()?;
    let key_size = node.get("key_size")?.u32()?;
    let priority = match node.find("priority")? {
        None => Priority::Normal,
        Some(p) => match p.u32()? {
            0 => Priority::Ignore,
            1 => Priority::Normal,
            2 => Priority::High,
            other => return Err(p.corrupt(format!("{other} is not 0, 1 or 2"))),
        },
    };
    let area_node = node.get("area")?;
    area_node.get("type")?.str()?;
    let area = Area {
        offset: area_node.get("offset")?.u64_string()?,
        size: area_node.get("size")?.u64_string()?,
    };
    let lock = if kind == "luks2" {
        lock(node, key_size, area)?
    } else {
        Err(format!("its type is `{kind:.32}`"))
    };
    Ok(Keyslot {
        key_size,
        priority,
        area,
        lock,
    })
}

/// How to open a slot of type `luks2`: an error is corruption, the inner one something we do not do.
fn lock(node: &Node, key_size: u32, area: Area) -> Result<std::result::Result<Lock, String>> {
    let area_node = node.get("area")?;
    let area_type = area_node.get("type")?.str()?;
    let encryption = area_node.get("encryption")?.str()?;
    let area_key = area_node.get("key_size")?.u32()?;

    let af = node.get("af")?;
    let af_type = af.get("type")?.str()?;
    let stripes = af.get("stripes")?;
    let af_stripes = stripes.u32()?;
    if key_size == 0 || af_stripes == 0 || sealed_len(key_size, af_stripes) > area.size {
        return Err(stripes.corrupt(format!(
            "{af_stripes} stripes of {key_size} bytes do not fit an area of {} bytes",
            area.size
        )));
    }
    let af_hash_name = af.get("hash")?.str()?;

    let kdf_node = node.get("kdf")?;
    let salt = kdf_node.get("salt")?.bytes()?;
    if !(8..=1024).contains(&salt.len()) {
        return Err(kdf_node.corrupt(format!("the salt has {} bytes", salt.len())));
    }
    let kdf = match kdf(&kdf_node)? {
        Ok(kdf) => kdf,
        Err(why) => return Ok(Err(why)),
    };
    Ok(match Hash::from_name(af_hash_name) {
        _ if area_type != "raw" => Err(format!("its area is `{area_type:.32}`")),
        _ if af_type != "luks1" => Err(format!("its splitter is `{af_type:.32}`")),
        _ if encryption != CIPHER || area_key != 64 => Err(format!(
            "its area is encrypted with {encryption:.32} of {} bits",
            u64::from(area_key) * 8
        )),
        None => Err(format!("its splitter uses the hash `{af_hash_name:.32}`")),
        Some(af_hash) => Ok(Lock {
            kdf,
            salt,
            af_hash,
            af_stripes,
        }),
    })
}

fn kdf(node: &Node) -> Result<std::result::Result<Kdf, String>> {
    let number = |key: &str| node.get(key)?.u32();
    let kdf = match node.get("type")?.str()? {
        "pbkdf2" => {
            let name = node.get("hash")?.str()?;
            let iterations = number("iterations")?;
            match Hash::from_name(name) {
                Some(hash) => Kdf::Pbkdf2 { hash, iterations },
                None => return Ok(Err(format!("its PBKDF2 uses the hash `{name:.32}`"))),
            }
        }
        "argon2id" => Kdf::Argon2id {
            time: number("time")?,
            memory_kib: number("memory")?,
            lanes: number("cpus")?,
        },
        "argon2i" => Kdf::Argon2i {
            time: number("time")?,
            memory_kib: number("memory")?,
            lanes: number("cpus")?,
        },
        other => return Ok(Err(format!("its key derivation is `{other:.32}`"))),
    };
    kdf.check(node.path())?;
    Ok(Ok(kdf))
}

fn token(node: &Node) -> Result<Vec<SlotId>> {
    node.get("type")?.str()?;
    node.get("keyslots")?.ids(MAX_OBJECTS)
}

/// A segment, or `None` for one that is not encrypted.
fn segment(node: &Node) -> Result<Option<Segment>> {
    let kind = node.get("type")?.str()?;
    let offset = node.get("offset")?.u64_string()?;
    let size_node = node.get("size")?;
    let size = if size_node.str()? == "dynamic" {
        None
    } else {
        Some(size_node.u64_string()?)
    };
    if size.is_some_and(|size| size == 0 || offset.checked_add(size).is_none()) {
        return Err(size_node.corrupt("is zero or ends beyond 2^64"));
    }
    if kind != "crypt" {
        return Ok(None);
    }
    let sector = node.get("sector_size")?;
    let sector_size = sector.u32()?;
    if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
        return Err(sector.corrupt(format!("{sector_size} is not 512, 1024, 2048 or 4096")));
    }
    let cipher = node.get("encryption")?.str()?.to_owned();
    Ok(Some(Segment {
        offset,
        size,
        cipher,
        sector_size,
        iv_tweak: node.get("iv_tweak")?.u64_string()?,
    }))
}

fn digest(node: &Node) -> Result<Digest> {
    let kind = node.get("type")?.str()?;
    let keyslots = node.get("keyslots")?.ids(MAX_OBJECTS)?;
    let segments = node.get("segments")?.ids(MAX_OBJECTS)?;
    let digest = if kind == "pbkdf2" {
        let name = node.get("hash")?.str()?;
        let (salt, digest) = (node.get("salt")?.bytes()?, node.get("digest")?.bytes()?);
        let iterations = node.get("iterations")?.u32()?;
        match Hash::from_name(name) {
            Some(hash) => {
                let digest = KeyDigest {
                    hash,
                    iterations,
                    salt,
                    digest,
                };
                digest.check(node.path())?;
                Ok(digest)
            }
            None => Err(format!("its hash is `{name:.32}`")),
        }
    } else {
        Err(format!("its type is `{kind:.32}`"))
    };
    Ok(Digest {
        keyslots,
        segments,
        digest,
    })
}

fn requirements(config: &Node) -> Result<Vec<String>> {
    let Some(requirements) = config.find("requirements")? else {
        return Ok(Vec::new());
    };
    let Some(mandatory) = requirements.find("mandatory")? else {
        return Ok(Vec::new());
    };
    Ok(mandatory
        .strings()?
        .into_iter()
        .map(str::to_owned)
        .collect())
}
