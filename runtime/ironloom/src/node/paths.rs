//! The points in the order of their paths, for lists of them by pages: kept from page to page, so that a page costs
//! what is on it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::views::POINTS_AT_ONCE;
use crate::fold::points::Points;
use ironloom_types::ids::PointNumber;

/// Points that are gone are taken out once they are this many, and as many as those that are there.
const GONE: usize = 1_024;

/// Made with the first list that somebody asks for.
#[derive(Debug, Default)]
pub(super) struct PathOrder {
    order: Mutex<Order>,
}

#[derive(Debug, Default)]
struct Order {
    /// By path, then number: a point that was removed and came again has two.
    sorted: Vec<(Arc<str>, PointNumber)>,
    /// How many numbers were given when it was last brought up to date.
    seen: usize,
}

impl PathOrder {
    /// The next points behind the path `after` that begin with `prefix`, at most so many. Some may be gone.
    pub(super) fn page(
        &self,
        points: &Points,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Vec<(Arc<str>, PointNumber)> {
        let mut order = self.order.lock();
        order.catch_up(points);
        let sorted = &order.sorted;
        let from = sorted.partition_point(|(path, _)| **path < *prefix);
        let from = from.max(after.map_or(0, |after| sorted.partition_point(|(path, _)| **path <= *after)));
        let behind = sorted[from..].iter().take_while(|(path, _)| path.starts_with(prefix));
        behind.take(most).cloned().collect()
    }
}

impl Order {
    fn catch_up(&mut self, points: &Points) {
        if self.sorted.len() > 2 * points.names().count() + GONE {
            *self = Self::default();
        }
        let mut new = Vec::new();
        loop {
            // In parts: the fold waits for the names.
            let names = points.names();
            let end = names.given().min(self.seen + POINTS_AT_ONCE);
            if end == self.seen {
                break;
            }
            let numbers = (self.seen..end).map(|number| PointNumber(number as u32));
            new.extend(numbers.filter_map(|number| Some((names.point(number)?.path.to_arc(), number))));
            self.seen = end;
        }
        if !new.is_empty() {
            new.sort_unstable();
            self.merge(new);
        }
    }

    /// Puts sorted points between the others: each is looked up, the others are only moved.
    fn merge(&mut self, new: Vec<(Arc<str>, PointNumber)>) {
        let places: Vec<usize> =
            new.iter().map(|point| self.sorted.partition_point(|known| known < point)).collect();
        let mut merged = Vec::with_capacity(self.sorted.len() + new.len());
        let mut known = std::mem::take(&mut self.sorted).into_iter();
        let mut moved = 0;
        for (point, place) in new.into_iter().zip(places) {
            merged.extend(known.by_ref().take(place - moved));
            moved = place;
            merged.push(point);
        }
        merged.extend(known);
        self.sorted = merged;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use ironloom_types::ids::PointPath;
    use ironloom_types::readings::NewPoint;

    fn add(points: &Points, path: &str) {
        let number = PointNumber(points.names().given() as u32);
        points.add_for_test([(number, Some(NewPoint { path: PointPath::new(path).unwrap(), unit: None }))]);
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
                    let page = order.page(&points, &prefix, listed.last().map(String::as_str), most);
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
    fn points_that_are_gone_go_from_the_list_at_last() {
        let (points, order) = (Points::default(), PathOrder::default());
        for round in 0..9 {
            let first = points.names().given();
            (0..GONE).for_each(|number| add(&points, &format!("a/{number}")));
            let page = order.page(&points, "", None, usize::MAX);
            assert!(page.len() <= 4 * GONE, "{round}: {}", page.len());
            let gone: Vec<_> = (first..first + GONE).map(|number| PointNumber(number as u32)).collect();
            points.remove_for_test(&gone);
        }
    }
}
