//! The README of a crate is its documentation, so that both say the same.

use std::path::PathBuf;

use super::Fault;
use crate::run::{Failure, read, root, write};

/// Each crate's name, its `lib.rs` (or `main.rs`) and its README.
fn crates() -> Result<Vec<(String, PathBuf, PathBuf)>, Failure> {
    let dir = root().join("crates");
    let entries =
        std::fs::read_dir(&dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
    let mut crates = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Failure::new(error.to_string()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let lib = path.join("src/lib.rs");
        let source = if lib.exists() { lib } else { path.join("src/main.rs") };
        if source.exists() {
            crates.push((name, source, path.join("README.md")));
        }
    }
    crates.sort();
    Ok(crates)
}

pub(super) fn write_all() -> Result<(), Failure> {
    for (name, source, target) in crates()? {
        let wanted = readme(&name, &read(&source)?);
        if std::fs::read_to_string(&target).is_ok_and(|held| held == wanted) {
            continue;
        }
        write(&target, &wanted)?;
        println!("tidy: wrote {}", target.display());
    }
    Ok(())
}

pub(super) fn check_all() -> Result<Vec<Fault>, Failure> {
    let mut faults = Vec::new();
    for (name, source, target) in crates()? {
        let wanted = readme(&name, &read(&source)?);
        let path = target.strip_prefix(root()).unwrap_or(&target);
        if !std::fs::read_to_string(&target).is_ok_and(|held| held == wanted) {
            faults.push(Fault::new(
                path,
                1,
                "differs from the documentation of the crate: run `cargo xtask tidy --fix`",
            ));
        }
    }
    Ok(faults)
}

/// The `//!` lines at the head of a source file, as a page of its own.
fn readme(name: &str, source: &str) -> String {
    let mut page = format!("# {name}\n\n");
    let mut in_code = false;
    for line in source.lines().map_while(|line| line.strip_prefix("//!")) {
        let line = line.strip_prefix(' ').unwrap_or(line);
        if let Some(language) = line.trim_start().strip_prefix("```") {
            in_code = !in_code;
            // Rust is what rustdoc takes a block for that names no language.
            let names_none = language.is_empty() || ["no_run", "compile_fail"].contains(&language);
            page.push_str(if in_code && names_none { "```rust" } else { line });
        } else if in_code && (line == "#" || line.starts_with("# ")) {
            continue;
        } else if in_code {
            page.push_str(line);
        } else {
            page.push_str(&without_links_to_items(line));
        }
        page.push('\n');
    }
    page
}

/// Links to items become their text: only rustdoc knows where items are. They have the form ``[`Entry`]``,
/// `[text](Entry)` or `[text](crate::Entry)`; links to files and pages stay.
fn without_links_to_items(line: &str) -> String {
    let is_item = |target: &str| target.chars().all(|c| c.is_alphanumeric() || "_:!".contains(c));
    let mut out = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('[') {
        let Some(end) = rest[start..].find(']').map(|at| start + at) else { break };
        let text = &rest[start + 1..end];
        let after = &rest[end + 1..];
        let target = after.strip_prefix('(').and_then(|open| open.split_once(')'));
        out.push_str(&rest[..start]);
        rest = match target {
            Some((target, behind)) if is_item(target) => {
                out.push_str(text);
                behind
            }
            None if text.starts_with('`') && text.ends_with('`') => {
                out.push_str(text);
                after
            }
            _ => {
                out.push_str(&rest[start..=end]);
                after
            }
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_the_documentation_without_what_only_rustdoc_reads() {
        let source = "//! Does x, see [`Entry`] and [`admit`](crate::admit).\n//!\n//! ```\n//! # use x;\n\
                      //! x();\n//! ```\nuse y;\n//! not this\n";
        let page = readme("eid-x", source);
        assert_eq!(page, "# eid-x\n\nDoes x, see `Entry` and `admit`.\n\n```rust\nx();\n```\n");
    }

    #[test]
    fn links_to_the_web_stay() {
        let line = "[a](https://b.c) and [`d`](https://e.f)";
        assert_eq!(without_links_to_items(line), line);
        assert_eq!(without_links_to_items("[a](b.md), x[0], [b"), "[a](b.md), x[0], [b");
    }

    #[test]
    fn links_to_items_become_their_text() {
        assert_eq!(
            without_links_to_items("hold [documents](DocStore), [`f!`], [g](crate::g)"),
            "hold documents, `f!`, g"
        );
    }

    #[test]
    fn every_crate_is_found() {
        let crates = crates().unwrap();
        assert!(crates.iter().any(|(name, source, _)| name == "eid-core" && source.is_file()));
        assert!(crates.iter().all(|(_, _, target)| target.starts_with(root())));
    }
}
