//! AES-256-XTS for disk sectors, several at a time, on whatever the processor offers.
