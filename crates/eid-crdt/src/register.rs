//! A register keeps the value with the greatest stamp.

use std::fmt::Debug;

use crate::crdt::Crdt;

/// A value with the stamp of the write that put it there, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register<S, V>(Option<(S, V)>);

impl<S, V> Default for Register<S, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S: Ord, V> Register<S, V> {
    /// Takes a register apart that was stored.
    #[must_use]
    pub fn from_parts(written: Option<(S, V)>) -> Self {
        Self(written)
    }

    /// Writes, unless what is there has a greater stamp.
    pub fn write(&mut self, stamp: S, value: V) {
        if self.0.as_ref().is_none_or(|(held, _)| *held < stamp) {
            self.0 = Some((stamp, value));
        }
    }

    /// The stamp and the value.
    #[must_use]
    pub fn get(&self) -> Option<(&S, &V)> {
        self.0.as_ref().map(|(stamp, value)| (stamp, value))
    }

    /// The stamp of the value.
    #[must_use]
    pub fn stamp(&self) -> Option<&S> {
        self.0.as_ref().map(|(stamp, _)| stamp)
    }

    /// The stamp, to be changed in a way that keeps its order.
    pub fn stamp_mut(&mut self) -> Option<&mut S> {
        self.0.as_mut().map(|(stamp, _)| stamp)
    }
}

impl<S: Ord + Clone + Debug, V: Clone + PartialEq + Debug> Crdt for Register<S, V> {
    type Stamp = S;
    type Op = V;
    type View = Option<V>;

    fn apply(&mut self, stamp: &S, op: &V) {
        self.write(stamp.clone(), op.clone());
    }

    fn join(&mut self, other: &Self) {
        if let Some((stamp, value)) = &other.0 {
            self.write(stamp.clone(), value.clone());
        }
    }

    fn view(&self) -> Option<V> {
        self.0.as_ref().map(|(_, value)| value.clone())
    }
}

/// Raises a stamp to the greater of two. An absent one is below all.
pub(crate) fn raise<S: Ord + Clone>(held: &mut Option<S>, stamp: &S) {
    if held.as_ref().is_none_or(|held| held < stamp) {
        *held = Some(stamp.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;

    crate::crdt_laws!(laws, Register<u64, u8>, ops = any::<u8>(), naive = |ops| ops.last().copied());
}
