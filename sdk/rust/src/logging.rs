//! Brings the records of the `log` crate to the host.

use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

struct ToHost;

impl Log for ToHost {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        crate::host::log(record.level(), record.target(), &record.args().to_string());
    }

    fn flush(&self) {}
}

/// Sends log records to the host from now on. A logger that the app has set stays.
pub(crate) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        if log::set_logger(&ToHost).is_ok() {
            log::set_max_level(LevelFilter::Info);
        }
    });
}
