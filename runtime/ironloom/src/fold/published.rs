//! The place up to which each connector has published. It stands among the receipts, as that of a source.

use super::Shared;
use super::stored::decode;
use ironloom_types::readings::Published;

/// Its name there: none of a connector has a `/`.
pub(super) fn place_of_published(connector: &str) -> Box<str> {
    format!("{connector}/publish").into()
}

impl Shared {
    /// The place up to which a connector has published.
    ///
    /// # Errors
    /// It can't be read. To begin anew would pass over all in between.
    pub(crate) fn published(&self, connector: &str) -> Result<Option<Published>, String> {
        let receipts = self.receipts.read();
        let Some(note) = receipts.get(&*place_of_published(connector)) else { return Ok(None) };
        let place = decode(note);
        place
            .map(Some)
            .map_err(|error| format!("the place up to which it has published can't be read: {error}"))
    }
}
