//! The API's view of the server itself, beside that of the installations on it: clock, connectors, tokens, catalogs, figures.

use std::sync::Arc;

use super::facade::*;
use crate::access::{Holder, TokenHash, TokenName};
use ironloom_trust::audit::Said;
use ironloom_types::ids::{AppId, TenantId, TenantName};

/// The server, as the API sees it. Methods that return `Answer` answer from memory without waiting.
pub(crate) trait Platform: Send + Sync + 'static {
    /// The site's clock.
    fn clock(&self) -> ClockStatus;
    /// Sets journal time back to the present, where it followed a clock that was wrong; with `dry_run` only says
    /// what that would do. 409 where it isn't ahead of the machine's clock, or that shows another time.
    fn set_time(&self, request: SetTime, dry_run: bool) -> Later<'_, TimeSet>;

    /// The connectors, in the order of their names.
    fn connectors(&self) -> Vec<ConnectorStatus>;
    /// One of them; 404 where there is none of this name.
    fn connector(&self, name: &str) -> Answer<ConnectorStatus>;
    /// Adds a connector, or changes one that was added; `true` where there was none. 409 where the configuration file has it.
    fn set_connector(&self, name: String, table: ConnectorTable) -> Later<'_, (ConnectorStatus, bool)>;
    /// Removes one that was added.
    fn remove_connector(&self, name: String) -> Later<'_, ()>;
    /// Stops one, or starts it again; it stays so over a restart.
    fn stop_connector(&self, name: String, stopped: bool) -> Later<'_, ConnectorStatus>;
    /// Whoever has the token of this hash; none where it isn't known, or has expired.
    fn holder(&self, hash: &TokenHash) -> Option<Arc<Holder>>;
    /// The tenants, in the order of their names.
    fn tenants(&self, page: &PageQuery) -> Page<TenantInfo>;
    fn tenant(&self, name: &TenantName) -> Answer<TenantInfo>;
    /// The name of a tenant.
    fn tenant_name(&self, tenant: TenantId) -> String;
    /// Adds a tenant; 409 where there is one of its name. Or, with `is_change`, gives one other quotas.
    fn set_tenant(&self, request: TenantRequest, is_change: bool) -> Later<'_, TenantInfo>;
    /// The tokens, in the order of their names.
    fn tokens(&self, page: &PageQuery) -> Page<TokenInfo>;
    fn token(&self, name: &TokenName) -> Answer<TokenInfo>;
    /// Writes an entry of the audit log, and is ready once it is durable. It is handed over at once.
    fn audit(&self, said: Said) -> Later<'static, ()>;
    /// Writes an entry of something that ended without success, without waiting. Of many, only some are written one by one, and the
    /// others are counted.
    fn audit_refused(&self, said: Said);
    /// The entries of the audit log, in the order of their times as far as chains go together.
    fn audit_entries(&self, sees: Chains, query: AuditQuery) -> Later<'_, Page<AuditEntry>>;
    /// The checkpoints of the audit log, each chain's in its order.
    fn audit_checkpoints(&self, sees: Chains, page: PageQuery) -> Later<'_, Page<AuditCheckpoint>>;
    /// Signs the chains of the audit log as they are now, and gives the last checkpoint of each.
    fn sign_audit(&self) -> Later<'_, Page<AuditCheckpoint>>;
    /// Makes a token, by whom this names; 409 where there is one of its name.
    fn add_token(&self, request: TokenRequest, by: Box<str>) -> Later<'_, NewToken>;
    /// Takes a token back; 409 for the last one of a platform-admin.
    fn remove_token(&self, name: TokenName) -> Later<'_, ()>;
    /// The catalogs, in the order of their names.
    fn catalogs(&self) -> Vec<CatalogInfo>;
    fn catalog(&self, name: &str) -> Answer<CatalogInfo>;
    fn add_catalog(&self, request: CatalogRequest) -> Later<'_, CatalogInfo>;
    /// Looks at one again; where nothing of it can be taken, it stays as it is.
    fn refresh_catalog(&self, name: String, request: RefreshRequest) -> Later<'_, CatalogInfo>;
    /// Removes one; what was seen of it is kept, unless it is to be forgotten.
    fn remove_catalog(&self, name: String, forget: bool) -> Later<'_, ()>;
    /// The versions and times below which no catalog is taken again.
    fn catalog_trust(&self) -> CatalogTrust;
    /// Raises what was seen to what a file says.
    fn take_catalog_trust(&self, file: CatalogTrust) -> Later<'_, Page<CatalogSeen>>;
    /// The apps that all catalogs offer.
    fn offers(&self, query: OfferQuery) -> Later<'_, Page<Offer>>;
    /// One app, as each catalog offers it.
    fn offers_of(&self, id: AppId) -> Later<'_, Page<Offer>>;
    /// Brings a package from a catalog; `false` where it was known.
    fn fetch_package(
        &self,
        tenant: TenantId,
        id: AppId,
        request: FetchRequest,
    ) -> Later<'_, (PackageInfo, bool)>;
    /// Its dead letters that are kept, by their numbers.
    fn connector_dead_letters(&self, name: &str, query: NumberedQuery) -> Answer<Page<ConnectorDeadLetter>>;
    /// The log lines that are written, and who has chosen them.
    fn log_level(&self) -> LogLevel;
    /// Writes other log lines from now on, until the next start.
    fn set_log_level(&self, lines: LogLines) -> Answer<LogLevel>;
    /// Reads the configuration again and takes what has changed, all of it or nothing; with `dry_run` only says what
    /// would change. 409 where a change takes a restart.
    fn reload(&self, dry_run: bool) -> Later<'_, Reloaded>;
    /// Begins a backup as of now, written at most so many bytes a second; 409 while there is another one.
    fn backup(&self, pace: u64) -> Later<'_, BackupStream>;
    /// The server as a whole, with the bytes that its data takes on the disk.
    fn status(&self) -> Later<'_, Status>;
    /// Who and what takes how much.
    fn usage(&self, query: UsageQuery) -> Later<'_, Usage>;
    /// Whether the node does its work, and what to know about it.
    fn readiness(&self) -> Later<'_, Readiness>;
    /// Ready or not, without the work of saying why. May be a second old.
    fn is_ready(&self) -> bool;
    /// The metrics, in the text form of Prometheus (OpenMetrics), with those of each installation of `main`, or of all tenants.
    fn metrics(&self, of_all: bool) -> String;
}
