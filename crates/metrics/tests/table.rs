//! The table itself, and the page of the documentation that is made from it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use metrics::{Kind, Metric, TABLE};

fn rows() -> impl Iterator<Item = &'static Metric> {
    TABLE.iter().flat_map(|(_, rows)| rows.iter().copied())
}

#[test]
fn names_follow_the_rule_and_stand_once() {
    let mut seen = BTreeSet::new();
    for (process, rows) in TABLE {
        let prefix = match process {
            "every process" => "process_".to_owned(),
            process => format!("holdfast_{process}_"),
        };
        for Metric { name, kind, labels, help } in rows {
            assert!(seen.insert(*name), "{name} twice");
            assert!(name.starts_with(&prefix), "{name}");
            assert!(
                name.bytes().all(|c| c == b'_' || c.is_ascii_lowercase() || c.is_ascii_digit())
            );
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
            let distinct: BTreeSet<_> = labels.iter().collect();
            assert_eq!(distinct.len(), labels.len(), "{name}");
        }
    }
}

#[test]
fn a_series_leads_to_its_metric_and_only_histograms_have_parts() {
    assert_eq!(metrics::find("holdfast_node_reply_seconds_bucket").unwrap().kind, Kind::Histogram);
    assert_eq!(metrics::find("process_open_fds").unwrap().kind, Kind::Gauge);
    for unknown in
        ["holdfast_node_epoch_sum", "holdfast_node_", "holdfast_node_reply_seconds_total"]
    {
        assert!(metrics::find(unknown).is_none(), "{unknown}");
    }
    assert!(rows().all(|row| metrics::find(row.name) == Some(row)));
}

fn document() -> String {
    let mut text = "# Metrics\n\n\
        What `/metrics` tells, in Prometheus' text format. Made from the table in `crates/metrics`: \
        `HOLDFAST_UPDATE=1 cargo test --release --locked --workspace --test table` writes it anew.\n\n\
        Alert rules and a Grafana dashboard are in `packaging/prometheus` and `packaging/grafana`; \
        `docs/operating.md`, \"Alerts\", says what the alerts mean.\n"
        .to_owned();
    for (process, rows) in TABLE {
        let mut title = process.to_owned();
        title[..1].make_ascii_uppercase();
        let _ = write!(text, "\n## {title}\n\n| metric | kind | labels | |\n|---|---|---|---|\n");
        for Metric { name, kind, labels, help } in rows {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let (kind, labels) = (kind.as_str(), labels.join(" "));
            let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
        }
    }
    text
}

#[test]
fn the_documentation_is_what_the_table_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var_os("HOLDFAST_UPDATE").is_some() {
        std::fs::write(&file, document()).unwrap();
    }
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(text == document(), "docs/metrics.md is not what the table says: see its head");
}
