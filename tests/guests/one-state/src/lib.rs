//! Counts and adds up the readings of each entity. The state of an entity, under its name, is the
//! count (u64) and the sum (f64), little-endian: easy to compute again from the journal.

use ironloom_sdk::prelude::*;

pub struct OneState;
ironloom_sdk::app!(OneState: readings);

#[derive(Clone, Copy, Default)]
struct Sum {
    count: u64,
    sum: f64,
}

impl Sum {
    fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let (count, sum) =
            bytes.split_first_chunk().ok_or_else(|| Failure::reject("the state is too short"))?;
        let sum = sum.try_into().map_err(|_| Failure::reject("the state has not 16 bytes"))?;
        Ok(Self { count: u64::from_le_bytes(*count), sum: f64::from_le_bytes(sum) })
    }

    fn write(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.count.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sum.to_le_bytes());
        bytes
    }
}

impl Readings for OneState {
    fn consume(batch: &Batch) -> Result<(), Failure> {
        let Some(frame) = batch.frame("value") else { return Ok(()) };
        // A state's key can't be empty: a binding without a name has one entity, the empty text.
        let prefix = if batch.entities() == [""] { "-" } else { "" };
        let mut sums = Vec::with_capacity(batch.entities().len());
        for stored in state::get_rows(batch, prefix)?.iter() {
            sums.push(stored.map_or(Ok(Sum::default()), Sum::read)?);
        }
        let bad = frame.qualities();
        let publish: bool = settings::get("publish")?;
        let mut counts = Outputs::new();
        for (row, (&line, &value)) in frame.lines().iter().zip(frame.reals()?).enumerate() {
            if bad.is_some_and(|qualities| qualities[row] == Quality::Bad) {
                continue;
            }
            let sum = &mut sums[line as usize];
            sum.count += 1;
            sum.sum += value;
            if publish {
                let at = Timestamp::from_nanos(frame.at()[row]);
                counts.push("count", batch.entities()[line as usize], at, sum.count as i64)?;
            }
        }
        let values: Vec<[u8; 16]> = sums.iter().map(|sum| sum.write()).collect();
        let counted = sums.iter().zip(&values).enumerate().filter(|(_, (sum, _))| sum.count > 0);
        state::set_rows(batch, prefix, counted.map(|(line, (_, value))| (line, Some(&value[..]))))?;
        Ok(counts.publish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_sdk::testing::{self, Platform, Type};

    fn platform() -> Platform {
        Platform::new().input("value", Type::Real).output("count", Type::Integer).setting("publish", "true")
    }

    #[test]
    fn counts_and_sums_go_on_over_batches() {
        let mut platform = platform();
        let at = Timestamp::from_nanos(7);
        platform
            .consume::<OneState>(&testing::batch([("value", "a", at, 0.1), ("value", "b", at, 5.0)]))
            .expect_ok();
        platform.consume::<OneState>(&testing::batch([("value", "a", at, 0.2)])).expect_ok();
        let mut expected = 2_u64.to_le_bytes().to_vec();
        expected.extend((0.1 + 0.2_f64).to_le_bytes());
        assert_eq!(platform.state()["a"], expected);
        assert_eq!(platform.state()["b"].len(), 16);
    }
}
