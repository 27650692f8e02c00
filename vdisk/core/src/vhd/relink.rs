//! Giving a child another parent's name.

use std::sync::Arc;

use super::create::{NewParent, link_to};
use super::edit::switch_to;
use super::footer::Footer;
use super::growing::Growing;
use super::header::HEADER_LEN;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// Has the child in `store` name another parent, whatever that holds. `timestamp` is the one that the
/// child gets because it reads as it did under it; without one it gets a new one, so that its own children
/// notice. A power cut leaves it with the old parent or the new one.
pub fn relink(store: Arc<dyn Store>, parent: &NewParent<'_>, timestamp: Option<u32>) -> Result<()> {
    let image = Growing::take(store)?;
    if image.layout.link.is_none() {
        return Err(Error::new(
            ErrorKind::InvalidRequest,
            "not a differencing disk: it has no parent",
        ));
    }
    let at = image.free_from();
    let (link, texts) = link_to(parent, at + HEADER_LEN as u64);
    let mut metadata = link.header_bytes(&image.layout.header).to_vec();
    metadata.extend(texts);
    let footer = Footer {
        timestamp: timestamp.unwrap_or_else(|| image.footer.next_timestamp()),
        ..image.footer.clone()
    };
    let plan = switch_to(at, metadata, &footer, &image.bytes);
    image.change(&plan)?;
    Ok(())
}
