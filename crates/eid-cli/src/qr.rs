//! A text as a QR code of half blocks: two rows of modules are a line of a terminal, as characters are twice as high as wide.

use qrcode::{Color, EcLevel, QrCode};

use crate::failure::{Exit, Failure};
use crate::limits::{QR_BYTES_MAX, QR_QUIET};
use crate::output::Out;

/// The lines of a code that holds a text. Its light modules are drawn and its dark ones left out, as most terminals are
/// dark; where colours can be shown they are set, so that it is right on light ones too.
///
/// # Errors
/// When the text is longer than any code can hold.
pub(crate) fn drawn(out: &Out, text: &str) -> Result<String, Failure> {
    let lines = half_blocks(text).ok_or_else(|| {
        let message = format!(
            "the ticket is too long for a QR code: it has {} bytes, and a code holds {QR_BYTES_MAX}",
            text.len()
        );
        Failure::new(Exit::Failed, "too_large", message)
            .hint("it is good as a text; --address names one address instead of all")
    })?;
    Ok(lines.iter().map(|line| out.white_on_black(line)).collect::<Vec<_>>().join("\n"))
}

/// The least correction of errors, so that it is as small as can be: a screen does not get dirty.
fn half_blocks(text: &str) -> Option<Vec<String>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let size = code.width();
    let is_light = |column: usize, row: usize| {
        let inside = |place: usize| place.checked_sub(QR_QUIET).filter(|place| *place < size);
        match (inside(column), inside(row)) {
            (Some(column), Some(row)) => code[(column, row)] == Color::Light,
            _ => true,
        }
    };
    let whole = size + 2 * QR_QUIET;
    let line = |row: usize| {
        let block = |column| match (is_light(column, row), is_light(column, row + 1)) {
            (true, true) => '\u{2588}',
            (true, false) => '\u{2580}',
            (false, true) => '\u{2584}',
            (false, false) => ' ',
        };
        (0..whole).map(block).collect()
    };
    Some((0..whole).step_by(2).map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a camera reads of the lines, where blocks shine and everything else is dark.
    fn read(lines: &[String]) -> Option<String> {
        const MODULE: usize = 4;
        let width = lines.first()?.chars().count();
        let shines: Vec<Vec<bool>> = lines
            .iter()
            .flat_map(|line| {
                let half = |light: [char; 2]| line.chars().map(|c| light.contains(&c)).collect::<Vec<_>>();
                [half(['\u{2588}', '\u{2580}']), half(['\u{2588}', '\u{2584}'])]
            })
            .collect();
        assert!(shines.iter().all(|row| row.len() == width));
        let mut image =
            rqrr::PreparedImage::prepare_from_greyscale(width * MODULE, shines.len() * MODULE, |x, y| {
                if shines[y / MODULE][x / MODULE] { 255 } else { 0 }
            });
        let [grid] = &image.detect_grids()[..] else { return None };
        grid.decode().ok().map(|(_, text)| text)
    }

    #[test]
    fn what_is_drawn_reads_as_the_text() {
        let ticket = format!(
            "eid:?db={}&key=ed25519:{}&at=http://192.0.2.7:7070/#inv=",
            "b".repeat(60),
            "0".repeat(64)
        );
        for text in ["a", &ticket, &ticket.repeat(8)] {
            let lines = half_blocks(text).unwrap();
            assert_eq!(read(&lines).as_deref(), Some(text), "{}", lines.join("\n"));
            // Around it is light: four modules, which are two lines.
            let width = lines[0].chars().count();
            assert!(lines[..2].iter().all(|line| line.chars().eq(std::iter::repeat_n('\u{2588}', width))));
            assert!(lines.iter().all(|line| line.starts_with("\u{2588}\u{2588}\u{2588}\u{2588}")));
        }
    }

    #[test]
    fn a_text_fits_up_to_the_bound_and_not_beyond() {
        assert!(half_blocks(&"a".repeat(QR_BYTES_MAX)).is_some());
        assert!(half_blocks(&"a".repeat(QR_BYTES_MAX + 1)).is_none());
    }
}
