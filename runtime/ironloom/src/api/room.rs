//! Waiting until readings are taken again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Api;
use super::facade::Slowed;
use super::intake::Parsed;
use super::problem::Problem;
use super::push::unread;
use crate::aside::aside;
use ironloom_types::ids::TenantId;
use ironloom_types::readings::{Columns, NewPoint};

/// The longest that a request waits; then it is refused, and may come again.
const LONGEST: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);
/// Readings, and new points with each input, beyond which they are looked through aside.
const LOOK_ASIDE: usize = 16_384;

/// Returns once there is room for these readings, and their sources aren't slowed for an app that must keep up.
pub(super) async fn wait(api: &Api, tenant: TenantId, parsed: &mut Parsed) -> Result<(), Problem> {
    let until = Instant::now() + LONGEST;
    let mut first = 0;
    loop {
        api.node.has_room(&parsed.new_points)?;
        let Some(slowed) = api.node.slowed(tenant) else { return Ok(()) };
        match find(&slowed, &mut parsed.columns, &mut parsed.new_points, first).await? {
            None => return Ok(()),
            Some(_) if Instant::now() >= until => return Err(slowed.problem),
            Some(found) => first = found,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The place of a reading whose source is slowed; the one at `first` is looked at before the others.
pub(super) async fn find(
    slowed: &Slowed,
    columns: &mut Columns,
    new_points: &mut Vec<NewPoint>,
    first: usize,
) -> Result<Option<usize>, Problem> {
    let matched = new_points.len().saturating_mul(slowed.inputs);
    if columns.len().saturating_add(matched) <= LOOK_ASIDE {
        return Ok((slowed.find)(columns, new_points, first));
    }
    let (taken, points) = (std::mem::take(columns), std::mem::take(new_points));
    let look = Arc::clone(&slowed.find);
    let looked = aside(move || {
        let found = look(&taken, &points, first);
        (taken, points, found)
    });
    let found;
    (*columns, *new_points, found) = looked.await.map_err(|error| unread(&error))?;
    Ok(found)
}
