//! Set-points that apps ask for, on their way to the outbox, and their ends.

use std::sync::Arc;

use bytes::Bytes;

use super::Applier;
use crate::fold::durable::Durable;
use crate::fold::stored::encode;
use crate::outbox::Rights;
use crate::records::commit::CommitHead;
use crate::records::intent::{Asked, Driven, IntentPlace, Settled};
use crate::telemetry::events::What;
use ironloom_apps::grants::Mode;
use ironloom_storage::log::RecordRef;
use ironloom_storage::store::{Item, Key};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::Generation;

/// Bits of an intent's number for its place among those of its invocation, and for a safe value that follows it: the
/// others are its record's position.
const INDEX_BITS: u32 = 11;
const _: () = assert!(ironloom_types::limits::MAX_INTENTS <= 1 << (INDEX_BITS - 1));

fn key(place: IntentPlace) -> Key {
    Item::Intent(place.generation, place.ordinal, place.index).key()
}

impl Applier {
    /// The intents of a commit, as the store keeps them.
    pub(super) fn asked(
        &self,
        head: &CommitHead,
        lane: Option<&Durable>,
        at: Option<RecordRef>,
        changes: &mut Vec<(Key, Option<Bytes>)>,
    ) -> Vec<Asked> {
        let (Some(lane), Some(at)) = (lane, at) else { return Vec::new() };
        if head.intents.is_empty() {
            return Vec::new();
        }
        let newest = lane.newest();
        let asked = (0..).zip(&head.intents).map(|(index, intent)| {
            let output = newest.manifest.output(intent.output.as_str());
            let grant = newest.revision.grants.outputs.get(&intent.output);
            let place = IntentPlace { generation: head.generation, ordinal: head.invocation.ordinal, index };
            Asked {
                installation: head.installation.clone(),
                place,
                at: head.invocation.time,
                number: (at.position.0 << INDEX_BITS) | (u64::from(index) << 1),
                intent: intent.clone(),
                safe: output.zip(grant).and_then(|((_, output), grant)| grant.safe_value(output.value_type)),
                acts: newest.revision.grants.mode == Mode::Act,
                confirmed: false,
            }
        });
        let asked: Vec<Asked> = asked.collect();
        changes.extend(asked.iter().map(|asked| (key(asked.place), Some(encode(asked)))));
        asked
    }

    /// Hands the intents of a commit over.
    pub(super) fn ask(&mut self, asked: Vec<Asked>) {
        let Some(first) = asked.first() else { return };
        if self.replaying {
            return self.found.intents.extend(asked.into_iter().map(|asked| (asked.place, asked)));
        }
        let now = self.shared.clock.now();
        let (installation, count) = (first.installation.clone(), asked.len() as u64);
        let lane = self.shared.lanes.of_generation(first.place.generation);
        self.shared.outbox.change(|outbox| outbox.commit(asked, now));
        if lane.is_some_and(|lane| lane.newest().revision.grants.mode == Mode::Advise) {
            self.shared.metrics.events.tell_sparingly(What::Unconfirmed { installation, count });
        }
    }

    /// Takes note of what became of intents.
    pub(super) fn settle(&mut self, settled: Vec<Settled>, changes: &mut Vec<(Key, Option<Bytes>)>) {
        for Settled { place, driven } in settled {
            changes.extend(place.map(|place| (key(place), None)));
            if self.replaying
                && let Some(place) = place
            {
                self.found.intents.remove(&place);
            }
            let Some(driven) = driven else { continue };
            changes.push((Key::driven(&driven.point), Some(encode(&*driven))));
            if self.replaying {
                self.found.driven.insert(driven.point.clone(), *driven);
            }
        }
    }

    /// Somebody has confirmed an intent.
    pub(super) fn confirm(&mut self, asked: Asked) {
        // One that has ended in the meantime stays ended.
        if !matches!(self.shared.stored::<Asked>(&key(asked.place)), Ok(Some(_))) {
            return;
        }
        self.shared.overlay.apply([(key(asked.place), Some(encode(&asked)))]);
        if self.replaying {
            self.found.intents.insert(asked.place, asked);
            return;
        }
        let now = self.shared.clock.now();
        self.shared.outbox.change(|outbox| outbox.confirm(asked, now));
    }

    /// Goes back to a time with all that set-points have of a later one: nothing lives, and nobody vouches, until then.
    pub(super) fn set_back(&mut self, to: Timestamp, changes: &mut Vec<(Key, Option<Bytes>)>) {
        let (intents, driven): (Vec<Asked>, Vec<Driven>) = if self.replaying {
            let intents = self.found.intents.values_mut().filter(|asked| asked.at > to);
            let intents = intents.map(|asked| {
                asked.at = to;
                asked.clone()
            });
            let intents = intents.collect();
            let driven = self.found.driven.values_mut();
            let driven = driven.filter_map(|driven| driven.set_back(to).then(|| driven.clone()));
            (intents, driven.collect())
        } else {
            self.shared.outbox.change(|outbox| outbox.set_back(to))
        };
        changes.extend(intents.iter().map(|asked| (key(asked.place), Some(encode(asked)))));
        changes.extend(driven.iter().map(|driven| (Key::driven(&driven.point), Some(encode(driven)))));
    }

    /// Takes over what the store has of the outbox.
    pub(in crate::fold) fn find(&mut self, intents: Vec<Asked>, driven: Vec<Driven>) {
        self.found.intents.extend(intents.into_iter().map(|asked| (asked.place, asked)));
        self.found.driven.extend(driven.into_iter().map(|driven| (driven.point.clone(), driven)));
    }

    /// Opens the outbox with what was found.
    pub(super) fn open_outbox(&mut self) {
        let found = std::mem::take(&mut self.found);
        for lane in self.shared.lanes.all() {
            self.set_rights(&lane);
        }
        let now = self.shared.clock.now();
        let forgotten = self.shared.outbox.change(|outbox| outbox.load(found, now));
        self.shared.overlay.apply(forgotten.iter().map(|path| (Key::driven(path), None)));
    }

    /// Tells the outbox what an installation may do.
    pub(super) fn set_rights(&self, lane: &Durable) {
        if self.replaying {
            return;
        }
        let newest = lane.newest();
        // A version before may have had some, of which the outbox still knows.
        if !newest.manifest.has_set_points()
            && !self.shared.outbox.look(|outbox| outbox.knows(lane.generation))
        {
            return;
        }
        let grants = Arc::new(newest.revision.grants.clone());
        let outputs = newest.revision.bindings.outputs.as_slice().into();
        let rights = Rights { grants, outputs, stopped: lane.is_stopped() };
        let now = self.shared.clock.now();
        self.shared.outbox.change(|outbox| outbox.set_rights(lane.generation, rights, now));
    }

    /// Tells the outbox that an installation is gone.
    pub(super) fn end_rights(&self, generation: Generation) {
        if self.replaying {
            return;
        }
        let now = self.shared.clock.now();
        self.shared.outbox.change(|outbox| outbox.gone(generation, now));
    }
}
