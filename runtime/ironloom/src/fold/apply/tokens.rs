//! Tenants that people add, which packages they have, and tokens that they make and take back.

use bytes::Bytes;

use super::Applier;
use crate::fold::stored::encode;
use crate::records::admin::PackageRecord;
use crate::records::tenant::TenantRecord;
use crate::records::token::TokenChange;
use ironloom_storage::store::Item;
use ironloom_types::ids::{Digest, TenantId};

impl Applier {
    pub(super) fn set_tenant(&self, tenant: TenantRecord) {
        self.shared.overlay.apply([(Item::Tenant(tenant.number).key(), Some(encode(&tenant)))]);
        self.shared.tenants.write().insert(tenant);
    }

    /// Notes that a tenant has a package, or has it no longer.
    pub(super) fn hold(&self, tenant: TenantId, package: Digest, holds: bool) {
        let key = Item::Holding(tenant, package).key();
        let mut holdings = self.shared.holdings.write();
        if holds {
            holdings.insert((tenant, package));
        } else {
            holdings.remove(&(tenant, package));
        }
        self.shared.overlay.apply([(key, holds.then(Bytes::new))]);
    }

    /// Adds a package that a tenant has brought.
    pub(super) fn bring_package(&mut self, tenant: TenantId, package: PackageRecord) {
        self.hold(tenant, package.digest, true);
        self.add_package(package);
    }

    /// Forgets a package, and who has had it.
    pub(super) fn remove_package(&self, package: Digest) {
        self.shared.packages.write().remove(&package);
        self.shared.overlay.apply([(Item::Package(package).key(), None)]);
        let all = self.shared.holdings.read();
        let gone: Vec<_> =
            all.iter().filter(|(_, held)| *held == package).map(|(tenant, _)| *tenant).collect();
        drop(all);
        gone.into_iter().for_each(|tenant| self.hold(tenant, package, false));
    }

    pub(super) fn change_token(&self, change: TokenChange) {
        let key = |name| Item::Token(name).key();
        match change {
            TokenChange::Made(token) => {
                self.shared.overlay.apply([(key(token.name.as_str()), Some(encode(&*token)))]);
                self.shared.tokens.write().insert(*token);
            }
            TokenChange::Removed(name) => {
                self.shared.overlay.apply([(key(name.as_str()), None)]);
                self.shared.tokens.write().remove(&name);
            }
        }
    }
}
