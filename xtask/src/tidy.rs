//! Rules for source and documents that the compiler does not know.

mod docs;
mod readme;
mod source;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::run::{Failure, Flags, read, root};

/// One place that does not keep a rule.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    path: PathBuf,
    line: usize,
    rule: String,
}

impl Fault {
    fn new(path: &Path, line: usize, rule: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule: rule.into() }
    }
}

/// A text file of the repository, with its path from the root.
struct Text {
    path: PathBuf,
    text: String,
}

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let flags = Flags::parse(args, &["--fix", "--fix-protocol"])?;
    if flags.has("--fix") {
        readme::write_all()?;
    }
    if flags.has("--fix-protocol") {
        docs::write_protocol_hash()?;
    }
    let files = texts()?;
    let mut faults = Vec::new();
    for file in &files {
        if file.path.extension().is_some_and(|extension| extension == "rs") {
            faults.extend(source::check(&file.path, &file.text));
        }
        if file.path.extension().is_some_and(|extension| extension == "md") {
            faults.extend(docs::check_links(&file.path, &file.text, &|target| root().join(target).exists()));
        }
        faults.extend(source::check_words(&file.path, &file.text));
    }
    faults.extend(readme::check_all()?);
    faults.extend(docs::check_protocol()?);
    faults.extend(docs::check_decisions(&files));
    faults.extend(docs::check_names(&files));
    faults.extend(docs::check_vocabulary(&files));
    faults.extend(docs::check_scenarios(&files));
    faults.extend(docs::check_commands());
    faults.extend(source::check_sources(&read(&root().join("Cargo.lock"))?));
    if faults.is_empty() {
        println!("tidy: {} files keep the rules", files.len());
        return Ok(());
    }
    let mut message = format!("tidy: {} faults", faults.len());
    for Fault { path, line, rule } in faults {
        write!(message, "\n  {}:{line}: {rule}", path.display()).expect("writing to a string does not fail");
    }
    Err(Failure::new(message))
}

/// Every text file that belongs to the repository.
fn texts() -> Result<Vec<Text>, Failure> {
    const EXTENSIONS: [&str; 7] = ["rs", "md", "toml", "py", "txt", "yml", "sh"];
    let mut files = Vec::new();
    let mut open = vec![root().to_owned()];
    while let Some(dir) = open.pop() {
        let entries =
            std::fs::read_dir(&dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
        for entry in entries {
            let path = entry.map_err(|error| Failure::new(error.to_string()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let from_root = path.strip_prefix(root()).unwrap_or(&path).to_owned();
            if path.is_dir() {
                if !(name == ".git" || name == "target" || name == "__pycache__") {
                    open.push(path);
                }
            } else if EXTENSIONS.iter().any(|e| path.extension().is_some_and(|have| have == *e))
                || from_root == Path::new(".ci/run")
            {
                files.push(Text { text: read(&path)?, path: from_root });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
