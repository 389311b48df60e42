//! The kill switch, turned by its files or by the API. A thread of its own looks for the files, and nothing else can hold it
//! up.

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::Node;
use super::audit::by_the_host;
use crate::api::facade::{Answer, Halt, HaltRequest, Place, Problem};
use crate::aside::aside;
use crate::fold::Shared;
use crate::outbox::{HaltFiles, Halted, Machine};
use crate::telemetry::events::What;
use ironloom_trust::audit::Chain;
use ironloom_types::ids::{InstallationId, TenantId};

/// The interval at which the files are looked for.
const LOOK: Duration = Duration::from_millis(20);
/// Installations that a note names.
const NAMED: usize = 5;

/// The kill switch of a node.
pub(super) struct KillSwitch {
    files: HaltFiles,
    pending: Mutex<Pending>,
}

/// The switch as it was asked for, which may not be in the files yet.
#[derive(Default)]
struct Pending {
    halted: Halted,
    /// Counts the times that the switch was turned: files that were read before say nothing after.
    turns: u64,
    /// Releases that requests are about to make: whoever finds their files gone has no entry of its own to write.
    releasing: Vec<Option<InstallationId>>,
}

impl Pending {
    fn add(&mut self, installation: Option<InstallationId>) {
        self.turns += 1;
        match installation {
            None => self.halted.site = true,
            Some(id) => drop(self.halted.installations.insert(id)),
        }
    }

    fn remove(&mut self, installation: Option<&InstallationId>) {
        self.turns += 1;
        match installation {
            None => self.halted.site = false,
            Some(id) => drop(self.halted.installations.remove(id)),
        }
    }

    fn begin_release(&mut self, installation: Option<InstallationId>) {
        self.turns += 1;
        self.releasing.push(installation);
    }

    fn end_release(&mut self, installation: Option<&InstallationId>) {
        if let Some(at) = self.releasing.iter().position(|one| one.as_ref() == installation) {
            self.releasing.swap_remove(at);
        }
    }

    /// All that is to be held back.
    fn with(&self, mut halted: Halted) -> Halted {
        halted.site |= self.halted.site;
        halted.installations.extend(self.halted.installations.iter().cloned());
        halted
    }
}

impl KillSwitch {
    /// Reads the files before anything is sent.
    pub(super) fn open(data: &Path, shared: &Shared) -> Self {
        let switch = Self { files: HaltFiles::of(data), pending: Mutex::default() };
        switch.files.prepare();
        let halted = switch.files.read();
        if halted != Halted::default() {
            tracing::warn!(
                site = halted.site,
                installations = halted.installations.len(),
                "the kill switch is on"
            );
        }
        let now = shared.clock.now();
        shared.outbox.change(|outbox| outbox.set_halted(halted, now));
        switch
    }

    /// Takes over what the files say, and what was asked for besides. Nobody waits for the disk meanwhile. Returns what was
    /// turned by the files.
    fn look(&self, shared: &Shared) -> Vec<String> {
        let turns = self.pending.lock().turns;
        let halted = self.files.read();
        let pending = self.pending.lock();
        if pending.turns != turns {
            return Vec::new();
        }
        let mut turned = take(shared, pending.with(halted));
        for installation in &pending.releasing {
            let by_request = words(installation.as_ref(), false);
            turned.retain(|words| *words != by_request);
        }
        turned
    }
}

fn state(on: bool) -> &'static str {
    if on { "halted" } else { "released" }
}

fn whose(installation: Option<&InstallationId>) -> &str {
    installation.map_or("the site", InstallationId::as_str)
}

/// A turn of the switch in words.
fn words(installation: Option<&InstallationId>, on: bool) -> String {
    format!("{}: {}", state(on), whose(installation))
}

/// Turns the switch, and tells it where it was turned. Returns that in words.
fn take(shared: &Shared, halted: Halted) -> Vec<String> {
    let before = shared.outbox.look(|outbox| outbox.halted().clone());
    if before == halted {
        return Vec::new();
    }
    let now = shared.clock.now();
    shared.outbox.change(|outbox| outbox.set_halted(halted.clone(), now));
    let mut turned = Vec::new();
    let mut tell = |installation: Option<InstallationId>, on: bool| {
        let state = state(on);
        tracing::warn!(whose = whose(installation.as_ref()), state, "the kill switch was turned");
        turned.push(words(installation.as_ref(), on));
        shared.metrics.events.tell(What::Halt { installation, state });
    };
    if before.site != halted.site {
        tell(None, halted.site);
    }
    for id in before.installations.symmetric_difference(&halted.installations) {
        tell(Some(id.clone()), halted.installations.contains(id));
    }
    turned
}

/// Tells the audit log of what was turned by a file.
fn audit(node: &Node, turned: &[String]) {
    if !turned.is_empty() {
        let chain = Chain::Tenant(TenantId::MAIN);
        let said = by_the_host(chain, "killSwitch", "halt".to_owned(), &turned.join(", "));
        drop(node.tell_done(said));
    }
}

/// Looks for the files as long as the node is there. On a thread of its own: a disk that hangs holds up nothing else.
pub(super) fn watch(node: &Arc<Node>) -> io::Result<()> {
    let halted = node.shared.outbox.look(|outbox| outbox.halted().clone());
    if halted.site || !halted.installations.is_empty() {
        let site = halted.site.then_some("the site");
        let whose = site.into_iter().chain(halted.installations.iter().map(InstallationId::as_str));
        let on: Vec<String> =
            whose.take(NAMED).map(|whose| format!("halted at the start: {whose}")).collect();
        audit(node, &on);
    }
    let node = Arc::downgrade(node);
    std::thread::Builder::new().name("kill-switch".into()).spawn(move || look_for_files(&node)).map(drop)
}

fn look_for_files(node: &Weak<Node>) {
    while let Some(node) = node.upgrade() {
        // It acts first.
        let turned = node.kill_switch.look(&node.shared);
        audit(&node, &turned);
        drop(node);
        std::thread::sleep(LOOK);
    }
}

fn within(tenant: TenantId, HaltRequest { installation }: HaltRequest) -> HaltRequest {
    HaltRequest { installation: installation.map(|id| id.within(tenant)) }
}

/// The switch of the whole site is the platform's.
fn check_site(tenant: TenantId) -> Answer<()> {
    if tenant == TenantId::MAIN {
        return Ok(());
    }
    let detail = "the switch of the whole site is the platform's: others use it too";
    Err(Problem::forbidden("tenant", detail).at(Place::field("installation")).hint("Name the installation."))
}

impl Node {
    /// The note of `/readyz` while the kill switch is on.
    pub(super) fn halt_note(&self) -> Option<String> {
        match self.show_halt(TenantId::MAIN) {
            Halt { site: true, .. } => Some(
                "the kill switch is on for the site: no set-point is sent; `ironloom release` turns it off"
                    .to_owned(),
            ),
            Halt { installations, .. } if !installations.is_empty() => {
                let named: Vec<&str> = installations.iter().take(NAMED).map(InstallationId::as_str).collect();
                let more = installations.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let named = named.join(", ");
                Some(format!("the kill switch is on for {named}{more}; `ironloom release ID` turns it off"))
            }
            _ => None,
        }
    }

    /// The note of `/readyz` while machines wait for their safe values.
    pub(super) fn owed_note(&self) -> Option<String> {
        let (count, first) = self.shared.outbox.look(Machine::owed);
        let first = first?;
        Some(format!(
            "{count} points are to have their safe values, which can't be sent now: the first is of {first}; `ironloom intents \
             {first}` has them, and `ironloom connectors` the connection"
        ))
    }

    /// The switch as a tenant sees it.
    pub(super) fn show_halt(&self, tenant: TenantId) -> Halt {
        let halted = self.shared.outbox.look(|outbox| outbox.halted().clone());
        let own = halted.installations.into_iter().filter(|id| id.tenant() == tenant);
        Halt { site: halted.site, installations: own.collect() }
    }

    /// Turns the kill switch on: first for this process, then durably.
    pub(super) fn turn_on(
        self: Arc<Self>,
        tenant: TenantId,
        request: HaltRequest,
    ) -> impl Future<Output = Answer<Halt>> + Send {
        let request = within(tenant, request);
        let known = request.installation.as_ref().map_or_else(
            || check_site(tenant),
            |id| {
                let drives = self.shared.outbox.look(|outbox| outbox.drives(id));
                if drives { Ok(()) } else { self.lane(id).map(drop) }
            },
        );
        if known.is_ok() {
            let mut pending = self.kill_switch.pending.lock();
            pending.add(request.installation.clone());
            let halted = self.shared.outbox.look(|outbox| outbox.halted().clone());
            take(&self.shared, pending.with(halted));
        }
        async move {
            known?;
            let (files, id) = (self.kill_switch.files.clone(), request.installation.clone());
            let written = aside(move || files.halt(id.as_ref())).await;
            let written = written
                .map_err(|error| error.to_string())
                .and_then(|done| done.map_err(|error| error.to_string()));
            if let Err(error) = written {
                let detail = format!(
                    "set-points are held back, but not after a restart: the file of the kill switch can't be written: {error}"
                );
                return Err(Problem::unavailable("not-durable", detail, crate::api::facade::RETRY_SOON));
            }
            self.kill_switch.pending.lock().remove(request.installation.as_ref());
            Ok(self.show_halt(tenant))
        }
    }

    /// Turns the kill switch off.
    pub(super) async fn turn_off(self: Arc<Self>, tenant: TenantId, request: HaltRequest) -> Answer<Halt> {
        let request = within(tenant, request);
        if request.installation.is_none() {
            check_site(tenant)?;
        }
        let (files, id) = (self.kill_switch.files.clone(), request.installation.clone());
        self.kill_switch.pending.lock().begin_release(id.clone());
        let written = aside(move || files.release(id.as_ref())).await;
        let written = written
            .map_err(|error| error.to_string())
            .and_then(|done| done.map_err(|error| error.to_string()));
        if let Err(error) = written {
            self.kill_switch.pending.lock().end_release(request.installation.as_ref());
            let detail = format!("the file of the kill switch can't be removed: {error}");
            return Err(Problem::unavailable("not-durable", detail, crate::api::facade::RETRY_SOON));
        }
        let node = Arc::clone(&self);
        let looked = aside(move || {
            node.kill_switch.pending.lock().remove(request.installation.as_ref());
            node.kill_switch.look(&node.shared);
            node.kill_switch.pending.lock().end_release(request.installation.as_ref());
        });
        let looked = looked.await.map_err(|error| error.to_string());
        looked.map_err(|error| super::problems::internal(&error))?;
        Ok(self.show_halt(tenant))
    }
}
