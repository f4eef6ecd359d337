//! `/metrics`: what `metrics::balancer` lists.

use std::sync::atomic::{AtomicU64, Ordering};

use api::balancer::FrontendState;
use metrics::balancer as rows;
use metrics::{Metric, Page};

use super::counters::Counters;
use super::frontend::Frontend;
use super::table::Table;

type Counter = (&'static Metric, fn(&Counters) -> &AtomicU64);
/// `None`: it is not known, and left out.
type Gauge = (&'static Metric, fn(&Frontend, &FrontendState) -> Option<u64>);

const COUNTERS: &[Counter] = &[
    (&rows::ACCEPTED, |c| &c.accepted),
    (&rows::REFUSED, |c| &c.refused),
    (&rows::CUT, |c| &c.cut),
    (&rows::MOVED, |c| &c.moved),
    (&rows::RECEIVED_BYTES, |c| &c.inbound),
    (&rows::SENT_BYTES, |c| &c.outbound),
];

const GAUGES: &[Gauge] = &[
    (&rows::SESSIONS, |f, _| Some(f.session_count() as u64)),
    (&rows::HELD, |_, state| Some(state.held)),
    (&rows::BACKEND_SET, |_, state| Some(state.backend.is_some().into())),
    (&rows::BACKEND_UP, |_, state| state.backend_up.map(u64::from)),
    (&rows::LISTENING, |f, _| Some(f.is_open().into())),
];

/// The page; `ends_s` is when the certificate runs out.
pub(super) fn render(table: &Table, ends_s: Option<i64>) -> String {
    let mut page = Page::default();
    // Once: it counts all sessions.
    let frontends: Vec<_> = table
        .frontends()
        .into_iter()
        .map(|frontend| {
            let state = frontend.state();
            (frontend, state)
        })
        .collect();
    let balancer = table.name();
    let mut family = |metric: &Metric, value: &dyn Fn(&Frontend, &FrontendState) -> Option<u64>| {
        page.head(metric);
        for (frontend, state) in &frontends {
            if let Some(value) = value(frontend, state) {
                page.sample(metric, &[balancer, &frontend.listen.to_string()], value);
            }
        }
    };
    for (metric, read) in COUNTERS {
        family(metric, &|frontend, _| Some(read(&frontend.counters).load(Ordering::Relaxed)));
    }
    for (metric, read) in GAUGES {
        family(metric, read);
    }
    let (term, version) = table.applied();
    // As after a start: clients should be sent elsewhere.
    let is_closed = frontends.iter().all(|(_, state)| state.backend.is_none());
    page.family(&rows::APPLIED_TERM, [(balancer, term)]);
    page.family(&rows::APPLIED_VERSION, [(balancer, version)]);
    page.family(&rows::READY, [(balancer, u8::from(table.trouble().is_none()))]);
    page.family(&rows::CLOSED, [(balancer, u8::from(is_closed))]);
    page.head(&rows::BUILD_INFO);
    page.sample(&rows::BUILD_INFO, &[balancer, env!("CARGO_PKG_VERSION")], 1);
    metrics::process::render(&mut page, &web::bounded::closed(), ends_s);
    page.into_text()
}
