//! LUKS2 headers (detached) and LUKS1 twins: bytes in, values out, no I/O.
