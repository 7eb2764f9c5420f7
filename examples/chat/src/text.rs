//! Texts as a terminal may show them: what comes from others is escaped and has bounds.

use unicode_width::UnicodeWidthChar as _;

/// Greatest number of letters of a name that are shown.
pub(crate) const NAME_LETTERS_MAX: usize = 32;

/// A text without what a terminal would obey, and of no more letters than these; one that is cut ends in `…`.
pub(crate) fn shown(text: &str, letters_max: usize) -> String {
    let mut shown = String::new();
    for (at, letter) in text.chars().enumerate() {
        if at == letters_max {
            shown.push('…');
            break;
        }
        shown.push(if steers(letter) { '\u{fffd}' } else { letter });
    }
    shown
}

/// A name as it is shown.
pub(crate) fn name(name: &str) -> String {
    shown(name, NAME_LETTERS_MAX)
}

/// Control characters, marks that change the direction of text, and line separators.
fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Hours and minutes, in the time of Greenwich.
pub(crate) fn hour(ms: u64) -> String {
    let minutes = ms / 60_000;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// How many columns a text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(|letter| letter.width().unwrap_or(0)).sum()
}

/// A text in lines of at most so many columns.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line, mut columns) = (Vec::new(), String::new(), 0);
    for letter in text.chars() {
        let more = letter.width().unwrap_or(0);
        if columns + more > width && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
            columns = 0;
        }
        line.push(letter);
        columns += more;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_no_more_columns_than_there_are_and_lose_no_letter() {
        for text in ["", "a", "abcdefgh", "日本語日本語", "a日b本c語"] {
            let lines = wrapped(text, 4);
            assert_eq!(lines.concat(), text);
            assert!(lines.iter().all(|line| columns(line) <= 4), "{lines:?}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        assert_eq!(shown("a\u{1b}[2Jb\n", 10), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(shown("\u{202e}nimda", 10), "\u{fffd}nimda");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(shown("abc", 3), "abc");
        assert_eq!(shown("abcd", 3), "abc…");
    }

    #[test]
    fn the_hour_is_of_the_day() {
        assert_eq!(hour(1_767_225_600_000 + 61 * 60_000), "01:01");
    }
}
