//! Set-points: a list from the app, held against its grants, becomes intents. All of it is checked before any of it is
//! taken.

use std::collections::HashSet;

use super::{Failure, View};
use crate::bindings::platform::ironloom::outputs::outputs::{Error, Intent, Ticket};
use crate::bindings::types::Value as WitValue;
use crate::env::{NotGranted, OutputKind, SetPoint};
use ironloom_types::effects;
use ironloom_types::limits::{MAX_ENTITY, MAX_INTENTS};
use ironloom_types::readings::Value;

/// After so many intents it is asked whether the invocation may go on.
const INTENTS_AT_ONCE: usize = 64;

impl View<'_> {
    /// Takes all intents of a list, or none.
    pub(super) fn request(&mut self, list: Vec<Intent>) -> Result<Vec<Ticket>, Failure> {
        if self.context.intents.len() + list.len() > MAX_INTENTS {
            return Err(Error::TooMany.into());
        }
        let number = self.context.lists;
        let (mut intents, mut tickets) = (Vec::with_capacity(list.len()), Vec::with_capacity(list.len()));
        let mut points = HashSet::with_capacity(list.len());
        for (at, asked) in list.into_iter().enumerate() {
            if at % INTENTS_AT_ONCE == INTENTS_AT_ONCE - 1 {
                self.meter.check()?;
            }
            let intent = self.grant(asked, number)?;
            if !points.insert(intent.point.clone()) {
                let text = format!("the list has two set-points for {}", intent.point);
                return Err(Error::Malformed(text).into());
            }
            let index = (self.context.intents.len() + at) as u32;
            let id = self.context.resolver.intent_id(index).to_string();
            tickets.push(Ticket { id, value: to_wit(&intent.value) });
            intents.push(intent);
        }
        let bytes = intents.iter().map(effects::Intent::cost).sum();
        self.quota.effect(bytes, 0).map_err(Error::Other)?;
        if !intents.is_empty() {
            self.context.lists += 1;
        }
        self.context.intents.append(&mut intents);
        Ok(tickets)
    }

    /// The intent that comes of what the app asks for.
    fn grant(&self, asked: Intent, list: u32) -> Result<effects::Intent, Error> {
        let Intent { output, entity, value, time_to_live } = asked;
        let index = self.output(&output, OutputKind::SetPoint)?;
        if entity.len() > MAX_ENTITY {
            let bytes = entity.len();
            return Err(Error::UnknownEntity(format!(
                "the output {output} has no point for an entity of {bytes} bytes: it may have {MAX_ENTITY}"
            )));
        }
        if time_to_live == 0 {
            return Err(Error::Malformed(format!("`{output}`: a time to live is zero")));
        }
        let slot = &self.app.outputs[index];
        let (asked, declared) = (of_wit(value), slot.value_type.name());
        if asked.as_ref().tag() != slot.value_type {
            let is = asked.as_ref().tag().name();
            return Err(Error::WrongType(format!("`{output}` is {declared}, not {is}")));
        }
        let set_point = SetPoint { entity: &entity, value: &asked, time_to_live };
        let granted = self.context.resolver.set_point(index, set_point).map_err(|refused| match refused {
            NotGranted::Output => Error::NotGranted(output.clone()),
            NotGranted::Entity(text) => Error::UnknownEntity(text),
            NotGranted::Value(text) => Error::NotAllowed(text),
        })?;
        Ok(effects::Intent {
            list,
            output: slot.name.clone(),
            entity: entity.into(),
            point: granted.point,
            asked,
            value: granted.value,
            time_to_live: granted.time_to_live,
        })
    }
}

fn of_wit(value: WitValue) -> Value {
    match value {
        WitValue::Boolean(value) => Value::Boolean(value),
        WitValue::Integer(value) => Value::Integer(value),
        WitValue::Real(value) => Value::Real(value),
        WitValue::Text(value) => Value::Text(value.into()),
        WitValue::Blob(value) => Value::Blob(value.into()),
    }
}

fn to_wit(value: &Value) -> WitValue {
    match value {
        Value::Missing => WitValue::Text(String::new()),
        Value::Boolean(value) => WitValue::Boolean(*value),
        Value::Integer(value) => WitValue::Integer(*value),
        Value::Real(value) => WitValue::Real(*value),
        Value::Text(value) => WitValue::Text(value.to_string()),
        Value::Blob(value) => WitValue::Blob(value.to_vec()),
    }
}
