//! The packages with fuzz targets: each is one program that holds all of its targets, with their corpora and
//! words beside it.

/// A package of targets.
pub struct Package {
    /// Its name, and its program's.
    pub name: &'static str,
    /// Where it lies.
    pub folder: &'static str,
    /// The variable that tells its program which target to be.
    pub variable: &'static str,
}

/// All of them, in the order in which they run.
pub static PACKAGES: &[Package] = &[
    Package {
        name: "vdisk-fuzz",
        folder: "vdisk/fuzz",
        variable: "VDISK_FUZZ_TARGET",
    },
    Package {
        name: "medley-fuzz",
        folder: "agent/fuzz",
        variable: "MEDLEY_FUZZ_TARGET",
    },
];

impl Package {
    /// What makes its program a fuzzer.
    pub fn feature(&self) -> String {
        format!("{}/libfuzzer", self.name)
    }
}
