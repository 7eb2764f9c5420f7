//! Which crate may depend on which. A dependency always points to a lower rank, and only to what the table names.

use std::fmt::Write as _;

use serde_json::Value;

use crate::run::{Failure, cargo_command, output};

/// One crate of the workspace: its rank, and the crates of the workspace that it may depend on.
struct Row {
    name: &'static str,
    rank: u8,
    may_use: &'static [&'static str],
    /// What its tests may use besides.
    tests_may_use: &'static [&'static str],
}

const fn row(name: &'static str, rank: u8, may_use: &'static [&'static str]) -> Row {
    Row { name, rank, may_use, tests_may_use: &[] }
}

/// The rank of what is built for developers only: it may use everything, and nothing may use it.
const DEV: u8 = 9;

const TABLE: &[Row] = &[
    row("eid-core", 0, &[]),
    row("eid-crdt", 0, &[]),
    row("eid-store", 1, &["eid-core"]),
    row("eid-proto", 1, &["eid-core"]),
    row("eid-transport", 1, &["eid-core"]),
    row("eid-auth", 1, &["eid-core"]),
    row("eid-db", 2, &["eid-core", "eid-crdt", "eid-store", "eid-auth"]),
    row("eid-sync", 2, &["eid-core", "eid-store", "eid-proto", "eid-transport"]),
    row("eid-http", 2, &["eid-core", "eid-transport"]),
    row("eid-quic", 2, &["eid-core", "eid-transport"]),
    row("eid-iroh", 2, &["eid-core", "eid-transport"]),
    Row {
        tests_may_use: &["eid-proto"],
        ..row(
            "eid",
            3,
            &[
                "eid-core",
                "eid-store",
                "eid-transport",
                "eid-db",
                "eid-sync",
                "eid-http",
                "eid-quic",
                "eid-iroh",
            ],
        )
    },
    row("eid-cli", 4, &["eid", "eid-core", "eid-store", "eid-transport", "eid-db", "eid-sync", "eid-http"]),
    row("eid-chat", DEV, &["eid"]),
    row("eid-sim", DEV, EVERYTHING),
    row("eid-fuzz", DEV, EVERYTHING),
    row("eid-tests", DEV, EVERYTHING),
    row("eid-benches", DEV, EVERYTHING),
    row("xtask", DEV, &[]),
];

const EVERYTHING: &[&str] = &[
    "eid-core",
    "eid-crdt",
    "eid-store",
    "eid-proto",
    "eid-transport",
    "eid-auth",
    "eid-db",
    "eid-sync",
    "eid-http",
    "eid-quic",
    "eid-iroh",
    "eid",
];

/// Outside crates that only some may use. A pattern ends with `*` when it names a family.
struct Zone {
    patterns: &'static [&'static str],
    only: &'static [&'static str],
    reason: &'static str,
}

const ZONES: &[Zone] = &[
    Zone {
        patterns: &["tokio", "tokio-*", "futures", "futures-*", "async-*"],
        only: &["eid-sync", "eid-http", "eid-quic", "eid-iroh", "eid", "eid-cli"],
        reason: "tasks and timers belong to the engine and what stands above it",
    },
    Zone {
        patterns: &["hyper", "hyper-*", "http", "http-*", "tower", "tower-*", "reqwest", "axum*"],
        only: &["eid-http"],
        reason: "HTTP is one transport",
    },
    Zone { patterns: &["snow"], only: &["eid-http"], reason: "sealing a channel is the transport's work" },
    Zone {
        patterns: &["rand", "getrandom", "fastrand", "uuid", "chrono", "time"],
        only: &["eid-db", "eid-sync", "eid-http", "eid", "eid-cli"],
        reason: "chance and clocks are arguments below rank 2",
    },
    Zone {
        patterns: &["redb", "fjall", "rusqlite", "heed", "rocksdb"],
        only: &["eid-store"],
        reason: "storage engines stay behind the backend",
    },
    Zone {
        patterns: &["clap", "clap_*", "anyhow", "indicatif", "ratatui"],
        only: &["eid-cli"],
        reason: "arguments and terminals belong to the program",
    },
    Zone {
        patterns: &["quinn*", "rustls*"],
        only: &["eid-quic"],
        reason: "QUIC between known addresses is one transport",
    },
    Zone {
        patterns: &["zstd*", "ruzstd"],
        only: &["eid-proto"],
        reason: "what is decompressed is bounded where the message is",
    },
    Zone { patterns: &["iroh*"], only: &["eid-iroh"], reason: "iroh is one transport" },
    Zone {
        patterns: &["serde", "serde_json"],
        only: &["eid-crdt", "eid-proto", "eid-db", "eid-sync", "eid-http", "eid", "eid-cli"],
        reason: "what is hashed or signed is written by hand",
    },
];

/// Small parts of a family that a lower crate may use.
const EXCEPTIONS: &[(&str, &str)] =
    &[("eid-transport", "async-lock"), ("eid-transport", "futures-core"), ("eid-db", "async-lock")];

struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    for_tests: bool,
}

/// Reads the workspace and checks every edge.
pub(crate) fn run() -> Result<(), Failure> {
    let json = output(cargo_command(&["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&json).map_err(|error| Failure::new(error.to_string()))?;
    let packages = packages(&metadata);
    let faults = check(&packages);
    if faults.is_empty() {
        println!("layers: {} crates, every edge points downwards", packages.len());
        return Ok(());
    }
    let mut message = format!("layers: {} edges are not allowed", faults.len());
    for fault in faults {
        write!(message, "\n  {fault}").expect("writing to a string does not fail");
    }
    Err(Failure::new(message))
}

fn packages(metadata: &Value) -> Vec<Package> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    list(&metadata["packages"])
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            dependencies: list(&package["dependencies"])
                .iter()
                .map(|dependency| Dependency {
                    name: text(&dependency["name"]),
                    for_tests: dependency["kind"] == "dev",
                })
                .collect(),
        })
        .collect()
}

fn check(packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in packages {
        let Some(from) = TABLE.iter().find(|row| row.name == package.name) else {
            faults.push(format!("{} has no row in xtask/src/layers.rs", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let internal = TABLE.iter().find(|row| row.name == dependency.name);
            let ours = internal.is_some() || packages.iter().any(|p| p.name == dependency.name);
            let fault = match internal {
                Some(to) => inside(from, to, dependency.for_tests),
                // It has no row, which is a fault of its own.
                None if ours => None,
                None => outside(from, dependency),
            };
            faults.extend(fault);
        }
    }
    faults
}

fn inside(from: &Row, to: &Row, for_tests: bool) -> Option<String> {
    let edge = format!("{} -> {}", from.name, to.name);
    if from.name == to.name || (for_tests && from.tests_may_use.contains(&to.name)) {
        return None;
    }
    if to.rank >= from.rank {
        return Some(format!(
            "{edge}: {} has rank {} and {} has rank {}; a dependency points to a lower rank",
            from.name, from.rank, to.name, to.rank
        ));
    }
    if from.may_use.contains(&to.name) {
        return None;
    }
    Some(format!("{edge}: the table does not give {} a use of {}", from.name, to.name))
}

fn outside(from: &Row, dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    if from.rank == DEV || dependency.for_tests || EXCEPTIONS.contains(&(from.name, name)) {
        return None;
    }
    let zone = ZONES.iter().find(|zone| zone.patterns.iter().any(|pattern| matches(pattern, name)))?;
    if zone.only.contains(&from.name) {
        return None;
    }
    Some(format!(
        "{} -> {name}: only {} may use it, because {}",
        from.name,
        zone.only.join(", "),
        zone.reason
    ))
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(edges: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        let packages: Vec<Value> = edges
            .iter()
            .map(|(from, to, kind)| json!({"name": from, "dependencies": [{"name": to, "kind": kind}]}))
            .collect();
        check(&super::packages(&json!({ "packages": packages })))
    }

    #[test]
    fn downward_edges_of_the_table_pass() {
        let edges = [("eid-sync", "eid-proto", None), ("eid", "eid-sync", None), ("eid-http", "hyper", None)];
        assert_eq!(faults(&edges), Vec::<String>::new());
    }

    #[test]
    fn an_edge_to_the_same_rank_fails_and_names_both_crates() {
        let found = faults(&[("eid-http", "eid-sync", None)]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("eid-http") && found[0].contains("eid-sync"), "{found:?}");
        let found = faults(&[("eid-transport", "eid-store", None)]);
        assert!(found[0].contains("eid-transport") && found[0].contains("eid-store"), "{found:?}");
    }

    #[test]
    fn an_upward_edge_fails_in_tests_too() {
        assert_eq!(faults(&[("eid-core", "eid-store", Some("dev"))]).len(), 1);
        assert_eq!(faults(&[("eid-store", "eid-sim", Some("dev"))]).len(), 1);
    }

    #[test]
    fn a_downward_edge_that_the_table_does_not_name_fails() {
        assert_eq!(faults(&[("eid-http", "eid-proto", None)]).len(), 1);
        assert_eq!(faults(&[("eid-sync", "eid-crdt", None)]).len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_fails() {
        let found = faults(&[("eid-other", "eid-core", None)]);
        assert!(found[0].contains("eid-other"), "{found:?}");
    }

    #[test]
    fn outside_crates_stay_in_their_zone() {
        for (from, to) in [
            ("eid-core", "tokio"),
            ("eid-proto", "futures-util"),
            ("eid-store", "async-trait"),
            ("eid-db", "tokio"),
            ("eid-sync", "hyper-util"),
            ("eid-core", "rand"),
            ("eid-db", "redb"),
            ("eid", "clap"),
            ("eid-core", "serde"),
        ] {
            assert_eq!(faults(&[(from, to, None)]).len(), 1, "{from} -> {to}");
        }
        assert!(faults(&[("eid-transport", "async-lock", None)]).is_empty());
        assert!(faults(&[("eid-core", "serde_json", Some("dev"))]).is_empty());
    }
}
