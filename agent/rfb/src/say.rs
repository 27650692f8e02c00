//! What a viewer says: messages of a few bytes, without a way to fail.
use crate::encoding;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// Pixels are four bytes: blue, green, red, and one that means nothing.
    Format,
    /// These kinds of rectangles are understood, the dearest first.
    Encodings,
    /// The screen, or what changes on it.
    Ask {
        /// Only what changes.
        changes: bool,
        /// The screen's size.
        size: (u16, u16),
    },
    /// A key.
    Key {
        /// It went down.
        down: bool,
        /// Its code; the set that PCs have had since the XT.
        code: u8,
    },
    /// The pointer, with its buttons as bits.
    Pointer {
        /// Buttons that are down.
        buttons: u8,
        /// Place, or 0x7fff and how far it moved.
        x: u16,
        /// See `x`.
        y: u16,
    },
    /// A wish for another size.
    Size(u16, u16),
}

impl Say {
    /// The message's bytes.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        match self {
            Self::Format => {
                let depths = [0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255];
                out.extend(depths);
                out.extend([16, 8, 0, 0, 0, 0]);
            }
            Self::Encodings => {
                let known = [
                    encoding::COPY,
                    encoding::RAW,
                    encoding::SIZE_EXTENDED,
                    encoding::SIZE,
                    encoding::CURSOR,
                    encoding::KEYS,
                    encoding::POINTER,
                ];
                out.extend([2, 0, 0, known.len() as u8]);
                known.iter().for_each(|kind| out.extend(kind.to_be_bytes()));
            }
            Self::Ask { changes, size } => {
                out.extend([3, u8::from(changes), 0, 0, 0, 0]);
                out.extend(size.0.to_be_bytes());
                out.extend(size.1.to_be_bytes());
            }
            Self::Key { down, code } => {
                out.extend([255, 0, 0, u8::from(down)]);
                // No symbol: the guest's own layout says what a key means.
                out.extend([0; 4]);
                out.extend(u32::from(code).to_be_bytes());
            }
            Self::Pointer { buttons, x, y } => {
                out.extend([5, buttons]);
                out.extend(x.to_be_bytes());
                out.extend(y.to_be_bytes());
            }
            Self::Size(width, height) => {
                let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
                out.extend([251, 0]);
                out.extend(&size);
                // One screen, number 0, in the corner.
                out.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                out.extend(&size);
                out.extend([0; 4]);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_protocol_has_them() {
        assert_eq!(Say::Format.bytes().len(), 20);
        assert_eq!(Say::Encodings.bytes().len(), 4 + 7 * 4);
        let size = (0x0102, 0x0304);
        let ask = Say::Ask {
            changes: true,
            size,
        };
        assert_eq!(ask.bytes(), [3, 1, 0, 0, 0, 0, 1, 2, 3, 4]);
        let key = Say::Key {
            down: true,
            code: 0x9c,
        };
        assert_eq!(key.bytes(), [255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x9c]);
        let pointer = Say::Pointer {
            buttons: 5,
            x: 0x7fff,
            y: 1,
        };
        assert_eq!(pointer.bytes(), [5, 5, 0x7f, 0xff, 0, 1]);
        assert_eq!(
            Say::Size(800, 600).bytes(),
            [
                251, 0, 3, 32, 2, 88, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 32, 2, 88, 0, 0, 0, 0
            ]
        );
    }
}
