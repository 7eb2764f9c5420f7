//! Sealed links over HTTP requests and responses.
