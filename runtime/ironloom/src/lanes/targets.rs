//! Where an app's outputs go: the points of each entity that had readings before.

use hashbrown::HashMap;

use ironloom_types::ids::PointNumber;

/// The points that are known, by entity and output: one look-up finds those of all outputs. It takes memory for each
/// of them, not for what an entity has no point for.
#[derive(Debug)]
pub struct Targets {
    outputs: usize,
    entities: HashMap<Box<str>, Vec<(u16, PointNumber)>>,
}

impl Targets {
    /// Knows none yet.
    pub fn new(outputs: usize) -> Self {
        Self { outputs, entities: HashMap::new() }
    }

    /// Appends the points of an entity, one for each output; nothing where none is known.
    pub fn of(&self, entity: &str, points: &mut Vec<Option<PointNumber>>) {
        let Some(known) = self.entities.get(entity) else { return };
        let begin = points.len();
        points.resize(begin + self.outputs, None);
        for &(output, point) in known {
            points[begin + usize::from(output)] = Some(point);
        }
    }

    /// Notes the point of an entity and an output.
    pub fn note(&mut self, entity: &str, output: usize, point: PointNumber) {
        assert!(output < self.outputs, "a point belongs to an output of the app");
        let output = output as u16;
        match self.entities.get_mut(entity) {
            None => {
                self.entities.insert(entity.into(), vec![(output, point)]);
            }
            Some(known) => match known.iter_mut().find(|(other, _)| *other == output) {
                Some(known) => known.1 = point,
                None => known.push((output, point)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(targets: &Targets, entity: &str) -> Vec<Option<PointNumber>> {
        let mut points = Vec::new();
        targets.of(entity, &mut points);
        points
    }

    #[test]
    fn each_entity_has_a_point_for_each_output() {
        let mut targets = Targets::new(2);
        assert_eq!(of(&targets, "a"), []);
        targets.note("a", 1, PointNumber(7));
        targets.note("b", 0, PointNumber(8));
        targets.note("a", 0, PointNumber(9));
        assert_eq!(of(&targets, "a"), [Some(PointNumber(9)), Some(PointNumber(7))]);
        assert_eq!(of(&targets, "b"), [Some(PointNumber(8)), None]);
    }

    #[test]
    fn an_entity_with_one_point_takes_memory_for_one_whatever_the_number_of_outputs() {
        let mut targets = Targets::new(256);
        (0..100).for_each(|n| targets.note(&n.to_string(), 255, PointNumber(n)));
        assert!(targets.entities.values().all(|known| known.capacity() < 8));
        assert_eq!(of(&targets, "7")[255], Some(PointNumber(7)));
    }
}
