//! Which numbers of a channel have been accepted.

use crate::limits::NUMBERS_WINDOW;

const WORDS: usize = (NUMBERS_WINDOW / 64) as usize;

/// The numbers accepted so far: each is accepted once, and none that is [`NUMBERS_WINDOW`] or more behind the greatest.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// One more than the greatest number accepted.
    next: u64,
    /// One bit for each number of the window, at its remainder.
    seen: [u64; WORDS],
}

impl Numbers {
    /// Whether a number would be accepted.
    pub(crate) fn is_fresh(&self, number: u64) -> bool {
        match number {
            u64::MAX => false,
            _ if number >= self.next => true,
            _ => self.next - number <= NUMBERS_WINDOW && !self.bit(number),
        }
    }

    /// Accepts a number, once.
    pub(crate) fn accept(&mut self, number: u64) -> bool {
        if !self.is_fresh(number) {
            return false;
        }
        if number >= self.next {
            if number - self.next >= NUMBERS_WINDOW {
                self.seen = [0; WORDS];
            } else {
                for passed in self.next..number {
                    self.set(passed, false);
                }
            }
            self.next = number + 1;
        }
        self.set(number, true);
        true
    }

    fn bit(&self, number: u64) -> bool {
        let place = number % NUMBERS_WINDOW;
        self.seen[(place / 64) as usize] >> (place % 64) & 1 == 1
    }

    fn set(&mut self, number: u64, seen: bool) {
        let place = number % NUMBERS_WINDOW;
        let word = &mut self.seen[(place / 64) as usize];
        *word = *word & !(1 << (place % 64)) | u64::from(seen) << (place % 64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_accepted_once_and_a_late_one_while_it_is_in_the_window() {
        let mut numbers = Numbers::default();
        assert!(numbers.accept(0));
        assert!(!numbers.accept(0));
        assert!(numbers.accept(NUMBERS_WINDOW));
        assert!(!numbers.accept(0), "behind the window");
        assert!(numbers.accept(1), "the last of the window");
        assert!(!numbers.accept(1));
        assert!(!numbers.accept(u64::MAX), "there is no number after it");
        assert!(numbers.accept(u64::MAX - 1));
        assert!(!numbers.accept(2));
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set(steps in prop::collection::vec(0..3000_u64, 1..400)) {
            let mut numbers = Numbers::default();
            let mut seen = BTreeSet::new();
            for number in steps {
                let behind = seen.last().is_some_and(|last| last + 1 - number.min(*last) > NUMBERS_WINDOW);
                let fresh = !behind && !seen.contains(&number);
                prop_assert_eq!(numbers.is_fresh(number), fresh);
                prop_assert_eq!(numbers.accept(number), fresh);
                if fresh {
                    seen.insert(number);
                }
            }
        }
    }
}
