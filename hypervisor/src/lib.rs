//! One trait for machines; QEMU behind it; memory that fits the host.
