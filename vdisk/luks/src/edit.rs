//! Changes to a header: keys and the label. Each change either happens whole or leaves the header as it was.

use serde_json::{Map, Value, json};

use crate::binary::{BINARY_LEN, Binary, Copy};
use crate::hash::Hash;
use crate::metadata::{AREA_ALIGN, Area, CIPHER, MAX_OBJECTS, Metadata, SlotId};
use crate::node::base64;
use crate::secret::{KEY_LEN, VolumeKey, check_new_passphrase, fill_random, random};
use crate::{Error, ErrorKind, Header, Kdf, Result, af, material};

impl Header {
    /// Adds a key slot that opens the disk with `passphrase`.
    ///
    /// # Errors
    /// [`ErrorKind::KeyMismatch`] when `key` is not this disk's, [`ErrorKind::NoSpace`], [`ErrorKind::Input`] for
    /// an empty passphrase or a useless `kdf`.
    pub fn add_key(&mut self, key: &VolumeKey, passphrase: &[u8], kdf: &Kdf) -> Result<SlotId> {
        self.check_key(key)?;
        let id = (0..MAX_OBJECTS)
            .find(|id| !self.meta.keyslots.contains_key(id))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::NoSpace,
                    "keyslots",
                    format!("all {MAX_OBJECTS} key slots are taken"),
                )
            })?;
        let slot = self.seal_slot(key, passphrase, kdf)?;
        let (digest, _) = self.meta.disk_digest()?;
        let mut json = self.json.clone();
        object(&mut json, "keyslots")?.insert(id.to_string(), Value::Object(slot.json));
        references(object(&mut json, "digests")?, &digest.to_string())?.push(id.to_string().into());
        self.commit(json, self.binary.clone())?;
        self.fill(slot.area, &slot.sealed);
        Ok(id)
    }

    /// Gives the slot that `old` opens the passphrase `new` instead. The slot keeps its number, priority and
    /// tokens. The new key material goes to an area of its own, so the old passphrase works until the moment the
    /// new one does.
    ///
    /// # Errors
    /// As [`Header::unlock`] and [`Header::add_key`].
    pub fn change_key(&mut self, old: &[u8], new: &[u8], kdf: &Kdf) -> Result<SlotId> {
        let (id, key) = self.unlock_slot(old)?;
        self.change_slot(id, &key, new, kdf)?;
        Ok(id)
    }

    /// Gives slot `id` the passphrase `new`, as [`Header::change_key`] does, for who has the volume key.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and as [`Header::add_key`].
    pub fn change_slot(
        &mut self,
        id: SlotId,
        key: &VolumeKey,
        new: &[u8],
        kdf: &Kdf,
    ) -> Result<()> {
        self.check_key(key)?;
        let former = self.slot_area(id)?;
        let slot = self.seal_slot(key, new, kdf)?;
        let mut json = self.json.clone();
        let members = object(&mut json, "keyslots")?
            .get_mut(&id.to_string())
            .and_then(Value::as_object_mut);
        members.ok_or_else(|| no_slot(id))?.extend(slot.json);
        self.commit(json, self.binary.clone())?;
        self.fill(slot.area, &slot.sealed);
        self.wipe(former);
        Ok(())
    }

    /// Removes the slot that `passphrase` opens.
    ///
    /// # Errors
    /// As [`Header::unlock`] and [`Header::remove_slot`].
    pub fn remove_key(&mut self, passphrase: &[u8]) -> Result<SlotId> {
        let (id, _) = self.unlock_slot(passphrase)?;
        self.remove_slot(id, false)?;
        Ok(id)
    }

    /// Removes a key slot. The last that opens the disk goes only with `even_last`: without another copy of the
    /// volume key the disk's content is then lost for ever.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::LastKey`].
    pub fn remove_slot(&mut self, id: SlotId, even_last: bool) -> Result<()> {
        let area = self.slot_area(id)?;
        let last = self.meta.disk_digest().is_ok_and(|(_, digest)| {
            digest.keyslots.contains(&id) && digest.keyslots.iter().all(|slot| *slot == id)
        });
        if last && !even_last {
            let what = "it is the last that opens this disk";
            return Err(Error::new(
                ErrorKind::LastKey,
                format!("keyslots.{id}"),
                what,
            ));
        }
        let name = id.to_string();
        let mut json = self.json.clone();
        object(&mut json, "keyslots")?.remove(&name);
        for section in ["digests", "tokens"] {
            for holder in object(&mut json, section)?.values_mut() {
                if let Some(list) = holder.get_mut("keyslots").and_then(Value::as_array_mut) {
                    list.retain(|slot| slot.as_str() != Some(&name));
                }
            }
        }
        self.commit(json, self.binary.clone())?;
        self.wipe(area);
        Ok(())
    }

    /// Sets the label, up to 47 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when it does not fit.
    pub fn set_label(&mut self, label: &str) -> Result<()> {
        Binary::check_label(label)?;
        self.commit(
            self.json.clone(),
            Binary {
                label: label.to_owned(),
                ..self.binary.clone()
            },
        )
    }

    /// Wipes the areas that only an `older` copy of this header still names: a removal was cut short.
    pub(crate) fn wipe_left_behind(&mut self, older: &Metadata) {
        let room = self.meta.keyslots_area(self.binary.copy_size);
        for slot in older.keyslots.values() {
            let within = slot.area.offset >= room.offset && slot.area.end() <= room.end();
            let in_use = self
                .meta
                .keyslots
                .values()
                .any(|used| used.area.overlaps(slot.area));
            if within && !in_use {
                self.wipe(slot.area);
            }
        }
    }

    /// Judges the new state and makes it this header's: the only door through which anything changes.
    pub(crate) fn commit(&mut self, json: Value, mut binary: Binary) -> Result<()> {
        let text = serde_json::to_vec(&json).map_err(|e| Error::input("json", e.to_string()))?;
        let room = binary.copy_size as usize - BINARY_LEN - 1;
        if text.len() > room {
            let what = format!("the change takes {} bytes of JSON, {room} fit", text.len());
            return Err(Error::new(ErrorKind::NoSpace, "json", what));
        }
        let meta = Metadata::parse(&json, binary.copy_size)?;
        if !self.pending.changed {
            let next = binary.seqid.checked_add(1);
            binary.seqid = next.ok_or_else(|| Error::corrupt("seqid", "has reached its end"))?;
        }
        let salts = (random()?, random()?);
        let (primary, rest) = self.image.split_at_mut(binary.copy_size as usize);
        binary.encode(Copy::Primary, &salts.0, &text, primary);
        binary.encode(
            Copy::Secondary,
            &salts.1,
            &text,
            &mut rest[..binary.copy_size as usize],
        );
        self.binary = binary;
        self.json = json;
        self.meta = meta;
        self.pending.changed = true;
        Ok(())
    }

    /// Key material for a new slot, in an area that neither the file's header nor this one uses.
    fn seal_slot(&self, key: &VolumeKey, passphrase: &[u8], kdf: &Kdf) -> Result<SealedSlot> {
        check_new_passphrase(passphrase)?;
        kdf.check_new()?;
        let size = material::sealed_len(KEY_LEN as u32, af::STRIPES).next_multiple_of(AREA_ALIGN);
        let area = self.free_area(size)?;
        let salt: [u8; 32] = random()?;
        let area_key = kdf.derive(passphrase, &salt)?;
        let hash = Hash::Sha256;
        let sealed = material::seal(&area_key, hash, key.as_bytes())?;
        let mut json = Map::new();
        json.insert("type".into(), "luks2".into());
        json.insert("key_size".into(), KEY_LEN.into());
        json.insert(
            "af".into(),
            json!({"type": "luks1", "stripes": af::STRIPES, "hash": hash.name()}),
        );
        json.insert(
            "area".into(),
            json!({
                "type": "raw", "offset": area.offset.to_string(), "size": area.size.to_string(),
                "encryption": CIPHER, "key_size": KEY_LEN,
            }),
        );
        json.insert("kdf".into(), kdf_json(kdf, &salt));
        Ok(SealedSlot { area, sealed, json })
    }

    /// The first gap of `size` bytes between the areas in use, those still to be wiped included: the header in
    /// the file may name them.
    fn free_area(&self, size: u64) -> Result<Area> {
        let room = self.meta.keyslots_area(self.binary.copy_size);
        let mut used: Vec<Area> = self.meta.keyslots.values().map(|slot| slot.area).collect();
        used.extend(&self.pending.wiped);
        used.sort_by_key(|area| area.offset);
        let mut candidate = Area {
            offset: room.offset,
            size,
        };
        for area in used {
            if candidate.overlaps(area) {
                candidate.offset = area.end().next_multiple_of(AREA_ALIGN);
            }
        }
        if candidate.end() > room.end() {
            let what = format!("no gap of {size} bytes is left for a key slot");
            return Err(Error::new(ErrorKind::NoSpace, "keyslots_size", what));
        }
        Ok(candidate)
    }

    fn fill(&mut self, area: Area, sealed: &[u8]) {
        let bytes = self.area_mut(area);
        bytes.fill(0);
        let n = sealed.len().min(bytes.len());
        bytes[..n].copy_from_slice(&sealed[..n]);
        self.pending.filled.push(area);
    }

    /// Overwrites with noise, as `cryptsetup` does: an area given up looks like one in use. Without a random source
    /// zeros must do, for by now there is no way back.
    fn wipe(&mut self, area: Area) {
        let bytes = self.area_mut(area);
        if fill_random(bytes).is_err() {
            bytes.fill(0);
        }
        self.pending.wiped.push(area);
    }

    fn area_mut(&mut self, area: Area) -> &mut [u8] {
        // Judged areas lie within the image.
        self.image
            .get_mut(area.offset as usize..area.end() as usize)
            .unwrap_or_default()
    }

    fn slot_area(&self, id: SlotId) -> Result<Area> {
        self.meta
            .keyslots
            .get(&id)
            .map(|slot| slot.area)
            .ok_or_else(|| no_slot(id))
    }
}

struct SealedSlot {
    area: Area,
    sealed: Vec<u8>,
    json: Map<String, Value>,
}

fn no_slot(id: SlotId) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("keyslots.{id}"),
        "no such key slot",
    )
}

fn kdf_json(kdf: &Kdf, salt: &[u8]) -> Value {
    let salt = base64(salt);
    match *kdf {
        Kdf::Argon2id {
            time,
            memory_kib,
            lanes,
        } => {
            json!({"type": "argon2id", "time": time, "memory": memory_kib, "cpus": lanes, "salt": salt})
        }
        Kdf::Argon2i {
            time,
            memory_kib,
            lanes,
        } => {
            json!({"type": "argon2i", "time": time, "memory": memory_kib, "cpus": lanes, "salt": salt})
        }
        Kdf::Pbkdf2 { hash, iterations } => {
            json!({"type": "pbkdf2", "hash": hash.name(), "iterations": iterations, "salt": salt})
        }
    }
}

/// The section `name`, which judged JSON has.
pub(crate) fn object<'a>(json: &'a mut Value, name: &str) -> Result<&'a mut Map<String, Value>> {
    json.get_mut(name)
        .and_then(Value::as_object_mut)
        .ok_or_else(|| Error::corrupt(name, "is missing"))
}

/// The list of key slots of the object `id`.
fn references<'a>(section: &'a mut Map<String, Value>, id: &str) -> Result<&'a mut Vec<Value>> {
    let list = section
        .get_mut(id)
        .and_then(|object| object.get_mut("keyslots"))
        .and_then(Value::as_array_mut);
    list.ok_or_else(|| Error::corrupt(format!("{id}.keyslots"), "is missing"))
}
