//! What a guest hands to its host besides windows, and the printer in the guest. The crates' own entries do the
//! work: they see the insides.

use super::Target;

pub const GATE: Target = Target {
    name: "services_gate",
    about: "a guest and a supervisor made up from the bytes, against what decides on files, notes, addresses, copies",
    max_len: 8192,
    run: |bytes| {
        medley_services::fuzz_gate(bytes);
    },
};

pub const PRINT: Target = Target {
    name: "print_request",
    about: "a client of the guest's printer: HTTP, IPP and documents, answered within bounds",
    max_len: 8192,
    run: medley_print::fuzz_request,
};
