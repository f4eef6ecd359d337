//! Prometheus text. Labels are frontends only, so their number is bounded by the configuration.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::frontend::{Counters, Frontend};
use super::table::Table;

type Counter = (&'static str, &'static str, fn(&Counters) -> &AtomicU64);
type Gauge = (&'static str, &'static str, fn(&Frontend) -> u64);

const COUNTERS: &[Counter] = &[
    ("accepted_total", "Connections accepted.", |c| &c.accepted),
    ("refused_total", "Connections reset: no backend, backend not reached, or too many.", |c| {
        &c.refused
    }),
    ("cut_total", "Sessions reset because their node is no longer the backend.", |c| &c.cut),
    ("moved_total", "Sessions that their node gave back, to go on at another one.", |c| &c.moved),
    ("received_bytes_total", "Bytes from clients.", |c| &c.inbound),
    ("sent_bytes_total", "Bytes to clients.", |c| &c.outbound),
];

const GAUGES: &[Gauge] = &[
    ("sessions", "Sessions established or being set up.", |f| f.session_count() as u64),
    ("held", "Connections that wait for a backend.", |f| f.state().held),
    ("backend_set", "1 if the frontend has a backend.", |f| f.state().backend.is_some().into()),
    ("backend_up", "1 if the last attempt to reach the backend succeeded.", |f| {
        (f.state().backend_up == Some(true)).into()
    }),
    ("listening", "1 if connections are accepted.", |f| f.is_open().into()),
];

/// The page; `ends_s` is when the certificate runs out.
pub(super) fn render(table: &Table, ends_s: Option<i64>) -> String {
    let mut out = String::new();
    let frontends = table.frontends();
    let balancer = escape(table.name());
    for (name, help, read) in COUNTERS {
        head(&mut out, name, help, "counter");
        for frontend in &frontends {
            let value = read(&frontend.counters).load(Ordering::Relaxed);
            line(&mut out, name, &balancer, frontend, value);
        }
    }
    for (name, help, read) in GAUGES {
        head(&mut out, name, help, "gauge");
        for frontend in &frontends {
            line(&mut out, name, &balancer, frontend, read(frontend));
        }
    }
    let state = table.state();
    // As after a start: whoever sends clients here should send them elsewhere.
    let is_closed = state.frontends.iter().all(|frontend| frontend.backend.is_none());
    for (name, help, value) in [
        ("applied_term", "Term of the state in force.", state.term),
        ("applied_version", "Version of the state in force.", state.version),
        ("closed", "1 while no frontend leads to a node.", u64::from(is_closed)),
    ] {
        head(&mut out, name, help, "gauge");
        // Writing to a string cannot fail.
        let _ = writeln!(out, "holdfast_balancer_{name}{{balancer=\"{balancer}\"}} {value}");
    }
    head(&mut out, "build_info", "Version of this build; always 1.", "gauge");
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(
        out,
        "holdfast_balancer_build_info{{balancer=\"{balancer}\",version=\"{version}\"}} 1"
    );
    web::process::render(&mut out);
    web::certs::render(ends_s, &mut out);
    out
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP holdfast_balancer_{name} {help}");
    let _ = writeln!(out, "# TYPE holdfast_balancer_{name} {kind}");
}

fn line(out: &mut String, name: &str, balancer: &str, frontend: &Frontend, value: u64) {
    let listen = escape(&frontend.listen.to_string());
    let _ = writeln!(
        out,
        "holdfast_balancer_{name}{{balancer=\"{balancer}\",frontend=\"{listen}\"}} {value}"
    );
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
