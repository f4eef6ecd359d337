//! Prometheus' text format.

use std::fmt::{Display, Write as _};

use crate::{Kind, Metric};

/// Of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// An empty one, with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }

    /// Announces a metric; its samples follow.
    pub fn head(&mut self, metric: &Metric) {
        let Metric { name, kind, help, .. } = metric;
        let kind = kind.as_str();
        // Writing to a string cannot fail, here and below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of a metric that was announced, with a value for each of its labels.
    pub fn sample(&mut self, metric: &Metric, labels: &[&str], value: impl Display) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        self.0.push_str(metric.name);
        self.labels(metric.labels, labels);
        let _ = writeln!(self.0, " {value}");
    }

    /// A metric without labels, announced, with its only sample.
    pub fn value(&mut self, metric: &Metric, value: impl Display) {
        self.head(metric);
        self.sample(metric, &[], value);
    }

    /// A metric announced, with a sample for each value of its only label.
    pub fn family<'a, V: Display>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        self.head(metric);
        for (label, value) in samples {
            self.sample(metric, &[label], value);
        }
    }

    /// A histogram without labels: how many values were within each bound, their sum, and how many
    /// there were.
    pub fn histogram(
        &mut self,
        metric: &Metric,
        within: impl IntoIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        debug_assert_eq!(metric.kind, Kind::Histogram, "{}", metric.name);
        self.head(metric);
        let name = metric.name;
        for (bound, values) in within {
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {values}");
        }
        let _ = write!(
            self.0,
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n"
        );
    }

    fn labels(&mut self, names: &[&str], values: &[&str]) {
        let mut before = '{';
        for (name, value) in names.iter().zip(values) {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{before}{name}=\"{value}\"");
            before = ',';
        }
        if before == ',' {
            self.0.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_named_by_the_table_and_escaped() {
        const ROW: Metric =
            Metric { name: "a_total", kind: Kind::Counter, labels: &["of", "in"], help: "Things." };
        let mut page = Page::default();
        page.head(&ROW);
        page.sample(&ROW, &["x\"\\\n", "y"], 7);
        assert_eq!(
            page.into_text(),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{of=\"x\\\"\\\\\\n\",in=\"y\"} 7\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_everything() {
        const ROW: Metric =
            Metric { name: "t_seconds", kind: Kind::Histogram, labels: &[], help: "Time." };
        let mut page = Page::default();
        page.histogram(&ROW, [(0.5, 1), (1.0, 3)], 4.5, 4);
        let rows: Vec<String> = page.into_text().lines().skip(2).map(str::to_owned).collect();
        let expected = [
            "t_seconds_bucket{le=\"0.5\"} 1",
            "t_seconds_bucket{le=\"1\"} 3",
            "t_seconds_bucket{le=\"+Inf\"} 4",
            "t_seconds_sum 4.5",
            "t_seconds_count 4",
        ];
        assert_eq!(rows, expected);
    }
}
