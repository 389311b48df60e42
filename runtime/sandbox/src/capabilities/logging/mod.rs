//! `wasi:logging`: lines for the app's log.

use parking_lot::Mutex;
use wasmtime::component::{HasData, Linker};

use crate::app_log::{AppLog, Level, LogSource};
use crate::bindings::platform::wasi::logging::logging as wit;
use crate::budget::Quota;
use crate::host::Host;

struct View<'a> {
    log: &'a Mutex<AppLog>,
    quota: &'a mut Quota,
}

impl HasData for View<'static> {
    type Data<'a> = View<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, View<'static>>(linker, |host| {
        let host = host.called();
        View { log: &host.log, quota: &mut host.quota }
    })
}

impl wit::Host for View<'_> {
    fn log(&mut self, level: wit::Level, context: String, message: String) -> wasmtime::Result<()> {
        self.quota.carry(context.len() + message.len())?;
        let level = match level {
            wit::Level::Trace => Level::Trace,
            wit::Level::Debug => Level::Debug,
            wit::Level::Info => Level::Info,
            wit::Level::Warn => Level::Warn,
            wit::Level::Error => Level::Error,
            wit::Level::Critical => Level::Critical,
        };
        self.log.lock().add(level, LogSource::Log, &context, &message);
        Ok(())
    }
}
