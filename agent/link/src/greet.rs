//! The part of a set's messages that every channel has: hello and farewell. Guest first, then host; both
//! come to the same answer.
use medley_wire::{Bye, Hello, Set, bulk, control, gui};

/// Sets whose messages begin with a hello: all of them.
pub trait Greets: Set {
    /// The hello, if it is one.
    fn hello<'m>(message: &'m Self::Message<'_>) -> Option<&'m Hello>;
    /// A hello.
    fn greeting(hello: Hello) -> Self::Message<'static>;
    /// A farewell.
    fn farewell(bye: Bye<'_>) -> Self::Message<'_>;
}

macro_rules! greets {
    ($($module:ident::$set:ident),*) => {$(
        impl Greets for $module::$set<'static> {
            fn hello<'m>(message: &'m Self::Message<'_>) -> Option<&'m Hello> {
                match message {
                    $module::$set::Hello(hello) => Some(hello),
                    _ => None,
                }
            }
            fn greeting(hello: Hello) -> Self::Message<'static> {
                hello.into()
            }
            fn farewell(bye: Bye<'_>) -> Self::Message<'_> {
                bye.into()
            }
        }
    )*};
}
greets!(
    gui::FromGuest,
    gui::FromHost,
    control::FromGuest,
    control::FromHost,
    bulk::FromGuest,
    bulk::FromHost
);
