//! Figures for `/metrics`.

use super::{Node, Shown};
use crate::telemetry::{OfInstallation, State};
use ironloom_types::clock::host_time;
use ironloom_types::ids::TenantId;

/// Installations that have figures of their own in the metrics, each with ten series.
const WITH_FIGURES: usize = 10_000;

impl Node {
    /// The metrics, with those of each installation of `main`, or of all tenants.
    pub(super) fn show_metrics(&self, of_all: bool) -> String {
        let metrics = &self.telemetry.metrics;
        let stats = self.committer.stats();
        // Held to the end: figures are cleared and set anew.
        let mut shown = self.shown.lock();
        metrics.log_groups.inc_by(stats.groups.saturating_sub(shown.groups));
        metrics.log_records.inc_by(stats.records.saturating_sub(shown.records));
        metrics.log_bytes.inc_by(stats.bytes.saturating_sub(shown.bytes));
        *shown = Shown { groups: stats.groups, records: stats.records, bytes: stats.bytes };
        metrics.streams.set(self.shared.streams.read().count() as i64);
        self.shared.outbox.look(|outbox| {
            metrics.halted.set(i64::from(outbox.halted().site));
            metrics.halted_installations.set(outbox.halted().installations.len() as i64);
            metrics.safe_values_owed.set(outbox.owed().0 as i64);
            let unrecorded = outbox.ended().saturating_sub(*self.recorded.borrow());
            metrics.outcomes_unrecorded.set(unrecorded as i64);
        });
        self.show_connector_figures();
        self.show_lane_figures(of_all);
        self.telemetry.text()
    }

    fn show_lane_figures(&self, of_all: bool) {
        let metrics = &self.telemetry.metrics;
        let figures = &metrics.figures;
        let (mut running, mut stopped, mut stuck, mut pending, mut alarms) = (0, 0, 0, 0, 0);
        let lanes = self.lanes.all();
        figures.without.set(lanes.len().saturating_sub(WITH_FIGURES) as i64);
        for (index, lane) in lanes.iter().enumerate() {
            if lane.is_enabled() {
                running += 1
            } else {
                stopped += 1
            }
            let (lag, _) = self.lag_readings(lane);
            pending += lag;
            let state = self.state_of(lane).name();
            stuck += i64::from(lane.is_stuck(host_time()));
            let book = lane.book();
            alarms += book.meta().alarms_standing;
            if index >= WITH_FIGURES {
                continue;
            }
            let tenant = lane.id.tenant();
            if tenant != TenantId::MAIN && !of_all {
                continue;
            }
            let tenant = (tenant != TenantId::MAIN).then(|| self.tenant_name(tenant));
            let label = OfInstallation { installation: lane.id.to_string(), tenant };
            figures.state.get_or_create(&(label.clone(), State { state })).set(1);
            figures.lag.get_or_create(&label).set(lag as i64);
            figures.failures.get_or_create(&label).set(book.meta().counters.failures as i64);
            figures.dead_letters.get_or_create(&label).set(book.meta().dead_letters_kept as i64);
            figures.alarms.get_or_create(&label).set(i64::from(book.meta().alarms_standing));
            let counters = &book.meta().counters;
            figures.cpu.get_or_create(&label).set(counters.cpu_nanos as f64 / 1e9);
            figures.peak_memory.get_or_create(&label).set(counters.peak_memory as i64);
            figures.state_bytes.get_or_create(&label).set(book.meta().state_bytes as i64);
            figures.derived_bytes.get_or_create(&label).set(counters.derived_bytes as i64);
            figures.readings.get_or_create(&label).set(counters.readings as i64);
        }
        metrics.lanes.get_or_create(&State { state: "enabled" }).set(running);
        metrics.lanes.get_or_create(&State { state: "stopped" }).set(stopped);
        metrics.lanes.get_or_create(&State { state: "stuck" }).set(stuck);
        metrics.pending.set(pending as i64);
        let code = self.sandbox.code();
        metrics.code_apps.set(code.apps as i64);
        metrics.code_bytes.set(code.bytes as i64);
        metrics.code_loads.set(code.loads as i64);
        metrics.alarms.set(i64::from(alarms));
    }
}
