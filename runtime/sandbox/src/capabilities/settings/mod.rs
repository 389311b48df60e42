//! `wasi:config/store`: the installation's settings. Over a sorted map, so that `get-all` has the
//! same order in each run.

use std::collections::BTreeMap;

use wasmtime::component::{HasData, Linker};

use crate::bindings::platform::wasi::config::store::{self as wit, Error};
use crate::budget::Quota;
use crate::host::Host;

struct View<'a> {
    settings: &'a BTreeMap<String, String>,
    quota: &'a mut Quota,
}

impl HasData for View<'static> {
    type Data<'a> = View<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, View<'static>>(linker, |host| {
        let host = host.called();
        View { settings: &host.app.settings, quota: &mut host.quota }
    })
}

impl wit::Host for View<'_> {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        self.quota.carry(key.len())?;
        Ok(Ok(self.settings.get(&key).cloned()))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, Error>> {
        Ok(Ok(self.settings.iter().map(|(key, value)| (key.clone(), value.clone())).collect()))
    }
}
