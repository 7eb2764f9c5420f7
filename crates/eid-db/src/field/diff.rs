//! What turns one text into another, in few pieces: Myers, "An O(ND) Difference Algorithm and Its Variations", 1986.

use crate::limits::{TEXT_DIFFERENCE_MAX, TEXT_EQUAL_MIN};

/// Deletes characters from a position of the text before on, and inserts others there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Splice {
    pub(crate) at: usize,
    pub(crate) delete: usize,
    pub(crate) insert: String,
}

/// A run of `before` that is replaced by a run of `after`.
#[derive(Debug, Clone, Copy)]
struct Hunk {
    before: (usize, usize),
    after: (usize, usize),
}

/// The difference, ascending: what is in between is equal.
pub(crate) fn splices(before: &str, after: &str) -> Vec<Splice> {
    let before: Vec<char> = before.chars().collect();
    let after: Vec<char> = after.chars().collect();
    let shorter = before.len().min(after.len());
    let head = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    let tail = tail.min(shorter - head);
    let (old, new) = (&before[head..before.len() - tail], &after[head..after.len() - tail]);
    if old.is_empty() && new.is_empty() {
        return Vec::new();
    }
    let whole = Hunk { before: (0, old.len()), after: (0, new.len()) };
    let hunks = hunks(old, new).unwrap_or_else(|| vec![whole]);
    let splice = |hunk: Hunk| Splice {
        at: head + hunk.before.0,
        delete: hunk.before.1 - hunk.before.0,
        insert: new[hunk.after.0..hunk.after.1].iter().collect(),
    };
    hunks.into_iter().map(splice).collect()
}

/// The shortest difference, unless it is longer than the limit.
fn hunks(old: &[char], new: &[char]) -> Option<Vec<Hunk>> {
    // The furthest place in `old` on each diagonal (place in `old` less place in `new`) after each number of edits.
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let furthest = |round: &[usize], edits: usize, diagonal: isize| -> usize {
        usize::try_from(diagonal + edits as isize).map_or(0, |index| round[index / 2])
    };
    let reached = (0..=TEXT_DIFFERENCE_MAX).find(|&edits| {
        let mut round = Vec::with_capacity(edits + 1);
        let mut done = false;
        for step in 0..=edits {
            let diagonal = 2 * step as isize - edits as isize;
            let mut x = match rounds.last() {
                None => 0,
                Some(last) if is_insert(last, edits, diagonal, &furthest) => {
                    furthest(last, edits - 1, diagonal + 1)
                }
                Some(last) => furthest(last, edits - 1, diagonal - 1) + 1,
            };
            while let Some(y) = x.checked_add_signed(-diagonal)
                && x < old.len()
                && y < new.len()
                && old[x] == new[y]
            {
                x += 1;
            }
            done |= x >= old.len() && x.checked_add_signed(-diagonal).is_some_and(|y| y >= new.len());
            round.push(x);
        }
        rounds.push(round);
        done
    })?;
    let (mut x, mut y) = (old.len(), new.len());
    let mut hunks: Vec<Hunk> = Vec::new();
    for edits in (1..=reached).rev() {
        let last = &rounds[edits - 1];
        let diagonal = x as isize - y as isize;
        let came_by_insert = is_insert(last, edits, diagonal, &furthest);
        let from = if came_by_insert { diagonal + 1 } else { diagonal - 1 };
        let start = furthest(last, edits - 1, from);
        let start_y = start.checked_add_signed(-from)?;
        let (end, end_y) = if came_by_insert { (start, start_y + 1) } else { (start + 1, start_y) };
        match hunks.last_mut() {
            Some(next) if next.before.0 - end < TEXT_EQUAL_MIN => {
                (next.before.0, next.after.0) = (start, start_y);
            }
            _ => hunks.push(Hunk { before: (start, end), after: (start_y, end_y) }),
        }
        (x, y) = (start, start_y);
    }
    hunks.reverse();
    Some(hunks)
}

/// Whether the furthest place on a diagonal is reached by an insert, and not by a delete.
fn is_insert(
    last: &[usize],
    edits: usize,
    diagonal: isize,
    furthest: &impl Fn(&[usize], usize, isize) -> usize,
) -> bool {
    let (least, greatest) = (-(edits as isize), edits as isize);
    diagonal == least
        || (diagonal != greatest
            && furthest(last, edits - 1, diagonal - 1) < furthest(last, edits - 1, diagonal + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn applied(before: &str, splices: &[Splice]) -> String {
        let mut text: Vec<char> = before.chars().collect();
        for splice in splices.iter().rev() {
            text.splice(splice.at..splice.at + splice.delete, splice.insert.chars());
        }
        text.into_iter().collect()
    }

    fn splice(at: usize, delete: usize, insert: &str) -> Splice {
        Splice { at, delete, insert: insert.to_owned() }
    }

    proptest! {
        #[test]
        fn the_difference_turns_one_text_into_the_other(before in "[ab\u{e9}\u{1f600}]{0,40}", after in "[ab\u{e9}\u{1f600}]{0,40}") {
            prop_assert_eq!(applied(&before, &splices(&before, &after)), after);
        }
    }

    #[test]
    fn edits_far_from_each_other_stay_apart() {
        let before = "the quick brown fox jumps over the lazy dog";
        assert_eq!(splices(before, before), []);
        assert_eq!(
            splices(before, "a quick brown fox jumps over the lazy cat"),
            [splice(0, 3, "a"), splice(40, 3, "cat")]
        );
        assert_eq!(splices("schön", "schöner"), [splice(5, 0, "er")]);
        assert_eq!(splices("aaa", "aa").len(), 1);
    }

    #[test]
    fn what_differs_too_much_is_replaced_as_one() {
        let (before, after) = ("ab".repeat(2000), "cd".repeat(2000));
        assert_eq!(splices(&before, &after), [splice(0, 4000, &after)]);
    }
}
