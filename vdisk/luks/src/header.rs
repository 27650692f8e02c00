//! A LUKS2 header in memory: choosing the good copy, opening slots, telling what is there.

use std::fmt;

use serde_json::Value;

use crate::binary::{Binary, COPY_SIZES, Copy};
use crate::kdf::{Budget, Kdf, Limits};
use crate::metadata::{CIPHER, Keyslot, Lock, Metadata, Priority, Segment, SlotId};
use crate::plan::Pending;
use crate::secret::{KEY_LEN, VolumeKey, random};
use crate::{Error, ErrorKind, Result, material};

/// A LUKS2 header, parsed and judged, with the key-slot areas of its file.
///
/// Changes happen in memory; [`Header::update_plan`] says how to bring them to the file and
/// [`Header::persisted`] notes that it was done.
#[derive(Clone)]
pub struct Header {
    /// The whole header file as it shall be, both copies included.
    pub(crate) image: Vec<u8>,
    pub(crate) binary: Binary,
    /// The JSON as read, with members that mean nothing to us.
    pub(crate) json: Value,
    pub(crate) meta: Metadata,
    pub(crate) health: Health,
    pub(crate) pending: Pending,
    limits: Limits,
}

/// How the two copies of the header in the file were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Both are valid and alike.
    Good,
    /// The primary copy is damaged or older; the secondary was taken.
    PrimaryStale,
    /// The secondary copy is damaged or older; the primary was taken.
    SecondaryStale,
}

/// What [`Header::slots`] tells about a key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its number.
    pub id: SlotId,
    /// Its key derivation; `None` when this crate does not know how to open the slot.
    pub kdf: Option<Kdf>,
    /// When it is tried.
    pub priority: Priority,
    /// Length of the key inside, in bytes.
    pub key_size: u32,
    /// First byte of its area in the header file.
    pub area_offset: u64,
    /// Length of its area in bytes.
    pub area_size: u64,
    /// Does it hold the key of the disk? Others hold unbound keys.
    pub opens_disk: bool,
}

impl Header {
    pub(crate) fn assemble(
        image: Vec<u8>,
        binary: Binary,
        json: Value,
        meta: Metadata,
        health: Health,
    ) -> Self {
        Self {
            image,
            binary,
            json,
            meta,
            health,
            pending: Pending::default(),
            limits: Limits::default(),
        }
    }

    /// Reads a header from the bytes of its file, which may be longer than the header (a whole disk, even).
    ///
    /// Takes the newest valid copy; finds the secondary one when the primary is destroyed. [`Header::health`]
    /// tells whether the other needs repair, which the next [`Header::update_plan`] includes.
    ///
    /// # Errors
    /// [`ErrorKind::NotLuks`], [`ErrorKind::WrongVersion`], [`ErrorKind::Truncated`], [`ErrorKind::Corrupt`] in
    /// both copies, or [`ErrorKind::Unsupported`] when the header requires something unknown.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let primary = read_copy(bytes, 0, Copy::Primary);
        let secondary = match &primary {
            Ok(copy) => read_copy(bytes, copy.binary.copy_size, Copy::Secondary),
            Err(_) => find_secondary(bytes),
        };
        let (copy, older, health) = match (primary, secondary) {
            (Ok(first), Ok(second)) if second.binary.seqid > first.binary.seqid => {
                (second, Some(first), Health::PrimaryStale)
            }
            (Ok(first), Ok(second))
                if first.binary == second.binary && first.json == second.json =>
            {
                (first, None, Health::Good)
            }
            (Ok(first), second) => (first, second.ok(), Health::SecondaryStale),
            (Err(_), Ok(second)) => (second, None, Health::PrimaryStale),
            (Err(first), Err(second)) => return Err(worse(first, second)),
        };
        copy.meta.check_requirements()?;
        let len = file_len(&copy.binary, &copy.meta);
        let image = usize::try_from(len)
            .ok()
            .and_then(|len| bytes.get(..len))
            .ok_or_else(|| {
                let what = format!(
                    "{} bytes, but the header with its key slots takes {len}",
                    bytes.len()
                );
                Error::new(ErrorKind::Truncated, "header file", what)
            })?;
        let mut header = Self::assemble(image.to_vec(), copy.binary, copy.json, copy.meta, health);
        if let Some(older) = older.filter(|older| older.binary.seqid < header.seqid()) {
            header.wipe_left_behind(&older.meta);
        }
        match health {
            Health::Good => {}
            Health::PrimaryStale => header.restore_copy(Copy::Primary, copy.text)?,
            Health::SecondaryStale => header.restore_copy(Copy::Secondary, copy.text)?,
        }
        Ok(header)
    }

    /// Opens the header with a passphrase: tries the slots of the disk's key, those of high priority first.
    ///
    /// # Errors
    /// [`ErrorKind::WrongPassphrase`]; [`ErrorKind::TooCostly`] when some slot could not be tried within the
    /// limits and no other opened; [`ErrorKind::Unsupported`] when no slot can be tried at all.
    pub fn unlock(&self, passphrase: &[u8]) -> Result<VolumeKey> {
        self.unlock_slot(passphrase).map(|(_, key)| key)
    }

    /// Like [`Header::unlock`], and says which slot opened.
    ///
    /// # Errors
    /// As [`Header::unlock`].
    pub fn unlock_slot(&self, passphrase: &[u8]) -> Result<(SlotId, VolumeKey)> {
        let (_, digest) = self.meta.disk_digest()?;
        let mut slots: Vec<SlotId> = digest.keyslots.clone();
        slots.retain(|id| {
            self.meta
                .keyslots
                .get(id)
                .is_some_and(|slot| slot.priority != Priority::Ignore)
        });
        slots.sort_by_key(|id| {
            (
                std::cmp::Reverse(self.meta.keyslots.get(id).map(|slot| slot.priority)),
                *id,
            )
        });
        if slots.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "keyslots",
                "no key slot opens this disk",
            ));
        }
        self.try_slots(&slots, passphrase)
    }

    /// Opens one slot by number, even one of priority [`Priority::Ignore`].
    ///
    /// # Errors
    /// As [`Header::unlock`], and [`ErrorKind::NotFound`] when the slot does not exist or holds another key.
    pub fn unlock_with_slot(&self, slot: SlotId, passphrase: &[u8]) -> Result<VolumeKey> {
        if !self.meta.disk_digest()?.1.keyslots.contains(&slot) {
            let what = "no such key slot for this disk";
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("keyslots.{slot}"),
                what,
            ));
        }
        self.try_slots(&[slot], passphrase).map(|(_, key)| key)
    }

    fn try_slots(&self, slots: &[SlotId], passphrase: &[u8]) -> Result<(SlotId, VolumeKey)> {
        let mut budget = Budget::new(self.limits);
        let mut tried = 0;
        let mut refused = None;
        for &id in slots {
            let Some(slot) = self.meta.keyslots.get(&id) else {
                continue;
            };
            match self.try_slot(id, slot, passphrase, &mut budget) {
                Ok(Some(key)) => return Ok((id, key)),
                Ok(None) => tried += 1,
                Err(e) => {
                    refused = Some(
                        refused
                            .filter(|r: &Error| r.kind() == ErrorKind::TooCostly)
                            .unwrap_or(e),
                    )
                }
            }
        }
        match refused {
            // A slot of a kind we never open says nothing about the passphrase if others could be tried.
            Some(e) if tried == 0 || e.kind() != ErrorKind::Unsupported => Err(e),
            _ => Err(Error::new(
                ErrorKind::WrongPassphrase,
                "passphrase",
                format!("opens none of {tried} key slots"),
            )),
        }
    }

    /// The volume key, `None` when the passphrase is wrong, an error when the slot cannot be tried.
    fn try_slot(
        &self,
        id: SlotId,
        slot: &Keyslot,
        passphrase: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<VolumeKey>> {
        let at = format!("keyslots.{id}");
        let lock = openable(slot).map_err(|why| Error::unsupported(at.clone(), why))?;
        let (digest_id, digest) = self.meta.disk_digest()?;
        let digest = digest
            .digest
            .as_ref()
            .map_err(|why| Error::unsupported(format!("digests.{digest_id}"), why.clone()))?;
        budget.spend(&lock.kdf, &format!("{at}.kdf"))?;
        budget.spend_rounds(
            digest.hash,
            digest.iterations,
            digest.digest.len(),
            &format!("digests.{digest_id}"),
        )?;

        let area_key = lock.kdf.derive(passphrase, &lock.salt)?;
        let area = self.area_bytes(slot);
        let key = material::open(&area_key, lock.af_hash, lock.af_stripes, area)?;
        if !digest.verify(&key) {
            return Ok(None);
        }
        VolumeKey::from_bytes(&key).map(Some)
    }

    /// Is `key` the key of this disk?
    ///
    /// # Errors
    /// [`ErrorKind::KeyMismatch`], or [`ErrorKind::Unsupported`] or [`ErrorKind::TooCostly`] for its digest.
    pub fn check_key(&self, key: &VolumeKey) -> Result<()> {
        let (id, digest) = self.meta.disk_digest()?;
        let at = format!("digests.{id}");
        let digest = digest
            .digest
            .as_ref()
            .map_err(|why| Error::unsupported(at.clone(), why.clone()))?;
        Budget::new(self.limits).spend_rounds(
            digest.hash,
            digest.iterations,
            digest.digest.len(),
            &at,
        )?;
        if !digest.verify(key.as_bytes()) {
            return Err(Error::new(
                ErrorKind::KeyMismatch,
                at,
                "this volume key belongs to another header",
            ));
        }
        Ok(())
    }

    /// The encrypted stretch of the disk (the first, should there be several).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when nothing is encrypted.
    pub fn segment(&self) -> Result<&Segment> {
        let disk = self.meta.disk_segment();
        disk.map(|(_, segment)| segment)
            .ok_or_else(|| Error::unsupported("segments", "none is encrypted"))
    }

    /// Refuses headers of disks that are not ours to read: anything but one `aes-xts-plain64` segment of
    /// 512-byte units that begins at sector 0 of both the file and the tweak and takes the whole file.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], naming the field.
    pub fn check_disk_layout(&self) -> Result<()> {
        let segment = self.segment()?;
        let refuse =
            |field: &str, what: String| Err(Error::unsupported(format!("segments.{field}"), what));
        if segment.cipher != CIPHER {
            return refuse(
                "encryption",
                format!("`{:.32}`, only {CIPHER} is known", segment.cipher),
            );
        }
        if segment.sector_size != 512 {
            return refuse(
                "sector_size",
                format!("{}, only 512 is known", segment.sector_size),
            );
        }
        if segment.offset != 0 || segment.iv_tweak != 0 {
            return refuse(
                "offset",
                format!(
                    "{} (tweak {}), only 0 is known",
                    segment.offset, segment.iv_tweak
                ),
            );
        }
        if segment.size.is_some() || self.meta.segments.len() != 1 {
            return refuse("size", "the disk is only partly encrypted".to_owned());
        }
        Ok(())
    }

    /// The key slots in order of their numbers.
    pub fn slots(&self) -> Vec<SlotInfo> {
        let bound = self
            .meta
            .disk_digest()
            .map(|(_, d)| d.keyslots.clone())
            .unwrap_or_default();
        let info = |(&id, slot): (&SlotId, &Keyslot)| SlotInfo {
            id,
            kdf: openable(slot).ok().map(|lock| lock.kdf),
            priority: slot.priority,
            key_size: slot.key_size,
            area_offset: slot.area.offset,
            area_size: slot.area.size,
            opens_disk: bound.contains(&id),
        };
        self.meta.keyslots.iter().map(info).collect()
    }

    /// The header's label; may be empty.
    pub fn label(&self) -> &str {
        &self.binary.label
    }

    /// The header's UUID as text.
    pub fn uuid(&self) -> &str {
        &self.binary.uuid
    }

    /// The header's second label, which others use; may be empty.
    pub fn subsystem(&self) -> &str {
        &self.binary.subsystem
    }

    /// The sequence number, which every written change raises (`cryptsetup` says "epoch").
    pub fn seqid(&self) -> u64 {
        self.binary.seqid
    }

    /// How the two copies were found.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Sets what one unlock may spend. Not stored in the header.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The bytes of the whole header file: both copies and all key-slot areas.
    pub fn bytes(&self) -> Vec<u8> {
        self.image.clone()
    }

    /// Writes a copy that was found stale anew, in memory.
    fn restore_copy(&mut self, which: Copy, text: &[u8]) -> Result<()> {
        let salt = random()?;
        let area = self.copy_area(which);
        let copy = self
            .image
            .get_mut(area.offset as usize..area.end() as usize)
            .unwrap_or_default();
        self.binary.encode(which, &salt, text, copy);
        Ok(())
    }

    fn area_bytes(&self, slot: &Keyslot) -> &[u8] {
        // Judged areas lie within the image.
        self.image
            .get(slot.area.offset as usize..slot.area.end() as usize)
            .unwrap_or_default()
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("label", &self.label())
            .field("uuid", &self.uuid())
            .field("seqid", &self.seqid())
            .field("health", &self.health)
            .field("slots", &self.slots())
            .finish_non_exhaustive()
    }
}

/// What opens a slot, or why it cannot be opened here.
fn openable(slot: &Keyslot) -> std::result::Result<&Lock, String> {
    let lock = slot.lock.as_ref().map_err(Clone::clone)?;
    if slot.key_size as usize != KEY_LEN {
        return Err(format!(
            "its key has {} bits, only {} are known",
            u64::from(slot.key_size) * 8,
            KEY_LEN * 8
        ));
    }
    Ok(lock)
}

/// Length of the file that holds such a header.
pub(crate) fn file_len(binary: &Binary, meta: &Metadata) -> u64 {
    meta.keyslots_area(binary.copy_size).end()
}

struct HeaderCopy<'a> {
    /// The JSON as it stands in the file.
    text: &'a [u8],
    binary: Binary,
    json: Value,
    meta: Metadata,
}

fn read_copy(bytes: &[u8], offset: u64, which: Copy) -> Result<HeaderCopy<'_>> {
    let (binary, text) = Binary::decode(bytes, offset, which)?;
    let json: Value = serde_json::from_slice(text)
        .map_err(|e| Error::corrupt(format!("{}.json", which.name()), e.to_string()))?;
    let meta = Metadata::parse(&json, binary.copy_size)?;
    Ok(HeaderCopy {
        text,
        binary,
        json,
        meta,
    })
}

/// Looks for a secondary copy everywhere it may begin.
fn find_secondary(bytes: &[u8]) -> Result<HeaderCopy<'_>> {
    let mut result = Err(Error::new(
        ErrorKind::NotLuks,
        Copy::Secondary.name(),
        "not found",
    ));
    for offset in COPY_SIZES {
        let copy = read_copy(bytes, offset, Copy::Secondary);
        match copy {
            Ok(copy) => return Ok(copy),
            Err(e) if !matches!(e.kind(), ErrorKind::NotLuks | ErrorKind::Truncated) => {
                result = Err(e)
            }
            Err(_) => {}
        }
    }
    result
}

/// Of two complaints, the one that says more.
fn worse(primary: Error, secondary: Error) -> Error {
    if primary.kind() == ErrorKind::NotLuks && secondary.kind() != ErrorKind::NotLuks {
        secondary
    } else {
        primary
    }
}
