//! Catalogs that people add and remove.

use super::Applier;
use crate::fold::stored::encode;
use crate::records::catalog::CatalogRecord;
use ironloom_storage::store::Item;

impl Applier {
    pub(super) fn set_catalog(&self, catalog: CatalogRecord) {
        let key = Item::Catalog(&catalog.name).key();
        self.shared.overlay.apply([(key, Some(encode(&catalog)))]);
        self.shared.catalogs.write().insert(catalog.name.clone(), catalog);
    }

    pub(super) fn remove_catalog(&self, name: &str) {
        self.shared.overlay.apply([(Item::Catalog(name).key(), None)]);
        self.shared.catalogs.write().remove(name);
    }
}
