//! The machines of a trial, which obey at once: no connector is there.

use std::sync::Arc;

use super::Node;
use super::drive::MOST_ENDS;
use super::ingest::NotTaken;
use crate::api::facade::Pushed;
use crate::api::host::{Obeyed, SetPointEnd};
use crate::fold::submission::Accepted;
use crate::outbox::{Answer, Router, Settlement};
use crate::records::intent::Ended;
use ironloom_types::ids::TenantId;

/// The connector that all of them have.
const OBEDIENT: &str = "obedient";

impl Node {
    /// Has every point belong to a machine that obeys at once.
    pub(super) fn route_to_obedient(&self) {
        let router: Router = Arc::new(|_| Some(OBEDIENT.into()));
        let now = self.shared.clock.now();
        self.shared.outbox.change(|outbox| outbox.set_router(router, now));
    }

    /// Does what connectors and the tasks of the outbox do elsewhere, in one step.
    pub(super) async fn obey(self: &Arc<Self>) -> Result<Obeyed, NotTaken> {
        let (obedient, now) = (Arc::from(OBEDIENT), self.shared.clock.now());
        let ends = self.shared.outbox.change(|outbox| {
            outbox.tick(now);
            while let Some(command) = outbox.next(&obedient, now) {
                outbox.answered(&command.point, command.what, Answer::Accepted, now);
            }
            outbox.take_ends(usize::MAX)
        });
        let mut recorded: Option<Pushed> = None;
        for ends in ends.chunks(MOST_ENDS) {
            let Accepted { accepted, through, duplicate } = self.write_down(TenantId::MAIN, ends).await?;
            let before = recorded.map_or(0, |before| before.accepted);
            recorded = Some(Pushed { accepted: before + accepted, through, duplicate });
        }
        Ok((ends.into_iter().map(shown).collect(), recorded))
    }
}

fn shown(Settlement { settled, output, entity, outcome, at, .. }: Settlement) -> SetPointEnd {
    let last = settled.driven.map(|driven| driven.last);
    let (value, asked, reason) = match last {
        Some(Ended { value, asked, reason, .. }) => (Some(value), Some(asked), reason.map(String::from)),
        None => (None, None, None),
    };
    SetPointEnd { time: at, output, entity, value, asked, outcome: outcome.name(), reason }
}
