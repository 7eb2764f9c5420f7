//! A deterministic simulator: many peers, virtual time, faults.
