//! Writes the golden vectors: `cargo run -p eid-core --example vectors -- vectors` (from the root of the workspace).

mod make;

use std::path::PathBuf;

#[expect(clippy::disallowed_methods, reason = "a program for developers writes files")]
fn main() -> std::io::Result<()> {
    let dir: PathBuf = std::env::args_os().nth(1).unwrap_or_else(|| "vectors".into()).into();
    std::fs::write(dir.join("entries.json"), make::entries_json())?;
    std::fs::write(dir.join("signatures.json"), make::signatures_json())
}
