//! Serves a folder on loopback.

use std::net::Ipv4Addr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

/// Serves the files of a folder until Ctrl-C.
pub(crate) fn run(folder: &Path, port: u16) -> Result<()> {
    let folder: Arc<Path> = folder.into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener =
            listener.with_context(|| format!("can't listen on port {port}; choose one by --port"))?;
        println!("listening on http://{}", listener.local_addr()?);
        let router = Router::new().fallback(file).with_state(folder);
        Ok(axum::serve(listener, router).await?)
    })
}

async fn file(State(folder): State<Arc<Path>>, uri: Uri) -> Response {
    let Some(path) = within(&folder, uri.path()) else { return StatusCode::NOT_FOUND.into_response() };
    let kind = media_type(&path);
    match tokio::fs::read(path).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The file that a path of a URL names, if it lies within the folder. Names of the site need no escapes.
fn within(folder: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    let is_within = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let file = if path.ends_with('/') { relative.join("index.html") } else { relative.to_owned() };
    is_within.then(|| folder.join(file))
}

fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_folder_are_served() {
        let folder = Path::new("/site");
        assert_eq!(within(folder, "/"), Some("/site/index.html".into()));
        assert_eq!(within(folder, "/develop/wit.html"), Some("/site/develop/wit.html".into()));
        for outside in ["/../secret", "/a/../../secret", "//../secret"] {
            assert_eq!(within(folder, outside), None, "{outside}");
        }
    }
}
