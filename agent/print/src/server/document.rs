//! A document on its way into a file without a name: when the last of its holders lets it go, it is gone.
use super::jpeg;
use crate::capabilities::Capabilities;
use crate::media::Medium;
use crate::ticket::Format;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What a document must begin with to be told apart: a raster's first page begins here, and says how many follow.
const BEGINNING: usize = 4 + 456;
/// A photograph that is made a page: it is held in memory.
const PHOTOGRAPH: u64 = 64 << 20;

/// A document that has come.
#[derive(Debug)]
pub struct Document {
    /// At its beginning.
    pub file: File,
    pub size: u64,
    pub format: Format,
    /// Pages, if it says so where it is easily read.
    pub pages: Option<u32>,
}

/// What a client says that a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Nothing: it is to be found out.
    Unsaid,
    Is(Format),
    Jpeg,
}

impl Declared {
    /// By its MIME type; nothing if the printer cannot take it.
    pub fn from_mime(kind: &str) -> Option<Self> {
        // Whatever parameters it may have.
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let is = |other: &str| kind.eq_ignore_ascii_case(other);
        if is("application/octet-stream") {
            Some(Self::Unsaid)
        } else if is("image/jpeg") {
            Some(Self::Jpeg)
        } else {
            let known = [Format::Pdf, Format::Raster];
            (known.into_iter())
                .find(|format| is(format.mime()))
                .map(Self::Is)
        }
    }
}

/// Why a document is not taken.
#[derive(Debug)]
pub enum Trouble {
    /// The client went away, or speaks no HTTP.
    Connection(io::Error),
    /// It is too large.
    TooLarge,
    /// There is none.
    Empty,
    /// It is nothing that the printer prints.
    Unknown,
    /// It is not what it is said to be, or broken.
    Broken(&'static str),
    /// It cannot be kept.
    Spool(io::Error),
    /// Somebody took the job back.
    Canceled,
}

/// Where documents go, and what for.
pub struct Spool<'a> {
    pub folder: &'a Path,
    pub most: u64,
    pub capabilities: &'a Capabilities,
    /// What the job asks for.
    pub media: Option<&'a Medium>,
}

impl Spool<'_> {
    /// Takes a document from a connection. Asks between pieces whether anybody still wants it.
    pub fn take(
        &self,
        from: &mut impl Read,
        declared: Declared,
        wanted: impl Fn() -> bool,
    ) -> Result<Document, Trouble> {
        let mut beginning = Vec::new();
        (from.by_ref().take(BEGINNING as u64))
            .read_to_end(&mut beginning)
            .map_err(broken_off)?;
        if beginning.is_empty() {
            return Err(Trouble::Empty);
        }
        let is_jpeg = beginning.starts_with(jpeg::MAGIC);
        let format = [Format::Pdf, Format::Raster]
            .into_iter()
            .find(|format| beginning.starts_with(format.magic()));
        match (declared, format) {
            (Declared::Unsaid, None) if !is_jpeg => return Err(Trouble::Unknown),
            (Declared::Is(said), found) if found != Some(said) => {
                return Err(Trouble::Broken("the document is not what it is said to be"));
            }
            (Declared::Jpeg, _) if !is_jpeg => {
                return Err(Trouble::Broken("the document is not what it is said to be"));
            }
            _ => {}
        }
        let mut whole = beginning.chain(from);
        match format {
            Some(format) => self.keep(&mut whole, format, wanted),
            None => self.photograph(&mut whole),
        }
    }

    fn keep(
        &self,
        from: &mut impl Read,
        format: Format,
        wanted: impl Fn() -> bool,
    ) -> Result<Document, Trouble> {
        let mut file = tempfile::tempfile_in(self.folder).map_err(Trouble::Spool)?;
        let mut piece = vec![0; 64 << 10];
        let mut size = 0;
        let mut pages = None;
        loop {
            let count = from.read(&mut piece).map_err(broken_off)?;
            if count == 0 {
                break;
            }
            if size == 0 && format == Format::Raster {
                pages = raster_pages(&piece[..count]);
            }
            size += count as u64;
            if size > self.most {
                return Err(Trouble::TooLarge);
            }
            if !wanted() {
                return Err(Trouble::Canceled);
            }
            file.write_all(&piece[..count]).map_err(Trouble::Spool)?;
        }
        file.seek(SeekFrom::Start(0)).map_err(Trouble::Spool)?;
        Ok(Document {
            file,
            size,
            format,
            pages,
        })
    }

    /// The host prints PDF and raster: a photograph becomes a page.
    fn photograph(&self, from: &mut impl Read) -> Result<Document, Trouble> {
        let mut photograph = Vec::new();
        let most = PHOTOGRAPH.min(self.most);
        (from.take(most + 1))
            .read_to_end(&mut photograph)
            .map_err(broken_off)?;
        if photograph.len() as u64 > most {
            return Err(Trouble::TooLarge);
        }
        let usual = Medium::a4();
        let media = (self.media)
            .or(self.capabilities.media.first())
            .unwrap_or(&usual);
        let page = jpeg::page(&photograph, media).map_err(Trouble::Broken)?;
        let document = self.keep(&mut page.as_slice(), Format::Pdf, || true)?;
        Ok(Document {
            pages: Some(1),
            ..document
        })
    }
}

fn broken_off(error: io::Error) -> Trouble {
    if error.kind() == io::ErrorKind::FileTooLarge {
        Trouble::TooLarge
    } else {
        Trouble::Connection(error)
    }
}

/// `TotalPageCount` of a PWG raster's first page (PWG 5102.4, table 1); zero means that nobody knows.
fn raster_pages(beginning: &[u8]) -> Option<u32> {
    let count = beginning.get(4 + 452..4 + 456)?;
    let count = u32::from_be_bytes(count.try_into().ok()?);
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(bytes: &[u8], declared: Declared, most: u64) -> Result<Document, Trouble> {
        let capabilities = Capabilities::default();
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool {
            folder: folder.path(),
            most,
            capabilities: &capabilities,
            media: None,
        };
        let taken = spool.take(&mut &bytes[..], declared, || true);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "it has a name"
        );
        taken
    }

    #[test]
    fn documents_are_what_they_begin_with() {
        let mut raster = b"RaS2".to_vec();
        raster.resize(2000, 0);
        raster[459] = 7;
        for declared in [Declared::Unsaid, Declared::Is(Format::Raster)] {
            let mut document = take(&raster, declared, 2000).unwrap();
            assert_eq!((document.format, document.pages), (Format::Raster, Some(7)));
            let mut kept = Vec::new();
            document.file.read_to_end(&mut kept).unwrap();
            assert_eq!(kept, raster);
        }
        let document = take(b"%PDF-", Declared::Unsaid, 5).unwrap();
        assert_eq!(
            (document.format, document.pages, document.size),
            (Format::Pdf, None, 5)
        );
    }

    #[test]
    fn what_is_something_else_is_not_taken() {
        let is = Declared::Is(Format::Pdf);
        assert!(matches!(take(b"", is, 9), Err(Trouble::Empty)));
        assert!(matches!(take(b"RaS2", is, 9), Err(Trouble::Broken(_))));
        assert!(matches!(
            take(b"%!PS", Declared::Unsaid, 9),
            Err(Trouble::Unknown)
        ));
        assert!(matches!(
            take(b"%PDF-", Declared::Jpeg, 9),
            Err(Trouble::Broken(_))
        ));
        assert!(matches!(take(b"%PDF-12345", is, 9), Err(Trouble::TooLarge)));
    }

    #[test]
    fn kinds_have_names() {
        let kind = Declared::from_mime;
        assert_eq!(kind("application/pdf"), Some(Declared::Is(Format::Pdf)));
        assert_eq!(
            kind("Image/PWG-Raster; x=y"),
            Some(Declared::Is(Format::Raster))
        );
        assert_eq!(kind("application/octet-stream"), Some(Declared::Unsaid));
        assert_eq!(kind("image/urf"), None);
    }
}
