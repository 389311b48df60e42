//! The audit log of random histories: every record of an admin has an entry, and every start finds the same chain.

use tokio::sync::oneshot;

use super::world::World;
use crate::fold::Shared;
use crate::fold::audit::First;
use crate::fold::submission::{AdminSubmission, Refusal, Submission};
use crate::records::admin::AdminRecord;
use crate::records::audit::{AuditChange, CheckpointRecord};
use ironloom_storage::store::EngineKind;
use ironloom_trust::audit::{Chain, Head, Outcome, Said, Verified, Verifier};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InstallationId, TenantId};

const CHAIN: Chain = Chain::Tenant(TenantId(1));
/// Entries of which so many stay, each time that there are twice as many.
const STAY: usize = 8;

/// The chain as it must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Audited {
    asked: u64,
    /// The actions of all entries.
    actions: Vec<Box<str>>,
    /// Those that are past their retention.
    gone: usize,
}

impl Audited {
    /// An entry as no other one is.
    pub(super) fn say(&mut self) -> Said {
        self.asked += 1;
        Said {
            chain: CHAIN,
            who: "anna".into(),
            role: "operator".into(),
            action: format!("deed-{}", self.asked).into(),
            resource: "x".into(),
            outcome: Outcome::Done,
            problem: "".into(),
            detail: "".into(),
            digest: None,
        }
    }

    pub(super) fn hear(&mut self, said: &Said) {
        self.actions.push(said.action.clone());
    }

    /// A record that ends the retention of some, now and then.
    pub(super) fn expire(&mut self) -> Option<AdminRecord> {
        if self.actions.len() - self.gone < 2 * STAY {
            return None;
        }
        self.gone = self.actions.len() - STAY;
        Some(AdminRecord::Audit(AuditChange::Expired { chain: CHAIN, before: self.gone as u64 + 1 }))
    }

    pub(super) fn check(&self, shared: &Shared) {
        let kept = shared.entries(CHAIN, None, First::Oldest, usize::MAX).unwrap();
        let mut verifier = Verifier::new();
        kept.iter().for_each(|kept| verifier.entry(&kept.entry, kept.hash));
        let Verified { faults, .. } = verifier.finish();
        assert_eq!(faults, []);
        let actions: Vec<_> = kept.iter().map(|kept| kept.entry.said.action.clone()).collect();
        assert_eq!(actions, self.actions[self.gone..]);
        let first = kept.first().map_or(1, |first| first.entry.number);
        assert_eq!(first, self.gone as u64 + 1);
        let end = self.actions.len() as u64;
        assert_eq!(shared.audit.kept(CHAIN), first..end + 1);
        let head = kept.last().map_or(Head::NONE, |last| Head { number: end, hash: last.hash });
        assert_eq!(shared.audit.heads().of(CHAIN), head);
    }
}

impl World {
    /// Writes a record with an entry of its own, and now and then one that ends the retention of some.
    pub(super) fn write_with_entry(&mut self, record: AdminRecord, answer: Result<(), Refusal>) {
        let said = self.model.audit.say();
        if answer.is_ok() {
            self.model.audit.hear(&said);
        }
        let expired = self.model.audit.expire().map(|record| (record, None, Ok(())));
        for (record, said, answer) in [(record, Some(said), answer)].into_iter().chain(expired) {
            let (reply, durable) = oneshot::channel();
            self.submit(Submission::Admin(Box::new(AdminSubmission { record, said, reply })));
            self.expect(durable, answer);
        }
    }
}

fn refused() -> (AdminRecord, Result<(), Refusal>) {
    let id = InstallationId::new(TenantId::MAIN, "nobody").unwrap();
    let gone = AdminRecord::Missed {
        id,
        generation: ironloom_types::ids::Generation(99),
        through: ironloom_types::ids::Sequence(1),
        gaps: Vec::new(),
    };
    (gone, Err(Refusal::Gone))
}

#[test]
fn a_chain_goes_on_over_restarts_and_checkpoints_and_has_nothing_of_what_was_refused() {
    let mut world = World::new(EngineKind::Redb);
    for round in 0..40 {
        world.admin(AdminRecord::Audit(AuditChange::Entry), Ok(()));
        if round % 5 == 2 {
            let (record, answer) = refused();
            world.admin(record, answer);
        }
        match round % 7 {
            3 => world.restart(),
            5 => world.checkpoint(None),
            _ => {}
        }
    }
    world.check();
    world.restart();
}

#[test]
fn entries_are_found_by_time_and_in_either_order() {
    let mut world = World::new(EngineKind::Redb);
    for _ in 0..7 {
        world.admin(AdminRecord::Audit(AuditChange::Entry), Ok(()));
    }
    world.check();
    let shared = world.shared();
    let numbers = |after, first| -> Vec<u64> {
        let found = shared.entries(CHAIN, after, first, 3).unwrap();
        found.iter().map(|kept| kept.entry.number).collect()
    };
    assert_eq!(numbers(None, First::Oldest), [1, 2, 3]);
    assert_eq!(numbers(Some(3), First::Oldest), [4, 5, 6]);
    assert_eq!(numbers(None, First::Newest), [7, 6, 5]);
    assert_eq!(numbers(Some(5), First::Newest), [4, 3, 2]);
    let times: Vec<_> =
        shared.entries(CHAIN, None, First::Oldest, 9).unwrap().iter().map(|kept| kept.entry.time).collect();
    assert_eq!(shared.first_entry_since(CHAIN, Timestamp(0), 100), Ok(1));
    // The last one stays, however old it is.
    assert_eq!(shared.first_entry_since(CHAIN, Timestamp(times[6].0 + 1), 100), Ok(7));
}

#[test]
fn of_what_has_expired_the_last_checkpoint_alone_is_left() {
    let mut world = World::new(EngineKind::Redb);
    for _ in 0..6 {
        world.admin(AdminRecord::Audit(AuditChange::Entry), Ok(()));
    }
    for number in [2, 4] {
        let one = CheckpointRecord { chain: CHAIN, number, time: Timestamp(1), envelope: "{}".into() };
        world.admin(AdminRecord::Audit(AuditChange::Signed(Box::new(one))), Ok(()));
    }
    let mut left = |before| -> Vec<u64> {
        world.admin(AdminRecord::Audit(AuditChange::Expired { chain: CHAIN, before }), Ok(()));
        world.pump();
        let found = world.shared().checkpoints(None, 9, |_| true).unwrap();
        found.iter().map(|one| one.number).collect()
    };
    assert_eq!(left(3), [2, 4]);
    assert_eq!(left(5), [4]);
}
