//! What every type of this crate promises.

use std::fmt::Debug;

/// A state that stamped operations change and that merges with others of its kind.
///
/// # Contract
/// No two operations have the same stamp. Then, for all operations and states made of them:
/// applying in any order, and any of them again, gives the same [`Crdt::View`]; joining is commutative, associative
/// and idempotent in the view; and joining states gives the view of applying the operations of both. [`crate::crdt_laws!`]
/// tests this.
pub trait Crdt: Clone + Default + Debug {
    /// Where an operation stands among all others.
    type Stamp: Ord + Clone + Debug;
    /// What can be done to the state.
    type Op: Clone + Debug;
    /// What can be seen of the state.
    type View: PartialEq + Debug;

    /// Applies one operation.
    fn apply(&mut self, stamp: &Self::Stamp, op: &Self::Op);
    /// Takes over what another state has.
    fn join(&mut self, other: &Self);
    /// What can be seen.
    fn view(&self) -> Self::View;
}

/// States the laws of a [`Crdt`] as property tests, against a naive fold.
///
/// `ops` is a proptest strategy for one operation; `naive` gives the view after operations that come in the order of
/// their stamps, without looking at stamps. Stamps are `u64`.
#[macro_export]
macro_rules! crdt_laws {
    ($name:ident, $type:ty, ops = $ops:expr, naive = $naive:expr) => {
        mod $name {
            use super::*;

            type Op = <$type as $crate::Crdt>::Op;
            type View = <$type as $crate::Crdt>::View;

            fn fold<'a>(ops: impl IntoIterator<Item = &'a (u64, Op)>) -> $type {
                let mut state = <$type>::default();
                for (stamp, op) in ops {
                    $crate::Crdt::apply(&mut state, stamp, op);
                }
                state
            }

            fn joined(a: &$type, b: &$type) -> $type {
                let mut state = a.clone();
                $crate::Crdt::join(&mut state, b);
                state
            }

            ::proptest::proptest! {
                #[test]
                fn any_order_and_repetition_gives_the_naive_fold(
                    ops in ::proptest::collection::vec($ops, 0..24),
                    keys in ::proptest::collection::vec(::proptest::prelude::any::<u16>(), 24),
                    again in ::proptest::collection::vec(::proptest::prelude::any::<u16>(), 0..6),
                ) {
                    let naive: fn(&[Op]) -> View = $naive;
                    let stamped: Vec<(u64, Op)> = ops.iter().cloned().enumerate().map(|(i, op)| (i as u64, op)).collect();
                    let mut order: Vec<usize> = (0..stamped.len()).collect();
                    order.sort_by_key(|i| keys[*i]);
                    if !order.is_empty() {
                        for pick in &again {
                            order.insert(usize::from(*pick) % order.len(), usize::from(*pick) % stamped.len());
                        }
                    }
                    let found = fold(order.iter().map(|i| &stamped[*i]));
                    let found = $crate::Crdt::view(&found);
                    ::proptest::prop_assert_eq!(found, naive(&ops));
                }

                #[test]
                fn joining_is_commutative_associative_and_idempotent(
                    ops in ::proptest::collection::vec(($ops, 1u8..8), 0..18),
                ) {
                    let part = |bit: u8| {
                        let stamped: Vec<(u64, Op)> = ops.iter().enumerate()
                            .filter(|(_, (_, parts))| parts & bit != 0)
                            .map(|(i, (op, _))| (i as u64, op.clone())).collect();
                        fold(&stamped)
                    };
                    let naive: fn(&[Op]) -> View = $naive;
                    let all: Vec<Op> = ops.iter().map(|(op, _)| op.clone()).collect();
                    let (a, b, c) = (part(1), part(2), part(4));
                    ::proptest::prop_assert_eq!(joined(&a, &b).view(), joined(&b, &a).view());
                    ::proptest::prop_assert_eq!(joined(&joined(&a, &b), &a).view(), joined(&a, &b).view());
                    let left = joined(&joined(&a, &b), &c);
                    ::proptest::prop_assert_eq!(left.view(), joined(&a, &joined(&b, &c)).view());
                    ::proptest::prop_assert_eq!(left.view(), naive(&all));
                }
            }
        }
    };
}
