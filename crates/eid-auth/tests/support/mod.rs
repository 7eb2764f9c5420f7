//! What tests and examples share.

pub mod properties;
pub mod random;
