//! Counts what one invocation hands over, as the host does.

use super::batch::fail;
use super::limits::{MAX_CALL_BYTES, MAX_EFFECT_BYTES, MAX_HOST_CALL_BYTES};

/// What one invocation has handed over, and what would go into its record.
#[derive(Default)]
pub(super) struct Quota {
    carried: usize,
    effects: usize,
}

impl Quota {
    /// Counts what a host call carries. Beyond the limit the host ends the invocation, so the test fails.
    #[track_caller]
    pub(super) fn carry(&mut self, bytes: usize) {
        self.carried = self.carried.saturating_add(bytes);
        if bytes > MAX_CALL_BYTES || self.carried > MAX_HOST_CALL_BYTES {
            fail(&format!(
                "the host would end this invocation: its host calls carried more than {MAX_CALL_BYTES} bytes in one \
                 call, or {MAX_HOST_CALL_BYTES} bytes together"
            ));
        }
    }

    /// Counts effects that come and go; refuses with a sentence what would be too much together.
    pub(super) fn effect(&mut self, added: usize, removed: usize) -> Result<(), String> {
        let effects = self.effects.saturating_add(added).saturating_sub(removed);
        if effects > MAX_EFFECT_BYTES && added > removed {
            return Err(format!(
                "all effects of one invocation together are limited to {MAX_EFFECT_BYTES} bytes; \
                 with this call they would be {effects}"
            ));
        }
        self.effects = effects;
        Ok(())
    }
}
