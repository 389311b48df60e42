//! The tenants that there are, by number and by name.

use std::collections::BTreeMap;

use crate::records::tenant::TenantRecord;
use ironloom_types::ids::{TenantId, TenantName};

#[derive(Debug, Default)]
pub(crate) struct Tenants {
    by_number: BTreeMap<TenantId, TenantRecord>,
    by_name: BTreeMap<TenantName, TenantId>,
}

impl Tenants {
    /// Takes one in, in the place of what was known of it.
    pub(crate) fn insert(&mut self, tenant: TenantRecord) {
        self.by_name.insert(tenant.name.clone(), tenant.number);
        self.by_number.insert(tenant.number, tenant);
    }

    pub(crate) fn get(&self, number: TenantId) -> Option<&TenantRecord> {
        self.by_number.get(&number)
    }

    pub(crate) fn named(&self, name: &TenantName) -> Option<&TenantRecord> {
        self.get(*self.by_name.get(name)?)
    }

    /// All of them, in the order of their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &TenantRecord> {
        self.by_name.values().filter_map(|number| self.get(*number))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// A number that no tenant has had.
    pub(crate) fn next(&self) -> TenantId {
        let last = self.by_number.last_key_value().map_or(TenantId::MAIN, |(last, _)| *last);
        TenantId(last.0.max(TenantId::MAIN.0) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tenant::Quotas;
    use ironloom_types::clock::Timestamp;

    #[test]
    fn a_tenant_is_found_by_number_and_by_name_and_each_has_a_number_of_its_own() {
        let mut tenants = Tenants::default();
        let name = |text: &str| TenantName::new(text).unwrap();
        for text in ["south", "north"] {
            let number = tenants.next();
            let quotas = Quotas::default();
            tenants.insert(TenantRecord { number, name: name(text), quotas, since: Timestamp(1) });
        }
        assert_eq!(tenants.named(&name("south")).map(|found| found.number), Some(TenantId(2)));
        assert_eq!(tenants.get(TenantId(3)).map(|found| found.name.clone()), Some(name("north")));
        assert_eq!(tenants.all().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["north", "south"]);
        assert_eq!((tenants.next(), tenants.len()), (TenantId(4), 2));
        let quotas = Quotas { points: Some(7), installations: None };
        tenants.insert(TenantRecord {
            number: TenantId(2),
            name: name("south"),
            quotas,
            since: Timestamp(1),
        });
        assert_eq!((tenants.len(), tenants.get(TenantId(2)).map(|found| found.quotas)), (2, Some(quotas)));
    }
}
