//! Why a record of readings came: a source's place behind it (a connector's note, the progress of a stream, the points that
//! outputs have made, the place of what is published), or the outcomes of set-points, which are applied here.

use bytes::Bytes;

use super::Applier;
use crate::fold::published::place_of_published;
use crate::fold::stored::{StoredStream, encode};
use crate::records::readings::Receipt;
use ironloom_storage::store::{Item, Key};
use ironloom_types::clock::Timestamp;

impl Applier {
    /// Takes note of the place of a source behind a record.
    pub(super) fn receipt(
        &mut self,
        receipt: Receipt,
        time: Timestamp,
        changes: &mut Vec<(Key, Option<Bytes>)>,
    ) {
        match receipt {
            Receipt::Connector { name, note } => {
                let note = Bytes::from(note);
                changes.push((Item::Receipt(&name).key(), Some(note.clone())));
                self.shared.receipts.write().insert(name, note);
            }
            Receipt::Stream { key: name, progress: None } => {
                changes.push((Item::Stream(&name).key(), None));
                self.shared.streams.write().forget(&name);
            }
            Receipt::Stream { key: name, progress: Some(progress) } => {
                let stream = StoredStream { progress, at: time };
                changes.push((Item::Stream(&name).key(), Some(encode(&stream))));
                let forgotten = self.shared.streams.write().take(name, stream);
                changes.extend(forgotten.iter().map(|name| (Item::Stream(name).key(), None)));
            }
            Receipt::Outbox(settled) => self.settle(settled, changes),
            Receipt::Published { name, through } => {
                let name = place_of_published(&name);
                let note = encode(&through);
                changes.push((Item::Receipt(&name).key(), Some(note.clone())));
                self.shared.receipts.write().insert(name, note);
            }
            Receipt::Outputs { generation, points } => {
                let Some(lane) = self.shared.lanes.of_generation(generation) else { return };
                lane.set_points(points);
                changes.push(self.lane_value(&lane.id, generation, lane.book().meta()));
            }
        }
    }
}
