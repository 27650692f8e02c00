//! What a clipboard holds: in which forms it can be had, and what it is in one of them.

/// A form in which a copy can cross. No other does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// UTF-8.
    Text,
    /// A picture, as PNG.
    Picture,
}

/// Forms in which a copy can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    /// As text.
    pub text: bool,
    /// As a picture.
    pub picture: bool,
}

impl Forms {
    /// None at all.
    pub const NONE: Self = Self {
        text: false,
        picture: false,
    };

    /// Text alone.
    pub const TEXT: Self = Self {
        text: true,
        picture: false,
    };

    /// Whether there is one.
    #[must_use]
    pub const fn any(self) -> bool {
        self.text || self.picture
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, form: Form) -> bool {
        match form {
            Form::Text => self.text,
            Form::Picture => self.picture,
        }
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            text: self.text && other.text,
            picture: self.picture && other.picture,
        }
    }

    /// One after the other.
    pub fn each(self) -> impl Iterator<Item = Form> {
        [Form::Text, Form::Picture]
            .into_iter()
            .filter(move |form| self.has(*form))
    }
}

/// A copy in one form.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// A picture, as PNG.
    Picture(Vec<u8>),
}

impl std::fmt::Debug for Content {
    /// Only that it is there: what was copied is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} bytes", self.form(), self.bytes().len())
    }
}

impl Content {
    /// In which form it is.
    #[must_use]
    pub const fn form(&self) -> Form {
        match self {
            Self::Text(_) => Form::Text,
            Self::Picture(_) => Form::Picture,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Picture(bytes) => bytes,
        }
    }

    /// The same, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Picture(bytes) => bytes,
        }
    }

    /// Bytes in that form, if they are what they should be. Of a picture only its beginning is looked at.
    #[must_use]
    pub fn of(form: Form, bytes: Vec<u8>) -> Option<Self> {
        const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
        match form {
            Form::Text => String::from_utf8(bytes).ok().map(Self::Text),
            Form::Picture => bytes.starts_with(PNG).then_some(Self::Picture(bytes)),
        }
    }
}
