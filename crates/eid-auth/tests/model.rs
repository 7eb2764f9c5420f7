//! The engine and the oracle print what the model in Python prints, of DAGs of its making, and of what it refuses.

#[expect(unreachable_pub, reason = "shared with an example")]
#[path = "support/model_json.rs"]
mod model_json;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use eid_auth::Engine;

const SEEDS: usize = 300;

#[expect(clippy::print_stdout, reason = "what is not compared is said")]
fn say_that_nothing_is_compared() {
    println!("python3 is not there: nothing is compared with the model");
}

/// Runs Python with the model as a module; nothing when there is no Python.
fn python(code: &str, input: &str) -> Option<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut python = match Command::new("python3")
        .args(["-c", code])
        .current_dir(tests)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("MUTANT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(python) => python,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            say_that_nothing_is_compared();
            return None;
        }
        Err(error) => panic!("python3 could not be started: {error}"),
    };
    let mut stdin = python.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("python reads");
    drop(stdin);
    let output = python.wait_with_output().expect("python ends");
    assert!(output.status.success(), "python failed");
    Some(String::from_utf8(output.stdout).expect("python prints UTF-8"))
}

fn check(name: &str, entries: &str, expected: &str) {
    let entries = model_json::parse(entries).expect("the model prints its own JSON");
    let engine = model_json::by_engine(&entries, Engine::new()).expect("it is in memory");
    assert_eq!(engine.to_json(), expected, "{name}: the engine");
    assert_eq!(model_json::by_oracle(&entries).to_json(), expected, "{name}: the oracle");
}

#[test]
fn random_dags_are_judged_as_by_the_model() {
    let code = format!(
        "
import json, random, auth_model as m
for seed in range({SEEDS}):
    d, rng = m.random_dag(seed), random.Random(seed)
    entries = [dict(id=i, author=d.author[i], ops=d.ops[i], parents=d.parents[i]) for i in d.topological(d.ops)]
    for n in range(20):
        ids = [e['id'] for e in entries] + ['nowhere']
        ops = m.random_ops(d, rng, [rng.choice(list(d.ops))], m.KEYS)
        entries.append(dict(id=f'q{{n}}', author=rng.choice(m.KEYS[:11] + [99]), ops=ops, parents=rng.sample(ids, rng.randint(0, 3))))
    text = json.dumps(dict(entries=entries))
    print(text)
    print(json.dumps(m.judge(json.loads(text)['entries'])))
"
    );
    let Some(printed) = python(&code, "") else { return };
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 2 * SEEDS);
    for (seed, pair) in lines.chunks(2).enumerate() {
        check(&format!("seed {seed}"), pair[0], pair[1]);
    }
}

/// Entries that a program of another make might send: all but the first few are malformed or refused.
const STRANGE: &str = r#"{"entries": [
 {"id": "r", "author": 0, "ops": [["root"], ["set", 1, "A", 1], ["set", 100000000000000000000000000000, "W", 0]], "parents": []},
 {"id": "big", "author": 100000000000000000000000000000, "ops": [["data"]], "parents": ["r"]},
 {"id": "\u00e9\u2028\ud83d\ude00", "author": 1, "ops": [["data"]], "parents": ["r", "r"]},
 {"id": "minus", "author": -0, "ops": [["set", -0, "R", 4294967295]], "parents": ["r"]},
 {"id": "text", "author": 1, "ops": [["data"]], "parents": "r"},
 {"id": "root again", "author": 0, "ops": [["root"]], "parents": []},
 {"id": "orphan", "author": 0, "ops": [["data"]], "parents": []},
 {"id": "orphan settings", "author": 0, "ops": [["set", 2, "W", 0]], "parents": []},
 {"id": "missing", "author": 0, "ops": [["data"]], "parents": ["nowhere"]},
 {"id": "child of the missing", "author": 0, "ops": [["data"]], "parents": ["missing"]},
 {"id": "float author", "author": 1.0, "ops": [["data"]], "parents": ["r"]},
 {"id": "exponent", "author": 1e30, "ops": [["data"]], "parents": ["r"]},
 {"id": "true author", "author": true, "ops": [["data"]], "parents": ["r"]},
 {"id": "negative author", "author": -1, "ops": [["data"]], "parents": ["r"]},
 {"id": "null author", "author": null, "ops": [["data"]], "parents": ["r"]},
 {"id": "list author", "author": [1], "ops": [["data"]], "parents": ["r"]},
 {"id": "no ops", "author": 1, "ops": [], "parents": ["r"]},
 {"id": "null ops", "author": 1, "ops": null, "parents": ["r"]},
 {"id": "text ops", "author": 1, "ops": "data", "parents": ["r"]},
 {"id": "empty op", "author": 1, "ops": [[]], "parents": ["r"]},
 {"id": "text op", "author": 1, "ops": ["data"], "parents": ["r"]},
 {"id": "object op", "author": 1, "ops": [{"data": 1}], "parents": ["r"]},
 {"id": "unknown op", "author": 1, "ops": [["grant", 1]], "parents": ["r"]},
 {"id": "list kind", "author": 1, "ops": [[["data"]]], "parents": ["r"]},
 {"id": "data with more", "author": 1, "ops": [["data", 1]], "parents": ["r"]},
 {"id": "data twice", "author": 1, "ops": [["data"], ["data"]], "parents": ["r"]},
 {"id": "data and set", "author": 1, "ops": [["set", 5, "W", 0], ["data"]], "parents": ["r"]},
 {"id": "root inside", "author": 0, "ops": [["set", 5, "W", 0], ["root"]], "parents": ["r"]},
 {"id": "root below", "author": 0, "ops": [["root"]], "parents": ["r"]},
 {"id": "set short", "author": 1, "ops": [["set", 5, "W"]], "parents": ["r"]},
 {"id": "set long", "author": 1, "ops": [["set", 5, "W", 0, 0]], "parents": ["r"]},
 {"id": "set key text", "author": 1, "ops": [["set", "5", "W", 0]], "parents": ["r"]},
 {"id": "set key true", "author": 1, "ops": [["set", true, "W", 0]], "parents": ["r"]},
 {"id": "set perm", "author": 1, "ops": [["set", 5, "X", 0]], "parents": ["r"]},
 {"id": "set perm list", "author": 1, "ops": [["set", 5, ["W"], 0]], "parents": ["r"]},
 {"id": "set everyone admin", "author": 1, "ops": [["set", "*", "A", 3]], "parents": ["r"]},
 {"id": "set huge", "author": 1, "ops": [["set", 5, "W", 4294967296]], "parents": ["r"]},
 {"id": "set huger", "author": 1, "ops": [["set", 5, "W", 100000000000000000000000000000000]], "parents": ["r"]},
 {"id": "set negative", "author": 1, "ops": [["set", 5, "W", -1]], "parents": ["r"]},
 {"id": "set float", "author": 1, "ops": [["set", 5, "W", 1.5]], "parents": ["r"]},
 {"id": "rev short", "author": 1, "ops": [["rev"]], "parents": ["r"]},
 {"id": "rev long", "author": 1, "ops": [["rev", 5, null, "leave", 0]], "parents": ["r"]},
 {"id": "rev leave with fence", "author": 1, "ops": [["rev", 5, [], "leave"]], "parents": ["r"]},
 {"id": "rev mode", "author": 1, "ops": [["rev", 5, null, "go"]], "parents": ["r"]},
 {"id": "rev mode null", "author": 1, "ops": [["rev", 5, null, null]], "parents": ["r"]},
 {"id": "rev fence text", "author": 1, "ops": [["rev", 5, "r"]], "parents": ["r"]},
 {"id": "rev fence number", "author": 1, "ops": [["rev", 5, [1]]], "parents": ["r"]},
 {"id": "rev fence nowhere", "author": 1, "ops": [["rev", 5, ["nowhere"]]], "parents": ["r"]},
 {"id": "rev fence beside", "author": 1, "ops": [["rev", 5, ["big"]]], "parents": ["r"]},
 {"id": "rev fence itself", "author": 1, "ops": [["rev", 5, ["rev fence itself"]]], "parents": ["r"]},
 {"id": "accept nothing", "author": 1, "ops": [["accept", []]], "parents": ["r"]},
 {"id": "accept text", "author": 1, "ops": [["accept", "r"]], "parents": ["r"]},
 {"id": "accept settings", "author": 1, "ops": [["accept", ["r"]]], "parents": ["r"]},
 {"id": "accept twice", "author": 1, "ops": [["accept", ["big"]], ["accept", ["text"]]], "parents": ["big", "text"]},
 {"id": "slot twice", "author": 1, "ops": [["set", 5, "W", 0], ["rev", 5]], "parents": ["r"]},
 {"id": "invite under rules 1", "author": 1, "ops": [["invite", 0, "W"]], "parents": ["r"]},
 {"id": "rules text", "author": 1, "ops": [["rules", "2"]], "parents": ["r"]},
 {"id": "rules 3", "author": 1, "ops": [["rules", 3]], "parents": ["r"]},
 {"id": "rules true", "author": 1, "ops": [["rules", true]], "parents": ["r"]},
 {"id": "rules twice", "author": 1, "ops": [["rules", 2], ["rules", 2]], "parents": ["r"]},
 {"id": "rules long", "author": 1, "ops": [["rules", 2, 2]], "parents": ["r"]},
 {"id": "rules by nobody", "author": 8, "ops": [["rules", 2]], "parents": ["r"]},
 {"id": "two", "author": 1, "ops": [["invite", 0, "W"], ["rules", 2], ["invite", 1, "R"]], "parents": ["r"]},
 {"id": "invite everyone", "author": 1, "ops": [["invite", "*", "R"]], "parents": ["two"]},
 {"id": "invite admin", "author": 1, "ops": [["invite", 2, "A"]], "parents": ["two"]},
 {"id": "invite perm list", "author": 1, "ops": [["invite", 2, ["R"]]], "parents": ["two"]},
 {"id": "invite long", "author": 1, "ops": [["invite", 2, "R", 0]], "parents": ["two"]},
 {"id": "invite and set", "author": 1, "ops": [["invite", 5, "R"], ["set", 5, "W", 0]], "parents": ["two"]},
 {"id": "withdraw everyone", "author": 1, "ops": [["withdraw", "*"]], "parents": ["two"]},
 {"id": "withdraw leave with fence", "author": 1, "ops": [["withdraw", 1, [], "leave"]], "parents": ["two"]},
 {"id": "withdraw nowhere", "author": 1, "ops": [["withdraw", 1, ["nowhere"]]], "parents": ["two"]},
 {"id": "withdraw", "author": 1, "ops": [["withdraw", 1]], "parents": ["two"]},
 {"id": "join early", "author": 8, "ops": [["join", 0, "W"]], "parents": ["r"]},
 {"id": "join with rules", "author": 8, "ops": [["join", 0, "W"], ["rules", 2]], "parents": ["two"]},
 {"id": "join admin", "author": 8, "ops": [["join", 0, "A"]], "parents": ["two"]},
 {"id": "join text", "author": 8, "ops": [["join", "i0", "W"]], "parents": ["two"]},
 {"id": "join long", "author": 8, "ops": [["join", 0, "W", 0]], "parents": ["two"]},
 {"id": "join nowhere", "author": 8, "ops": [["join", 9, "R"]], "parents": ["two"]},
 {"id": "join root", "author": 8, "ops": [["join", 0, "W"]], "parents": []},
 {"id": "join withdrawn", "author": 8, "ops": [["join", 1, "R"]], "parents": ["withdraw"]},
 {"id": "joined", "author": 8, "ops": [["join", 0, "W"]], "parents": ["withdraw"]},
 {"id": "join again", "author": 8, "ops": [["join", 0, "W"]], "parents": ["joined"]},
 {"id": "good", "author": 1, "ops": [["rev", 5, []], ["set", "*", "R", 7], ["accept", ["big", "big"]]], "parents": ["big"]}
]}"#;

#[test]
fn strange_entries_are_refused_as_by_the_model() {
    let code =
        "import json, sys, auth_model as m\nprint(json.dumps(m.judge(json.load(sys.stdin)['entries'])))";
    let Some(printed) = python(code, STRANGE) else { return };
    check("strange", STRANGE, printed.trim_end());
    assert!(
        printed.contains(r#""standing": ["big", "good", "invite and set", "joined", "minus", "r", "text", "two", "withdraw", "\u00e9\u2028\ud83d\ude00"]"#),
        "{printed}"
    );
}

#[test]
fn what_the_model_would_crash_on_is_refused() {
    let json = r#"{"entries": [
        {"id": "r", "author": 0, "ops": [["root"]], "parents": []},
        {"id": "a", "ops": [["data"]], "parents": ["r"]},
        {"id": "b", "author": 0, "parents": ["r"]},
        {"id": "c", "author": 0, "ops": [["data"]]},
        {"id": "d", "author": 0, "ops": [["data"]], "parents": [["r"]]},
        {"id": "e", "author": 0, "ops": [["data"]], "parents": 5}
    ]}"#;
    check(
        "crash",
        json,
        r#"{"standing": ["r"], "void": [], "invalid": ["a", "b", "c", "d", "e"], "keys": {"0": ["A", 0, true]}}"#,
    );
    for json in ["", "[]", "{}", r#"{"entries": 1}"#, r#"{"entries": [1]}"#, r#"{"entries": [{"id": 1}]}"#] {
        assert!(model_json::parse(json).is_err(), "{json}");
    }
    check("empty", r#"{"entries": []}"#, r#"{"standing": [], "void": [], "invalid": [], "keys": {}}"#);
}
