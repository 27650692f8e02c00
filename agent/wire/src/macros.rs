//! The three forms in which the protocol is written down, so that a message is declared once and read,
//! written, measured and made up from that declaration.

/// A closed list of values in one byte; any other byte is a fault.
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        $vis enum $name { $($(#[$vmeta])* $variant = $value),* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
        }

        impl<'a> $crate::codec::Wire<'a> for $name {
            const MIN: usize = 1;
            const MAX: usize = 1;
            fn take(reader: &mut $crate::codec::Reader<'a>) -> Result<Self, $crate::Fault> {
                match u8::take(reader)? {
                    $($value => Ok(Self::$variant),)*
                    other => Err($crate::Fault::value(other.into())),
                }
            }
            fn put(&self, writer: &mut $crate::codec::Writer<'_>) {
                (*self as u8).put(writer);
            }
            fn invent(dice: &mut $crate::fuzz::Dice<'a>) -> Self {
                Self::ALL[dice.below(Self::ALL.len() as u32) as usize]
            }
        }
    };
}

/// A set of bits; a bit without a name is a fault.
macro_rules! bits {
    ($(#[$meta:meta])* pub struct $name:ident: $repr:ty { $($(#[$vmeta:meta])* $bit:ident = $shift:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub struct $name($repr);

        impl $name {
            $($(#[$vmeta])* pub const $bit: Self = Self(1 << $shift);)*
            /// Every bit that has a name.
            pub const ALL: Self = Self(0 $(| 1 << $shift)*);
            /// No bit.
            pub const NONE: Self = Self(0);

            /// The bits as a number.
            #[must_use]
            pub const fn bits(self) -> $repr {
                self.0
            }

            /// Those bits of a number that have a name.
            #[must_use]
            pub const fn known(bits: $repr) -> Self {
                Self(bits & Self::ALL.0)
            }

            /// Whether all bits of `other` are set.
            #[must_use]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// These and those.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// These without those.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let mut set = f.debug_set();
                $(if self.has(Self::$bit) { set.entry(&format_args!("{}", stringify!($bit))); })*
                set.finish()
            }
        }

        impl<'a> $crate::codec::Wire<'a> for $name {
            const MIN: usize = size_of::<$repr>();
            const MAX: usize = size_of::<$repr>();
            fn take(reader: &mut $crate::codec::Reader<'a>) -> Result<Self, $crate::Fault> {
                let bits = <$repr>::take(reader)?;
                if bits | Self::ALL.0 == Self::ALL.0 { Ok(Self(bits)) } else { Err($crate::Fault::value(bits.into())) }
            }
            fn put(&self, writer: &mut $crate::codec::Writer<'_>) {
                self.0.put(writer);
            }
            fn invent(dice: &mut $crate::fuzz::Dice<'a>) -> Self {
                Self(<$repr>::invent(dice) & Self::ALL.0)
            }
        }
    };
}

/// Fields, one after the other.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident $(<$life:lifetime>)? { $($(#[$fmeta:meta])* pub $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name $(<$life>)? { $($(#[$fmeta])* pub $field: $type),* }

        impl<'a> $crate::codec::Wire<'a> for $name $(<$life>)? {
            const MIN: usize = 0 $(+ <$type as $crate::codec::Wire<'a>>::MIN)*;
            const MAX: usize = 0 $(+ <$type as $crate::codec::Wire<'a>>::MAX)*;
            fn take(reader: &mut $crate::codec::Reader<'a>) -> Result<Self, $crate::Fault> {
                Ok(Self { $($field: $crate::codec::Wire::take(reader).map_err(|fault| fault.in_field(stringify!($field)))?),* })
            }
            fn put(&self, writer: &mut $crate::codec::Writer<'_>) {
                $($crate::codec::Wire::put(&self.$field, writer);)*
            }
            fn len(&self) -> usize {
                0 $(+ $crate::codec::Wire::len(&self.$field))*
            }
            fn invent(dice: &mut $crate::fuzz::Dice<'a>) -> Self {
                Self { $($field: $crate::codec::Wire::invent(dice)),* }
            }
        }
    };
}

/// What one side may say on one channel: numbers and bodies.
macro_rules! messages {
    ($(#[$meta:meta])* pub enum $name:ident on $channel:ident { $($number:literal $variant:ident($body:ident $(<$life:lifetime>)?)),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name<'a> { $(#[doc = concat!("Message ", stringify!($number), ".")] $variant($body $(<$life>)?)),* }

        $(impl<'a> From<$body $(<$life>)?> for $name<'a> {
            fn from(body: $body $(<$life>)?) -> Self {
                Self::$variant(body)
            }
        })*

        impl $crate::stream::Set for $name<'static> {
            const CHANNEL: $crate::Channel = $crate::Channel::$channel;
            const TABLE: &'static [$crate::stream::Entry] = &[$($crate::stream::Entry {
                number: $number,
                name: stringify!($variant),
                min: $crate::stream::HEADER + <$body as $crate::codec::Wire>::MIN,
                max: $crate::stream::HEADER + <$body as $crate::codec::Wire>::MAX,
            }),*];
            type Message<'m> = $name<'m>;

            fn number(message: &$name<'_>) -> u16 {
                match message { $($name::$variant(_) => $number),* }
            }
            fn len(message: &$name<'_>) -> usize {
                match message { $($name::$variant(body) => $crate::codec::Wire::len(body)),* }
            }
            fn put(message: &$name<'_>, writer: &mut $crate::codec::Writer<'_>) {
                match message { $($name::$variant(body) => $crate::codec::Wire::put(body, writer)),* }
            }
            fn take<'m>(number: u16, reader: &mut $crate::codec::Reader<'m>) -> Result<$name<'m>, $crate::Fault> {
                match number {
                    $($number => $crate::codec::Wire::take(reader)
                        .map($name::$variant)
                        .map_err(|fault| fault.in_message(stringify!($variant))),)*
                    other => Err($crate::Fault::new($crate::FaultKind::Unknown(other))),
                }
            }
            fn invent<'m>(number: u16, dice: &mut $crate::fuzz::Dice<'m>) -> Option<$name<'m>> {
                match number {
                    $($number => Some($name::$variant($crate::codec::Wire::invent(dice))),)*
                    _ => None,
                }
            }
        }
    };
}
