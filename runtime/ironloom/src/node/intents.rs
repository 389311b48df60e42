//! Set-points as the API shows them, and what people say of them.

use std::sync::Arc;
use std::time::Duration;

use super::{Node, problems};
use crate::api::facade::{
    Answer, DrivenPoint, Intent, IntentDeed, LastOutcome, Page, PageQuery, Problem, Told,
};
use crate::outbox::{Shown, ShownIntent, Standing};
use crate::records::admin::AdminRecord;
use crate::records::intent::{self, Asked};
use ironloom_types::ids::{InstallationId, IntentId};

/// The longest wait for a record.
const DURABLE: Duration = Duration::from_secs(10);

impl Node {
    /// The points that an installation's set-points go to.
    pub(super) fn list_intents(&self, id: &InstallationId, page: &PageQuery) -> Answer<Page<DrivenPoint>> {
        let mut found =
            self.shared.outbox.look(|outbox| outbox.show(id, page.after.as_deref(), page.limit + 1));
        // One that is gone may have left machines that are to have their safe values.
        if found.is_empty() {
            self.lane(id)?;
        }
        let more = found.len() > page.limit;
        found.truncate(page.limit);
        let next = more.then(|| found.last().map(|last| last.point.to_string())).flatten();
        Ok(Page { items: found.into_iter().map(show).collect(), next })
    }

    /// Confirms or dismisses an intent that waits for somebody's word.
    pub(super) async fn change_intent(
        self: Arc<Self>,
        id: InstallationId,
        intent: IntentId,
        deed: IntentDeed,
    ) -> Answer<()> {
        let lane = self.lane(&id)?;
        // One person after the other: whoever comes second finds what the first has done.
        let _turn = self.confirming.lock().await;
        let now = self.shared.clock.now();
        let found = self.shared.outbox.look(|outbox| {
            let asked = outbox.unconfirmed(lane.generation, intent);
            asked.map(|asked| (outbox.refusal(&asked, now), asked))
        });
        let Some((refusal, asked)) = found else {
            let detail = format!("no intent {intent} of installation {id} waits for a confirmation");
            return Err(Problem::not_found(detail));
        };
        if deed == IntentDeed::Dismiss {
            let mut recorded = self.recorded.subscribe();
            let ended = self.shared.outbox.change(|outbox| {
                outbox.dismiss(asked.place, now);
                outbox.ended()
            });
            let durable = recorded.wait_for(|recorded| *recorded >= ended);
            return match tokio::time::timeout(DURABLE, durable).await {
                Ok(Ok(_)) => Ok(()),
                _ => {
                    let detail = "it is dismissed, but not after a restart: its end can't be written yet";
                    Err(Problem::unavailable("not-durable", detail, crate::api::facade::RETRY_SOON))
                }
            };
        }
        if let Some(reason) = refusal {
            let detail = format!("intent {intent} can't be sent any more: {reason}");
            return Err(Problem::conflict("not-sendable", detail));
        }
        let confirmed = Asked { confirmed: true, ..Asked::clone(&asked) };
        let record = AdminRecord::IntentConfirmed(Box::new(confirmed));
        self.hand_in(record)?.done().await.map_err(|refusal| problems::change_refused(&refusal))
    }
}

fn show(shown: Shown) -> DrivenPoint {
    let Shown { point, connector, open, goes_safe, told, last, output, entity } = shown;
    DrivenPoint {
        point: point.to_string(),
        output,
        entity: entity.to_string(),
        connector: connector.map(|name| name.to_string()),
        intents: open.iter().map(show_intent).collect(),
        told: told.map(|told| Told {
            value: told.value.into(),
            number: told.number,
            until: told.until,
            safe: told.safe.map(Into::into),
        }),
        goes_safe,
        last: last.map(show_last),
    }
}

fn show_intent(ShownIntent { asked, standing, expires }: &ShownIntent) -> Intent {
    let state = match standing {
        Standing::Waiting => "waiting",
        Standing::Unconfirmed => "unconfirmed",
        Standing::Sent => "sent",
    };
    Intent {
        id: asked.place.id(),
        state: state.to_owned(),
        asked: asked.intent.asked.clone().into(),
        value: asked.intent.value.clone().into(),
        at: asked.at,
        expires: *expires,
    }
}

fn show_last(last: intent::Ended) -> LastOutcome {
    LastOutcome {
        id: last.id,
        asked: last.asked.into(),
        value: last.value.into(),
        outcome: last.outcome.name().to_owned(),
        reason: last.reason.map(|reason| reason.to_string()),
        at: last.at,
    }
}
