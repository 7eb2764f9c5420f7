//! Rules for documents: links resolve, decisions are listed, and what mirrors code is tied to it by a hash.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{Fault, Text};
use crate::run::{Failure, read, root, write};

const MESSAGES: &str = "crates/eid-proto/src/message.rs";
const PROTOCOL: &str = "docs/protocol.md";
const DECISIONS: &str = "docs/adr";
const VOCABULARY: &str = "docs/vocabulary.md";
const SCENARIOS: &str = "docs/scenarios.md";

/// The two commands that the README promises do everything.
const COMMANDS: [&str; 2] = ["cargo run --release -- demo", "cargo xtask ci"];

/// Relative links in a Markdown file must name files that exist.
pub(super) fn check_links(path: &Path, text: &str, exists: &dyn Fn(&Path) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for link in links(line) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let target = normal(&path.parent().unwrap_or(Path::new("")).join(file));
            if !exists(&target) {
                faults.push(Fault::new(path, number + 1, format!("the link to {file} leads nowhere")));
            }
        }
    }
    faults
}

/// The targets of `[text](target)`, outside of `code`.
fn links(line: &str) -> Vec<String> {
    let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    outside
        .split("](")
        .skip(1)
        .filter_map(|after| after.split(')').next())
        .map(|target| target.trim().to_owned())
        .collect()
}

/// Names of types that a document quotes must be somewhere in the source. Decisions may speak of what is gone.
pub(super) fn check_names(files: &[Text]) -> Vec<Fault> {
    let is = |file: &Text, extension: &str| file.path.extension().is_some_and(|have| have == extension);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = files
        .iter()
        .filter(|file| is(file, "rs"))
        .flat_map(|file| file.text.split(|c| !is_word(c)))
        .collect();
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| is(file, "md") && !file.path.starts_with(DECISIONS)) {
        for (number, line) in file.text.lines().enumerate() {
            for quoted in line.split('`').skip(1).step_by(2) {
                let camel = quoted.starts_with(|c: char| c.is_ascii_uppercase())
                    && quoted.contains(|c: char| c.is_ascii_lowercase())
                    && quoted.chars().all(|c| is_word(c) || c == ':');
                // Names of constants, functions and tests.
                let snake = quoted.contains('_') && quoted.chars().all(|c| is_word(c) || c == ':');
                let missing = quoted.split("::").find(|part| !part.is_empty() && !words.contains(part));
                if let (true, Some(name)) = (camel || snake, missing) {
                    faults.push(Fault::new(&file.path, number + 1, format!("no source has the name {name}")));
                }
            }
        }
    }
    faults
}

/// Every row of the vocabulary names a file that has the name, and a test that is there. Rows without a test stand under
/// "Not yet".
pub(super) fn check_vocabulary(files: &[Text]) -> Vec<Fault> {
    let path = Path::new(VOCABULARY);
    let Some(vocabulary) = files.iter().find(|file| file.path == path) else {
        return vec![Fault::new(path, 1, "the vocabulary is not there")];
    };
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(str::to_owned).collect()
    };
    let tests: BTreeSet<&str> = files
        .iter()
        .filter(|file| file.path.extension().is_some_and(|extension| extension == "rs"))
        .flat_map(|file| tests_of(&file.text))
        .collect();
    let mut faults = Vec::new();
    let mut is_yet = true;
    for (number, line) in vocabulary.text.lines().enumerate() {
        is_yet &= line != "## Not yet";
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, place, test] = cells[..] else { continue };
        if !is_yet || !name.starts_with('`') {
            continue;
        }
        let (name, place, test) = (name.trim_matches('`'), place.trim_matches('`'), test.trim_matches('`'));
        let mut fault = |rule: String| faults.push(Fault::new(path, number + 1, rule));
        match files.iter().find(|file| file.path == Path::new(place)) {
            None => fault(format!("there is no {place}")),
            Some(file) if !words(&file.text).contains(name) => fault(format!("{place} does not have {name}")),
            Some(_) => {}
        }
        if !tests.contains(test) {
            fault(format!("there is no test \"{test}\""));
        }
    }
    faults
}

/// Every row of the scenarios names a file, and what is in it: a test, a check of the processes, or an event of the
/// simulator. What no test shows stands under "Not shown yet".
pub(super) fn check_scenarios(files: &[Text]) -> Vec<Fault> {
    let path = Path::new(SCENARIOS);
    let Some(scenarios) = files.iter().find(|file| file.path == path) else {
        return vec![Fault::new(path, 1, "the scenarios are not there")];
    };
    let mut faults = Vec::new();
    let rows = scenarios.text.lines().take_while(|line| *line != "## Not shown yet").enumerate();
    for (number, line) in rows.filter(|(_, line)| line.starts_with('|') && line.contains('`')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let mut fault = |rule: String| faults.push(Fault::new(path, number + 1, rule));
        let [_, shown, place] = cells[..] else {
            fault("a row says what holds, what shows it, and where that is".to_owned());
            continue;
        };
        let (shown, place) = (shown.trim_matches('`'), place.trim_matches('`'));
        let Some(file) = files.iter().find(|file| file.path == Path::new(place)) else {
            fault(format!("there is no {place}"));
            continue;
        };
        let is_there = match shown.split_once(": ") {
            Some(("engines" | "sessions", event)) => event.len() > 2 && file.text.contains(event),
            Some(("processes", check)) => has_function(&file.text, check),
            Some(_) => false,
            None => has_function(&file.text, shown),
        };
        if !is_there {
            fault(format!("{place} does not have {shown}"));
        }
    }
    faults
}

/// The functions of a source that have an attribute such as `#[test]` or `#[tokio::test(..)]`.
fn tests_of(text: &str) -> Vec<&str> {
    let is_test = |attribute: &str| {
        let name = attribute.trim_start().split(['(', ']']).next().unwrap_or_default().trim();
        name == "test" || name.ends_with("::test")
    };
    let mut tests = Vec::new();
    let mut before = "";
    for piece in text.split("fn ") {
        // What stands before a function belongs to it from the end of the item or block before.
        let begin = [";\n", "{\n", "}\n"].iter().filter_map(|end| before.rfind(end)).max().unwrap_or(0);
        if before[begin..].split("#[").skip(1).any(is_test) {
            tests.extend(piece.split(['(', '<']).next());
        }
        before = piece;
    }
    tests
}

fn has_function(text: &str, name: &str) -> bool {
    text.split("fn ").skip(1).any(|after| after.split(['(', '<']).next() == Some(name))
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

fn marker(source: &str) -> String {
    format!("<!-- messages: {} -->", blake3::hash(source.as_bytes()).to_hex())
}

/// `docs/protocol.md` carries the hash of the message types that it describes.
pub(super) fn check_protocol() -> Result<Vec<Fault>, Failure> {
    let source = read(&root().join(MESSAGES))?;
    let document = std::fs::read_to_string(root().join(PROTOCOL)).unwrap_or_default();
    Ok(protocol_fault(&source, &document).into_iter().collect())
}

fn protocol_fault(source: &str, document: &str) -> Option<Fault> {
    let marker = marker(source);
    if document.lines().any(|line| line.trim() == marker) {
        return None;
    }
    Some(Fault::new(
        Path::new(PROTOCOL),
        1,
        format!(
            "{MESSAGES} changed: bring this page up to date, then run `cargo xtask tidy --fix-protocol`, which \
             sets the line {marker}"
        ),
    ))
}

pub(super) fn write_protocol_hash() -> Result<(), Failure> {
    let marker = marker(&read(&root().join(MESSAGES))?);
    let path = root().join(PROTOCOL);
    let document = read(&path)?;
    let is_marker = |line: &str| line.trim().starts_with("<!-- messages: ");
    let mut lines: Vec<&str> = document.lines().collect();
    match lines.iter().position(|line| is_marker(line)) {
        Some(at) => lines[at] = &marker,
        None => lines.push(&marker),
    }
    write(&path, &format!("{}\n", lines.join("\n")))
}

/// Every decision is listed in the index, and no two have one number.
pub(super) fn check_decisions(files: &[Text]) -> Vec<Fault> {
    let index_path = Path::new(DECISIONS).join("README.md");
    let index = files.iter().find(|file| file.path == index_path).map_or("", |file| file.text.as_str());
    let mut faults = Vec::new();
    let mut before: Option<&str> = None;
    for file in files.iter().filter(|file| file.path.parent() == Some(Path::new(DECISIONS))) {
        let name = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "README.md" {
            continue;
        }
        if !index.contains(&format!("({name})")) {
            faults.push(Fault::new(&file.path, 1, "is not listed in docs/adr/README.md"));
        }
        let number = name.split('-').next();
        if number == before {
            faults.push(Fault::new(&file.path, 1, "has the number of another decision"));
        }
        before = number;
    }
    faults
}

/// The README names the two commands, and `.ci/run` runs the second.
pub(super) fn check_commands() -> Vec<Fault> {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap_or_default();
    let (readme, script) = (text("README.md"), text(".ci/run"));
    let mut faults = Vec::new();
    for command in COMMANDS {
        if !readme.lines().any(|line| line.trim() == command) {
            faults.push(Fault::new(Path::new("README.md"), 1, format!("does not name `{command}`")));
        }
    }
    if !script.contains(COMMANDS[1]) {
        faults.push(Fault::new(Path::new(".ci/run"), 1, format!("does not run `{}`", COMMANDS[1])));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_fails() {
        let exists = |path: &Path| path == Path::new("docs/adr/0001-x.md");
        let check = |text: &str| check_links(Path::new("docs/a.md"), text, &exists).len();
        assert_eq!(check("see [x](adr/0001-x.md#why) and [y](https://example.org)"), 0);
        assert_eq!(check("see [x](./adr/../adr/0001-x.md)"), 0);
        assert_eq!(check("see [x](adr/0002-x.md)"), 1);
        assert_eq!(check("`[x](nowhere)`\n```\n[x](nowhere)\n```"), 0);
    }

    #[test]
    fn message_types_that_changed_without_the_document_fail() {
        let document = format!("# Protocol\n\n{}\n", marker("enum Message { A }"));
        assert_eq!(protocol_fault("enum Message { A }", &document), None);
        assert!(protocol_fault("enum Message { A, B }", &document).is_some());
        assert!(protocol_fault("enum Message { A }", "# Protocol\n").is_some());
    }

    fn file(path: &str, text: &str) -> Text {
        Text { path: path.into(), text: text.to_owned() }
    }

    #[test]
    fn a_name_that_no_source_has_fails() {
        let check =
            |doc: &str| check_names(&[file("docs/a.md", doc), file("a.rs", "struct Entry { fn seal() }")]);
        assert_eq!(check("`Entry` and `Entry::seal`, `README`, `a b`"), []);
        assert_eq!(check("`Entity`").len(), 1);
        assert_eq!(check("`Entry::open`").len(), 1);
    }

    #[test]
    fn a_row_of_the_vocabulary_without_its_name_its_file_or_its_test_fails() {
        let check = |row: &str| {
            let table = format!(
                "| name | where | test |\n|---|---|---|\n{row}\n\n## Not yet\n\n| `B` | `b.rs` | |\n"
            );
            let source = "struct Entry;\n#[test]\nfn it_seals() {}\nfn helps() {}\nmod tests {\n    \
                #[cfg(unix)]\n    #[tokio::test(flavor = \"multi_thread\")]\n    #[expect(x, reason = \"a; b\")]\n    \
                /// Says.\n    async fn it_waits() {}\n}\n#[cfg(test)]\nfn made() {}";
            check_vocabulary(&[file("a.rs", source), file(VOCABULARY, &table)]).len()
        };
        assert_eq!(check("| `Entry` | `a.rs` | `it_seals` |"), 0);
        assert_eq!(check("| `Entry` | `a.rs` | `it_waits` |"), 0);
        assert_eq!(check("| `Entry` | `a.rs` | `helps` |"), 1);
        assert_eq!(check("| `Entry` | `a.rs` | `made` |"), 1);
        assert_eq!(check("| `Entity` | `a.rs` | `it_seals` |"), 1);
        assert_eq!(check("| `Entry` | `b.rs` | `it_seals` |"), 1);
        assert_eq!(check("| `Entry` | `a.rs` | `it_opens` |"), 1);
        assert_eq!(check("| `Entry` | `a.rs` | |"), 1);
        assert_eq!(check_vocabulary(&[]).len(), 1);
    }

    #[test]
    fn a_row_of_the_scenarios_without_its_file_or_what_shows_it_fails() {
        let check = |row: &str| {
            let table = format!(
                "| what holds | test | where |\n|---|---|---|\n{row}\n\n## Not shown yet\n\n| `b` | `b` | `b.rs` |\n"
            );
            let source = file("a.rs", "async fn it_seals() { event(\"cut\"); } fn resume(plan: &Plan) {}");
            check_scenarios(&[source, file(SCENARIOS, &table)]).len()
        };
        for row in ["`it_seals`", "`engines: \"cut\"`", "`sessions: \"cut\"`", "`processes: resume`"] {
            assert_eq!(check(&format!("| it holds | {row} | `a.rs` |")), 0, "{row}");
            assert_eq!(check(&format!("| it holds | {row} | `b.rs` |")), 1, "{row}");
            assert_eq!(check(&format!("| {row} | `a.rs` |")), 1, "{row}");
        }
        for row in ["`it_opens`", "`it`", "``", "`engines: \"c\"`", "`engines: \"\"`", "`processes: import`"]
        {
            assert_eq!(check(&format!("| it holds | {row} | `a.rs` |")), 1, "{row}");
        }
        assert_eq!(check_scenarios(&[]).len(), 1);
    }

    #[test]
    fn a_decision_that_is_not_listed_fails() {
        let mut files = vec![file("docs/adr/0001-a.md", ""), file("docs/adr/README.md", "[a](0001-a.md)")];
        assert_eq!(check_decisions(&files), []);
        files.insert(1, file("docs/adr/0001-b.md", ""));
        assert_eq!(check_decisions(&files).len(), 2);
    }
}
