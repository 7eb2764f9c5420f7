//! The difference of two texts, small where it can be found in bounded work.

use std::ops::Range;

use super::pending::Replacement;
use super::rope::byte_of;
use crate::limits::DIFF_EDITS_MAX;

/// Replacements, first to last, that make one text the other; positions are those that hold once the replacements
/// before are made.
///
/// First by lines, then by characters within the lines that differ (Myers, "An O(ND) Difference Algorithm", 1986).
/// Parts that have less in common than [`DIFF_EDITS_MAX`] edits would show are replaced as a whole.
pub(crate) fn differences(old: &str, new: &str) -> Vec<Replacement> {
    let mut found = Vec::new();
    let (old_lines, new_lines): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let (old_ends, new_ends) = (ends(&old_lines), ends(&new_lines));
    // How far both texts are, in bytes, and the second in characters.
    let (mut read, mut at) = (0, 0);
    for (theirs, ours) in changed(&old_lines, &new_lines) {
        let (theirs, ours) = (bytes(&old_ends, &theirs), bytes(&new_ends, &ours));
        at += old[read..theirs.start].chars().count();
        read = theirs.end;
        within(&old[theirs], &new[ours.clone()], at, &mut found);
        at += new[ours].chars().count();
    }
    found
}

fn ends(lines: &[&str]) -> Vec<usize> {
    lines
        .iter()
        .scan(0, |end, line| {
            *end += line.len();
            Some(*end)
        })
        .collect()
}

fn bytes(ends: &[usize], lines: &Range<usize>) -> Range<usize> {
    let begin = |line: usize| line.checked_sub(1).map_or(0, |before| ends[before]);
    begin(lines.start)..begin(lines.end)
}

fn within(old: &str, new: &str, at: usize, found: &mut Vec<Replacement>) {
    let (theirs, ours): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
    for (removed, inserted) in changed(&theirs, &ours) {
        let byte = |at| byte_of(new, ours.len(), at);
        found.push(Replacement {
            at: at + inserted.start,
            removed: removed.len(),
            inserted: new[byte(inserted.start)..byte(inserted.end)].to_owned(),
        });
    }
}

type Changed = Vec<(Range<usize>, Range<usize>)>;

/// The parts of both lists that differ, in order.
fn changed<T: Eq>(old: &[T], new: &[T]) -> Changed {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (rest_old, rest_new) = (&old[start..], &new[start..]);
    let end = rest_old.iter().rev().zip(rest_new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&rest_old[..rest_old.len() - end], &rest_new[..rest_new.len() - end]);
    if a.is_empty() && b.is_empty() {
        return Vec::new();
    }
    let whole = || vec![(0..a.len(), 0..b.len())];
    let parts = if a.is_empty() || b.is_empty() { whole() } else { myers(a, b).unwrap_or_else(whole) };
    let moved = |part: Range<usize>| part.start + start..part.end + start;
    parts.into_iter().map(|(a, b)| (moved(a), moved(b))).collect()
}

/// The shortest edit, unless it is longer than what may be looked for.
fn myers<T: Eq>(a: &[T], b: &[T]) -> Option<Changed> {
    // How far each diagonal reaches, after each number of edits. Diagonal `k` is at `k + edits`.
    let mut reached: Vec<Vec<usize>> = Vec::new();
    let edits_max = DIFF_EDITS_MAX.min(a.len() + b.len());
    for edits in 0..=edits_max {
        let mut here = vec![0; 2 * edits + 1];
        for slot in (0..=2 * edits).step_by(2) {
            let mut x = match reached.last() {
                None => 0,
                Some(before) => step(before, slot).0,
            };
            // y = x - k
            let Some(mut y) = (x + edits).checked_sub(slot) else { continue };
            while x < a.len() && y < b.len() && a[x] == b[y] {
                (x, y) = (x + 1, y + 1);
            }
            here[slot] = x;
            if x >= a.len() && y >= b.len() {
                return Some(walk_back(&reached, slot, a.len(), b.len()));
            }
        }
        reached.push(here);
    }
    None
}

/// Where an edit on the way to a diagonal comes from: the point that is reached by it, and whether it took an element
/// of the first list.
fn step(before: &[usize], slot: usize) -> (usize, bool) {
    // Slots shift by one with each edit: the diagonal below is at `slot - 2`, the one above at `slot`.
    let above = before.get(slot).copied();
    let below = slot.checked_sub(2).map(|slot| before[slot] + 1);
    match (below, above) {
        (Some(below), Some(above)) if below > above => (below, true),
        (_, Some(above)) => (above, false),
        (Some(below), None) => (below, true),
        (None, None) => (0, false),
    }
}

fn walk_back(reached: &[Vec<usize>], mut slot: usize, a: usize, b: usize) -> Changed {
    let mut parts: Changed = Vec::new();
    let (mut edits, mut x, mut y) = (reached.len(), a, b);
    while edits > 0 {
        let (at, took) = step(&reached[edits - 1], slot);
        let to = (at, at + edits - slot);
        let from = if took { (to.0 - 1, to.1) } else { (to.0, to.1 - 1) };
        debug_assert!(to.0 <= x && to.1 <= y);
        match parts.last_mut() {
            Some((old, new)) if old.start == to.0 && new.start == to.1 => {
                (old.start, new.start) = from;
            }
            _ => parts.push((from.0..to.0, from.1..to.1)),
        }
        (x, y) = from;
        slot = if took { slot - 2 } else { slot };
        edits -= 1;
    }
    debug_assert!(x == y);
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::rope::Rope;
    use proptest::prelude::*;

    fn made(old: &str, new: &str) -> (String, usize) {
        let mut text = Rope::from(old);
        let mut touched = 0;
        for part in differences(old, new) {
            touched += part.removed + part.inserted.chars().count();
            text.delete(part.at, part.removed);
            text.insert(part.at, &part.inserted);
        }
        (text.text(), touched)
    }

    proptest! {
        #[test]
        fn the_difference_makes_one_text_the_other(old in "[ab\nß]{0,30}", new in "[ab\nß]{0,30}") {
            prop_assert_eq!(made(&old, &new).0, new);
        }

        #[test]
        fn edits_within_a_line_cost_no_more_than_they_are(
            old in "[a-d]{20,200}",
            edits in proptest::collection::vec((any::<prop::sample::Index>(), "[A-Z]{0,3}"), 0..4),
        ) {
            let most: usize = edits.iter().map(|(_, text)| 1 + text.len()).sum();
            let new = edited(&old, &edits);
            let (text, touched) = made(&old, &new);
            prop_assert!(touched <= most, "{} {}", touched, most);
            prop_assert_eq!(text, new);
        }

        #[test]
        fn an_edit_touches_a_few_lines(
            old in "[a-d\n]{20,200}",
            edits in proptest::collection::vec((any::<prop::sample::Index>(), "[A-Z]{0,3}"), 0..4),
        ) {
            let new = edited(&old, &edits);
            let (text, touched) = made(&old, &new);
            // An edit changes a line, or makes one of two; lines that are alike may be told apart otherwise.
            let longest = old.split_inclusive('\n').chain(new.split_inclusive('\n')).map(str::len).max();
            prop_assert!(touched <= 3 * edits.len() * longest.unwrap_or(0));
            prop_assert_eq!(text, new);
        }
    }

    /// The text with a character at each place replaced.
    fn edited(old: &str, edits: &[(prop::sample::Index, String)]) -> String {
        let mut new: Vec<char> = old.chars().collect();
        for (at, text) in edits {
            let at = at.index(new.len());
            new.splice(at..=at, text.chars());
        }
        new.into_iter().collect()
    }

    #[test]
    fn equal_texts_have_no_difference_and_unlike_ones_are_replaced() {
        assert_eq!(differences("same\nlines\n", "same\nlines\n"), []);
        let (old, new) = ("a".repeat(3000), "b".repeat(3000));
        let whole = Replacement { at: 0, removed: 3000, inserted: new.clone() };
        assert_eq!(differences(&old, &new), [whole]);
        let word = Replacement { at: 4, removed: 0, inserted: "big ".to_owned() };
        assert_eq!(differences("the dog", "the big dog"), [word]);
    }
}
