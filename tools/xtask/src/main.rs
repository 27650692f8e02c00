//! Sets up, builds guests, runs the demo, the tests and the benches.
fn main() {}
