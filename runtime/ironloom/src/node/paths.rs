//! The points in the order of their paths: for lists of them by pages, and for the points that an installation is
//! bound to. Kept from one use to the next, so that each costs what it finds.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fold::points::Points;
use ironloom_apps::binding::{Bindings, InputBinding, OutputBinding};
use ironloom_apps::ordered::{Ordered, each_of, each_written};
use ironloom_types::ids::{PointNumber, PointPath, TenantId};
use ironloom_types::limits::MAX_MATCHES;

/// Looks at the order for one request: two for each point that it may match, and as many for others. Some seconds with a
/// million points.
const MOST_LOOKS: usize = 4 * MAX_MATCHES;
/// Points that are gone are taken out once they are this many, and as many as those that are there.
const GONE: usize = 1_024;
/// Points that came lately are kept apart until they are this many: the others are moved as seldom.
const RECENT: usize = if cfg!(test) { 4 } else { 4_096 };

/// Made with the first use.
#[derive(Debug, Default)]
pub(super) struct PathOrder {
    /// Whoever searches has it as of a moment: nobody waits for the search.
    order: Mutex<Arc<Order>>,
}

type Place = (PointPath, PointNumber);

#[derive(Clone, Debug, Default)]
struct Order {
    /// By path, then number: a point that was removed and came again has two.
    sorted: Vec<Place>,
    /// In the same order, those that came lately.
    recent: Vec<Place>,
    /// All points with a lower number were looked at.
    seen: PointNumber,
}

/// Points that were found.
#[derive(Debug)]
pub(super) struct Found {
    /// In their order. Some may be gone.
    pub(super) numbers: Vec<PointNumber>,
    /// All points with a lower number were looked at.
    pub(super) seen: PointNumber,
}

/// Looks at the order that one request may still have: patterns that match little may look at every point.
#[derive(Debug)]
pub(super) struct Looks(Cell<usize>);

impl Looks {
    /// As many as a request has that matches as many points as it may.
    pub(super) fn of_a_request() -> Self {
        Self(Cell::new(MOST_LOOKS))
    }

    /// For bindings that were found to need few.
    pub(super) fn any_number() -> Self {
        Self(Cell::new(usize::MAX))
    }

    fn one(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }

    /// Says whether none is left: then not all was found.
    pub(super) fn are_used_up(&self) -> bool {
        self.0.get() == 0
    }
}

/// The order, for a search that ends when its looks are used up.
struct Searched<'s> {
    order: &'s Order,
    looks: &'s Looks,
}

impl PathOrder {
    /// The next points of a tenant behind the path `after` that begin with `prefix`, at most so many. Some may be gone.
    pub(super) fn page(
        &self,
        points: &Points,
        tenant: TenantId,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Vec<Place> {
        let order = self.as_of_now(points);
        let behind = |places: &[Place]| {
            let from = first(places, tenant, prefix);
            let past = |after| places.partition_point(|(path, _)| order_of(path) <= (tenant, after));
            from.max(after.map_or(0, past))
        };
        let mut sorted = order.sorted[behind(&order.sorted)..].iter().peekable();
        let mut recent = order.recent[behind(&order.recent)..].iter().peekable();
        let next = || match (sorted.peek(), recent.peek()) {
            (Some(old), Some(new)) if new < old => recent.next(),
            (Some(_), _) => sorted.next(),
            (None, _) => recent.next(),
        };
        std::iter::from_fn(next)
            .take_while(|(path, _)| path.tenant() == tenant && path.as_str().starts_with(prefix))
            .take(most)
            .cloned()
            .collect()
    }

    /// The points that these inputs read.
    pub(super) fn read_by(&self, points: &Points, inputs: &[InputBinding]) -> Found {
        self.read_within(points, inputs, &Looks::any_number())
    }

    fn read_within(&self, points: &Points, inputs: &[InputBinding], looks: &Looks) -> Found {
        self.find(points, looks, |order, numbers| {
            for pattern in inputs.iter().flat_map(|input| &input.patterns) {
                each_of(order, pattern, |number| {
                    numbers.insert(*number);
                });
            }
        })
    }

    /// The points that these outputs may write.
    pub(super) fn written_by<'o>(
        &self,
        points: &Points,
        outputs: impl IntoIterator<Item = &'o OutputBinding>,
    ) -> Found {
        self.written_within(points, outputs, &Looks::any_number())
    }

    fn written_within<'o>(
        &self,
        points: &Points,
        outputs: impl IntoIterator<Item = &'o OutputBinding>,
        looks: &Looks,
    ) -> Found {
        self.find(points, looks, |order, numbers| {
            for output in outputs {
                each_written(order, &output.target, |number| {
                    numbers.insert(*number);
                });
            }
        })
    }

    /// The points that these inputs read or these outputs may write.
    pub(super) fn bound(&self, points: &Points, bindings: &Bindings, looks: &Looks) -> Found {
        let mut found = self.read_within(points, &bindings.inputs, looks);
        let written = self.written_within(points, &bindings.outputs, looks);
        found.numbers.extend(written.numbers);
        found.numbers.sort_unstable();
        found.numbers.dedup();
        found
    }

    fn find(
        &self,
        points: &Points,
        looks: &Looks,
        search: impl FnOnce(&Searched<'_>, &mut BTreeSet<PointNumber>),
    ) -> Found {
        let order = self.as_of_now(points);
        let mut numbers = BTreeSet::new();
        search(&Searched { order: &order, looks }, &mut numbers);
        Found { numbers: numbers.into_iter().collect(), seen: order.seen }
    }

    fn as_of_now(&self, points: &Points) -> Arc<Order> {
        let mut order = self.order.lock();
        if order.is_behind(points) {
            Arc::make_mut(&mut order).catch_up(points);
        }
        Arc::clone(&order)
    }
}

impl Ordered for Searched<'_> {
    type Item = PointNumber;

    fn seek(&self, tenant: TenantId, text: &str) -> Option<&str> {
        if !self.looks.one() {
            return None;
        }
        self.order.seek(tenant, text)
    }

    fn each(&self, tenant: TenantId, text: &str, see: &mut dyn FnMut(&PointNumber)) {
        if self.looks.one() {
            self.order.each(tenant, text, see);
        }
    }
}

impl Order {
    fn seek(&self, tenant: TenantId, text: &str) -> Option<&str> {
        let found = [&self.sorted, &self.recent].map(|places| places.get(first(places, tenant, text)));
        let own = found.into_iter().flatten().filter(|(path, _)| path.tenant() == tenant);
        own.map(|(path, _)| path.as_str()).min()
    }

    fn each(&self, tenant: TenantId, text: &str, see: &mut dyn FnMut(&PointNumber)) {
        for places in [&self.sorted, &self.recent] {
            let own = places[first(places, tenant, text)..].iter();
            own.take_while(|(path, _)| order_of(path) == (tenant, text)).for_each(|(_, number)| see(number));
        }
    }

    /// Says whether there are points that it doesn't know, or many that are gone.
    fn is_behind(&self, points: &Points) -> bool {
        let names = points.names();
        (self.seen.0 as usize) < names.given() || self.has_many_gone(names.count())
    }

    fn has_many_gone(&self, there: usize) -> bool {
        self.sorted.len() + self.recent.len() > 2 * there + GONE
    }

    fn catch_up(&mut self, points: &Points) {
        if self.has_many_gone(points.names().count()) {
            *self = Self::default();
        }
        let mut new = Vec::new();
        self.seen = points.each_from(self.seen, |number, point| new.push((point.path.clone(), number)));
        if new.is_empty() {
            return;
        }
        new.sort_unstable();
        merge(&mut self.recent, new);
        if self.recent.len() > RECENT {
            merge(&mut self.sorted, std::mem::take(&mut self.recent));
        }
    }
}

/// The place of the first path of a tenant that isn't before this text.
fn first(places: &[Place], tenant: TenantId, text: &str) -> usize {
    places.partition_point(|(path, _)| order_of(path) < (tenant, text))
}

fn order_of(path: &PointPath) -> (TenantId, &str) {
    (path.tenant(), path.as_str())
}

/// Puts sorted points between others: each is looked up, the others are only moved.
fn merge(places: &mut Vec<Place>, new: Vec<Place>) {
    let at: Vec<usize> = new.iter().map(|point| places.partition_point(|known| known < point)).collect();
    let mut merged = Vec::with_capacity(places.len() + new.len());
    let mut known = std::mem::take(places).into_iter();
    let mut moved = 0;
    for (point, place) in new.into_iter().zip(at) {
        merged.extend(known.by_ref().take(place - moved));
        moved = place;
        merged.push(point);
    }
    merged.extend(known);
    *places = merged;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use ironloom_apps::binding::Target;
    use ironloom_apps::manifest::{OutputKind, ValueType};
    use ironloom_apps::pattern::Pattern;
    use ironloom_types::ids::{PointPath, SlotName};
    use ironloom_types::readings::NewPoint;

    fn add(points: &Points, path: &str) {
        let number = PointNumber(points.names().given() as u32);
        points.add_for_test([(
            number,
            Some(NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: None }),
        )]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn pages_together_are_the_points_in_order(
            rounds in prop::collection::vec(prop::collection::btree_set("[ab]{1,2}/[abc]{1,3}", 0..20), 1..4),
            prefix in "[ab]{0,1}",
            most in 1..5_usize,
        ) {
            let (points, order) = (Points::default(), PathOrder::default());
            let mut model = std::collections::BTreeSet::new();
            for paths in rounds {
                for path in paths {
                    if model.insert(path.clone()) {
                        add(&points, &path);
                    }
                }
                let mut listed: Vec<String> = Vec::new();
                loop {
                    let page = order.page(&points, TenantId::MAIN, &prefix, listed.last().map(String::as_str), most);
                    prop_assert!(page.len() <= most);
                    for (path, number) in &page {
                        prop_assert_eq!(points.names().number(path), Some(*number));
                    }
                    if page.is_empty() {
                        break;
                    }
                    listed.extend(page.iter().map(|(path, _)| path.to_string()));
                }
                let expected: Vec<_> = model.iter().filter(|path| path.starts_with(&prefix)).cloned().collect();
                prop_assert_eq!(listed, expected);
            }
        }
    }

    #[test]
    fn the_points_of_bindings_are_found_old_and_new() {
        let (points, order) = (Points::default(), PathOrder::default());
        let patterns = ["a/{x}/w", "a/1/{y}"].map(|text| Pattern::new(TenantId::MAIN, text).unwrap());
        let inputs = [InputBinding {
            name: SlotName::new("in").unwrap(),
            value_type: ValueType::Real,
            unit: None,
            conversions: Vec::new(),
            patterns: patterns.to_vec(),
        }];
        let mut expected = Vec::new();
        for round in 0..10 {
            for path in [format!("a/{round}/w"), format!("b/{round}/w"), format!("a/1/{round}")] {
                if patterns
                    .iter()
                    .any(|pattern| pattern.matches(&PointPath::new(TenantId::MAIN, &path).unwrap()))
                {
                    expected.push(PointNumber(points.names().given() as u32));
                }
                add(&points, &path);
            }
            let found = order.read_by(&points, &inputs);
            assert_eq!((found.numbers, found.seen.0 as usize), (expected.clone(), points.names().given()));
        }
        assert_eq!(expected.len(), 20);
        let target = Target::Default { prefix: PointPath::new(TenantId::MAIN, "b/3/w").unwrap() };
        let (name, kind) = (SlotName::new("out").unwrap(), OutputKind::Derived);
        let output = OutputBinding { name, kind, value_type: ValueType::Real, unit: None, target };
        let bindings = Bindings { inputs: Vec::new(), outputs: vec![output] };
        assert_eq!(order.bound(&points, &bindings, &Looks::of_a_request()).numbers, [PointNumber(10)]);
    }

    #[test]
    fn a_search_that_finds_little_ends_when_its_looks_are_used_up() {
        let (points, order) = (Points::default(), PathOrder::default());
        (0..100).for_each(|number| add(&points, &format!("a/{number}/w")));
        let input = |pattern: &str| InputBinding {
            name: SlotName::new("in").unwrap(),
            value_type: ValueType::Real,
            unit: None,
            conversions: Vec::new(),
            patterns: vec![Pattern::new(TenantId::MAIN, pattern).unwrap()],
        };
        let bound = |patterns: &[&str], looks: &Looks| {
            let inputs = patterns.iter().map(|pattern| input(pattern)).collect();
            order.bound(&points, &Bindings { inputs, outputs: Vec::new() }, looks).numbers.len()
        };
        // About two looks for each point, whether it matches or not.
        let looks = Looks(Cell::new(1_000));
        assert_eq!(bound(&["{a}/{b}/w"], &looks), 100);
        assert!(!looks.are_used_up());
        assert_eq!(bound(&["{a}/{b}/none"; 100], &looks), 0);
        assert!(looks.are_used_up());
        assert_eq!(bound(&["{a}/{b}/w"], &looks), 0, "of the same request no more is looked for");
        assert_eq!(bound(&["{a}/{b}/w"], &Looks::of_a_request()), 100);
    }

    #[test]
    fn points_that_are_gone_go_from_the_list_at_last() {
        let (points, order) = (Points::default(), PathOrder::default());
        for round in 0..9 {
            let first = points.names().given();
            (0..GONE).for_each(|number| add(&points, &format!("a/{number}")));
            let page = order.page(&points, TenantId::MAIN, "", None, usize::MAX);
            assert!(page.len() <= 4 * GONE, "{round}: {}", page.len());
            let gone: Vec<_> = (first..first + GONE).map(|number| PointNumber(number as u32)).collect();
            points.remove_for_test(&gone);
        }
    }
}
