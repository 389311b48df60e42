//! Capsules, as the API has them: to the core's types and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::Node;
use super::installations::settings_of;
use super::replay::{Past, differs, refused};
use super::views::show_invocation;
use crate::api::capsule::{
    Before, Capsule, MAX_LAST, OneShotTimer, Recorded, RecordedFrame, Rerun, StandingAlarm, VERSION,
};
use crate::api::facade::{Answer, Invocation, Place, Problem};
use crate::api::value::JsonValue;
use crate::lanes::replay::{Came, Replica};
use crate::lanes::run::{Again, Captured};
use crate::records::commit::{self, InvocationKind, OutcomeKind};
use ironloom_apps::allowance::PartialLimits;
use ironloom_sandbox::{Batch, Frame, Quality, Values};
use ironloom_types::effects::OneShot;
use ironloom_types::ids::{Digest, InstallationId, Sequence};
use ironloom_types::readings::Value;

impl Node {
    /// The last invocations of an installation, with what they depend on.
    pub(super) async fn make_capsule(self: &Arc<Self>, id: InstallationId, last: u64) -> Answer<Capsule> {
        if !(1..=MAX_LAST).contains(&last) {
            let detail = format!("`last` must lie within 1 to {MAX_LAST}");
            return Err(Problem::malformed("bad-query", detail).at(Place::field("last")));
        }
        let again = self.again(&id, async move |node, lane, interrupt| {
            node.runner.capture(&lane, last, &Past(&node), interrupt).await
        });
        let captured = again.await?;
        let Captured { generation, revision, manifest, replica, invocations } = captured;
        Ok(Capsule {
            capsule: VERSION,
            id,
            package: revision.package,
            generation,
            revision: revision.number,
            bindings: revision.bindings.asked(),
            settings: settings_of(&manifest, &revision),
            grants: revision.grants.clone(),
            limits: PartialLimits::from(&revision.limits),
            timezone: revision.timezone.clone(),
            before: before(&replica),
            invocations: invocations.into_iter().map(recorded).collect(),
        })
    }

    /// Runs the invocations of a capsule again, with the installation of its id.
    pub(super) async fn run_capsule(&self, capsule: Capsule) -> Answer<Vec<Rerun>> {
        let lane = self.lane(&capsule.id)?;
        let generation = capsule.generation;
        let (replica, invocations) = captured(capsule)?;
        let all = self
            .runner
            .rerun(&lane, generation, replica, invocations)
            .await
            .map_err(|error| refused(&error))?;
        let shown = all.into_iter().map(|(record, came)| Rerun {
            recorded: show_invocation(record),
            ran: came != Came::NotRun,
            message: match &came {
                Came::NotRun => None,
                Came::Same(message) => message.clone(),
                Came::Differs(difference) => difference.message.clone(),
            },
            difference: match came {
                Came::NotRun | Came::Same(_) => None,
                Came::Differs(difference) => Some(differs(*difference)),
            },
        });
        Ok(shown.collect())
    }
}

fn before(replica: &Replica) -> Before {
    let state = replica.state().iter().map(|(key, value)| (key.to_string(), BASE64.encode(value)));
    let alarms = replica.alarms().iter().map(|((code, entity), counts)| StandingAlarm {
        code: code.clone(),
        entity: entity.to_string(),
        counts: *counts,
    });
    Before {
        time: replica.time(),
        state: state.collect(),
        timers: replica.timers().iter().map(|(name, set)| (name.to_string(), timer(*set))).collect(),
        alarms: alarms.collect(),
    }
}

fn timer(OneShot { due, asked }: OneShot) -> OneShotTimer {
    OneShotTimer { due, asked }
}

fn recorded(again: Again) -> Recorded {
    let Again { record, batch, due, .. } = again;
    let Batch { entities, frames } = batch.unwrap_or(Batch { entities: String::new(), frames: Vec::new() });
    let frames = frames.into_iter().map(frame).collect();
    Recorded { invocation: show_invocation(record), due, entities, frames }
}

fn frame(frame: Frame) -> RecordedFrame {
    let Frame { slot, entity, at, order, quality, values } = frame;
    let (kind, values) = match values {
        Values::Booleans(all) => ("boolean", all.into_iter().map(Value::Boolean).collect::<Vec<_>>()),
        Values::Integers(all) => ("integer", all.into_iter().map(Value::Integer).collect()),
        Values::Reals(all) => ("real", all.into_iter().map(Value::Real).collect()),
        Values::Texts(all) => ("text", all.into_iter().map(|text| Value::Text(text.into())).collect()),
        Values::Blobs(all) => ("blob", all.into_iter().map(|blob| Value::Blob(blob.into())).collect()),
    };
    RecordedFrame {
        input: slot,
        r#type: kind.to_owned(),
        entity,
        at,
        order,
        quality: quality.map(|all| all.into_iter().map(|quality| quality as u8).collect()),
        values: values.into_iter().map(JsonValue::from).collect(),
    }
}

/// Reads a capsule back; all of it is checked, since anybody may have written it.
fn captured(capsule: Capsule) -> Answer<(Replica, Vec<Again>)> {
    if capsule.capsule != VERSION {
        let found = capsule.capsule;
        return Err(wrong(format!("it is of version {found} of capsules; this ironloom reads {VERSION}")));
    }
    let Before { time, state, timers, alarms } = capsule.before;
    let decode = |(key, value): (String, String)| {
        let value = BASE64
            .decode(&value)
            .map_err(|error| wrong(format!("the state of {key:?} is not base64: {error}")))?;
        Ok((key.into_boxed_str(), Bytes::from(value)))
    };
    let state: BTreeMap<Box<str>, Bytes> = state.into_iter().map(decode).collect::<Answer<_>>()?;
    let alarms = alarms.into_iter().map(|alarm| ((alarm.code, Arc::from(alarm.entity)), alarm.counts));
    let set = |OneShotTimer { due, asked }| OneShot { due, asked };
    let timers = timers.into_iter().map(|(name, timer)| (name.into_boxed_str(), set(timer)));
    let replica = Replica::new(state, alarms.collect(), timers.collect(), time);
    let invocations: Answer<Vec<Again>> = capsule.invocations.into_iter().map(again).collect();
    let mut invocations = invocations?;
    let next: Vec<_> = invocations.iter().skip(1).map(|next| next.record.ordinal).collect();
    for (again, next) in invocations.iter_mut().zip(next) {
        again.is_last = next > again.record.ordinal;
    }
    Ok((replica, invocations))
}

fn wrong(detail: impl Into<String>) -> Problem {
    Problem::refused("capsule", detail)
}

fn again(recorded: Recorded) -> Answer<Again> {
    let Recorded { invocation, due, entities, frames } = recorded;
    let count = entities.split('\n').count();
    let frames: Answer<Vec<Frame>> = frames.into_iter().map(|frame| frame_of(frame, count)).collect();
    let frames = frames?;
    let readings: usize = frames.iter().map(|frame| frame.at.len()).sum();
    let batch = (!frames.is_empty()).then_some(Batch { entities, frames });
    Ok(Again { record: record(invocation, readings)?, batch, due, is_last: false })
}

fn frame_of(frame: RecordedFrame, entities: usize) -> Answer<Frame> {
    let RecordedFrame { input, r#type, entity, at, order, quality, values } = frame;
    let rows = values.len();
    let is_long = |length: usize| length != rows;
    let differ = is_long(entity.len())
        || is_long(at.len())
        || order.as_ref().is_some_and(|order| is_long(order.len()))
        || quality.as_ref().is_some_and(|quality| is_long(quality.len()));
    if differ || entity.iter().any(|entity| *entity as usize >= entities) {
        return Err(wrong(format!("the columns of the input {input} don't fit together")));
    }
    let quality =
        quality.map(|all| all.into_iter().map(quality_of).collect::<Answer<Vec<Quality>>>()).transpose()?;
    let values = values_of(&r#type, values)
        .ok_or_else(|| wrong(format!("the values of the input {input} are not of the type {}", r#type)))?;
    Ok(Frame { slot: input, entity, at, order, quality, values })
}

fn quality_of(number: u8) -> Answer<Quality> {
    match number {
        0 => Ok(Quality::Good),
        1 => Ok(Quality::Uncertain),
        2 => Ok(Quality::Bad),
        _ => Err(wrong(format!("{number} is not a quality"))),
    }
}

fn values_of(kind: &str, values: Vec<JsonValue>) -> Option<Values> {
    /// All of them as one type; `None` where one is of another.
    fn all<T>(values: Vec<JsonValue>, take: impl Fn(Value) -> Option<T>) -> Option<Vec<T>> {
        values.into_iter().map(|JsonValue(value)| take(value)).collect()
    }
    Some(match kind {
        "boolean" => Values::Booleans(all(values, |value| match value {
            Value::Boolean(value) => Some(value),
            _ => None,
        })?),
        "integer" => Values::Integers(all(values, |value| match value {
            Value::Integer(value) => Some(value),
            _ => None,
        })?),
        "real" => Values::Reals(all(values, |value| match value {
            Value::Real(value) => Some(value),
            // JSON has texts for what isn't finite.
            Value::Text(text) => match &*text {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            _ => None,
        })?),
        "text" => Values::Texts(all(values, |value| match value {
            Value::Text(text) => Some(text.into()),
            _ => None,
        })?),
        "blob" => Values::Blobs(all(values, |value| match value {
            Value::Blob(blob) => Some(blob.into()),
            _ => None,
        })?),
        _ => return None,
    })
}

fn record(invocation: Invocation, readings: usize) -> Answer<commit::Invocation> {
    let Invocation {
        ordinal,
        attempt,
        kind,
        timer,
        dead_letter,
        first,
        last,
        time,
        revision,
        outcome,
        message,
        digest,
    } = invocation;
    let kind = match (kind.as_str(), timer, dead_letter) {
        ("readings", _, _) => InvocationKind::Readings,
        ("skip", _, _) => InvocationKind::Skip,
        ("requeue", _, Some(number)) => InvocationKind::Requeue(number),
        ("timer", Some(name), _) => InvocationKind::Timer(name.into()),
        _ => return Err(wrong(format!("invocation {ordinal} is of no known kind: {kind}"))),
    };
    let outcome = OutcomeKind::by_name(&outcome)
        .ok_or_else(|| wrong(format!("invocation {ordinal} has no known outcome: {outcome}")))?;
    let none = Sequence(0);
    Ok(commit::Invocation {
        ordinal,
        attempt,
        kind,
        first: first.unwrap_or(none),
        last: last.unwrap_or(none),
        readings: u32::try_from(readings).unwrap_or(u32::MAX),
        time,
        revision,
        outcome,
        message: message.map(Into::into),
        digest: digest.unwrap_or(Digest([0; 32])),
    })
}
