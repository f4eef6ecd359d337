//! Alert rules, board and documentation name what the processes tell, and nothing else.
//!
//! An alert on a metric that was renamed is silent for ever, so names and labels are looked up in
//! the table, and `promtool` reads every expression.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use api::heartbeat::LeaseMode;
use planner::ShardState;
use planner::moves::Phase;
use regex::Regex;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Labels that a scrape adds.
const OF_A_SCRAPE: [&str; 2] = ["job", "instance"];

/// What the labels may be whose words are known.
const WORDS: [(&str, &[&str]); 3] = [
    ("holdfast_controller_shard_state", &ShardState::WORDS),
    ("holdfast_controller_moves", &Phase::WORDS),
    ("holdfast_node_lease_mode", LeaseMode::WORDS),
];

/// Jobs of `packaging/prometheus/prometheus.yml`.
fn jobs() -> Vec<String> {
    let config = read("packaging/prometheus/prometheus.yml");
    let names = config.lines().filter_map(|line| line.trim().strip_prefix("- job_name: "));
    names.map(str::to_owned).collect()
}

/// Panics where `label` of `name` is compared with what it never is.
fn is_ever(name: &str, label: &str, value: &str, place: &str) {
    let known: Vec<String> = match (label, WORDS.iter().find(|(of, _)| *of == name)) {
        ("job", _) => jobs(),
        ("state" | "mode", Some((_, words))) => words.iter().map(|word| (*word).into()).collect(),
        _ => return,
    };
    for part in value.split('|') {
        let part = Regex::new(&format!("^(?:{part})$")).unwrap_or_else(|_| {
            // Brackets around several: taken whole.
            Regex::new(&format!("^(?:{value})$")).unwrap()
        });
        let is_one = known.iter().any(|word| part.is_match(word));
        assert!(is_one, "{place}: {label} of {name} is never {value}, but {known:?}");
    }
}

/// Panics where a metric in `text` is not in the table, or is asked for a label that it has not.
/// Gives the labels of all that are named.
fn labels_of_known(text: &str, place: &str) -> BTreeSet<&'static str> {
    let selector = Regex::new(r"\b((?:holdfast|process)_[a-z0-9_]+)(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#).unwrap();
    let mut labels = BTreeSet::from(OF_A_SCRAPE);
    let up = Regex::new(r"\bup\{([^}]*)\}").unwrap();
    for found in up.captures_iter(text) {
        for label in matcher.captures_iter(&found[1]) {
            is_ever("up", &label[1], &label[2], place);
        }
    }
    for found in selector.captures_iter(text) {
        let name = &found[1];
        let metric = metrics::find(name);
        let metric = metric.unwrap_or_else(|| panic!("{place}: no process tells of {name}"));
        labels.extend(metric.labels);
        let asked = found.get(2).map_or("", |asked| asked.as_str());
        for label in matcher.captures_iter(asked) {
            let (label, value) = (&label[1], &label[2]);
            is_ever(name, label, value, place);
            let is_known =
                metric.labels.contains(&label) || OF_A_SCRAPE.contains(&label) || label == "le";
            assert!(is_known, "{place}: {name} has no label {label}");
        }
    }
    labels
}

/// Each alert of the rules with its text, from its name to the next one.
fn alerts() -> BTreeMap<String, String> {
    let rules = read("packaging/prometheus/holdfast.rules.yml");
    let blocks = rules.split("- alert: ").skip(1);
    let alerts: BTreeMap<_, _> = blocks
        .map(|block| {
            let (name, text) = block.split_once('\n').unwrap();
            let text = text.split("  - name:").next().unwrap();
            (name.to_owned(), text.to_owned())
        })
        .collect();
    assert_eq!(alerts.len(), rules.matches("- alert: ").count(), "two alerts of one name");
    alerts
}

fn promtool(arguments: &[&str], folder: &Path) {
    let done = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("promtool runs: scripts/bootstrap installs it");
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn alerts_name_metrics_and_labels_that_there_are() {
    let used = Regex::new(r"\$labels\.([a-z_]+)").unwrap();
    for (name, text) in alerts() {
        let labels = labels_of_known(&text, &name);
        for label in used.captures_iter(&text) {
            assert!(labels.contains(&label[1]), "{name} shows {}, which is not there", &label[1]);
        }
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(text.contains(part), "{name} has no {part}");
        }
    }
}

#[test]
fn promtool_takes_the_rules_and_sees_each_alert_fire_and_be_quiet() {
    let folder = root().join("packaging/prometheus");
    promtool(&["check", "rules", "holdfast.rules.yml"], &folder);
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"], &folder);
    promtool(&["test", "rules", "holdfast.test.yml"], &folder);
    let tests = read("packaging/prometheus/holdfast.test.yml");
    let cases: Vec<&str> = tests.split("  - name: ").skip(1).collect();
    let mut missing: BTreeSet<String> = alerts().into_keys().collect();
    for case in cases {
        let name = case.lines().next().unwrap();
        assert!(case.contains("exp_samples: []"), "{name} is never quiet");
        assert!(case.contains(&format!("alertname=\"{name}\"")), "{name} never fires");
        // Of a job that is not ours, nothing is to fire.
        labels_of_known(&case.replace(r#"job="another""#, ""), name);
        assert!(missing.remove(name), "{name} is no alert, or is tested twice");
    }
    assert!(missing.is_empty(), "not tested: {missing:?}");
}

/// Every string under `key`, at any depth.
fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    other => strings(other, key, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, key, found)),
        _ => {}
    }
}

#[test]
fn the_board_asks_for_what_there_is_in_words_that_prometheus_reads() {
    let text = read("packaging/grafana/holdfast.json");
    let board: Value = serde_json::from_str(&text).unwrap();
    labels_of_known(&text.replace("\\\"", "\""), "the board");
    let mut expressions = Vec::new();
    strings(&board, "expr", &mut expressions);
    assert!(expressions.len() > 20, "{}", expressions.len());
    // A string of JSON is one of YAML, too.
    let mut rules = "groups:\n- name: board\n  rules:\n".to_owned();
    for expression in expressions {
        let quoted = serde_json::to_string(expression).unwrap();
        rules.push_str(&format!("  - record: one\n    expr: {quoted}\n"));
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("board.yml"), rules).unwrap();
    promtool(&["check", "rules", "--lint=none", "board.yml"], folder.path());
}

#[test]
fn the_documentation_names_every_alert_and_no_metric_that_is_not_there() {
    let operating = read("docs/operating.md");
    let row = Regex::new(r"(?m)^\| `(Holdfast\w+)` \|").unwrap();
    let described: BTreeSet<String> =
        row.captures_iter(&operating).map(|found| found[1].to_owned()).collect();
    let alerts: BTreeSet<String> = alerts().into_keys().collect();
    assert_eq!(described, alerts);
    let name = Regex::new(r"\bholdfast_(?:node|controller|balancer)_[a-z0-9_]+").unwrap();
    for page in ["docs/operating.md", "docs/protocol.md", "docs/safety.md", "README.md"] {
        for found in name.find_iter(&read(page)) {
            assert!(metrics::find(found.as_str()).is_some(), "{page}: {}", found.as_str());
        }
    }
}
