//! Who is let in, by the description of the API and not by its table.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value as Json, json};

use super::super::Site;
use super::super::problem::Problem;
use super::super::tests::{Fake, api_with, request, send};
use crate::access::{Holder, Role, Token, TokenName};
use ironloom_types::ids::TenantId;

/// A server that needs tokens, and one of them for each role.
fn node() -> (Arc<Fake>, Site, Vec<(Role, Token)>) {
    let (fake, api) = api_with(true);
    let tokens: Vec<_> = Role::ALL.into_iter().map(|role| (role, Token::random().unwrap())).collect();
    for (role, token) in &tokens {
        let name = TokenName::new(role.name()).unwrap();
        let holder = Holder { name, role: *role, tenant: TenantId::MAIN, expires: None };
        fake.holders.lock().push((token.hash(), Arc::new(holder)));
    }
    (fake, Site::new(api), tokens)
}

fn with_token(path: &str, token: &str) -> Request<Body> {
    request("GET", path).header(header::AUTHORIZATION, token).body(Body::empty()).unwrap()
}

/// Every path and method of the description, with what it says of the roles.
async fn described(site: &Site, token: &Token) -> Vec<(String, String, Json)> {
    let bearer = format!("Bearer {}", token.reveal());
    let (_, body) = send(site, with_token("/openapi.json", &bearer)).await;
    let document: Json = serde_json::from_slice(&body).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap();
        methods
            .iter()
            .map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation.clone()))
    });
    all.collect()
}

fn sample(method: &str, path: &str, bearer: Option<&str>) -> Request<Body> {
    let path =
        path.replace("{id}", "pigs").replace("{digest}", "x").replace("{number}", "1").replace("{name}", "x");
    let mut request = request(method, &path).header(header::CONTENT_TYPE, "application/json");
    if let Some(bearer) = bearer {
        request = request.header(header::AUTHORIZATION, bearer);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn no_route_answers_who_shows_no_token() {
    let (_, site, tokens) = node();
    let (_, admin) = tokens.iter().find(|(role, _)| *role == Role::PlatformAdmin).unwrap();
    let unknown = format!("Bearer {}", Token::random().unwrap().reveal());
    let mut open = Vec::new();
    for (method, path, _) in described(&site, admin).await {
        let (answer, _) = send(&site, sample(&method, &path, None)).await;
        if answer.status() != StatusCode::UNAUTHORIZED {
            open.push(path.clone());
        } else {
            assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer", "{method} {path}");
        }
        let (answer, _) = send(&site, sample(&method, &path, Some(&unknown))).await;
        assert_eq!(
            answer.status(),
            StatusCode::UNAUTHORIZED,
            "{method} {path} with a token that nobody knows"
        );
    }
    assert_eq!(open, ["/healthz", "/readyz"]);
}

#[tokio::test]
async fn strangers_learn_whether_it_is_ready_and_not_what_runs_there() {
    let (_, site, tokens) = node();
    let ready = async |bearer: Option<&str>| {
        let (answer, body) = send(&site, sample("GET", "/readyz", bearer)).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        serde_json::from_slice::<Json>(&body).unwrap()
    };
    assert_eq!(ready(None).await, json!({"ready": false}));
    for (role, token) in &tokens {
        let told = ready(Some(&format!("Bearer {}", token.reveal()))).await;
        let all = json!({"ready": false, "reasons": ["clock"], "notes": []});
        assert_eq!(told, if *role == Role::Source { json!({"ready": false}) } else { all }, "{role}");
    }
}

#[tokio::test]
async fn each_route_is_for_the_roles_that_its_description_names() {
    let (_, site, tokens) = node();
    let (_, admin) = tokens.iter().find(|(role, _)| *role == Role::PlatformAdmin).unwrap();
    let (mut let_in, mut kept_out) = (0, 0);
    for (method, path, operation) in described(&site, admin).await {
        let words = operation["description"].as_str();
        for (role, token) in &tokens {
            let named =
                words.is_none_or(|words| words.split([' ', ',', '.']).any(|word| word == role.name()));
            let (answer, body) =
                send(&site, sample(&method, &path, Some(&format!("Bearer {}", token.reveal())))).await;
            let problem = serde_json::from_slice::<Problem>(&body).ok();
            let refused = problem.is_some_and(|problem| problem.kind == "role");
            assert_eq!(refused, !named, "{method} {path} for {role}: {}", answer.status());
            if refused { kept_out += 1 } else { let_in += 1 }
        }
    }
    assert!(let_in > 100 && kept_out > 100, "{let_in} {kept_out}");
}

#[tokio::test]
async fn whoever_only_pushes_isnt_told_which_apps_there_are() {
    let (_, site, tokens) = node();
    // Of three readings the fake says that an app has yet to deal with them.
    let three = "{\"point\":\"a/b\",\"value\":1}\n".repeat(3);
    for (role, names) in [(Role::Operator, true), (Role::Source, false)] {
        let (_, token) = tokens.iter().find(|(one, _)| *one == role).unwrap();
        let push = request("POST", "/v1/readings?wait=applied&timeout=1%20ms")
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        let (answer, body) = send(&site, push.body(three.clone().into()).unwrap()).await;
        let body: Json = serde_json::from_slice(&body).unwrap();
        assert_eq!((answer.status().as_u16(), &body["applied"]), (202, &Json::Bool(false)), "{role}: {body}");
        assert_eq!(body.get("pending").is_some(), names, "{role}: {body}");
    }
}

#[tokio::test]
async fn a_token_is_taken_from_one_header_alone() {
    let (_, site, tokens) = node();
    let token = tokens[0].1.reveal().to_owned();
    let status = |request| async {
        let (answer, _) = send(&site, request).await;
        answer.status().as_u16()
    };
    for scheme in ["Bearer", "bearer"] {
        assert_eq!(status(with_token("/v1/points", &format!("{scheme} {token}"))).await, 200);
    }
    for wrong in [format!("Basic {token}"), token.clone(), "Bearer".to_owned(), "Bearer ilm_short".to_owned()]
    {
        assert_eq!(status(with_token("/v1/points", &wrong)).await, 401, "{wrong}");
    }
    let twice = request("GET", "/v1/points")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    assert_eq!(status(twice.body(Body::empty()).unwrap()).await, 401);
    let in_url = request("GET", &format!("/v1/points?access_token={token}"));
    assert_eq!(status(in_url.body(Body::empty()).unwrap()).await, 401);
}

/// A deed is told once, whatever comes of it, and reading isn't told.
#[tokio::test]
async fn each_request_that_would_change_something_leaves_one_entry_and_no_other_does() {
    let (fake, site, tokens) = node();
    let (_, admin) = tokens.iter().find(|(role, _)| *role == Role::PlatformAdmin).unwrap();
    let bearer = format!("Bearer {}", admin.reveal());
    let mut told = 0;
    for (method, path, operation) in described(&site, admin).await {
        let id = operation["operationId"].as_str().unwrap();
        let is_deed =
            id == "backUp" || !(method == "GET" || ["pushReadings", "signAuditCheckpoints"].contains(&id));
        fake.audited.lock().clear();
        send(&site, sample(&method, &path, Some(&bearer))).await;
        let audited = std::mem::take(&mut *fake.audited.lock());
        assert_eq!(audited.len(), usize::from(is_deed), "{method} {path}: {audited:?}");
        for said in audited {
            assert_eq!((&*said.who, &*said.role, &*said.action), ("platform-admin", "platform-admin", id));
            told += 1;
        }
        // Whoever may not is told of, whatever it is.
        send(&site, sample(&method, &path, None)).await;
        let open = ["/healthz", "/readyz"].contains(&path.as_str());
        let audited = std::mem::take(&mut *fake.audited.lock());
        let who: Vec<_> = audited.iter().map(|said| (&*said.who, &*said.problem)).collect();
        assert_eq!(who, if open { vec![] } else { vec![("-", "unauthenticated")] }, "{method} {path}");
    }
    assert!(told > 40, "{told}");
}

#[tokio::test]
async fn a_dry_run_leaves_no_entry_however_its_query_is_written_unless_it_is_denied() {
    let (fake, site, tokens) = node();
    let (_, admin) = tokens.iter().find(|(role, _)| *role == Role::PlatformAdmin).unwrap();
    let bearer = format!("Bearer {}", admin.reveal());
    for (query, told) in [
        ("dry-run=true", 0),
        ("dry%2Drun=true", 0),
        ("dry-run=tru%65", 0),
        ("dry-run=false", 1),
        ("from=now", 1),
        // Refused before any handler sees it.
        ("dry-run=true&dry-run=true", 1),
    ] {
        fake.audited.lock().clear();
        let path = format!("/v1/installations/{{id}}/reset?{query}");
        send(&site, sample("POST", &path, Some(&bearer))).await;
        assert_eq!(fake.audited.lock().len(), told, "{query}");
        fake.audited.lock().clear();
        send(&site, sample("POST", &path, None)).await;
        assert_eq!(fake.audited.lock().len(), 1, "{query}");
    }
}
