//! Deeds that no other record has: of the same one again and again the first is told, and of very many of one name some. The
//! others are told as sums, so that nobody fills the audit log with them. A sum is of one kind of deed in one chain, and the first of
//! each kind is always told: nobody hides a deed behind many others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ironloom_trust::audit::{Chain, Said};

/// The time after which what was counted is told.
const SPAN: Duration = Duration::from_secs(60);
/// Deeds of one name that are told one by one in this time, besides the first of each kind.
const OF_ONE: u32 = 1_000;
/// The deed that lets machines move again. It is told each time.
const RELEASE: &str = "release";

/// The deeds of a minute.
pub(super) struct Repeats {
    since: Instant,
    /// The last that was told, and how many were the same since.
    last: Option<(Said, u64)>,
    /// Those of each name that were told.
    told: BTreeMap<Box<str>, u32>,
    /// By name, chain and action.
    kinds: BTreeMap<(Box<str>, Chain, Box<str>), Counted>,
}

#[derive(Default)]
struct Counted {
    more: u64,
    /// The last that wasn't told.
    last: Option<Said>,
}

impl Repeats {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, last: None, told: BTreeMap::new(), kinds: BTreeMap::new() }
    }

    /// The entries that are to be written now. One that is the same as the last is counted: where another came between
    /// them, such as the release behind a halt, it may have changed something again.
    pub(super) fn take(&mut self, said: Said) -> impl Iterator<Item = Said> + use<> {
        let kind = (said.who.clone(), said.chain, said.action.clone());
        // What is the platform's is told each time: few may do it.
        let is_told =
            said.chain == Chain::Platform || *said.action == *RELEASE || !self.kinds.contains_key(&kind);
        let (counted, told) =
            (self.kinds.entry(kind).or_default(), self.told.entry(said.who.clone()).or_default());
        if *told >= OF_ONE && !is_told {
            counted.more += 1;
            counted.last = Some(said);
            return None.into_iter().chain(None);
        }
        let is_repeated = self.last.as_mut().filter(|(last, _)| *last == said);
        if let Some((_, more)) = is_repeated {
            *more += 1;
            return None.into_iter().chain(None);
        }
        *told += 1;
        let before = self.last.replace((said.clone(), 0)).and_then(same);
        before.into_iter().chain(Some(said))
    }

    /// The sums of a minute that is over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Said> {
        if now.saturating_duration_since(self.since) < SPAN {
            return Vec::new();
        }
        self.since = now;
        let repeated = self.last.take().and_then(same);
        self.told.clear();
        let more = std::mem::take(&mut self.kinds).into_values().filter_map(|Counted { more, last }| {
            let last = last?;
            let detail =
                format!("{} of this kind had an effect; the last: {}", requests(more), last.resource);
            Some(Said { detail: detail.into(), digest: None, ..last })
        });
        repeated.into_iter().chain(more).collect()
    }
}

/// The sum of those that were the same as one that was told.
fn same((last, more): (Said, u64)) -> Option<Said> {
    let detail = format!("{} said the same", requests(more));
    (more > 0).then(|| Said { detail: detail.into(), ..last })
}

fn requests(more: u64) -> String {
    if more == 1 { "one more request".to_owned() } else { format!("{more} more requests") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_trust::audit::Outcome;
    use ironloom_types::ids::TenantId;

    fn said(who: &str, action: &str) -> Said {
        Said {
            chain: Chain::Tenant(TenantId(1)),
            who: who.into(),
            role: "operator".into(),
            action: action.into(),
            resource: action.into(),
            outcome: Outcome::Done,
            problem: "".into(),
            detail: "".into(),
            digest: None,
        }
    }

    fn words(entries: impl IntoIterator<Item = Said>) -> Vec<String> {
        entries.into_iter().map(|said| format!("{} {} {}", said.who, said.action, said.detail)).collect()
    }

    #[test]
    fn the_same_again_and_again_is_told_once_and_summed_up_before_anything_else() {
        let start = Instant::now();
        let mut repeats = Repeats::new(start);
        assert_eq!(words(repeats.take(said("olga", "halt"))), ["olga halt "]);
        for _ in 0..57 {
            assert_eq!(words(repeats.take(said("olga", "halt"))), [""; 0]);
        }
        assert_eq!(
            words(repeats.take(said("ben", "release"))),
            ["olga halt 57 more requests said the same", "ben release "]
        );
        // It may be that this one changes something.
        assert_eq!(words(repeats.take(said("olga", "halt"))), ["olga halt "]);
        assert_eq!(words(repeats.take(said("olga", "halt"))), [""; 0]);
        assert!(repeats.due(start + Duration::from_secs(59)).is_empty());
        assert_eq!(words(repeats.due(start + SPAN)), ["olga halt one more request said the same"]);
        assert_eq!(words(repeats.take(said("olga", "halt"))), ["olga halt "], "a new minute");
        assert!(repeats.due(start + 2 * SPAN).is_empty());
    }

    #[test]
    fn of_one_name_a_thousand_are_told_in_a_minute_and_the_first_of_each_kind() {
        let start = Instant::now();
        let mut repeats = Repeats::new(start);
        let on = |turn: u32| Said { resource: format!("halt {turn}").into(), ..said("olga", "halt") };
        let told: usize = (0..1_200).map(|turn| repeats.take(on(turn)).count()).sum();
        assert_eq!(told, 1_000);
        assert_eq!(words(repeats.take(said("ben", "halt"))), ["ben halt "]);
        // Behind so many, too.
        assert_eq!(words(repeats.take(said("olga", "level"))), ["olga level "]);
        assert_eq!(words(repeats.take(said("olga", "level"))), [""; 0]);
        for _ in 0..2 {
            assert_eq!(words(repeats.take(said("olga", "release"))), ["olga release "]);
            assert_eq!(words(repeats.take(on(7))), [""; 0]);
            assert_eq!(words(repeats.take(said("ben", "halt"))), ["ben halt "]);
        }
        let of_platform = Said { chain: Chain::Platform, ..said("olga", "backUp") };
        for _ in 0..2 {
            assert_eq!(words(repeats.take(of_platform.clone())), ["olga backUp "]);
            assert_eq!(words(repeats.take(said("ben", "halt"))), ["ben halt "]);
        }
        assert_eq!(
            words(repeats.due(start + SPAN)),
            [
                "olga halt 202 more requests of this kind had an effect; the last: halt 7",
                "olga level one more request of this kind had an effect; the last: level"
            ]
        );
        assert_eq!(words(repeats.take(said("olga", "halt"))), ["olga halt "]);
    }
}
