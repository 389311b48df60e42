//! A message becomes readings: the pattern that its topic matches, and the points and values of its payload.

use super::config::{Mapping, MqttConfig};
use super::link::MAX_PACKET;
use super::payload::Taken;

/// The values of a message, with the paths of their points.
pub(super) struct Read<'c> {
    pub mapping: &'c Mapping,
    pub values: Vec<(String, Taken)>,
}

/// Reads a message.
///
/// # Errors
/// A sentence about the message, nothing of which is taken.
pub(super) fn read<'c>(config: &'c MqttConfig, topic: &[u8], payload: &[u8]) -> Result<Read<'c>, String> {
    let topic = std::str::from_utf8(topic).map_err(|_| "the topic is not UTF-8".to_owned())?;
    let found = config.mappings.iter().find_map(|mapping| Some((mapping, mapping.topic.matches(topic)?)));
    let (mapping, matched) = found.ok_or_else(|| "no topic of the configuration is like it".to_owned())?;
    // A broker of 3.1.1 may send longer ones, whose JSON would take much more memory than they have bytes.
    if payload.len() > MAX_PACKET as usize {
        return Err(format!("a payload of {} bytes; at most {MAX_PACKET} are taken", payload.len()));
    }
    let with_path = |taken: Taken| {
        let mut path = String::new();
        mapping.point.fill(&mut path, |name| matched.level(name).or(taken.field.as_deref()))?;
        Ok((path, taken))
    };
    let values = mapping.rules.read(payload)?.into_iter().map(with_path).collect::<Result<_, String>>()?;
    Ok(Read { mapping, values })
}
