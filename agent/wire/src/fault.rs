//! Why bytes are no message. Every fault ends the connection: a peer that breaks the protocol once is
//! broken or hostile, and there is nothing to guess.
use core::fmt;

/// What was wrong, and in which field of which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was wrong.
    pub kind: FaultKind,
    /// The message's name, or nothing if its kind was not known yet.
    pub message: &'static str,
    /// The innermost named field, or nothing if the message as a whole was wrong.
    pub field: &'static str,
}

/// The ways in which bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// A message's length lies outside what its kind allows; all three in bytes, with the header.
    Length {
        /// As the header says.
        got: usize,
        /// Fewest of this kind.
        min: usize,
        /// Most of this kind.
        max: usize,
    },
    /// No message of this set has that number.
    Unknown(u16),
    /// Flags that this version does not know, or that do not belong to this kind.
    Flags(u16),
    /// Messages are counted from zero; this one has another number.
    Serial {
        /// The number it should have.
        expected: u32,
        /// The number it has.
        got: u32,
    },
    /// Something other than a hello or a farewell came first.
    NotGreeted,
    /// A second hello.
    GreetedTwice,
    /// The message ends inside a field.
    Short,
    /// Bytes are left after the last field.
    Trailing(usize),
    /// A value that this field cannot have.
    Value(u64),
    /// More entries or bytes than the field may have.
    TooMany {
        /// As the message says.
        got: usize,
        /// Most that it may have.
        max: usize,
    },
}

impl Fault {
    pub(crate) const fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            message: "",
            field: "",
        }
    }

    pub(crate) const fn value(value: u64) -> Self {
        Self::new(FaultKind::Value(value))
    }

    /// Names the field, if none further inside was named.
    pub(crate) const fn in_field(mut self, field: &'static str) -> Self {
        if self.field.is_empty() {
            self.field = field;
        }
        self
    }

    pub(crate) const fn in_message(mut self, message: &'static str) -> Self {
        self.message = message;
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.message, self.field) {
            ("", _) => f.write_str("protocol")?,
            (message, "") => f.write_str(message)?,
            (message, field) => write!(f, "{message}.{field}")?,
        }
        match self.kind {
            FaultKind::Length { got, min, max } => {
                write!(f, ": {got} bytes long, where {min} to {max} are allowed")
            }
            FaultKind::Unknown(kind) => write!(f, ": no message has the number {kind}"),
            FaultKind::Flags(flags) => write!(f, ": flags {flags:#06x} are not allowed"),
            FaultKind::Serial { expected, got } => {
                write!(f, ": message number {got} came where {expected} was due")
            }
            FaultKind::NotGreeted => write!(f, ": came before the hello"),
            FaultKind::GreetedTwice => write!(f, ": a second hello"),
            FaultKind::Short => write!(f, ": ends too early"),
            FaultKind::Trailing(left) => write!(f, ": {left} bytes too many"),
            FaultKind::Value(value) => write!(f, ": cannot be {value:#x}"),
            FaultKind::TooMany { got, max } => write!(f, ": {got}, where {max} are allowed"),
        }?;
        f.write_str("; the connection must be closed and begun anew")
    }
}

impl core::error::Error for Fault {}
