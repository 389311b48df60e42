//! Alarms: those that are active or wait for somebody, their history, and what people do with them.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

use super::body::Optional;
use super::facade::{Alarm, AlarmDeed, AlarmNote, EpisodesQuery, NoteRequest, Page, ShelveRequest};
use super::forms::{self, Form};
use super::params::{AlarmId, Params};
use super::problem::Problem;
use super::{Api, answers};
use ironloom_types::ids::TenantId;

/// The alarms that are active or not acknowledged.
pub(super) async fn list(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    let (tenant, installation, page) = (params.tenant(), params.installation()?, params.page()?);
    answers::page(&api, move |node| async move { node.alarms(tenant, installation, page).await }).await
}

/// The episodes, as a JSON page or CSV.
pub(super) async fn history(
    State(api): State<Api>,
    mut params: Params,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = Form::accepted(&headers, &[Form::Page, Form::Csv], "episodes of alarms")?;
    let tenant = params.tenant();
    let query = EpisodesQuery {
        installation: params.installation()?,
        code: params.value("code")?,
        entity: params.text("entity"),
        severity: params.value("severity")?,
        from: params.value("from")?,
        to: params.value("to")?,
        order: params.order()?,
        page: params.page()?,
    };
    forms::page(&api, form, &uri, move |node| async move { node.alarm_history(tenant, query).await }, write)
        .await
}

fn write(form: Form, page: &Page<Alarm>) -> Result<Vec<u8>, Problem> {
    if form == Form::Csv { csv(&page.items) } else { answers::write(page) }
}

fn csv(episodes: &[Alarm]) -> Result<Vec<u8>, Problem> {
    let columns = [
        "id",
        "installation",
        "code",
        "entity",
        "severity",
        "state",
        "since",
        "raised",
        "cleared",
        "cleared_by",
        "acknowledged",
        "acknowledged_by",
        "acknowledged_comment",
        "shelved_until",
        "shelved_by",
        "shelved_comment",
        "message",
        "comments",
        "acknowledged_before",
    ];
    forms::csv(columns, episodes, |alarm| {
        let text = |text: Option<&dyn ToString>| text.map(|text| text.to_string()).unwrap_or_default();
        let (noted, shelved) = (alarm.acknowledged.as_ref(), alarm.shelved.as_ref());
        [
            alarm.id.clone(),
            alarm.installation.to_string(),
            alarm.code.to_string(),
            alarm.entity.clone(),
            alarm.severity.clone(),
            alarm.state.name().to_owned(),
            alarm.since.to_string(),
            alarm.raised.to_string(),
            text(alarm.cleared.as_ref().map(|cleared| &cleared.at as _)),
            text(alarm.cleared.as_ref().map(|cleared| &cleared.by as _)),
            text(noted.map(|note| &note.at as _)),
            text(noted.and_then(|note| note.by.as_ref()).map(|by| by as _)),
            text(noted.and_then(|note| note.comment.as_ref()).map(|comment| comment as _)),
            text(shelved.map(|shelved| &shelved.until as _)),
            text(shelved.and_then(|shelved| shelved.note.by.as_ref()).map(|by| by as _)),
            text(shelved.and_then(|shelved| shelved.note.comment.as_ref()).map(|comment| comment as _)),
            alarm.message.clone(),
            in_lines(&alarm.comments),
            in_lines(&alarm.acknowledged_before),
        ]
    })
}

/// Each in a line: when, who, what.
fn in_lines(notes: &[AlarmNote]) -> String {
    let line = |note: &AlarmNote| {
        let by = note.by.as_deref().map(|by| format!(" {by}")).unwrap_or_default();
        let comment = note.comment.as_deref().map(|comment| format!(": {comment}")).unwrap_or_default();
        format!("{}{by}{comment}", note.at)
    };
    notes.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Acknowledges an alarm.
pub(super) async fn acknowledge(
    State(api): State<Api>,
    params: Params,
    AlarmId(id): AlarmId,
    Optional(request): Optional<NoteRequest>,
) -> Result<Response, Problem> {
    change(api, params.tenant(), id, AlarmDeed::Acknowledge(request)).await
}

/// Shelves an alarm.
pub(super) async fn shelve(
    State(api): State<Api>,
    params: Params,
    AlarmId(id): AlarmId,
    Optional(request): Optional<ShelveRequest>,
) -> Result<Response, Problem> {
    change(api, params.tenant(), id, AlarmDeed::Shelve(request)).await
}

/// Ends the shelving of an alarm.
pub(super) async fn unshelve(
    State(api): State<Api>,
    params: Params,
    AlarmId(id): AlarmId,
    Optional(request): Optional<NoteRequest>,
) -> Result<Response, Problem> {
    change(api, params.tenant(), id, AlarmDeed::Unshelve(request)).await
}

/// Adds a comment to an alarm.
pub(super) async fn comment(
    State(api): State<Api>,
    params: Params,
    AlarmId(id): AlarmId,
    Optional(request): Optional<NoteRequest>,
) -> Result<Response, Problem> {
    change(api, params.tenant(), id, AlarmDeed::Comment(request)).await
}

async fn change(api: Api, tenant: TenantId, id: String, deed: AlarmDeed) -> Result<Response, Problem> {
    answers::done(&api, &api.node.change_alarm(tenant, id, deed).await?).await
}
