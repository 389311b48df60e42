//! The one table of routes: the router, the check of queries and the description are made from it.

use axum::extract::State;
use axum::response::Response;
use axum::routing::{delete, get, patch, post, put};

use super::capsule::Capsule;
use super::facade::{
    Alarm, AllInstalled, AuditCheckpoint, AuditEntry, CatalogInfo, CatalogRequest, CatalogSeen, CatalogTrust,
    ClockStatus, ConnectorDeadLetter, ConnectorStatus, ConnectorTable, ConsentGiven, Copies, DeadLetter,
    DrivenPoint, FetchRequest, Halt, HaltRequest, Health, Identity, InstallRequest, Installation, Installed,
    Invocation, KeptState, LogLevel, NeverUsed, NewToken, NoteRequest, Offer, PackageInfo, PendingConsent,
    PointDetail, PointItem, PointRequest, Readiness, ReadingItem, RefreshRequest, Rehearsal,
    RehearsalRequest, Reloaded, RenamePoint, RenamedPoint, Replay, ReplayRequest, Reset, Resumed,
    RetiredPoints, Revised, RevisionRequest, RollbackRequest, RolledBack, SetLogLevel, SetTime,
    ShelveRequest, Status, TimeSet, Timer, TokenInfo, TokenRequest, Usage,
};
use super::installations::Resume;
use super::operation::{DELETE, EMPTY, OK, Operation, PLAIN, POST, Pace, Parameter, Success, Whose};
use super::problem::Problem;
use super::push::Accepted;
use super::state::{StateEntry, StateValue};
use super::{
    ARROW_TYPE, Api, CSV_TYPE, EVENTS_TYPE, JSON_TYPE, NDJSON_TYPE, PACKAGE_TYPE, access, alarms, answers,
    audit, backup, catalogs, connectors, consents, events, installations, intents, journal, openapi,
    packages, push, rehearsals, shapes, state, stream, system, tenants,
};
use crate::access::Action;
use crate::api::facade::{TenantInfo, TenantQuotas, TenantRequest};
use crate::backup::BACKUP_TYPE;
use crate::telemetry::METRICS_TYPE;

/// Every operation of the API.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/readings",
        id: "listReadings",
        summary: "Reads the journal back, oldest first or with order=newest; a Link header names the next page",
        query: &["point", "from", "to", "order", "after", "limit"],
        answers: &[Success { status: 200, when: "A page", types: &[NDJSON_TYPE, CSV_TYPE, JSON_TYPE] }],
        bulk: true,
        gives: Some(shapes::page::<ReadingItem>),
        handler: || get(journal::readings),
        ..PLAIN
    },
    Operation {
        path: "/v1/readings",
        id: "pushReadings",
        needs: Action::Push,
        pace: Pace::Pushes,
        deed: false,
        summary: "Accepts readings and answers once they are durable: one JSON object on each line, a JSON object or \
                  array, or an Arrow IPC stream with the columns `point`, `value`, and `at` and `quality` as needed",
        query: &["partial", "wait", "timeout"],
        headers: &[Parameter { name: "Idempotency-Key", is_required: false, schema: openapi::key }],
        body: &[NDJSON_TYPE, JSON_TYPE, ARROW_TYPE],
        answers: &[
            Success {
                status: 200,
                when: "They are durable; with wait=applied and `applied`, apps have dealt with them, and `set_aside` has those that set some aside as dead letters; without `applied`, `stopped` has those that won't before somebody acts, and `lost` those that never will",
                types: &[JSON_TYPE],
            },
            Success {
                status: 202,
                when: "wait=applied: they are durable, and `pending` has the apps that weren't done with them in time; without it, nobody knows yet which apps get them",
                types: &[JSON_TYPE],
            },
        ],
        bulk: true,
        takes: Some(shapes::pushed),
        gives: Some(shapes::one::<Accepted>),
        handler: || post(push::push),
        ..POST
    },
    Operation {
        path: "/v1/readings/stream",
        id: "streamReadings",
        needs: Action::Push,
        pace: Pace::Pushes,
        summary: "Becomes a WebSocket: each message brings lines as a push does, and {\"through\":n} says that n lines \
                  of the stream are durable. With a key it goes on after a drop",
        query: &["key", "partial"],
        own: &[Parameter { name: "key", is_required: false, schema: openapi::key }],
        answers: &[Success { status: 101, when: "It is a WebSocket", types: &[] }],
        bulk: true,
        handler: || get(stream::stream),
        ..PLAIN
    },
    Operation {
        path: "/v1/points",
        id: "listPoints",
        summary: "Points with their latest readings",
        query: &["prefix", "after", "limit"],
        bulk: true,
        gives: Some(shapes::page::<PointItem>),
        handler: || get(journal::points),
        ..PLAIN
    },
    Operation {
        path: "/v1/points/{path}",
        id: "showPoint",
        summary: "One point: its unit and description, its latest reading, who writes it and who reads it; the path is \
                  percent-encoded, a / in it too",
        gives: Some(shapes::one::<PointDetail>),
        handler: || get(journal::point),
        ..PLAIN
    },
    Operation {
        method: "patch",
        path: "/v1/points/{path}",
        id: "setPoint",
        needs: Action::ManageApps,
        summary: "Says what a point is: {\"unit\":\"kg\",\"description\":\"…\"}; null takes one away",
        takes: Some(shapes::one::<PointRequest>),
        gives: Some(shapes::one::<PointDetail>),
        handler: || patch(journal::set_point),
        ..POST
    },
    Operation {
        path: "/v1/points/{path}/rename",
        id: "renamePoint",
        needs: Action::ManageApps,
        summary: "Gives a point another path: {\"to\":\"farm/barn/8\"}. Its readings are found under it, and inputs that match it \
                  get those that come",
        takes: Some(shapes::one::<RenamePoint>),
        gives: Some(shapes::one::<RenamedPoint>),
        handler: || post(journal::rename_point),
        ..POST
    },
    Operation {
        path: "/v1/points/{path}",
        id: "retirePoints",
        needs: Action::ManageApps,
        summary: "Retires a point, or with below=true all below the path; with readings=true their readings are given out no \
                  more. A later reading makes the point anew",
        query: &["below", "readings"],
        answers: OK,
        gives: Some(shapes::one::<RetiredPoints>),
        handler: || delete(journal::retire_points),
        ..DELETE
    },
    Operation {
        path: "/v1/packages",
        id: "listPackages",
        summary: "Packages",
        query: &["after", "limit"],
        gives: Some(shapes::page::<PackageInfo>),
        handler: || get(packages::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/packages",
        id: "addPackage",
        needs: Action::ManageApps,
        summary: "Takes a package",
        body: &[PACKAGE_TYPE],
        answers: &[
            Success { status: 201, when: "It is new", types: &[JSON_TYPE] },
            Success {
                status: 200,
                when: "It was known already; a damaged file is repaired",
                types: &[JSON_TYPE],
            },
        ],
        bulk: true,
        gives: Some(shapes::one::<PackageInfo>),
        handler: || post(packages::add),
        ..POST
    },
    Operation {
        path: "/v1/packages/{digest}",
        id: "showPackage",
        summary: "One package, with what it requests",
        gives: Some(shapes::one::<PackageInfo>),
        handler: || get(packages::show),
        ..PLAIN
    },
    Operation {
        path: "/v1/packages/{digest}",
        id: "removePackage",
        needs: Action::ManageApps,
        summary: "Removes a package that no installation uses",
        handler: || delete(packages::remove),
        ..DELETE
    },
    Operation {
        path: "/v1/packages/{digest}/file",
        id: "downloadPackage",
        summary: "A package's file, as it was sent",
        answers: &[Success { status: 200, when: "The file", types: &[PACKAGE_TYPE] }],
        bulk: true,
        handler: || get(packages::file),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations",
        id: "listInstallations",
        summary: "Installations",
        query: &["after", "limit"],
        gives: Some(shapes::page::<Installation>),
        handler: || get(installations::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations",
        id: "install",
        needs: Action::ManageApps,
        summary: "Installs one app, or all of a JSON array of at most 1,000 or none of them; the answer to an array \
                  is {\"items\":[…]} in its order",
        query: &["dry-run"],
        answers: &[
            Success { status: 201, when: "It is installed, or all of them are", types: &[JSON_TYPE] },
            Success { status: 200, when: "dry-run=true: the points that would match", types: &[JSON_TYPE] },
        ],
        takes: Some(shapes::one_or_many::<InstallRequest>),
        gives: Some(shapes::either::<Installed, AllInstalled>),
        tagged: true,
        handler: || post(installations::install),
        ..POST
    },
    Operation {
        path: "/v1/kept",
        id: "listKept",
        summary: "States that are kept of installations that were uninstalled or reset, in the order of their generations: \
                  for a week, unless they are purged. An install may adopt one",
        query: &["after", "limit"],
        gives: Some(shapes::page::<KeptState>),
        handler: || get(installations::kept),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}",
        id: "showInstallation",
        summary: "One installation",
        gives: Some(shapes::one::<Installation>),
        tagged: true,
        handler: || get(installations::show),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}",
        id: "uninstall",
        needs: Action::ManageApps,
        summary: "Uninstalls at once",
        query: &["purge"],
        handler: || delete(installations::uninstall),
        ..DELETE
    },
    Operation {
        method: "patch",
        path: "/v1/installations/{id}",
        id: "changeInstallation",
        needs: Action::ManageApps,
        summary: "Changes what the body names, by a new revision: null takes a value away, and what isn't named stays. \
                  Readings before it run under the revision before, unless `at_cursor` gives them to the new one; 409 \
                  where it isn't the one after `revision`, 412 where If-Match names no present one",
        query: &["dry-run"],
        headers: &[Parameter { name: "If-Match", is_required: false, schema: openapi::tags }],
        answers: &[
            Success {
                status: 200,
                when: "It holds, from the sequence `from` on; with dry-run=true: what would change",
                types: &[JSON_TYPE],
            },
            Success {
                status: 202,
                when: "Nothing is changed: another package asks for more than there is, and waits for consent",
                types: &[JSON_TYPE],
            },
        ],
        takes: Some(shapes::one::<RevisionRequest>),
        gives: Some(shapes::one::<Revised>),
        tagged: true,
        handler: || patch(installations::revise),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/pause",
        id: "pause",
        needs: Action::Operate,
        summary: "Pauses at once: a running invocation has no effect",
        gives: Some(shapes::one::<Installation>),
        handler: || post(installations::pause),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/resume",
        id: "resume",
        needs: Action::Operate,
        summary: "Resumes; {\"backlog\":\"keep\"} or \"drop\", the latter only if it is paused or quarantined",
        may_be_bare: true,
        takes: Some(shapes::one::<Resume>),
        gives: Some(shapes::one::<Resumed>),
        handler: || post(installations::resume),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/reset",
        id: "reset",
        needs: Action::ManageApps,
        summary: "Starts it over at once, with nothing in its state: `from` now, beginning or an RFC 3339 time. What it makes of \
                  readings that it has dealt with before is not published again. The state before is kept for a week",
        query: &["from", "dry-run"],
        own: &[Parameter { name: "from", is_required: true, schema: openapi::start }],
        answers: &[Success {
            status: 200,
            when: "It begins there; with dry-run=true: as it is, with the readings that it would begin with",
            types: &[JSON_TYPE],
        }],
        gives: Some(shapes::one::<Reset>),
        handler: || post(installations::reset),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/copies",
        id: "listCopies",
        summary: "Copies of its state, the oldest first, with the quota. One is made before another version comes, and now \
                  and then",
        gives: Some(shapes::one::<Copies>),
        handler: || get(installations::copies),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/commit",
        id: "commitUpgrade",
        needs: Action::ManageApps,
        summary: "Makes its upgrade final: it can't be rolled back any more. 409 where there is none that could",
        gives: Some(shapes::one::<Installation>),
        handler: || post(installations::commit),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/rollback",
        id: "rollback",
        needs: Action::ManageApps,
        summary: "Goes back to the version and the state from before its upgrade, and takes the readings since then again; what it \
                  makes of them is not published again. With keep-cursor=true it goes on without them. 409 where there is \
                  no upgrade to roll back, the journal doesn't reach back, or rights come back that were taken away and to which \
                  the request doesn't consent",
        may_be_bare: true,
        takes: Some(shapes::one::<RollbackRequest>),
        query: &["keep-cursor", "dry-run"],
        answers: &[Success {
            status: 200,
            when: "It is rolled back; with dry-run=true: as it is, with the readings that it would take again",
            types: &[JSON_TYPE],
        }],
        gives: Some(shapes::one::<RolledBack>),
        handler: || post(installations::rollback),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/replay",
        id: "replay",
        needs: Action::Operate,
        summary: "Runs its recorded invocations again, on state of their own, and compares digests of what they do; nothing of \
                  it is written. {\"from\":N,\"to\":N} compares these ordinals only. One at a time: 503. It may take long; a caller that closes its half of the connection \
                  ends it",
        may_be_bare: true,
        takes: Some(shapes::one::<ReplayRequest>),
        gives: Some(shapes::one::<Replay>),
        handler: || post(installations::replay),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/rehearsals",
        id: "startRehearsal",
        needs: Action::Operate,
        summary: "Begins to run the present version and a changed one beside each other over the recorded journal, each on a state \
                  of its own and with all effects held back. It runs on; look at it, or cancel it. One at a time: 503",
        takes: Some(shapes::one::<RehearsalRequest>),
        gives: Some(shapes::one::<Rehearsal>),
        answers: &[Success { status: 201, when: "It has begun", types: &[JSON_TYPE] }],
        handler: || post(rehearsals::start),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/rehearsals",
        id: "listRehearsals",
        summary: "Its rehearsals that this server knows, the newest first: the one under way, and the last ones that are over",
        gives: Some(shapes::page::<Rehearsal>),
        handler: || get(rehearsals::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/rehearsals/{number}",
        id: "getRehearsal",
        summary: "How far it has come, and once it is done what differs, the first difference first",
        gives: Some(shapes::one::<Rehearsal>),
        handler: || get(rehearsals::show),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/rehearsals/{number}",
        id: "cancelRehearsal",
        needs: Action::Operate,
        summary: "Ends it if it is under way, and forgets it",
        handler: || delete(rehearsals::delete),
        ..DELETE
    },
    Operation {
        path: "/v1/installations/{id}/capsule",
        id: "makeCapsule",
        needs: Action::ManageApps,
        summary: "Its last invocations with all that they depend on but the package, to be run again on any machine; all before \
                  them run again for that. One at a time: 503. It may take long; a caller that closes its half of the connection ends \
                  it",
        query: &["last"],
        bulk: true,
        gives: Some(shapes::one::<Capsule>),
        handler: || get(installations::capsule),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/outputs",
        id: "listOutputs",
        summary: "Readings of its outputs, oldest first or with order=newest",
        query: &["output", "point", "from", "to", "order", "after", "limit"],
        bulk: true,
        gives: Some(shapes::page::<ReadingItem>),
        handler: || get(installations::outputs),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/state",
        id: "listState",
        summary: "Its state, in the order of the keys",
        query: &["prefix", "after", "limit"],
        bulk: true,
        gives: Some(shapes::page::<StateEntry>),
        handler: || get(state::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/state/{key}",
        id: "showStateEntry",
        summary: "One entry of its state; the key is percent-encoded, a / in it too",
        gives: Some(shapes::one::<StateEntry>),
        handler: || get(state::show),
        ..PLAIN
    },
    Operation {
        method: "put",
        path: "/v1/installations/{id}/state/{key}",
        id: "setStateEntry",
        needs: Action::ManageApps,
        summary: "Sets a key of its state while it is paused or quarantined: {\"json\":…}, {\"text\":\"…\"} or {\"base64\":\"…\"}",
        takes: Some(shapes::one::<StateValue>),
        gives: Some(shapes::one::<StateEntry>),
        handler: || put(state::put),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/state/{key}",
        id: "deleteStateEntry",
        needs: Action::ManageApps,
        summary: "Deletes a key of its state while it is paused or quarantined",
        handler: || delete(state::delete),
        ..DELETE
    },
    Operation {
        path: "/v1/installations/{id}/timers",
        id: "listTimers",
        summary: "Its timers, by name: when each fires next",
        query: &["after", "limit"],
        gives: Some(shapes::page::<Timer>),
        handler: || get(installations::timers),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/logs",
        id: "listLogs",
        summary: "Its log; without `after` the last lines, with order=newest from the last one back",
        query: &["order", "after", "limit"],
        bulk: true,
        gives: Some(shapes::log_page),
        handler: || get(installations::logs),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/invocations",
        id: "listInvocations",
        summary: "Its invocations, oldest first or with order=newest",
        query: &["order", "after", "limit"],
        bulk: true,
        gives: Some(shapes::page::<Invocation>),
        handler: || get(installations::invocations),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/dead-letters",
        id: "listDeadLetters",
        summary: "Readings that were set aside, oldest first or with order=newest",
        query: &["order", "after", "limit"],
        bulk: true,
        gives: Some(shapes::page::<DeadLetter>),
        handler: || get(installations::dead_letters),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/dead-letters/{number}",
        id: "deleteDeadLetter",
        needs: Action::Operate,
        summary: "Deletes a dead letter",
        handler: || delete(installations::delete_dead_letter),
        ..DELETE
    },
    Operation {
        path: "/v1/installations/{id}/dead-letters/{number}/requeue",
        id: "requeueDeadLetter",
        needs: Action::Operate,
        summary: "Runs a dead letter again",
        answers: &[Success {
            status: 202,
            when: "It runs in its turn, unless the server stops before: then the letter stays; the list of invocations \
                   shows the outcome",
            types: &[],
        }],
        handler: || post(installations::requeue),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/intents",
        id: "listIntents",
        summary: "The points that an installation's set-points go to, in the order of their paths: what waits to be sent, what was \
                  told to the machine, and the last outcome",
        query: &["after", "limit"],
        gives: Some(shapes::page::<DrivenPoint>),
        handler: || get(intents::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/intents/{intent}/confirm",
        id: "confirmIntent",
        needs: Action::Operate,
        summary: "Confirms a set-point of an installation in the mode advise: it is sent, if it still may be",
        may_be_bare: true,
        answers: EMPTY,
        handler: || post(intents::confirm),
        ..POST
    },
    Operation {
        path: "/v1/installations/{id}/intents/{intent}/dismiss",
        id: "dismissIntent",
        needs: Action::Operate,
        summary: "Dismisses a set-point of an installation in the mode advise",
        may_be_bare: true,
        answers: EMPTY,
        handler: || post(intents::dismiss),
        ..POST
    },
    Operation {
        path: "/v1/halt",
        id: "showHalt",
        summary: "The kill switch: whose set-points are held back",
        gives: Some(shapes::one::<Halt>),
        handler: || get(intents::halted),
        ..PLAIN
    },
    Operation {
        path: "/v1/halt",
        id: "halt",
        needs: Action::Operate,
        pace: Pace::Unbounded,
        summary: "Turns the kill switch on, for the site or for an installation: {\"installation\":\"charging\"}. No set-point is sent \
                  from then on, also after a restart, and no safe value",
        takes: Some(shapes::one::<HaltRequest>),
        gives: Some(shapes::one::<Halt>),
        may_be_bare: true,
        handler: || post(intents::halt),
        ..POST
    },
    Operation {
        path: "/v1/release",
        id: "release",
        needs: Action::Operate,
        summary: "Turns the kill switch off, for the site or for an installation. Safe values that were held back are sent",
        takes: Some(shapes::one::<HaltRequest>),
        gives: Some(shapes::one::<Halt>),
        may_be_bare: true,
        handler: || post(intents::release),
        ..POST
    },
    Operation {
        path: "/v1/alarms",
        id: "listAlarms",
        summary: "Alarms that are active or not acknowledged",
        query: &["installation", "after", "limit"],
        gives: Some(shapes::page::<Alarm>),
        handler: || get(alarms::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/alarms/history",
        id: "listAlarmHistory",
        summary: "Episodes of alarms, those that go on and those that are over, in the order of `since`: `from` and `to` \
                  are about that, `severity` takes higher ones along, order=newest begins with the newest",
        query: &["installation", "code", "entity", "severity", "from", "to", "order", "after", "limit"],
        answers: &[Success { status: 200, when: "A page", types: &[JSON_TYPE, CSV_TYPE] }],
        bulk: true,
        gives: Some(shapes::page::<Alarm>),
        handler: || get(alarms::history),
        ..PLAIN
    },
    Operation {
        path: "/v1/alarms/{id}/ack",
        id: "acknowledgeAlarm",
        needs: Action::Operate,
        summary: "Acknowledges an alarm; {\"by\":…, \"comment\":…} as wanted",
        may_be_bare: true,
        takes: Some(shapes::one::<NoteRequest>),
        gives: Some(shapes::one::<Alarm>),
        handler: || post(alarms::acknowledge),
        ..POST
    },
    Operation {
        path: "/v1/alarms/{id}/shelve",
        id: "shelveAlarm",
        needs: Action::Operate,
        summary: "Shelves an alarm, for 30 days at most: {\"for\":\"8 h\"} or {\"until\":\"2026-07-01T06:00:00Z\"}, with \
                  `by` and `comment` as wanted",
        takes: Some(shapes::one::<ShelveRequest>),
        gives: Some(shapes::one::<Alarm>),
        handler: || post(alarms::shelve),
        ..POST
    },
    Operation {
        path: "/v1/alarms/{id}/unshelve",
        id: "unshelveAlarm",
        needs: Action::Operate,
        summary: "Ends the shelving of an alarm",
        may_be_bare: true,
        takes: Some(shapes::one::<NoteRequest>),
        gives: Some(shapes::one::<Alarm>),
        handler: || post(alarms::unshelve),
        ..POST
    },
    Operation {
        path: "/v1/alarms/{id}/comment",
        id: "commentOnAlarm",
        needs: Action::Operate,
        summary: "Adds a comment to an episode of an alarm: {\"comment\":…, \"by\":…}",
        takes: Some(shapes::one::<NoteRequest>),
        gives: Some(shapes::one::<Alarm>),
        handler: || post(alarms::comment),
        ..POST
    },
    Operation {
        path: "/v1/events",
        id: "listenToEvents",
        summary: "What happens, as server-sent events, from now on or from the header Last-Event-ID on; `kinds` with commas \
                  between them; alarm also has the event alarms, of those that were too many. An event of kind gap says that some are missing before it. For an `installation` that \
                  nobody has heard of the answer is 404, unless there is that header",
        query: &["kinds", "installation"],
        headers: &[Parameter { name: "Last-Event-ID", is_required: false, schema: openapi::event }],
        answers: &[Success { status: 200, when: "Until the listener goes", types: &[EVENTS_TYPE] }],
        bulk: true,
        handler: || get(events::events),
        ..PLAIN
    },
    Operation {
        path: "/v1/connectors",
        id: "listConnectors",
        whose: Whose::Platform,
        summary: "Connectors and their status",
        gives: Some(shapes::page::<ConnectorStatus>),
        handler: || get(connectors::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/connectors/{name}",
        id: "showConnector",
        whose: Whose::Platform,
        summary: "One connector and its status",
        gives: Some(shapes::one::<ConnectorStatus>),
        handler: || get(connectors::show),
        ..PLAIN
    },
    Operation {
        method: "put",
        path: "/v1/connectors/{name}",
        id: "setConnector",
        whose: Whose::Platform,
        summary: "Adds a connector, or changes one that was added, by the keys of its section in a configuration file; it acts at \
                  once. 409 where the configuration file has the name",
        answers: &[
            Success { status: 200, when: "It is changed, or as it was", types: &[JSON_TYPE] },
            Success { status: 201, when: "It is added", types: &[JSON_TYPE] },
        ],
        takes: Some(shapes::one::<ConnectorTable>),
        gives: Some(shapes::one::<ConnectorStatus>),
        handler: || put(connectors::set),
        ..POST
    },
    Operation {
        path: "/v1/connectors/{name}",
        id: "removeConnector",
        whose: Whose::Platform,
        summary: "Removes a connector that was added; 409 where the configuration file has it",
        handler: || delete(connectors::remove),
        ..DELETE
    },
    Operation {
        path: "/v1/connectors/{name}/stop",
        id: "stopConnector",
        whose: Whose::Platform,
        needs: Action::Operate,
        summary: "Stops a connector, also one of the configuration file; it stays so until it is started",
        gives: Some(shapes::one::<ConnectorStatus>),
        handler: || post(connectors::stop),
        ..POST
    },
    Operation {
        path: "/v1/connectors/{name}/start",
        id: "startConnector",
        whose: Whose::Platform,
        needs: Action::Operate,
        summary: "Starts a connector that was stopped",
        gives: Some(shapes::one::<ConnectorStatus>),
        handler: || post(connectors::start),
        ..POST
    },
    Operation {
        path: "/v1/connectors/{name}/dead-letters",
        id: "listConnectorDeadLetters",
        whose: Whose::Platform,
        summary: "The last messages of a connector that gave no reading, with the reasons, newest first or with order=oldest: \
                  1,000 at most, since the start of the server",
        query: &["order", "after", "limit"],
        own: &[Parameter { name: "order", is_required: false, schema: openapi::newest_first }],
        bulk: true,
        gives: Some(shapes::page::<ConnectorDeadLetter>),
        handler: || get(connectors::dead_letters),
        ..PLAIN
    },
    Operation {
        path: "/v1/installations/{id}/never-used",
        id: "listNeverUsed",
        summary: "Rights that an installation has and never used: points without a reading, outputs and capabilities",
        gives: Some(shapes::one::<NeverUsed>),
        handler: || get(installations::never_used),
        ..PLAIN
    },
    Operation {
        path: "/v1/consents",
        id: "listConsents",
        summary: "The upgrades that wait for consent, since they ask for more than their installations have",
        query: &["after", "limit"],
        gives: Some(shapes::page::<PendingConsent>),
        handler: || get(consents::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/consents/{id}",
        id: "showConsent",
        summary: "The upgrade of an installation that waits for consent",
        gives: Some(shapes::one::<PendingConsent>),
        handler: || get(consents::show),
        ..PLAIN
    },
    Operation {
        path: "/v1/consents/{id}/accept",
        id: "acceptConsent",
        summary: "Consents to an upgrade that waits, by the digest that was shown, and begins its revision",
        takes: Some(shapes::one::<ConsentGiven>),
        gives: Some(shapes::one::<Revised>),
        needs: Action::ManageApps,
        handler: || post(consents::accept),
        ..POST
    },
    Operation {
        path: "/v1/consents/{id}",
        id: "refuseConsent",
        summary: "Refuses an upgrade that waits for consent; the installation stays as it is",
        needs: Action::ManageApps,
        handler: || delete(consents::refuse),
        ..DELETE
    },
    Operation {
        path: "/v1/catalogs",
        id: "listCatalogs",
        summary: "The catalogs, as they were last seen",
        gives: Some(shapes::page::<CatalogInfo>),
        handler: || get(catalogs::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/catalogs",
        id: "addCatalog",
        whose: Whose::Platform,
        summary: "Adds a catalog: a folder of the server's machine, or what a web server or a registry has. Its root must be signed by the keys that are named",
        answers: &[Success { status: 201, when: "It is added", types: &[JSON_TYPE] }],
        takes: Some(shapes::one::<CatalogRequest>),
        gives: Some(shapes::one::<CatalogInfo>),
        handler: || post(catalogs::add),
        ..POST
    },
    Operation {
        path: "/v1/catalogs/{name}",
        id: "showCatalog",
        summary: "One catalog",
        gives: Some(shapes::one::<CatalogInfo>),
        handler: || get(catalogs::show),
        ..PLAIN
    },
    Operation {
        path: "/v1/catalogs/{name}",
        id: "removeCatalog",
        whose: Whose::Platform,
        summary: "Removes a catalog; what was installed from it stays, and so does what was seen of it, unless `forget` is true",
        query: &["forget"],
        handler: || delete(catalogs::remove),
        ..DELETE
    },
    Operation {
        path: "/v1/catalogs/{name}/refresh",
        id: "refreshCatalog",
        whose: Whose::Platform,
        needs: Action::ManageApps,
        summary: "Looks at a catalog again. An index that is older, altered or not signed as its root asks is refused, and the one before stays",
        takes: Some(shapes::one::<RefreshRequest>),
        gives: Some(shapes::one::<CatalogInfo>),
        may_be_bare: true,
        handler: || post(catalogs::refresh),
        ..POST
    },
    Operation {
        path: "/v1/catalog-trust",
        id: "showCatalogTrust",
        whose: Whose::Platform,
        summary: "What was seen of all catalogs, as a trust file: the versions and times below which none is taken again",
        gives: Some(shapes::one::<CatalogTrust>),
        handler: || get(catalogs::trust),
        ..PLAIN
    },
    Operation {
        path: "/v1/catalog-trust",
        id: "takeCatalogTrust",
        whose: Whose::Platform,
        summary: "Raises what was seen of catalogs to what a trust file says, as after the restore of a backup; nothing is lowered",
        takes: Some(shapes::one::<CatalogTrust>),
        gives: Some(shapes::page::<CatalogSeen>),
        handler: || post(catalogs::take_trust),
        ..POST
    },
    Operation {
        path: "/v1/apps",
        id: "findApps",
        summary: "The apps that all catalogs offer, with these words in id, name, description, categories or publisher",
        query: &["words", "category", "catalog", "after", "limit"],
        gives: Some(shapes::page::<Offer>),
        handler: || get(catalogs::find),
        ..PLAIN
    },
    Operation {
        path: "/v1/apps/{id}",
        id: "showApp",
        summary: "One app with all of its versions, as each catalog offers it",
        gives: Some(shapes::page::<Offer>),
        handler: || get(catalogs::offer),
        ..PLAIN
    },
    Operation {
        path: "/v1/apps/{id}/fetch",
        id: "fetchApp",
        needs: Action::ManageApps,
        summary: "Gets a package from a catalog, checks and keeps it, as one that was sent",
        answers: &[
            Success { status: 200, when: "It was known", types: &[JSON_TYPE] },
            Success { status: 201, when: "It is kept", types: &[JSON_TYPE] },
        ],
        takes: Some(shapes::one::<FetchRequest>),
        gives: Some(shapes::one::<PackageInfo>),
        may_be_bare: true,
        handler: || post(catalogs::fetch),
        ..POST
    },
    Operation {
        path: "/v1/log-level",
        id: "showLogLevel",
        whose: Whose::Platform,
        summary: "The server's own log lines that are written, and who has chosen them",
        gives: Some(shapes::one::<LogLevel>),
        handler: || get(system::log_level),
        ..PLAIN
    },
    Operation {
        method: "put",
        path: "/v1/log-level",
        id: "setLogLevel",
        whose: Whose::Platform,
        summary: "Writes other log lines from now on, until the next start: {\"level\":\"debug\"}",
        takes: Some(shapes::one::<SetLogLevel>),
        gives: Some(shapes::one::<LogLevel>),
        handler: || put(system::set_log_level),
        ..POST
    },
    Operation {
        path: "/v1/me",
        id: "showIdentity",
        summary: "Who sends this request, by its token; all null for programs of this machine that need none",
        needs: Action::Identify,
        gives: Some(shapes::one::<Identity>),
        handler: || get(access::identity),
        ..PLAIN
    },
    Operation {
        path: "/v1/tenants",
        id: "listTenants",
        whose: Whose::Platform,
        summary: "Tenants by name, with what they have and their quotas",
        needs: Action::Administer,
        query: &["after", "limit"],
        gives: Some(shapes::page::<TenantInfo>),
        handler: || get(tenants::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/tenants",
        id: "addTenant",
        whose: Whose::Platform,
        summary: "Adds a tenant: {\"name\":\"acme\",\"points\":1000,\"installations\":20}. Tokens are made for it by its name",
        answers: &[Success { status: 201, when: "It is added", types: &[JSON_TYPE] }],
        takes: Some(shapes::one::<TenantRequest>),
        gives: Some(shapes::one::<TenantInfo>),
        handler: || post(tenants::add),
        ..POST
    },
    Operation {
        path: "/v1/tenants/{name}",
        id: "showTenant",
        whose: Whose::Platform,
        summary: "One tenant",
        needs: Action::Administer,
        gives: Some(shapes::one::<TenantInfo>),
        handler: || get(tenants::show),
        ..PLAIN
    },
    Operation {
        method: "put",
        path: "/v1/tenants/{name}",
        id: "setTenant",
        whose: Whose::Platform,
        summary: "Gives a tenant other quotas, in place of all that it had",
        answers: OK,
        takes: Some(shapes::one::<TenantQuotas>),
        gives: Some(shapes::one::<TenantInfo>),
        handler: || put(tenants::change),
        ..POST
    },
    Operation {
        path: "/v1/tokens",
        id: "listTokens",
        whose: Whose::Platform,
        summary: "Tokens of people and machines, without the tokens",
        needs: Action::Administer,
        query: &["after", "limit"],
        gives: Some(shapes::page::<TokenInfo>),
        handler: || get(access::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/tokens",
        id: "addToken",
        whose: Whose::Platform,
        summary: "Makes a token: {\"name\":\"anna\",\"role\":\"operator\",\"for\":\"90 d\"}. The answer has it, and nothing else ever does",
        answers: &[Success { status: 201, when: "It is made", types: &[JSON_TYPE] }],
        takes: Some(shapes::one::<TokenRequest>),
        gives: Some(shapes::one::<NewToken>),
        handler: || post(access::add),
        ..POST
    },
    Operation {
        path: "/v1/tokens/{name}",
        id: "showToken",
        whose: Whose::Platform,
        summary: "One token, without the token",
        needs: Action::Administer,
        gives: Some(shapes::one::<TokenInfo>),
        handler: || get(access::show),
        ..PLAIN
    },
    Operation {
        path: "/v1/tokens/{name}",
        id: "removeToken",
        whose: Whose::Platform,
        summary: "Takes a token back: it is revoked at once, also for those who listen with it",
        handler: || delete(access::remove),
        ..DELETE
    },
    Operation {
        path: "/v1/audit",
        id: "listAuditEntries",
        summary: "The audit log, oldest first or with order=newest: who did what to which resource with which result; by `chain`, `who`, \
                  `action`, the beginning of a `resource`, `result` and time",
        needs: Action::Audit,
        query: &["chain", "who", "action", "resource", "result", "from", "to", "order", "after", "limit"],
        own: &[
            Parameter { name: "chain", is_required: false, schema: openapi::chain },
            Parameter { name: "result", is_required: false, schema: openapi::result },
        ],
        bulk: true,
        gives: Some(shapes::page::<AuditEntry>),
        handler: || get(audit::list),
        ..PLAIN
    },
    Operation {
        path: "/v1/audit/checkpoints",
        id: "listAuditCheckpoints",
        summary: "The signed checkpoints of the audit log that are kept, each chain's in its order",
        needs: Action::Audit,
        query: &["after", "limit"],
        gives: Some(shapes::page::<AuditCheckpoint>),
        handler: || get(audit::checkpoints),
        ..PLAIN
    },
    Operation {
        path: "/v1/audit/checkpoints",
        id: "signAuditCheckpoints",
        whose: Whose::Platform,
        summary: "Signs the ends of the audit log's chains as they are now, as the server does each hour and each 1,000 entries, and answers \
                  with the last checkpoint of each chain",
        needs: Action::Audit,
        deed: false,
        body: &[],
        gives: Some(shapes::page::<AuditCheckpoint>),
        handler: || post(audit::sign),
        ..POST
    },
    Operation {
        path: "/v1/reload",
        id: "reload",
        whose: Whose::Platform,
        summary: "Reads the configuration again and takes what has changed, all of it or nothing",
        query: &["dry-run"],
        gives: Some(shapes::one::<Reloaded>),
        handler: || post(system::reload),
        ..POST
    },
    Operation {
        path: "/v1/backup",
        id: "backUp",
        whose: Whose::Platform,
        needs: Action::Administer,
        deed: true,
        summary: "A backup as of now, as it is written; its last part says that it is whole. `pace`: bytes a second at most",
        query: &["pace"],
        answers: &[Success { status: 200, when: "It is on its way", types: &[BACKUP_TYPE] }],
        bulk: true,
        handler: || get(backup::backup),
        ..PLAIN
    },
    Operation {
        path: "/v1/usage",
        id: "showUsage",
        whose: Whose::Platform,
        summary: "Who and what takes how much: installations by `sort`, sources and points, the largest first",
        query: &["sort", "limit"],
        gives: Some(shapes::one::<Usage>),
        handler: || get(system::usage),
        ..PLAIN
    },
    Operation {
        path: "/v1/status",
        id: "showStatus",
        whose: Whose::Platform,
        summary: "How the server is: ready, its data folder and what that takes, points, installations by state",
        gives: Some(shapes::one::<Status>),
        handler: || get(system::status),
        ..PLAIN
    },
    Operation {
        path: "/v1/clock",
        id: "showClock",
        whose: Whose::Platform,
        summary: "The site's clock",
        gives: Some(shapes::one::<ClockStatus>),
        handler: || get(system::clock),
        ..PLAIN
    },
    Operation {
        path: "/v1/clock",
        id: "setClock",
        whose: Whose::Platform,
        summary: "Sets journal time back to the present, after the machine's clock was ahead and has been set right",
        query: &["dry-run"],
        takes: Some(shapes::one::<SetTime>),
        gives: Some(shapes::one::<TimeSet>),
        handler: || post(system::set_time),
        ..POST
    },
    Operation {
        path: "/healthz",
        id: "showHealth",
        needs: Action::Probe,
        pace: Pace::Unbounded,
        summary: "Whether the process is alive, and its version",
        gives: Some(shapes::one::<Health>),
        handler: || get(system::health),
        ..PLAIN
    },
    Operation {
        path: "/readyz",
        id: "showReadiness",
        needs: Action::Probe,
        pace: Pace::Unbounded,
        summary: "Whether the server is ready; the reasons and the notes only for those who may read",
        answers: &[
            Success { status: 200, when: "It does", types: &[JSON_TYPE] },
            Success { status: 503, when: "It isn't", types: &[JSON_TYPE] },
        ],
        gives: Some(shapes::one::<Readiness>),
        handler: || get(system::ready),
        ..PLAIN
    },
    Operation {
        path: "/metrics",
        id: "showMetrics",
        whose: Whose::Platform,
        summary: "Metrics for Prometheus",
        answers: &[Success { status: 200, when: "All of them", types: &[METRICS_TYPE] }],
        handler: || get(system::metrics),
        ..PLAIN
    },
    Operation {
        path: "/openapi.json",
        id: "describe",
        summary: "This description",
        gives: Some(shapes::any),
        handler: || get(describe),
        ..PLAIN
    },
];

async fn describe(State(api): State<Api>) -> Result<Response, Problem> {
    answers::ok(&api, &description()).await
}

// A function of its own: the table has the handler, whose type can't depend on the table again.
fn description() -> serde_json::Value {
    openapi::document(OPERATIONS)
}
