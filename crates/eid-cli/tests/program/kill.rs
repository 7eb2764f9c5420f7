//! kill -9 in the middle of an import: what was reported durable is there, and nothing is half there.

use crate::process::Eid;
use serde_json::Value;

const KILLS: usize = 4;
const ROWS: usize = 20_000;

#[test]
fn an_import_that_is_killed_keeps_every_batch_it_reported() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rows.csv");
    let rows: String = (0..ROWS).map(|n| format!("k{n:06},some text of row {n},{n}\n")).collect();
    std::fs::write(&file, format!("key,text,n\n{rows}")).unwrap();
    let mut cut_short = 0;
    for round in 0..KILLS {
        let eid = Eid::new();
        eid.ok(&["db", "create", "notes"]);
        let args = [
            "table",
            "import",
            "notes",
            "t",
            file.to_str().unwrap(),
            "--key",
            "key",
            "--batch",
            "10",
            "--json",
        ];
        let mut importing = eid.start(&args);
        let mut seen: Vec<String> = (0..round * 17 + 1).map_while(|_| importing.next_line()).collect();
        seen.extend(importing.kill().lines().map(str::to_owned));
        // The last line may have been cut.
        let durable = seen.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let durable = durable.filter_map(|line| line["rows_durable"].as_u64()).max().unwrap();
        let there = eid.ok(&["table", "query", "notes", "t"]).lines().len() as u64;
        assert!(there >= durable, "{durable} rows were reported, {there} are there");
        assert_eq!(there % 10, 0, "no batch is half there");
        cut_short += u32::from(there < ROWS as u64);
        assert_eq!(eid.ok(&["verify"]).json()["ok"], true);
        eid.ok(&["set", "notes", "still", "works"]);
    }
    assert!(cut_short > 0, "every import was over before it was killed");
}
