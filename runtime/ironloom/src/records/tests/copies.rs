//! Records of copies of generations.

use super::*;
use crate::records::copy::{Committed, Copied, CopiesDropped, CopyBegun, CopyFacts, Reason, RolledBack};
use crate::records::installation::{Trial, WentBack};

/// Of this generation, and of an installation that goes back to one.
pub(super) fn records(of: Ended, new: NewInstallation) -> [(AdminRecord, &'static str); 5] {
    let (at, copy) = (Timestamp(1234), Generation(5));
    let begun = CopyBegun { id: pigs(), of: Generation(3), generation: copy, at };
    let facts = CopyFacts { revision: new.revision.clone(), at, reason: Reason::Upgrade };
    let copied = Copied { generation: copy, of: of.clone(), facts };
    let committed = Committed { id: pigs(), generation: Generation(3), by_time: true };
    let alarms = vec![alarm(AlarmState::Acknowledged, None)];
    let rolled_back = RolledBack { ended: of, at, new, alarms };
    let dropped = CopiesDropped { id: pigs(), generations: vec![Generation(3), Generation(256)] };
    [
        (AdminRecord::CopyBegun(begun), COPY_BEGUN),
        (AdminRecord::Copied(Box::new(copied)), COPIED),
        (AdminRecord::Committed(committed), COMMITTED),
        (AdminRecord::RolledBack(Box::new(rolled_back)), ROLLED_BACK),
        (AdminRecord::CopiesDropped(dropped), COPIES_DROPPED),
    ]
}

pub(super) fn trial() -> Trial {
    Trial { copy: Generation(4), until: Timestamp(1234) }
}

pub(super) fn went_back() -> Box<WentBack> {
    Box::new(WentBack { at: Timestamp(1234), from: "0.2.0".into(), reason: Some("x".into()) })
}
