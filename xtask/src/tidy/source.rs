//! Rules for Rust source, and words that belong into no file.

use std::path::Path;

use super::Fault;

/// What never stands in source, with the reason. Split in two, so that this file keeps its own rule.
const NEVER: &[(&str, &str, &str)] = &[
    ("#[", "ignore", "a test that does not run shows nothing"),
    ("should_", "panic", "a panic for another reason would pass: match on the result"),
    ("dbg", "!(", "left from a search for a fault"),
    ("todo", "!(", "a body that panics"),
    ("unimplemented", "!(", "a body that panics"),
    ("#[", "allow(", "use #[expect(.., reason = \"..\")], which fails when it is no longer needed"),
    ("#![", "allow(", "use #![expect(.., reason = \"..\")], which fails when it is no longer needed"),
    ("```", "ignore", "an example that is not compiled becomes wrong"),
    ("rust,", "ignore", "an example that is not compiled becomes wrong"),
    ("FIX", "ME", "a fault that is known is mended or written down as an issue"),
    ("TO", "DO", "work that is known is done or written down as an issue"),
];

/// What never stands in a test.
const NEVER_IN_TESTS: &[(&str, &str, &str)] = &[
    ("thread::", "sleep(", "a test that waits by hope: the thing under test lacks an event"),
    ("time::", "sleep(", "a test that waits by hope: the thing under test lacks an event"),
];

/// Places of one machine.
const MACHINE: &[(&str, &str)] =
    &[("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("/tm", "p/eid/"), ("/Us", "ers/")];

/// Where every dependency comes from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(path: &Path, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut in_tests = is_test_file(path);
    let mut parts =
        path.components().skip_while(|part| part.as_os_str() != "src").map(|part| part.as_os_str());
    let module_of_tests = parts.any(|part| part == "tests" || part == "tests.rs");
    if !module_of_tests && !text.starts_with("//!") && !text.starts_with("#!/") {
        faults.push(Fault::new(path, 1, "a file begins with //! and says what it is"));
    }
    for (number, line) in text.lines().enumerate() {
        in_tests |= line.trim_start().starts_with("#[cfg(test)]");
        let rules = NEVER.iter().chain(if in_tests { NEVER_IN_TESTS } else { &[] });
        for (a, b, reason) in rules {
            let word = format!("{a}{b}");
            // A macro named in documentation is not called, except in an example, which is compiled.
            let named = word.ends_with('(') && line.trim_start().starts_with("//");
            if line.contains(&word) && !named {
                faults.push(Fault::new(path, number + 1, format!("{word}: {reason}")));
            }
        }
    }
    faults
}

fn is_test_file(path: &Path) -> bool {
    let in_tests_dir = path.components().skip(1).any(|part| part.as_os_str() == "tests");
    in_tests_dir || path.file_name().is_some_and(|name| name == "tests.rs")
}

pub(super) fn check_words(path: &Path, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (a, b) in MACHINE {
            let word = format!("{a}{b}");
            if line.contains(&word) {
                faults.push(Fault::new(path, number + 1, format!("{word} is a place of one machine")));
            }
        }
    }
    faults
}

pub(super) fn check_sources(lock: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in lock.lines().enumerate() {
        let source = line.strip_prefix("source = ");
        if source.is_some_and(|source| source.trim_matches('"') != REGISTRY) {
            faults.push(Fault::new(
                Path::new("Cargo.lock"),
                number + 1,
                "a dependency from elsewhere than crates.io",
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> usize {
        check(Path::new(path), text).len()
    }

    #[test]
    fn a_file_without_a_first_sentence_fails_unless_it_is_a_module_of_tests() {
        assert_eq!(rules("crates/a/src/b.rs", "use c;\n"), 1);
        assert_eq!(rules("crates/a/src/b.rs", "//! Does b.\nuse c;\n"), 0);
        assert_eq!(rules("crates/a/src/b/tests.rs", "use super::*;\n"), 0);
        assert_eq!(rules("crates/a/src/tests/b.rs", "use super::*;\n"), 0);
        assert_eq!(rules("crates/a/tests/b.rs", "use super::*;\n"), 1);
    }

    #[test]
    fn each_word_that_never_stands_in_source_fails() {
        for (a, b, _) in NEVER {
            assert!(rules("crates/a/src/b.rs", &format!("//! B.\n    {a}{b}\n")) >= 1, "{a}{b}");
        }
    }

    #[test]
    fn sleeping_fails_in_tests_and_only_there() {
        for (a, b, _) in NEVER_IN_TESTS {
            let line = format!("{a}{b}1)");
            assert_eq!(rules("crates/a/src/b.rs", &format!("//! B.\n{line}\n")), 0);
            assert_eq!(rules("crates/a/tests/b.rs", &format!("//! B.\n{line}\n")), 1);
            assert_eq!(rules("crates/a/src/b.rs", &format!("//! B.\n#[cfg(test)]\n{line}\n")), 1);
        }
    }

    #[test]
    fn a_place_of_one_machine_fails_in_any_file() {
        for (a, b) in MACHINE {
            assert_eq!(check_words(Path::new("README.md"), &format!("see {a}{b}x")).len(), 1);
        }
    }

    #[test]
    fn a_dependency_from_elsewhere_fails() {
        assert_eq!(check_sources(&format!("source = \"{REGISTRY}\"\n")), []);
        assert_eq!(check_sources("source = \"git+https://example.org/x\"\n").len(), 1);
    }
}
