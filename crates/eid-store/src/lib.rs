//! Where entries rest: backends, the one door, and what is derived from entries.
