//! The decoders of what comes over the channels. The crate's own entries do the work: they see its insides.

use super::Target;

pub const GUI: Target = Target {
    name: "wire_gui",
    about: "a guest's bytes on the gui channel, cut anywhere; and messages made up from them, there and back",
    max_len: 8192,
    run: medley_wire::fuzz_gui,
};

pub const CONTROL: Target = Target {
    name: "wire_control",
    about: "a guest's bytes on the control channel, likewise",
    max_len: 8192,
    run: medley_wire::fuzz_control,
};

pub const BULK: Target = Target {
    name: "wire_bulk",
    about: "a guest's bytes on the bulk channel, likewise",
    max_len: 8192,
    run: medley_wire::fuzz_bulk,
};

pub const HOST: Target = Target {
    name: "wire_host",
    about: "a host's bytes on all three channels, likewise",
    max_len: 8192,
    run: medley_wire::fuzz_host,
};

pub const RECORDING: Target = Target {
    name: "wire_recording",
    about: "bytes as a recording: played or refused",
    max_len: 8192,
    run: medley_wire::fuzz_recording,
};
