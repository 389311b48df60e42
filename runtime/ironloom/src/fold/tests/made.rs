//! Points that are made before the record that needs them.

use super::history::{Row, prepare};
use super::readings_of;
use super::world::World;
use crate::records::readings::{ReadingsHead, Receipt};
use ironloom_types::ids::Generation;
use ironloom_types::readings::{Columns, Value};

impl World {
    /// Points of a source, or of a lane's outputs, which get no reading by this.
    pub(super) fn make_points(&mut self, lane: Option<u8>, paths: &[u8]) {
        let generation = lane.and_then(|lane| self.choose(lane));
        if generation.is_none() && lane.is_some() {
            return;
        }
        let id = generation.map(|generation| self.model.lanes[&generation].id.clone());
        let path = |number: u8| match &id {
            None => format!("a/a{}", number / 3),
            Some(id) => format!("apps/{id}/out/{}", 4 + number % 4),
        };
        let rows: Vec<Row> =
            paths.iter().map(|path| Row { path: *path, value: Value::Missing, at: 50 }).collect();
        let (new_points, ..) = prepare(self, &rows, path);
        if new_points.is_empty() {
            return;
        }
        let receipt = generation.map(|generation| Receipt::Outputs {
            generation: Generation(generation),
            points: self.model.lanes[&generation].meta.points + new_points.len() as u64,
        });
        self.model.make_points(new_points.iter().map(|point| point.path.to_string()));
        let answer = self.model.push(Vec::new(), None, receipt.clone());
        let head = ReadingsHead { receipt, idempotency: None };
        let (item, made) = readings_of(head, new_points, Columns::default(), None);
        self.submit(item);
        self.expect_push(made, answer);
    }
}
