//! Writes the golden vectors: `cargo run -p eid-core --example vectors -- vectors` (from the root of the workspace).

mod make;

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let dir: PathBuf = std::env::args_os().nth(1).unwrap_or_else(|| "vectors".into()).into();
    std::fs::write(dir.join("entries.json"), make::entries_json())?;
    std::fs::write(dir.join("signatures.json"), make::signatures_json())
}
