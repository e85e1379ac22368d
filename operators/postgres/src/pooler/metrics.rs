//! What PgBouncer counts, as metrics; values only.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::console::Row;
use super::state::Phase;

/// What PgBouncer says of itself.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// `SHOW POOLS`.
    pub pools: Vec<Row>,
    /// `SHOW STATS`.
    pub stats: Vec<Row>,
    /// `SHOW LISTS`.
    pub lists: Vec<Row>,
}

/// A metric: its name, its kind, what it tells, and of what it is made.
type Of<'a> = (&'a str, &'a str, &'a str, &'a str, f64);

/// Of each pool, that is, of each user in each database.
const POOLS: &[Of<'static>] = &[
    (
        "clients_active",
        "gauge",
        "Clients in a transaction or idle.",
        "cl_active",
        1.0,
    ),
    (
        "clients_waiting",
        "gauge",
        "Clients that wait for a server.",
        "cl_waiting",
        1.0,
    ),
    (
        "servers_active",
        "gauge",
        "Servers that a client uses.",
        "sv_active",
        1.0,
    ),
    (
        "servers_idle",
        "gauge",
        "Servers that nobody uses.",
        "sv_idle",
        1.0,
    ),
    (
        "servers_used",
        "gauge",
        "Servers that are checked before the next use.",
        "sv_used",
        1.0,
    ),
    (
        "servers_login",
        "gauge",
        "Servers that are being logged in to.",
        "sv_login",
        1.0,
    ),
    (
        "longest_wait_seconds",
        "gauge",
        "How long the first client in line has waited.",
        "maxwait",
        1.0,
    ),
];

/// Of each database.
const STATS: &[Of<'static>] = &[
    (
        "transactions_total",
        "counter",
        "Transactions.",
        "total_xact_count",
        1.0,
    ),
    (
        "queries_total",
        "counter",
        "Queries.",
        "total_query_count",
        1.0,
    ),
    (
        "received_bytes_total",
        "counter",
        "Bytes from clients.",
        "total_received",
        1.0,
    ),
    (
        "sent_bytes_total",
        "counter",
        "Bytes to clients.",
        "total_sent",
        1.0,
    ),
    (
        "transaction_seconds_total",
        "counter",
        "Time in transactions.",
        "total_xact_time",
        1e-6,
    ),
    (
        "query_seconds_total",
        "counter",
        "Time in queries.",
        "total_query_time",
        1e-6,
    ),
    (
        "wait_seconds_total",
        "counter",
        "Time that clients waited for a server.",
        "total_wait_time",
        1e-6,
    ),
];

/// Of the whole.
const LISTS: &[(&str, &str)] = &[
    ("databases", "Databases."),
    ("users", "Users."),
    ("pools", "Pools."),
    ("used_clients", "Clients."),
    ("login_clients", "Clients that are logging in."),
    ("used_servers", "Servers."),
];

/// The metrics as text.
pub fn metrics(side: &str, phase: Phase, counts: &Counts) -> String {
    let mut text = String::new();
    let held = f64::from(u8::from(phase != Phase::Open));
    family(
        &mut text,
        "held_back",
        "gauge",
        "Whether new transactions wait for a hand-over.",
    );
    line(&mut text, "held_back", &[("side", side)], held);
    for (name, help) in LISTS {
        let found = counts
            .lists
            .iter()
            .find(|row| row.get("list").is_some_and(|l| l == name));
        if let Some(value) = found.and_then(|row| number(row, "items")) {
            family(&mut text, name, "gauge", help);
            line(&mut text, name, &[("side", side)], value);
        }
    }
    // Its own console is among databases and users.
    let of_console = |row: &&Row| row.get("database").is_some_and(|d| d == "pgbouncer");
    let pools = counts.pools.iter().filter(|row| !of_console(row));
    let pools: Vec<&Row> = pools.collect();
    rows(&mut text, side, POOLS, &pools);
    let stats: Vec<&Row> = counts.stats.iter().filter(|row| !of_console(row)).collect();
    rows(&mut text, side, STATS, &stats);
    text
}

fn rows(text: &mut String, side: &str, all: &[Of<'_>], rows: &[&Row]) {
    for (name, kind, help, column, unit) in all {
        let found = rows
            .iter()
            .filter_map(|row| Some((row, number(row, column)?)));
        let found: BTreeMap<_, _> = found
            .map(|(row, value)| ((row.get("database"), row.get("user")), value))
            .collect();
        if found.is_empty() {
            continue;
        }
        family(text, name, kind, help);
        for ((database, user), value) in found {
            let mut labels = vec![("side", side)];
            labels.extend(database.map(|d| ("database", d.as_str())));
            labels.extend(user.map(|u| ("user", u.as_str())));
            line(text, name, &labels, value * unit);
        }
    }
}

fn number(row: &Row, column: &str) -> Option<f64> {
    row.get(column)?.parse().ok()
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "# HELP mainstay_pooler_{name} {help}\n# TYPE mainstay_pooler_{name} {kind}\n"
    );
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let quoted = |v: &str| {
        v.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let labels: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}=\"{}\"", quoted(value)))
        .collect();
    let _ = writeln!(
        text,
        "mainstay_pooler_{name}{{{}}} {value}",
        labels.join(",")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pairs: &[(&str, &str)]) -> Row {
        let owned = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        owned.collect()
    }

    #[test]
    fn pools_databases_and_the_whole_are_told() {
        let counts = Counts {
            pools: vec![
                row(&[("database", "app"), ("user", "o\"dd"), ("cl_waiting", "3")]),
                row(&[
                    ("database", "pgbouncer"),
                    ("user", "pgbouncer"),
                    ("cl_waiting", "1"),
                ]),
            ],
            stats: vec![row(&[
                ("database", "app"),
                ("total_xact_count", "7"),
                ("total_wait_time", "1500000"),
            ])],
            lists: vec![row(&[("list", "used_clients"), ("items", "4")])],
        };
        let text = metrics("rw", Phase::Closing, &counts);
        for line in [
            "mainstay_pooler_held_back{side=\"rw\"} 1",
            "mainstay_pooler_used_clients{side=\"rw\"} 4",
            "mainstay_pooler_clients_waiting{side=\"rw\",database=\"app\",user=\"o\\\"dd\"} 3",
            "mainstay_pooler_transactions_total{side=\"rw\",database=\"app\"} 7",
            "mainstay_pooler_wait_seconds_total{side=\"rw\",database=\"app\"} 1.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("database=\"pgbouncer\""));
    }
}
