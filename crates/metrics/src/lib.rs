//! Every metric of all processes: name, kind, labels and help stand in one table, and only what
//! stands there can be written.
//!
//! A [`Page`] takes rows of the table and no names, so `/metrics` cannot tell of a metric that the
//! table lacks. `docs/metrics.md` is made from the table; the alert rules and the Grafana board in
//! `packaging/` may name nothing else.

pub mod balancer;
pub mod controller;
pub mod node;
mod page;
pub mod process;

pub use page::{CONTENT_TYPE, Page};

/// What a metric's numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number that only rises while the process lives.
    Counter,
    /// A number that is as it is.
    Gauge,
    /// How many values were at most so large, with their sum and count.
    Histogram,
}

impl Kind {
    /// Its word in the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its whole name.
    pub name: &'static str,
    /// What its numbers mean.
    pub kind: Kind,
    /// Names of its labels, in the order in which values are given to a [`Page`].
    pub labels: &'static [&'static str],
    /// One line for people.
    pub help: &'static str,
}

/// The table: what each process tells, in the order of its page.
pub const TABLE: [(&str, &[&Metric]); 4] = [
    ("node", node::ALL),
    ("controller", controller::ALL),
    ("balancer", balancer::ALL),
    ("every process", process::ALL),
];

/// Declares rows as constants, and `ALL` of them.
macro_rules! rows {
    ($($constant:ident $kind:ident $name:literal $([$($label:literal),+])? $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: crate::Metric = crate::Metric {
                name: $name,
                kind: crate::Kind::$kind,
                labels: &[$($($label),+)?],
                help: $help,
            };
        )+

        /// The rows of this module.
        pub const ALL: &[&crate::Metric] = &[$(&$constant),+];
    };
}
use rows;

/// The metric that a series belongs to: a histogram's series end in a word more than its name.
pub fn find(series: &str) -> Option<&'static Metric> {
    let rows = || TABLE.iter().flat_map(|(_, rows)| rows.iter().copied());
    rows().find(|metric| match series.strip_prefix(metric.name) {
        Some("") => true,
        Some("_bucket" | "_sum" | "_count") => metric.kind == Kind::Histogram,
        _ => false,
    })
}
