//! Tests of the crate as a whole: whatever its parts do, this is what somebody who uses it sees.

mod authority;
mod changes;
mod documents;
mod fields;
pub(crate) mod hex;
mod history;
mod instances;
mod lists;
mod live;
mod queries;
mod registry;
mod replicas;
mod rights;
mod sealed;
mod sealed_faults;
mod sealed_others;
mod sealed_reads;
mod sequences;
mod support;
mod tables;
mod texts;
mod transactions;
mod typed;
mod undo;
mod users;
mod void;
mod void_property;
