//! LUKS1: the twin of a LUKS2 header for software that reads nothing newer, and old headers by others.
//!
//! One binary header, eight slots of PBKDF2, no checksum and no second copy. A slot counts from the moment its one
//! word says so: that word is written last when a key comes, and a slot's key material is destroyed before
//! anything else when a key goes. So every cut leaves each passphrase either working or not, never half.

use crate::binary::PRIMARY_MAGIC;
use crate::digest::KeyDigest;
use crate::hash::Hash;
use crate::kdf::{Budget, Kdf, Limits};
use crate::plan::Step;
use crate::secret::{KEY_LEN, VolumeKey, check_new_passphrase, fill_random, random};
use crate::{Error, ErrorKind, Result, af, material};

const HEADER_LEN: usize = 592;
const SLOTS: usize = 8;
const SLOT_LEN: usize = 48;
const DIGEST_LEN: usize = 20;
const SECTOR: u64 = 512;
/// Key material begins at multiples of this many sectors.
const ALIGN_SECTORS: u32 = 8;
const ENABLED: u32 = 0x00ac_71f3;
const DISABLED: u32 = 0x0000_dead;

mod field {
    use std::ops::Range;

    pub const VERSION: Range<usize> = 6..8;
    pub const CIPHER: Range<usize> = 8..40;
    pub const MODE: Range<usize> = 40..72;
    pub const HASH: Range<usize> = 72..104;
    pub const PAYLOAD: Range<usize> = 104..108;
    pub const KEY_BYTES: Range<usize> = 108..112;
    pub const DIGEST: Range<usize> = 112..132;
    pub const DIGEST_SALT: Range<usize> = 132..164;
    pub const DIGEST_ITERATIONS: Range<usize> = 164..168;
    pub const UUID: Range<usize> = 168..208;
    pub const SLOTS: usize = 208;
    // Within a slot:
    pub const ACTIVE: Range<usize> = 0..4;
    pub const ITERATIONS: Range<usize> = 4..8;
    pub const SALT: Range<usize> = 8..40;
    pub const OFFSET: Range<usize> = 40..44;
    pub const STRIPES: Range<usize> = 44..48;
}

/// A LUKS1 header, parsed and judged, with its key material.
///
/// As with [`crate::Header`], changes happen in memory: [`Luks1::update_plan`] says how to bring them to the file
/// and [`Luks1::persisted`] notes that it was done.
#[derive(Debug, Clone)]
pub struct Luks1 {
    payload_offset: u64,
    uuid: String,
    hash: Hash,
    digest: KeyDigest,
    slots: Vec<(Luks1Slot, Vec<u8>)>,
    limits: Limits,
    /// The fields of the header as they shall be.
    head: Vec<u8>,
    /// The length of the file.
    len: u64,
    plan: Vec<Step>,
}

/// An enabled key slot of a LUKS1 header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luks1Slot {
    /// Its number, 0 to 7.
    pub id: u32,
    /// PBKDF2 rounds.
    pub iterations: u32,
    /// Anti-forensic stripes.
    pub stripes: u32,
    salt: [u8; 32],
}

impl Luks1 {
    /// PBKDF2 rounds for real use: about a second of an ordinary processor.
    pub const DEFAULT_ITERATIONS: u32 = 1_000_000;

    /// A detached LUKS1 header of `key`: one slot, PBKDF2-HMAC-SHA256 of `iterations` rounds (at least 1000;
    /// [`Self::DEFAULT_ITERATIONS`] for real use), payload at offset 0. It locks the same disk as a LUKS2 header of this key.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an empty passphrase or too few rounds, [`ErrorKind::System`] without random bytes.
    pub fn export(key: &VolumeKey, passphrase: &[u8], iterations: u32) -> Result<Vec<u8>> {
        let hash = Hash::Sha256;
        let (salt, sealed) = seal_slot(key, passphrase, hash, iterations)?;
        let digest = KeyDigest::new(hash, DIGEST_LEN, key)?;

        let slot_sectors = ((sealed.len() as u64 / SECTOR) as u32).next_multiple_of(ALIGN_SECTORS);
        let slot_offset = |slot: usize| ALIGN_SECTORS + slot as u32 * slot_sectors;
        let mut out = vec![0; slot_offset(SLOTS) as usize * SECTOR as usize];
        let put_text = |out: &mut [u8], range: std::ops::Range<usize>, text: &str| {
            out[range][..text.len()].copy_from_slice(text.as_bytes());
        };
        out[..6].copy_from_slice(PRIMARY_MAGIC);
        out[field::VERSION].copy_from_slice(&1u16.to_be_bytes());
        put_text(&mut out, field::CIPHER, "aes");
        put_text(&mut out, field::MODE, "xts-plain64");
        put_text(&mut out, field::HASH, hash.name());
        out[field::KEY_BYTES].copy_from_slice(&(KEY_LEN as u32).to_be_bytes());
        out[field::DIGEST].copy_from_slice(&digest.digest);
        out[field::DIGEST_SALT].copy_from_slice(&digest.salt);
        out[field::DIGEST_ITERATIONS].copy_from_slice(&digest.iterations.to_be_bytes());
        put_text(&mut out, field::UUID, &uuid::Uuid::new_v4().to_string());
        for (i, slot) in out[field::SLOTS..HEADER_LEN]
            .chunks_exact_mut(SLOT_LEN)
            .enumerate()
        {
            slot[field::ACTIVE]
                .copy_from_slice(&if i == 0 { ENABLED } else { DISABLED }.to_be_bytes());
            if i == 0 {
                slot[field::ITERATIONS].copy_from_slice(&iterations.to_be_bytes());
                slot[field::SALT].copy_from_slice(&salt);
            }
            slot[field::OFFSET].copy_from_slice(&slot_offset(i).to_be_bytes());
            slot[field::STRIPES].copy_from_slice(&af::STRIPES.to_be_bytes());
        }
        let start = slot_offset(0) as usize * SECTOR as usize;
        out[start..start + sealed.len()].copy_from_slice(&sealed);
        Ok(out)
    }

    /// Reads a LUKS1 header, detached or at the start of a disk.
    ///
    /// # Errors
    /// [`ErrorKind::NotLuks`], [`ErrorKind::WrongVersion`], [`ErrorKind::Truncated`], [`ErrorKind::Corrupt`], and
    /// [`ErrorKind::Unsupported`] for any cipher but `aes-xts-plain64` with 512 bits.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if !bytes.starts_with(PRIMARY_MAGIC) {
            return Err(Error::new(ErrorKind::NotLuks, "magic", "not found"));
        }
        let truncated = |what: &str| {
            Error::new(
                ErrorKind::Truncated,
                what,
                format!("the file ends after {} bytes", bytes.len()),
            )
        };
        let head = bytes.get(..HEADER_LEN).ok_or_else(|| truncated("header"))?;
        let version = be16(&head[field::VERSION]);
        if version != 1 {
            return Err(Error::new(
                ErrorKind::WrongVersion,
                "version",
                format!("{version} instead of 1"),
            ));
        }
        let (cipher, mode) = (
            text(head, field::CIPHER, "cipher-name")?,
            text(head, field::MODE, "cipher-mode")?,
        );
        let key_bytes = be32(&head[field::KEY_BYTES]);
        if (cipher, mode, key_bytes) != ("aes", "xts-plain64", KEY_LEN as u32) {
            let what = format!(
                "{cipher}-{mode} of {} bits, only aes-xts-plain64 of 512 is known",
                u64::from(key_bytes) * 8
            );
            return Err(Error::unsupported("cipher", what));
        }
        let name = text(head, field::HASH, "hash-spec")?;
        let hash = Hash::from_name(name)
            .ok_or_else(|| Error::unsupported("hash-spec", format!("unknown hash `{name}`")))?;
        let digest = KeyDigest {
            hash,
            iterations: be32(&head[field::DIGEST_ITERATIONS]),
            salt: head[field::DIGEST_SALT].to_vec(),
            digest: head[field::DIGEST].to_vec(),
        };
        digest.check("mk")?;
        let mut slots = Vec::new();
        let mut areas: Vec<(u64, u64)> = Vec::new();
        for (id, slot) in head[field::SLOTS..].chunks_exact(SLOT_LEN).enumerate() {
            let at = |name: &str| format!("slot {id}.{name}");
            match be32(&slot[field::ACTIVE]) {
                DISABLED => continue,
                ENABLED => {}
                other => {
                    return Err(Error::corrupt(
                        at("active"),
                        format!("{other:#x} is neither enabled nor disabled"),
                    ));
                }
            }
            let (iterations, stripes) =
                (be32(&slot[field::ITERATIONS]), be32(&slot[field::STRIPES]));
            if iterations == 0 || stripes == 0 {
                return Err(Error::corrupt(at("iterations"), "0 iterations or stripes"));
            }
            let start = u64::from(be32(&slot[field::OFFSET])) * SECTOR;
            let end = start + material::sealed_len(KEY_LEN as u32, stripes);
            if start < HEADER_LEN as u64 {
                return Err(Error::corrupt(
                    at("key-material-offset"),
                    "lies within the header",
                ));
            }
            if areas.iter().any(|&(s, e)| start < e && s < end) {
                return Err(Error::corrupt(
                    at("key-material-offset"),
                    "overlaps another slot",
                ));
            }
            areas.push((start, end));
            let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
                return Err(truncated(&at("key-material-offset")));
            };
            let area = bytes
                .get(from..to)
                .ok_or_else(|| truncated(&at("key-material-offset")))?;
            let mut salt = [0; 32];
            salt.copy_from_slice(&slot[field::SALT]);
            slots.push((
                Luks1Slot {
                    id: id as u32,
                    iterations,
                    stripes,
                    salt,
                },
                area.to_vec(),
            ));
        }
        let payload_offset = u64::from(be32(&head[field::PAYLOAD])) * SECTOR;
        let uuid = text(head, field::UUID, "uuid")?.to_owned();
        Ok(Self {
            payload_offset,
            uuid,
            hash,
            digest,
            slots,
            limits: Limits::default(),
            head: head.to_vec(),
            len: bytes.len() as u64,
            plan: Vec::new(),
        })
    }

    /// Opens the header with a passphrase.
    ///
    /// # Errors
    /// [`ErrorKind::WrongPassphrase`]; [`ErrorKind::TooCostly`] when a slot could not be tried within the limits
    /// and no other opened; [`ErrorKind::NotFound`] without any enabled slot.
    pub fn unlock(&self, passphrase: &[u8]) -> Result<VolumeKey> {
        if self.slots.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "slots",
                "no key slot is enabled",
            ));
        }
        let mut budget = Budget::new(self.limits);
        let mut refused = None;
        for (slot, area) in &self.slots {
            let at = format!("slot {}", slot.id);
            let kdf = Kdf::Pbkdf2 {
                hash: self.hash,
                iterations: slot.iterations,
            };
            let paid = budget.spend(&kdf, &at).and_then(|()| {
                budget.spend_rounds(self.hash, self.digest.iterations, DIGEST_LEN, "mk")
            });
            if let Err(e) = paid {
                refused = Some(e);
                continue;
            }
            let area_key = kdf.derive(passphrase, &slot.salt)?;
            let key = material::open(&area_key, self.hash, slot.stripes, area)?;
            if self.digest.verify(&key) {
                return VolumeKey::from_bytes(&key);
            }
        }
        Err(refused.unwrap_or_else(|| {
            let what = format!("opens none of {} key slots", self.slots.len());
            Error::new(ErrorKind::WrongPassphrase, "passphrase", what)
        }))
    }

    /// Is `key` the key of this header's disk?
    ///
    /// # Errors
    /// [`ErrorKind::KeyMismatch`], or [`ErrorKind::TooCostly`] for its digest.
    pub fn check_key(&self, key: &VolumeKey) -> Result<()> {
        let mut budget = Budget::new(self.limits);
        budget.spend_rounds(self.hash, self.digest.iterations, DIGEST_LEN, "mk")?;
        if !self.digest.verify(key.as_bytes()) {
            return Err(Error::new(
                ErrorKind::KeyMismatch,
                "mk",
                "this volume key belongs to another header",
            ));
        }
        Ok(())
    }

    /// Adds a slot that opens the disk with `passphrase` after `iterations` rounds (at least 1000); gives its
    /// number.
    ///
    /// # Errors
    /// [`ErrorKind::KeyMismatch`] when `key` is not this disk's, [`ErrorKind::NoSpace`] when no slot is free (or
    /// none that the file has room for), [`ErrorKind::Input`] for an empty passphrase or too few rounds.
    pub fn add_key(&mut self, key: &VolumeKey, passphrase: &[u8], iterations: u32) -> Result<u32> {
        self.check_key(key)?;
        let (id, start) = self.free_slot()?;
        let (salt, sealed) = seal_slot(key, passphrase, self.hash, iterations)?;
        let at = slot_at(id);
        let slot = &mut self.head[at..at + SLOT_LEN];
        slot[field::ITERATIONS].copy_from_slice(&iterations.to_be_bytes());
        slot[field::SALT].copy_from_slice(&salt);
        slot[field::STRIPES].copy_from_slice(&af::STRIPES.to_be_bytes());
        self.write(start, sealed.clone());
        self.write_head(at, SLOT_LEN);
        self.head[at..at + 4].copy_from_slice(&ENABLED.to_be_bytes());
        self.write_head(at, 4);
        let slot = Luks1Slot {
            id,
            iterations,
            stripes: af::STRIPES,
            salt,
        };
        let place = self.slots.partition_point(|(other, _)| other.id < id);
        self.slots.insert(place, (slot, sealed));
        Ok(id)
    }

    /// Removes a slot, be it the last: the LUKS2 header, not its twin, is what must never lose its last key.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::System`] without random bytes.
    pub fn remove_slot(&mut self, id: u32) -> Result<()> {
        let place = self.slots.iter().position(|(slot, _)| slot.id == id);
        let place = place.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("slot {id}"),
                "no such key slot",
            )
        })?;
        let mut noise = vec![0; self.slots[place].1.len()];
        fill_random(&mut noise)?;
        self.slots.remove(place);
        let at = slot_at(id);
        let start = u64::from(be32(&self.head[at..][field::OFFSET])) * SECTOR;
        self.write(start, noise);
        // Its offset and stripes stay, as `cryptsetup` leaves them.
        self.head[at..][..field::SALT.end].fill(0);
        self.head[at..][field::ACTIVE].copy_from_slice(&DISABLED.to_be_bytes());
        self.write_head(at, field::SALT.end);
        Ok(())
    }

    /// The writes that bring the file to this header's state, in an order safe at every instant; empty when
    /// there is nothing to do.
    pub fn update_plan(&self) -> Vec<Step> {
        self.plan.clone()
    }

    /// Notes that the last plan was carried out to its end.
    pub fn persisted(&mut self) {
        self.plan.clear();
    }

    /// The first disabled slot whose key material has a place of its own in the file, and where.
    fn free_slot(&self) -> Result<(u32, u64)> {
        let range = |id: u32| {
            let start = u64::from(be32(&self.head[slot_at(id)..][field::OFFSET])) * SECTOR;
            (
                start,
                start + material::sealed_len(KEY_LEN as u32, af::STRIPES),
            )
        };
        let used = |id: u32| self.slots.iter().any(|(slot, _)| slot.id == id);
        let apart = |(start, end): (u64, u64)| {
            self.slots.iter().all(|(slot, area)| {
                let other = range(slot.id).0;
                start >= other + area.len() as u64 || other >= end
            })
        };
        (0..SLOTS as u32)
            .filter(|&id| !used(id))
            .map(|id| (id, range(id)))
            .find(|&(_, area)| area.0 >= HEADER_LEN as u64 && area.1 <= self.len && apart(area))
            .map(|(id, (start, _))| (id, start))
            .ok_or_else(|| Error::new(ErrorKind::NoSpace, "slots", "all eight key slots are taken"))
    }

    fn write(&mut self, offset: u64, bytes: Vec<u8>) {
        self.plan
            .extend([Step::Write { offset, bytes }, Step::Sync]);
    }

    fn write_head(&mut self, at: usize, len: usize) {
        self.write(at as u64, self.head[at..at + len].to_vec());
    }

    /// The enabled key slots in order of their numbers.
    pub fn slots(&self) -> impl Iterator<Item = &Luks1Slot> {
        self.slots.iter().map(|(slot, _)| slot)
    }

    /// First byte of the ciphertext in the data file; 0 with a detached header.
    pub fn payload_offset(&self) -> u64 {
        self.payload_offset
    }

    /// The header's UUID as text.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The hash that all of the header uses.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Sets what one unlock may spend.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }
}

/// Salt and key material of a new slot.
fn seal_slot(
    key: &VolumeKey,
    passphrase: &[u8],
    hash: Hash,
    iterations: u32,
) -> Result<([u8; 32], Vec<u8>)> {
    check_new_passphrase(passphrase)?;
    let kdf = Kdf::Pbkdf2 { hash, iterations };
    kdf.check_new()?;
    let salt = random()?;
    let sealed = material::seal(&*kdf.derive(passphrase, &salt)?, hash, key.as_bytes())?;
    Ok((salt, sealed))
}

/// Where the fields of slot `id` begin.
fn slot_at(id: u32) -> usize {
    field::SLOTS + id as usize * SLOT_LEN
}

/// A zero-padded name in a field of the header.
fn text<'a>(head: &'a [u8], range: std::ops::Range<usize>, at: &str) -> Result<&'a str> {
    let bytes = &head[range];
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..len]).map_err(|_| Error::corrupt(at, "not text"))
}

fn be16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |n, &b| n << 8 | u16::from(b))
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |n, &b| n << 8 | u32::from(b))
}
