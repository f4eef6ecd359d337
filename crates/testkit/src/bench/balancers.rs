//! What a load balancer costs: the same node kind reached directly, through the built-in balancer
//! and through HAProxy, in turn.

use super::load::Measured;
use super::rows::Row;
use super::systems::Running;
use super::{Cell, spread};

/// Connections that rows are measured with.
const CONNECTIONS: [u32; 3] = [1, 50, 1_000];
/// Bytes of large replies.
const LARGE: usize = 64 << 10;

/// What is measured: few and many connections, small and large replies, one request in flight, and
/// sixteen of fifty connections.
pub fn rows() -> Vec<Row> {
    let of = |name, clients, in_flight, value_bytes| Row { name, in_flight, clients, value_bytes };
    let mut rows = Vec::new();
    for clients in CONNECTIONS {
        rows.push(of("GET", clients, 1, 100));
        rows.push(of("SET", clients, 1, 100));
    }
    rows.push(of("GET", 50, 16, 100));
    rows.push(of("SET", 50, 16, 100));
    rows.extend(CONNECTIONS.map(|clients| of("GET of one key", clients, 1, LARGE)));
    rows
}

/// What a round adds to a time of the direct one of the same round: the middle, the least, the
/// greatest.
fn added(ours: &[Measured], direct: &[Measured], of: fn(&Measured) -> f64) -> (f64, f64, f64) {
    spread(ours.iter().zip(direct).map(|(ours, direct)| of(ours) - of(direct)))
}

/// The figures as Markdown; the first system is the one that is reached directly.
pub fn page(systems: &[Running], cells: &[Cell]) -> String {
    let mut page = String::from(
        "Each beside the node that is reached directly, of the same round: throughput as a ratio, \
         what is added to half of the requests and to all but one in a hundred, ms; of several \
         rounds the middle, and in brackets the least and the greatest. The load, the balancer and \
         the node share the processors of the machine.\n\n\
         | row | system | throughput | added p50 | added p99 | balancer CPU µs per request | \
         node CPU µs per request |\n|---|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let Some(direct) = cell.of.first() else { continue };
        for (running, ours) in systems.iter().zip(&cell.of) {
            page.push_str(&line(&cell.row.title(), &running.system.name, ours, direct));
        }
    }
    page
}

fn line(row: &str, name: &str, ours: &[Measured], direct: &[Measured]) -> String {
    let rate = spread(ours.iter().zip(direct).map(|(ours, direct)| ours.rate / direct.rate));
    let (p50, p99) = (added(ours, direct, |m| m.p50_ms), added(ours, direct, |m| m.p99_ms));
    let balancer = spread(ours.iter().map(|m| m.balancer_us)).0;
    let node = spread(ours.iter().map(|m| m.cpu_us)).0;
    let shown = |(middle, least, greatest): (f64, f64, f64)| {
        format!("{middle:.2} ({least:.2}–{greatest:.2})")
    };
    format!(
        "| {row} | {name} | {} | {} | {} | {balancer:.2} | {node:.2} |\n",
        shown(rate),
        shown(p50),
        shown(p99)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(rate: f64, p50_ms: f64) -> Measured {
        let (cpu_us, background_us, balancer_us, load_cores) = (10.0, 0.0, 4.0, 0.5);
        let p99_ms = 3.0 * p50_ms;
        Measured { rate, cpu_us, background_us, balancer_us, p50_ms, p99_ms, load_cores }
    }

    #[test]
    fn what_is_added_is_of_the_same_round() {
        // The machine was twice as busy in the second round.
        let direct = [measured(100.0, 1.0), measured(50.0, 2.0)];
        let ours = [measured(90.0, 1.25), measured(45.0, 2.25)];
        assert_eq!(added(&ours, &direct, |m| m.p50_ms), (0.25, 0.25, 0.25));
        let line = line("GET", "builtin", &ours, &direct);
        let expected = "| GET | builtin | 0.90 (0.90–0.90) | 0.25 (0.25–0.25) | 0.75 (0.75–0.75) | \
                        4.00 | 10.00 |\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn few_and_many_connections_small_and_large_replies_are_measured() {
        let rows = rows();
        for clients in [1, 50, 1_000] {
            for bytes in [100, 64 << 10] {
                let has = |row: &&Row| row.clients == clients && row.value_bytes == bytes;
                assert!(rows.iter().any(|row| has(&row)), "{clients} {bytes}");
            }
        }
        let mut titles: Vec<String> = rows.iter().map(Row::title).collect();
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), rows.len());
    }
}
