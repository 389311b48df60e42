//! Tenants: added, listed, and held to their quotas.

use std::sync::Arc;

use super::{Node, pages};
use crate::api::facade::{Answer, Page, PageQuery, Place, Problem, TenantInfo, TenantQuotas, TenantRequest};
use crate::records::admin::AdminRecord;
use crate::records::tenant::{MOST_TENANTS, Quotas, TenantRecord};
use ironloom_types::clock::host_time;
use ironloom_types::ids::{TenantId, TenantName};

/// The name of the tenant that there is from the first start on.
const MAIN: &str = "main";

impl Node {
    /// The tenants by name, `main` among them.
    pub(super) fn list_tenants(&self, page: &PageQuery) -> Page<TenantInfo> {
        let mut all: Vec<TenantInfo> = {
            let tenants = self.shared.tenants.read();
            tenants.all().map(|tenant| self.tenant_info(tenant.number, tenant)).collect()
        };
        all.extend(self.main_info());
        all.sort_by(|a, b| a.name.cmp(&b.name));
        pages::by_name(page, all, |tenant| tenant.name.to_string(), |tenant| tenant)
    }

    pub(super) fn show_tenant(&self, name: &TenantName) -> Answer<TenantInfo> {
        let number = self.tenant_named(name)?;
        let tenants = self.shared.tenants.read();
        match tenants.get(number) {
            Some(tenant) => Ok(self.tenant_info(number, tenant)),
            None => self.main_info().ok_or_else(|| no_tenant(name)),
        }
    }

    fn main_info(&self) -> Option<TenantInfo> {
        let name = TenantName::new(MAIN).ok()?;
        let (installations, points) = self.counts(TenantId::MAIN);
        Some(TenantInfo { name, since: None, quotas: TenantQuotas::default(), installations, points })
    }

    fn tenant_info(&self, number: TenantId, tenant: &TenantRecord) -> TenantInfo {
        let (installations, points) = self.counts(number);
        let Quotas { points: most_points, installations: most } = tenant.quotas;
        TenantInfo {
            name: tenant.name.clone(),
            since: Some(tenant.since),
            quotas: TenantQuotas { points: most_points, installations: most },
            installations,
            points,
        }
    }

    /// The installations and the points of a tenant.
    fn counts(&self, tenant: TenantId) -> (u64, u64) {
        let installations = self.lanes.count_of(tenant);
        (installations as u64, self.shared.points.names().count_of(tenant) as u64)
    }

    /// The tenant of this name.
    pub(super) fn tenant_named(&self, name: &TenantName) -> Answer<TenantId> {
        if name.as_str() == MAIN {
            return Ok(TenantId::MAIN);
        }
        let tenants = self.shared.tenants.read();
        tenants.named(name).map(|tenant| tenant.number).ok_or_else(|| no_tenant(name))
    }

    /// The name of a tenant, for people.
    pub(super) fn tenant_name(&self, tenant: TenantId) -> String {
        let tenants = self.shared.tenants.read();
        tenants.get(tenant).map_or_else(|| MAIN.to_owned(), |tenant| tenant.name.to_string())
    }

    /// Adds a tenant, or with `is_change` gives one other quotas.
    pub(super) async fn set_tenant(
        self: Arc<Self>,
        request: TenantRequest,
        is_change: bool,
    ) -> Answer<TenantInfo> {
        self.check_space()?;
        let TenantRequest { name, quotas: TenantQuotas { points, installations } } = request;
        let _changing = self.admin.tenants.lock().await;
        let record = {
            let tenants = self.shared.tenants.read();
            let quotas = Quotas { points, installations };
            match tenants.named(&name) {
                _ if name.as_str() == MAIN => {
                    let detail = "main is there from the first start on, and has no quotas but the server's own bounds";
                    return Err(Problem::conflict("exists", detail).at(Place::field("name")));
                }
                Some(known) if is_change => TenantRecord { quotas, ..known.clone() },
                None if is_change => return Err(no_tenant(&name)),
                Some(_) => {
                    let detail = format!("there is a tenant {name}");
                    return Err(Problem::conflict("exists", detail).at(Place::field("name")));
                }
                None if tenants.len() >= MOST_TENANTS => {
                    let detail = format!("there are {MOST_TENANTS} tenants already, and that is the most");
                    return Err(Problem::refused("tenant", detail));
                }
                None => {
                    TenantRecord { number: tenants.next(), name: name.clone(), quotas, since: host_time() }
                }
            }
        };
        self.change(AdminRecord::Tenant(Box::new(record))).await?;
        self.show_tenant(&name)
    }

    /// 422 where a tenant would have more installations than its quota.
    pub(super) fn check_installations(&self, tenant: TenantId, more: usize) -> Answer<()> {
        let most = self.shared.tenants.read().get(tenant).and_then(|tenant| tenant.quotas.installations);
        let Some(most) = most else { return Ok(()) };
        let there = self.lanes.count_of(tenant);
        if there + more <= most as usize {
            return Ok(());
        }
        let detail =
            format!("the quota is {most} installations, and with these there would be {}", there + more);
        Err(Problem::refused("quota", detail)
            .hint("Uninstall some, or have a platform-admin raise it: `ironloom tenant set`."))
    }

    /// The points that a tenant may still make, within its quota.
    pub(super) fn points_left(&self, tenant: TenantId) -> usize {
        let most = self.shared.tenants.read().get(tenant).and_then(|tenant| tenant.quotas.points);
        most.map_or(usize::MAX, |most| {
            (most as usize).saturating_sub(self.shared.points.names().count_of(tenant))
        })
    }
}

fn no_tenant(name: &TenantName) -> Problem {
    Problem::not_found(format!("there is no tenant {name}"))
        .hint("`ironloom tenant list` lists those that there are.")
}
