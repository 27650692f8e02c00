//! A photograph as a page: IPP Everywhere wants printers to take JPEG, and PDF can hold one as it is.
use crate::media::Medium;

/// What a JPEG begins with.
pub const MAGIC: &[u8] = &[0xff, 0xd8, 0xff];
/// A margin that every printer can keep, in points.
const MARGIN: f64 = 18.0;

/// What has to be known of a photograph to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    width: u16,
    height: u16,
    components: u8,
    /// Adobe's mark: four colours are written upside down then.
    adobe: bool,
}

/// A PDF document of one page with the photograph on it, as large as it fits.
pub fn page(photograph: &[u8], media: &Medium) -> Result<Vec<u8>, &'static str> {
    let frame =
        frame(photograph).ok_or("the photograph is broken, or of a kind that is not known")?;
    let colours = match frame.components {
        1 => "/DeviceGray",
        3 => "/DeviceRGB",
        4 if frame.adobe => "/DeviceCMYK /Decode [1 0 1 0 1 0 1 0]",
        4 => "/DeviceCMYK",
        _ => return Err("a photograph of so many colours cannot be shown"),
    };
    let points = |hundredths: u32| f64::from(hundredths) * 72.0 / 2540.0;
    let (mut across, mut down) = (points(media.width()), points(media.height()));
    let (width, height) = (f64::from(frame.width), f64::from(frame.height));
    // A wide photograph lies on its side.
    let (mut room_across, mut room_down) = (across - 2.0 * MARGIN, down - 2.0 * MARGIN);
    if room_across <= 0.0 || room_down <= 0.0 {
        (room_across, room_down) = (across, down);
    }
    if (width > height) != (across > down) {
        (across, down) = (down, across);
        (room_across, room_down) = (room_down, room_across);
    }
    let scale = (room_across / width).min(room_down / height);
    let (wide, high) = (width * scale, height * scale);
    let (left, low) = ((across - wide) / 2.0, (down - high) / 2.0);
    let drawing = format!("q {wide:.3} 0 0 {high:.3} {left:.3} {low:.3} cm /P Do Q\n");

    let mut pdf = Pdf::default();
    pdf.object("<< /Type /Catalog /Pages 2 0 R >>", None);
    pdf.object("<< /Type /Pages /Kids [3 0 R] /Count 1 >>", None);
    let leaf = format!(
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {across:.3} {down:.3}] \
         /Resources << /XObject << /P 5 0 R >> >> /Contents 4 0 R >>"
    );
    pdf.object(&leaf, None);
    let length = format!("<< /Length {} >>", drawing.len());
    pdf.object(&length, Some(drawing.as_bytes()));
    let picture = format!(
        "<< /Type /XObject /Subtype /Image /Width {} /Height {} /ColorSpace {colours} \
         /BitsPerComponent 8 /Filter /DCTDecode /Length {} >>",
        frame.width,
        frame.height,
        photograph.len()
    );
    pdf.object(&picture, Some(photograph));
    Ok(pdf.finish())
}

/// Reads the segments up to the frame's header (ITU-T T.81, annex B).
fn frame(bytes: &[u8]) -> Option<Frame> {
    let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
    let mut adobe = false;
    loop {
        // Any number of bytes may fill the room before a marker.
        rest = rest.strip_prefix(&[0xff])?;
        while let Some(more) = rest.strip_prefix(&[0xff]) {
            rest = more;
        }
        let (marker, behind) = rest.split_first()?;
        let (length, _) = behind.split_at_checked(2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let segment = behind.get(2..length)?;
        match marker {
            // Frames that a PDF may have: baseline, extended, progressive, all coded by Huffman.
            0xc0..=0xc2 => {
                let &[8, h1, h0, w1, w0, components, ..] = segment else {
                    return None;
                };
                let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
                return (width > 0 && height > 0).then_some(Frame {
                    width,
                    height,
                    components,
                    adobe,
                });
            }
            // Other frames; tables of Huffman and arithmetic coding share their numbers.
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return None,
            // The photograph begins, and nothing said how large it is; or it ends, or what has no length.
            0xda | 0xd0..=0xd9 | 0x00 | 0x01 => return None,
            0xee => adobe |= segment.starts_with(b"Adobe"),
            _ => {}
        }
        rest = behind.get(length..)?;
    }
}

/// A PDF document that is written from its beginning to its end.
#[derive(Default)]
struct Pdf {
    bytes: Vec<u8>,
    objects: Vec<usize>,
}

impl Pdf {
    fn object(&mut self, dictionary: &str, stream: Option<&[u8]>) {
        if self.bytes.is_empty() {
            // Bytes above 127, so that nobody takes it for text.
            self.bytes
                .extend_from_slice(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n");
        }
        self.objects.push(self.bytes.len());
        let begin = format!("{} 0 obj\n{dictionary}\n", self.objects.len());
        self.bytes.extend_from_slice(begin.as_bytes());
        if let Some(stream) = stream {
            self.bytes.extend_from_slice(b"stream\n");
            self.bytes.extend_from_slice(stream);
            self.bytes.extend_from_slice(b"\nendstream\n");
        }
        self.bytes.extend_from_slice(b"endobj\n");
    }

    fn finish(mut self) -> Vec<u8> {
        let table = self.bytes.len();
        let count = self.objects.len() + 1;
        let mut end = format!("xref\n0 {count}\n0000000000 65535 f \n");
        for at in &self.objects {
            end.push_str(&format!("{at:010} 00000 n \n"));
        }
        end.push_str(&format!(
            "trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n"
        ));
        self.bytes.extend_from_slice(end.as_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photograph(components: u8) -> Vec<u8> {
        let mut bytes = vec![
            0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xff, 0xc0, 0, 8, 8,
        ];
        bytes.extend_from_slice(&[0, 100, 0, 200, components, 0xff, 0xda]);
        bytes
    }

    #[test]
    fn a_photograph_becomes_a_page() {
        let bytes = photograph(3);
        let pdf = page(&bytes, &Medium::a4()).unwrap();
        assert!(pdf.starts_with(b"%PDF-1.4") && pdf.ends_with(b"%%EOF\n"));
        assert!(pdf.windows(bytes.len()).any(|part| part == bytes));
        let text = String::from_utf8_lossy(&pdf);
        // Wide, so that the paper lies on its side.
        assert!(text.contains("/MediaBox [0 0 841.890 595.276]"), "{text}");
        assert!(text.contains("/Width 200 /Height 100 /ColorSpace /DeviceRGB"));
        // Every object is where the table says.
        let table = text.split("65535 f \n").nth(1).unwrap();
        for (number, line) in table.lines().take(5).enumerate() {
            let at: usize = line[..10].parse().unwrap();
            let begin = format!("{} 0 obj\n", number + 1);
            assert_eq!(&pdf[at..at + begin.len()], begin.as_bytes());
        }
    }

    #[test]
    fn a_broken_photograph_is_none() {
        let bytes = photograph(3);
        for end in 0..bytes.len() - 2 {
            assert!(page(&bytes[..end], &Medium::a4()).is_err(), "{end}");
        }
        assert!(page(&photograph(2), &Medium::a4()).is_err());
        assert!(page(b"\xff\xd8\xff\xda\x00\x02", &Medium::a4()).is_err());
        assert!(page(b"\xff\xd8\xff\xe0\x00\x00", &Medium::a4()).is_err());
    }
}
