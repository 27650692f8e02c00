//! End-to-end tests: real guests, real peers.
