//! Connectors that people add, change, stop and remove.

use super::Applier;
use crate::fold::published::place_of_published;
use crate::fold::stored::encode;
use crate::records::connector::ConnectorRecord;
use ironloom_storage::store::Item;

impl Applier {
    /// Takes over all that there is to a connector now.
    pub(super) fn set_connector(&self, connector: ConnectorRecord) {
        let key = Item::Connector(&connector.name).key();
        let mut all = self.shared.connectors.write();
        if connector.says_nothing() {
            self.shared.overlay.apply([(key, None)]);
            all.remove(&connector.name);
        } else {
            self.shared.overlay.apply([(key, Some(encode(&connector)))]);
            all.insert(connector.name.clone(), connector);
        }
    }

    /// Forgets a connector, with its places: names may come and go without end.
    pub(super) fn remove_connector(&self, name: &str) {
        self.shared.overlay.apply([(Item::Connector(name).key(), None)]);
        self.shared.connectors.write().remove(name);
        for place in [Box::from(name), place_of_published(name)] {
            self.shared.overlay.apply([(Item::Receipt(&place).key(), None)]);
            self.shared.receipts.write().remove(&place);
        }
    }
}
