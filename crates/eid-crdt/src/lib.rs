//! Values that merge, as stamped operations: the same operations give the same value in whatever order they come.
//!
//! A stamp says where an operation stands among all others. This crate only compares stamps, so they are a type
//! parameter: anything that is `Ord + Clone`. It knows no entry, no DAG, no clock, no file and no map whose order
//! depends on a hash. Every type here is a join: applying operations in any order, or twice, or joining two states
//! gives what applying them once in the order of their stamps gives. [`crdt_laws!`] states this as property tests.
//!
//! ```
//! use eid_crdt::{Crdt, Doc, DocOp, Value};
//!
//! let path = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
//! let (mut here, mut there) = (Doc::<u64>::default(), Doc::<u64>::default());
//! let rename = DocOp::Set { path: path(&["profile", "name"]), value: Value::from("Ada") };
//! let visit = DocOp::Increment { path: path(&["visits"]), by: 1 };
//! here.apply(&1, &rename);
//! here.apply(&2, &visit);
//! there.apply(&2, &visit);
//! there.apply(&1, &rename);
//! assert_eq!(here.view(), there.view());
//! assert_eq!(here.get(&path(&["visits"])), Some(Value::from(1)));
//! ```
//!
//! Text and lists that many edit at once are in [`sequence`].

mod counter;
mod crdt;
mod doc;
#[cfg(feature = "json")]
mod json;
mod list;
mod node;
mod register;
mod row;
pub mod sequence;
mod value;

pub use counter::Counter;
pub use crdt::Crdt;
pub use doc::{Doc, DocOp, leaves};
pub use list::{List, ListOp};
pub use node::{Node, Shape};
pub use register::Register;
pub use row::{FieldState, FieldView, ROW_FIELDS_MAX, RowOp, RowState};
pub use value::{Finite, Integer, Value};
