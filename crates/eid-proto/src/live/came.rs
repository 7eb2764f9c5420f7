//! Which entries came over a connection: bounded, the oldest are forgotten.

use std::collections::{BTreeSet, VecDeque};

use eid_core::EntryId;

use crate::limits::CAME_MAX;

#[derive(Debug, Default)]
pub(super) struct Came {
    ids: BTreeSet<EntryId>,
    order: VecDeque<EntryId>,
}

impl Came {
    pub(super) fn insert(&mut self, id: EntryId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > CAME_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, id: &EntryId) -> bool {
        self.ids.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_no_more_are_kept() {
        let mut came = Came::default();
        let id = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            EntryId(bytes)
        };
        (0..=CAME_MAX).for_each(|n| came.insert(id(n)));
        came.insert(id(CAME_MAX));
        assert!(!came.contains(&id(0)) && came.contains(&id(1)) && came.contains(&id(CAME_MAX)));
        assert_eq!((came.ids.len(), came.order.len()), (CAME_MAX, CAME_MAX));
    }
}
