//! Where ephemeral overlays go. Closing the last handle on a file without a name frees every page and
//! block of it, which takes longer the more there is; a revert must not wait for that. The key is gone
//! before, so what is still there for a moment is noise.

use crate::store::Store;

/// Bytes below which closing at once costs less than a thread.
const SMALL: u64 = 1 << 20;

/// Closes a store, soon.
pub(super) fn bury(store: Box<dyn Store>) {
    if store.len().is_ok_and(|len| len <= SMALL) {
        return;
    }
    // Without a thread the store is dropped here and now, with the closure.
    let _ = std::thread::Builder::new()
        .name("vdisk-reaper".into())
        .spawn(move || drop(store));
}
