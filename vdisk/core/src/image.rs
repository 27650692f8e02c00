//! Image files: what format a file is, and opening it as a disk with its key and, for a revertible
//! session, an overlay above it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;
use vdisk_xts::{Xts, XtsKey};

use crate::chain::{self, Ancestor, Parents};
use crate::device::{Disk, SECTOR};
use crate::error::{Error, ErrorKind, Result};
use crate::flat::Flat;
use crate::layer::Layer;
use crate::overlay::{Base, OpenOverlay, Overlay, OverlayOptions};
use crate::stack::{Stack, StackedLayer};
use crate::store::{FileStore, Sharing, Store};
use crate::vhd::{self, DiskType, Footer};

/// Formats of image files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The disk's bytes and nothing else.
    Raw,
    /// VHD, as large as the disk.
    VhdFixed,
    /// VHD, growing as it is written.
    VhdDynamic,
    /// VHD above a parent.
    VhdDifferencing,
}

impl Format {
    /// The format's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::VhdFixed => "vhd-fixed",
            Self::VhdDynamic => "vhd-dynamic",
            Self::VhdDifferencing => "vhd-differencing",
        }
    }

    pub(crate) fn of(footer: &Footer) -> Self {
        match footer.disk_type {
            DiskType::Fixed => Self::VhdFixed,
            DiskType::Dynamic => Self::VhdDynamic,
            DiskType::Differencing => Self::VhdDifferencing,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Raw, Self::VhdFixed, Self::VhdDynamic]
            .into_iter()
            .find(|f| f.name() == name)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidRequest,
                    format!("`{name}` is not a format: raw, vhd-fixed, vhd-dynamic"),
                )
            })
    }
}

/// What a file is, found without trusting its name.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Its format; a file that is nothing else is raw.
    pub format: Format,
    /// The VHD footer, if it has one.
    pub footer: Option<Footer>,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Length of the file in bytes.
    pub file_len: u64,
}

/// Looks at a file. Nothing is locked: it may belong to somebody.
pub fn probe(path: &Path) -> Result<Probe> {
    let store = FileStore::open_unlocked(path)?;
    probe_store(&store).map_err(|e| e.at_path(path))
}

fn probe_store(store: &dyn Store) -> Result<Probe> {
    let file_len = store.len()?;
    let footer = vhd::read_footer(store)?;
    let (format, size) = match &footer {
        Some(footer) => (Format::of(footer), footer.current_size),
        None => (Format::Raw, file_len),
    };
    Ok(Probe {
        format,
        footer,
        size,
        file_len,
    })
}

/// An unlocked key and the header it came from.
#[derive(Debug)]
pub struct DiskKey {
    /// The key of the payload.
    pub key: XtsKey,
    /// UUID of the LUKS header; a disk that names another is refused.
    pub header: Uuid,
}

/// What may happen to the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is written anywhere.
    ReadOnly,
    /// Writes go into the image and stay.
    Keep,
    /// Writes go into an ephemeral overlay in this folder and are forgotten with the disk.
    Revertible {
        /// Where the overlay's file without a name lies.
        dir: PathBuf,
    },
    /// Writes go into an overlay with a name, which is made if it is not there, and are found again when
    /// the image is opened with it.
    Durable {
        /// The overlay's file.
        overlay: PathBuf,
        /// How to open it.
        options: OverlayOptions,
    },
}

/// How to open an image.
#[derive(Debug)]
pub struct OpenImage<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its format, where it should not be found out. A guest that writes a VHD's marks into a raw disk
    /// changes what probing finds, so raw disks that guests write should be opened by name.
    pub format: Option<Format>,
    /// What may be written.
    pub mode: Mode,
    /// The key, if the payload is encrypted.
    pub key: Option<&'a DiskKey>,
}

/// An image opened as a disk.
pub struct OpenedImage {
    /// The disk.
    pub disk: Disk,
    /// The image's format.
    pub format: Format,
    /// The VHD footer, if it has one.
    pub footer: Option<Footer>,
    /// Damage, of the image or its parents, that did not keep it from being opened.
    pub troubles: Vec<String>,
    /// A handle on the overlay, if writes go into one.
    pub overlay: Option<Overlay>,
    /// The files of its parents with their footers, nearest first.
    pub parents: Vec<(PathBuf, Footer)>,
}

impl OpenImage<'_> {
    /// Opens it. The parents of a differencing disk must be as they were, and not encrypted unless under
    /// the same key; else use [`OpenImage::open_above`].
    pub fn open(self) -> Result<OpenedImage> {
        self.open_above(&Parents::default())
    }

    /// Opens it, and its parents, if it has any, as `parents` says.
    pub fn open_above(self, parents: &Parents<'_>) -> Result<OpenedImage> {
        let (path, mode) = (self.path, self.mode.clone());
        let located = |e: Error| e.at_path(path);
        let sharing = if mode == Mode::Keep {
            Sharing::Exclusive
        } else {
            Sharing::ReadOnly
        };
        let store: Arc<dyn Store> = Arc::new(FileStore::open(path, sharing)?);
        let format = match self.format {
            Some(format) => format,
            None => probe_store(&*store).map_err(located)?.format,
        };
        let mut ancestors = Vec::new();
        let (layer, footer, mut troubles): (Box<dyn Layer>, _, _) = if format == Format::Raw {
            let len = store.len()?;
            if len == 0 || !len.is_multiple_of(SECTOR) {
                return Err(located(Error::corrupt(format!(
                    "a raw disk of {len} bytes: not a whole number of 512-byte sectors"
                ))));
            }
            (Box::new(Flat::new(store, len / SECTOR)), None, Vec::new())
        } else {
            let opened = vhd::open(store.clone(), sharing == Sharing::ReadOnly)?;
            if Format::of(&opened.footer) != format {
                return Err(located(Error::corrupt(format!(
                    "the file is {}, not {format}",
                    Format::of(&opened.footer)
                ))));
            }
            ancestors = chain::ancestors(path, &*store, &opened, parents.force_parent)?;
            let (footer, troubles) = (opened.footer.clone(), opened.troubles.clone());
            (opened.into_layer(), Some(footer), troubles)
        };
        check_key(footer.as_ref(), self.key).map_err(located)?;

        let sectors = layer.sectors();
        let base = StackedLayer::new(layer, self.key.map(|k| Xts::new(&k.key)));
        let mut kept = None;
        let overlay = match &mode {
            Mode::ReadOnly | Mode::Keep => None,
            Mode::Revertible { dir } => {
                let store = FileStore::unnamed(dir)?;
                // A file that is long from the start takes writes faster than one that grows with each.
                if let Err(e) = store.set_len(sectors * SECTOR) {
                    tracing::debug!("the overlay's file grows as it is written: {e}");
                }
                let overlay = Overlay::ephemeral(store, sectors)?;
                // What the session writes is as secret as what it reads, under a key nobody ever sees.
                Some((overlay, self.key.map(|_| random_key()).transpose()?))
            }
            Mode::Durable { overlay, options } => {
                let base_key = self.key.map(|k| &k.key);
                let mut base = Base::of(path, Some(format))?;
                if let Some(on) = &options.on {
                    let options = OverlayOptions {
                        resume: Some(on.saved),
                        force_base: options.force_base,
                        ..OverlayOptions::default()
                    };
                    kept = Some(
                        OpenOverlay {
                            path: &on.overlay,
                            base,
                            base_key,
                            sharing: Sharing::ReadOnly,
                            options: &options,
                        }
                        .open()?,
                    );
                    base = base.with(on);
                }
                Some(
                    OpenOverlay {
                        path: overlay,
                        base,
                        base_key,
                        sharing: Sharing::Exclusive,
                        options,
                    }
                    .open()?,
                )
            }
        };
        let mut layers = Vec::with_capacity(2);
        for (overlay, key) in overlay.iter().chain(&kept) {
            let cipher = key.as_ref().map(Xts::new);
            layers.push(StackedLayer::new(Box::new(overlay.clone()), cipher));
        }
        layers.push(base);
        let mut keys = Vec::new();
        let mut found = Vec::with_capacity(ancestors.len());
        for Ancestor { path, opened } in ancestors {
            let footer = opened.footer.clone();
            let cipher = self.parent_cipher(&path, &footer, parents, &mut keys)?;
            let told = |trouble| format!("{}: {trouble}", path.display());
            troubles.extend(opened.troubles.iter().map(told));
            layers.push(StackedLayer::new(opened.into_layer(), cipher));
            found.push((path, footer));
        }
        let stack = Stack::new(layers, mode == Mode::ReadOnly, path.display().to_string())?;
        Ok(OpenedImage {
            disk: Disk::new(stack),
            format,
            footer,
            troubles,
            overlay: overlay.map(|(overlay, _)| overlay),
            parents: found,
        })
    }

    /// The cipher of a parent: of a key that is known, or else that somebody finds, which is `known` then.
    fn parent_cipher(
        &self,
        path: &Path,
        footer: &Footer,
        parents: &Parents<'_>,
        known: &mut Vec<Arc<DiskKey>>,
    ) -> Result<Option<Xts>> {
        if let Some(header) = footer.luks {
            let mut keys = self.key.into_iter().chain(known.iter().map(|key| &**key));
            if let Some(key) = keys.find(|key| key.header == header) {
                return Ok(Some(Xts::new(&key.key)));
            }
        }
        let key = (parents.keys)(path, footer.luks)?;
        check_key(Some(footer), key.as_deref()).map_err(|e| e.at_path(path))?;
        let cipher = key.as_ref().map(|key| Xts::new(&key.key));
        known.extend(key);
        Ok(cipher)
    }
}

/// Whether a key, or none, is what the image with this footer needs.
pub(crate) fn check_key(footer: Option<&Footer>, key: Option<&DiskKey>) -> Result<()> {
    let named = footer.and_then(|footer| footer.luks);
    match (named, key) {
        (Some(header), None) => Err(Error::new(
            ErrorKind::Key,
            format!("the disk is encrypted, under LUKS header {header}"),
        )
        .remedy("put its header beside it or name it with --header")),
        (Some(header), Some(key)) if header != key.header => Err(Error::new(
            ErrorKind::Key,
            format!(
                "the disk is encrypted under LUKS header {header}, not {}",
                key.header
            ),
        )
        .remedy("use the header that was made with the disk")),
        // Others do not leave a mark; we do, so without one there is nothing to decrypt.
        (None, Some(_)) if footer.is_some_and(Footer::is_ours) => {
            Err(Error::new(ErrorKind::Key, "the disk is not encrypted")
                .remedy("open it without a header, or encrypt it first"))
        }
        _ => Ok(()),
    }
}

/// A fresh key from the system's random generator.
pub fn random_key() -> Result<XtsKey> {
    let mut bytes = zeroize::Zeroizing::new([0; vdisk_xts::KEY_LEN]);
    getrandom::fill(&mut *bytes)
        .map_err(|e| Error::new(ErrorKind::Io, "the system gives no random bytes").because(e))?;
    // Two equal halves are refused; they happen once in 2^256 times.
    XtsKey::try_from(&bytes[..])
        .map_err(|e| Error::new(ErrorKind::Key, "cannot make a key").because(e))
}
