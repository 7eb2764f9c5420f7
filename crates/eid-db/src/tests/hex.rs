//! What golden vectors are written and read with.

use serde_json::Value as Json;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn bytes(value: &Json) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(crate) fn fixed<const N: usize>(value: &Json) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// Bytes that look like nothing and are always the same.
pub(crate) fn drawn<const N: usize>(label: &str) -> [u8; N] {
    let mut out = [0; N];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut out);
    out
}
