//! `[catalogs]`: how web servers and registries with catalogs are reached.

use std::path::PathBuf;

use super::key;
use crate::catalogs::web::Access;
use ironloom_apps::toml_section::Section;

pub(super) fn read(mut section: Section<'_, '_>) -> Option<Access> {
    let ca = key(&mut section, "catalogs", "ca").and_then(|field| field.texts());
    let logins = key(&mut section, "catalogs", "logins").and_then(|field| field.file());
    section.finish();
    let logins = Some(logins?).filter(|file| !file.as_os_str().is_empty());
    Some(Access { ca: ca?.into_iter().map(PathBuf::from).collect(), logins })
}
