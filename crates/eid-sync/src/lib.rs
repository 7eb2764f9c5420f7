//! Driving sessions: the loop between links, the protocol and the store.
