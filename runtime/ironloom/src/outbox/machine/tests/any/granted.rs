//! Grants of an app, and all that follows from them by the rules alone.

use super::*;
use ironloom_types::ids::TenantId;

/// A grant of the output `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// 0 and 6 to 32; the safe value is 6.
    Wide,
    /// 0 and 6 to 10; the safe value is 6.
    Low,
    /// Nothing but 0, which is the safe value.
    Zero,
    /// 0 and 6 to 32; the last value stays.
    Hold,
    /// As `Wide`, for a life of 50.
    Brief,
    /// As `Wide`, at most once in 40.
    Rare,
    /// As `Wide`, with the output bound to points elsewhere.
    Elsewhere,
    /// The output isn't granted.
    Nothing,
}

impl Granted {
    pub(super) const ALL: [Self; 10] = [
        Self::Wide,
        Self::Wide,
        Self::Low,
        Self::Zero,
        Self::Hold,
        Self::Brief,
        Self::Rare,
        Self::Rare,
        Self::Elsewhere,
        Self::Nothing,
    ];

    /// Returns true where the output may have this value at a point of the plant.
    pub(super) fn allows(self, value: f64) -> bool {
        match self {
            Self::Wide | Self::Hold | Self::Brief | Self::Rare => {
                value == 0.0 || (6.0..=32.0).contains(&value)
            }
            Self::Low => value == 0.0 || (6.0..=10.0).contains(&value),
            Self::Zero => value == 0.0,
            Self::Elsewhere | Self::Nothing => false,
        }
    }

    /// The safe value, if there is one; the outer `None` where nothing is granted that says so.
    pub(super) fn safe(self) -> Option<Option<f64>> {
        match self {
            Self::Wide | Self::Low | Self::Brief | Self::Rare | Self::Elsewhere => Some(Some(6.0)),
            Self::Zero => Some(Some(0.0)),
            Self::Hold => Some(None),
            Self::Nothing => None,
        }
    }

    /// The life of a set-point that was asked for with this one.
    pub(super) fn life(self, asked: u64) -> u64 {
        if self == Self::Brief { asked.min(50) } else { asked }
    }

    /// The least time between two set-points of a point.
    pub(super) fn every(self) -> u64 {
        if self == Self::Rare { 40 } else { 0 }
    }

    pub(super) fn rights(self, mode: Mode, stopped: bool) -> Rights {
        let allow = match self {
            Self::Low => "0, 6..10",
            Self::Zero => "0",
            _ => "0, 6..32",
        };
        let safe = match self {
            Self::Zero => Safe::Number(0.0),
            Self::Hold => Safe::Hold,
            _ => Safe::Number(6.0),
        };
        let ttl = (self == Self::Brief).then_some(Span(50));
        let every = (self == Self::Rare).then_some(Span(40));
        let grant = OutputGrant { safe: Some(safe), ttl, every, ..OutputGrant::of(allow.parse().unwrap()) };
        let outputs = [(SlotName::new("limit").unwrap(), grant)];
        let outputs = if self == Self::Nothing { [].into() } else { outputs.into() };
        let pattern = if self == Self::Elsewhere { "elsewhere/{point}/limit" } else { "plant/{point}/limit" };
        let target =
            Target::Pattern { pattern: Pattern::new(TenantId::MAIN, pattern).unwrap(), order: vec![0] };
        Rights { grants: Arc::new(Grants { mode, outputs }), outputs: bound_to(target), stopped }
    }
}

/// The rights of an installation.
#[derive(Clone, Copy, Debug)]
pub(super) struct May {
    pub mode: Mode,
    pub stopped: bool,
    pub granted: Granted,
}

impl May {
    pub(super) const ALL: Self = Self { mode: Mode::Act, stopped: false, granted: Granted::Wide };
}
