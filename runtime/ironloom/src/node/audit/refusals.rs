//! Requests that ended without success: of many, some are told one by one, and the others as sums, so that nobody fills the
//! audit log with them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::access::NOBODY;
use ironloom_trust::audit::{Chain, Said};

/// The time after which what was counted is told.
const SPAN: Duration = Duration::from_secs(60);
/// Requests that are told one by one in this time: of one name, of whoever has none, and of all.
const OF_ONE: u32 = 10;
const OF_NOBODY: u32 = 1;
const OF_ALL: u32 = 100;

/// The requests of a minute.
pub(super) struct Refusals {
    since: Instant,
    told: u32,
    by: BTreeMap<Box<str>, Counted>,
}

#[derive(Default)]
struct Counted {
    told: u32,
    more: u64,
    /// The last that wasn't told.
    last: Option<Said>,
}

impl Refusals {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, told: 0, by: BTreeMap::new() }
    }

    /// Gives it back where it is to be told by itself, and else counts it.
    pub(super) fn take(&mut self, mut said: Said) -> Option<Said> {
        let mut most = OF_ONE;
        if &*said.who == NOBODY {
            // Nobody's attempts are nothing that a tenant's chain should grow by.
            (most, said.chain) = (OF_NOBODY, Chain::Platform);
        }
        let counted = self.by.entry(said.who.clone()).or_default();
        if counted.told < most && self.told < OF_ALL {
            counted.told += 1;
            self.told += 1;
            return Some(said);
        }
        counted.more += 1;
        counted.last = Some(said);
        None
    }

    /// The sums of a minute that is over. More names than are told in one are counted in the next.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Said> {
        if now.saturating_duration_since(self.since) < SPAN {
            return Vec::new();
        }
        (self.since, self.told) = (now, 0);
        self.by.retain(|_, counted| counted.more > 0);
        let mut sums = Vec::new();
        for counted in self.by.values_mut().take(OF_ALL as usize) {
            sums.extend(counted.last.take().map(|last| sum(&last, counted.more)));
            *counted = Counted::default();
        }
        self.by.values_mut().for_each(|counted| counted.told = 0);
        sums
    }
}

fn sum(last: &Said, more: u64) -> Said {
    let Said { chain, who, role, action, resource, outcome, problem, detail, .. } = last.clone();
    let words = if more == 1 { "one more request".to_owned() } else { format!("{more} more requests") };
    let detail = format!("{words} ended without success; the last: {action} {resource}, {problem}: {detail}");
    let (action, resource) = ("refused".into(), "".into());
    Said { chain, who, role, action, resource, outcome, problem, detail: detail.into(), digest: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_trust::audit::Outcome;
    use ironloom_types::ids::TenantId;

    fn said(who: &str) -> Said {
        Said {
            chain: Chain::Tenant(TenantId(1)),
            who: who.into(),
            role: "operator".into(),
            action: "pause".into(),
            resource: "installations/x".into(),
            outcome: Outcome::Refused,
            problem: "not-found".into(),
            detail: "there is none".into(),
            digest: None,
        }
    }

    #[test]
    fn of_many_refusals_some_are_told_and_the_others_summed_up() {
        let start = Instant::now();
        let mut refusals = Refusals::new(start);
        let told = |refusals: &mut Refusals, who: &str, times: usize| {
            (0..times).filter(|_| refusals.take(said(who)).is_some()).count()
        };
        assert_eq!(told(&mut refusals, "anna", 67), 10);
        assert_eq!(told(&mut refusals, "ben", 3), 3);
        let nobody = refusals.take(said("-")).unwrap();
        assert_eq!(nobody.chain, Chain::Platform);
        assert_eq!(told(&mut refusals, "-", 1_000), 0);
        assert!(refusals.due(start + Duration::from_secs(59)).is_empty());
        let sums = refusals.due(start + SPAN);
        let words: Vec<_> = sums.iter().map(|sum| (&*sum.who, &*sum.detail)).collect();
        assert_eq!(
            words,
            [
                (
                    "-",
                    "1000 more requests ended without success; the last: pause installations/x, not-found: there is none"
                ),
                (
                    "anna",
                    "57 more requests ended without success; the last: pause installations/x, not-found: there is none"
                ),
            ]
        );
        assert_eq!(told(&mut refusals, "anna", 1), 1, "a new minute");
        assert!(refusals.due(start + 2 * SPAN).is_empty());
    }

    #[test]
    fn a_sum_has_the_result_of_the_last_one() {
        let start = Instant::now();
        let mut refusals = Refusals::new(start);
        let failed = Said { outcome: Outcome::Failed, problem: "hung-up".into(), ..said("anna") };
        (0..10).for_each(|_| assert!(refusals.take(said("anna")).is_some()));
        assert!(refusals.take(said("anna")).is_none() && refusals.take(failed).is_none());
        let sums = refusals.due(start + SPAN);
        let words: Vec<_> = sums.iter().map(|sum| (sum.outcome, &*sum.action, &*sum.problem)).collect();
        assert_eq!(words, [(Outcome::Failed, "refused", "hung-up")]);
    }

    #[test]
    fn many_names_are_told_no_more_than_a_hundred_times_in_a_minute() {
        let start = Instant::now();
        let mut refusals = Refusals::new(start);
        let told = (0..300).filter(|n| refusals.take(said(&format!("n{n}"))).is_some()).count();
        assert_eq!(told, 100);
        assert_eq!(refusals.due(start + SPAN).len(), 100);
        assert_eq!(refusals.due(start + 2 * SPAN).len(), 100);
        assert!(refusals.due(start + 3 * SPAN).is_empty());
    }
}
