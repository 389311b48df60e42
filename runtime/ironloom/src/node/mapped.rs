//! The points that a connector's mappings may write: how many there may be.
//!
//! Which points a connector has made nobody keeps. Those that its mappings name are as many or more, they are known after a
//! restart too, and count no longer once they are retired or the connector is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Node;
use crate::aside::aside;
use crate::connectors::ConnectorConfig;
use crate::fold::points::Points;
use crate::fold::submission::Refusal;
use ironloom_types::ids::PointNumber;
use ironloom_types::readings::NewPoint;

/// The points that are known of each connector.
#[derive(Debug, Default)]
pub(super) struct Mapped(Mutex<BTreeMap<Box<str>, Found>>);

#[derive(Debug)]
struct Found {
    /// The connector whose mappings they were held against.
    config: ConnectorConfig,
    /// The points of it. Some may be gone.
    numbers: Vec<PointNumber>,
    /// All points with a lower number were looked at.
    seen: PointNumber,
}

impl Node {
    /// Looks if a connector may make these points.
    pub(super) async fn check_mapped(
        self: &Arc<Self>,
        connector: &str,
        new_points: Vec<NewPoint>,
    ) -> Result<Vec<NewPoint>, Refusal> {
        let config = self.wanted.load().get(connector).and_then(|one| one.config.clone().ok());
        // Its last record, while it is taken away.
        let Some(config) = config else { return Ok(new_points) };
        let (node, connector) = (Arc::clone(self), Box::from(connector));
        let checked = aside(move || {
            node.mapped.check(&node.shared.points, connector, config, &new_points).map(|()| new_points)
        });
        checked.await.map_err(|_| Refusal::Broken)?
    }
}

impl Mapped {
    fn check(
        &self,
        points: &Points,
        connector: Box<str>,
        config: ConnectorConfig,
        new_points: &[NewPoint],
    ) -> Result<(), Refusal> {
        let mut all = self.0.lock();
        let fresh = || Found { config: config.clone(), numbers: Vec::new(), seen: PointNumber(0) };
        let found = all.entry(connector.clone()).or_insert_with(fresh);
        if found.config != config {
            *found = fresh();
        }
        found.look(points);
        let limit = config.most_points();
        let is_beyond = |found: &Found| found.numbers.len() + new_points.len() > limit;
        if is_beyond(found) {
            found.forget_gone(points);
        }
        if is_beyond(found) {
            let first = new_points.get(limit.saturating_sub(found.numbers.len())).or(new_points.first());
            let path = first.map_or_else(String::new, |point| point.path.to_string());
            return Err(Refusal::TooManyOfConnector { connector, path, limit });
        }
        Ok(())
    }
}

impl Found {
    /// Looks at the points that are new.
    fn look(&mut self, points: &Points) {
        self.seen = points.each_from(self.seen, |number, point| {
            if self.config.may_write(&point.path) {
                self.numbers.push(number);
            }
        });
    }

    fn forget_gone(&mut self, points: &Points) {
        let mut kept = Vec::with_capacity(self.numbers.len());
        points.each_of(&self.numbers, |number, _| kept.push(number));
        self.numbers = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use ironloom_types::ids::{PointPath, TenantId};

    fn config(mapping: &str, most: usize) -> ConnectorConfig {
        let text = format!(
            "[connectors.c]\nkind = \"csv\"\npath = \"x.csv\"\nat = \"at\"\npoints = {most}\n\
             [connectors.c.columns.v]\npoint = \"{mapping}\"\n"
        );
        Config::read(&text).unwrap().connectors["c"].clone()
    }

    fn point(path: &str) -> NewPoint {
        NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: None }
    }

    #[test]
    fn a_connector_makes_no_more_points_than_it_may_until_some_are_retired() {
        let (points, mapped) = (Points::default(), Mapped::default());
        let add = |first: u32, paths: &[&str]| {
            let numbered = (first..).map(PointNumber).zip(paths.iter().map(|path| Some(point(path))));
            points.add_for_test(numbered);
        };
        let check = |config: &ConnectorConfig, paths: &[&str]| {
            let new: Vec<_> = paths.iter().map(|path| point(path)).collect();
            mapped.check(&points, "c".into(), config.clone(), &new)
        };
        let refused = |path: &str, limit| {
            Err(Refusal::TooManyOfConnector { connector: "c".into(), path: path.to_owned(), limit })
        };
        let a = config("a/{v}", 3);
        add(0, &["a/1", "b/1"]);
        assert_eq!(check(&a, &["a/2", "a/3"]), Ok(()));
        assert_eq!(check(&a, &["a/2", "a/3", "a/4"]), refused("a/4", 3));
        add(2, &["a/2", "a/3"]);
        assert_eq!(check(&a, &["a/4"]), refused("a/4", 3));
        points.remove_for_test(&[PointNumber(2)]);
        assert_eq!(check(&a, &["a/4"]), Ok(()));
        assert_eq!(check(&a, &["a/4", "a/5"]), refused("a/5", 3));
        // Another mapping has other points.
        assert_eq!(check(&config("b/{v}", 2), &["b/2"]), Ok(()));
        assert_eq!(check(&config("b/{v}", 1), &["b/2"]), refused("b/2", 1));
    }
}
