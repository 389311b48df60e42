//! Dead letters: their list, and what an admin does with them.

use std::sync::Arc;

use super::pages::Filling;
use super::{Node, problems};
use crate::api::facade::{Answer, DeadLetter, NumberedQuery, Order, Page, Problem, ReadingItem};
use crate::fold::{self, Shared};
use crate::lanes::Lane;
use crate::records::admin::AdminRecord;
use crate::records::commit;
use ironloom_types::ids::{InstallationId, PointPath};

impl Node {
    /// Dead letters in the order of their numbers, or the other way round.
    pub(super) async fn list_dead_letters(
        &self,
        lane: &Lane,
        query: NumberedQuery,
    ) -> Answer<Page<DeadLetter>> {
        let NumberedQuery { mut after, order, limit } = query;
        let (generation, mut page) = (lane.generation, Filling::new(limit));
        loop {
            let find = move |shared: &Shared| match order {
                Order::Oldest => shared.dead_letters(generation, after.unwrap_or(0), usize::MAX),
                Order::Newest => shared.newest_dead_letters(generation, after, usize::MAX),
            };
            let found = fold::read_aside(&self.shared, find).await;
            let (letters, more) = found.map_err(|error| problems::internal(&error))?;
            let last = letters.last().map(|letter| letter.number);
            if page.extend(letters.into_iter().map(|letter| self.show_dead_letter(letter))) {
                let next = page.items.last().map(|letter| letter.number.to_string());
                return Ok(Page { items: page.items, next });
            }
            match last.filter(|_| more) {
                Some(last) => after = Some(last),
                None => return Ok(Page { items: page.items, next: None }),
            }
        }
    }

    fn show_dead_letter(&self, letter: commit::DeadLetter) -> DeadLetter {
        let names = self.shared.points.names();
        let point = names.path_of_reading(letter.point).map_or_else(|| Arc::from(""), PointPath::to_arc);
        let reading = ReadingItem {
            point,
            entity: Some(letter.entity.to_string()),
            value: letter.value.into(),
            at: letter.at,
            quality: letter.quality,
            sequence: letter.sequence,
            time: letter.time,
        };
        let reason = letter.reason.to_string();
        DeadLetter {
            number: letter.number,
            reading,
            reason,
            ordinal: letter.ordinal,
            revision: letter.revision,
        }
    }

    async fn dead_letter_or_404(&self, lane: &Lane, number: u64) -> Answer<commit::DeadLetter> {
        let generation = lane.generation;
        let letter = fold::read_aside(&self.shared, move |shared| shared.dead_letter(generation, number))
            .await
            .map_err(|error| problems::internal(&error))?;
        let missing = || Problem::not_found(format!("installation {} has no dead letter {number}", lane.id));
        letter.ok_or_else(missing)
    }

    /// Runs a dead letter again, by itself. It is remembered in memory alone: a restart forgets it,
    /// and the dead letter stays.
    pub(super) async fn requeue_dead_letter(self: Arc<Self>, id: InstallationId, number: u64) -> Answer<()> {
        let lane = self.lane(&id)?;
        self.dead_letter_or_404(&lane, number).await?;
        if lane.is_stopped() {
            let detail = format!("installation {id} is paused or quarantined, so it runs nothing");
            return Err(Problem::conflict("not-running", detail).hint("Resume it first."));
        }
        lane.pace.lock().requeue.add(number);
        tracing::info!(installation = %id, dead_letter = number, "an admin runs a dead letter again");
        self.lanes.wake(&lane);
        Ok(())
    }

    /// Deletes a dead letter.
    pub(super) async fn remove_dead_letter(self: Arc<Self>, id: InstallationId, number: u64) -> Answer<()> {
        let turn = self.turn_of(&id).await?;
        let lane = Arc::clone(&turn.lane);
        let letter = self.dead_letter_or_404(&lane, number).await?;
        lane.pace.lock().requeue.forget(number);
        let (kept, bytes) = {
            let book = lane.book();
            (
                book.meta().dead_letters_kept.saturating_sub(1),
                book.meta().dead_letter_bytes.saturating_sub(letter.cost()),
            )
        };
        let generation = lane.generation;
        self.change(AdminRecord::DeadLetterDeleted { generation, number, kept, bytes }).await?;
        drop(turn);
        Ok(())
    }
}
