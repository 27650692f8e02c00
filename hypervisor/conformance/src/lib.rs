//! What every hypervisor's back end must do, as tests that a real guest answers from inside.
//!
//! A [`Fixture`] says which guest the machines run; [`tests!`] makes one `#[test]` of each
//! property, and [`run`] checks them all and gives a [`Report`]. What a back end cannot do, by its
//! own [`Capabilities`], is skipped and reported as such, and
//! must fail as unsupported when it is tried all the same.
//!
//! [`fake::Fake`] is a back end that fails on demand. It proves that each property can fail, and
//! serves the tests of those who watch over machines.

mod bench;
mod console;
pub mod fake;
mod fixture;
mod properties;
mod words;

pub use bench::{MAKER, Orphan, be_a_maker};
pub use fixture::Fixture;
pub use properties::PROPERTIES;

use bench::Bench;
use medley_hypervisor::{Capabilities, Hypervisor};
use std::fmt;

/// Something that must hold for every back end.
pub struct Property {
    /// What holds, as a sentence with `_` between its words.
    pub name: &'static str,
    /// What a back end without it is lacking; `None` if this one has all that it takes.
    lacks: fn(&Capabilities, &Fixture) -> Option<&'static str>,
    check: fn(&mut Bench<'_>) -> anyhow::Result<()>,
}

/// How a property fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not apply, and why.
    Skipped(&'static str),
    /// It does not hold, and what was seen instead.
    Failed(String),
}

/// How all properties fared on one back end.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which back end, with its version.
    pub hypervisor: String,
    /// Each property's name and outcome.
    pub results: Vec<(&'static str, Outcome)>,
}

impl Property {
    /// Checks it on a back end.
    pub fn check(&self, hypervisor: &dyn Hypervisor, fixture: &Fixture) -> Outcome {
        if let Some(lacking) = (self.lacks)(&hypervisor.capabilities(), fixture) {
            return Outcome::Skipped(lacking);
        }
        let checked = Bench::new(hypervisor, fixture).and_then(|mut bench| {
            (self.check)(&mut bench).map_err(|error| bench.with_console(error))
        });
        match checked {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        }
    }
}

/// Checks every property.
pub fn run(hypervisor: &dyn Hypervisor, fixture: &Fixture) -> Report {
    let check = |property: &Property| (property.name, property.check(hypervisor, fixture));
    Report {
        hypervisor: hypervisor.describe(),
        results: PROPERTIES.iter().map(check).collect(),
    }
}

/// Checks one property, for a test of its name.
///
/// # Panics
/// If it does not hold.
pub fn assert_property(hypervisor: &dyn Hypervisor, fixture: &Fixture, name: &str) {
    let property = PROPERTIES.iter().find(|property| property.name == name);
    let outcome = property.map(|property| property.check(hypervisor, fixture));
    match outcome {
        Some(Outcome::Passed) => {}
        Some(Outcome::Skipped(why)) => eprintln!("skipped: {}: {why}", hypervisor.describe()),
        Some(Outcome::Failed(why)) => panic!("{}: {why}", hypervisor.describe()),
        None => panic!("there is no property {name}"),
    }
}

impl Report {
    /// The properties that do not hold.
    pub fn failures(&self) -> impl Iterator<Item = &'static str> {
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        let results = self.results.iter();
        results.filter_map(move |(name, outcome)| failed(outcome).then_some(*name))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.hypervisor)?;
        for (name, outcome) in &self.results {
            let words = match outcome {
                Outcome::Passed => "holds".to_owned(),
                Outcome::Skipped(why) => format!("skipped: {why}"),
                Outcome::Failed(why) => format!("FAILED: {why}"),
            };
            writeln!(f, "  {name:<54} {words}")?;
        }
        Ok(())
    }
}

/// One `#[test]` for each property, in a module of their own: `tests! { setup }`, where
/// `fn setup() -> (impl Hypervisor, Fixture)` is called in each. Attributes before it go to every
/// test.
#[macro_export]
macro_rules! tests {
    ($(#[$attribute:meta])* $setup:path) => {
        $crate::each_property! { each_test [$(#[$attribute])*] $setup }

        /// Not a test: a process that makes a machine and dies, for the test of orphans.
        #[test]
        #[ignore = "a part of another test"]
        fn maker() {
            if std::env::var_os($crate::MAKER).is_some() {
                let (hypervisor, fixture) = $setup();
                $crate::be_a_maker(&hypervisor, &fixture);
            }
        }
    };
}

/// The tests of [`tests!`].
#[doc(hidden)]
#[macro_export]
macro_rules! each_test {
    ($attributes:tt $setup:path => $($name:ident: $module:ident, $lacks:ident;)*) => {
        $( $crate::one_test! { $attributes $setup; $name } )*
    };
}

/// One of [`each_test!`].
#[doc(hidden)]
#[macro_export]
macro_rules! one_test {
    ([$(#[$attribute:meta])*] $setup:path; $name:ident) => {
        #[test]
        $(#[$attribute])*
        fn $name() {
            let (hypervisor, fixture) = $setup();
            let fixture = fixture.with_maker(concat!(module_path!(), "::maker"));
            $crate::assert_property(&hypervisor, &fixture, stringify!($name));
        }
    };
}
