//! Where an app's outputs go: the points of each entity that had readings before.

use hashbrown::HashMap;

use ironloom_types::ids::PointNumber;

/// The points that are known, by entity and output: one look-up finds those of all outputs.
#[derive(Debug)]
pub struct Targets {
    outputs: usize,
    /// The index in `points` at which those of an entity begin.
    entities: HashMap<Box<str>, usize>,
    points: Vec<Option<PointNumber>>,
}

impl Targets {
    /// Knows none yet.
    pub fn new(outputs: usize) -> Self {
        Self { outputs, entities: HashMap::new(), points: Vec::new() }
    }

    /// The points of an entity, one for each output; nothing where none is known.
    pub fn of(&self, entity: &str) -> &[Option<PointNumber>] {
        self.entities.get(entity).map_or(&[], |&begin| &self.points[begin..begin + self.outputs])
    }

    /// Notes the point of an entity and an output.
    pub fn note(&mut self, entity: &str, output: usize, point: PointNumber) {
        assert!(output < self.outputs, "a point belongs to an output of the app");
        let begin = match self.entities.get(entity) {
            Some(&begin) => begin,
            None => {
                let begin = self.points.len();
                self.points.resize(begin + self.outputs, None);
                self.entities.insert(entity.into(), begin);
                begin
            }
        };
        self.points[begin + output] = Some(point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entity_has_a_point_for_each_output() {
        let mut targets = Targets::new(2);
        assert_eq!(targets.of("a"), []);
        targets.note("a", 1, PointNumber(7));
        targets.note("b", 0, PointNumber(8));
        targets.note("a", 0, PointNumber(9));
        assert_eq!(targets.of("a"), [Some(PointNumber(9)), Some(PointNumber(7))]);
        assert_eq!(targets.of("b"), [Some(PointNumber(8)), None]);
    }
}
