//! Where commands write. They never print: they hand pieces to a sink, which is a terminal, a pipe, or the socket
//! of the program that asked.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use eid::control::{Frame, Reader};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

/// Nobody reads the output any more: the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct Gone;

/// Takes what a command has to say, in order.
pub trait Sink: Send + Sync {
    /// Takes one piece.
    ///
    /// # Errors
    /// When nobody reads it any more.
    fn put(&self, frame: Frame) -> Result<(), Gone>;
}

/// A command's output. Clones write to the same place.
#[derive(Clone)]
pub struct Out {
    sink: Arc<dyn Sink>,
    reader: Reader,
    json: bool,
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("json", &self.json).finish_non_exhaustive()
    }
}

impl Out {
    /// Output to this sink, for this reader.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>, reader: Reader, json: bool) -> Self {
        Self { sink, reader, json }
    }

    /// A piece as it is, for output that another process made.
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn put(&self, frame: Frame) -> Result<(), Gone> {
        self.sink.put(frame)
    }

    /// Whether programs read it.
    #[must_use]
    pub fn json(&self) -> bool {
        self.json
    }

    /// The same place, read by programs or by people.
    #[must_use]
    pub fn with_json(&self, json: bool) -> Self {
        Self { json, ..self.clone() }
    }

    /// One JSON value on a line of its own.
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn value(&self, value: &Value) -> Result<(), Gone> {
        self.sink.put(Frame::Out(json_line(value)))
    }

    /// Text for people; names in it have gone through [`printable`].
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn text(&self, text: impl Into<String>) -> Result<(), Gone> {
        self.sink.put(Frame::Out(text.into()))
    }

    /// Text for people that takes the place of what a terminal shows; elsewhere it comes after it.
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn page(&self, text: &str) -> Result<(), Gone> {
        let clear = if self.reader.out_is_terminal { "\x1b[2J\x1b[H" } else { "" };
        self.text(format!("{clear}{text}"))
    }

    /// Data as it is; on a terminal, what would steer the terminal is escaped.
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn data(&self, data: &str) -> Result<(), Gone> {
        let shown = if self.reader.out_is_terminal { escape(data, true) } else { data.to_owned() };
        self.sink.put(Frame::Out(shown))
    }

    /// Either the JSON value or the text, whichever is read.
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn say(&self, value: &Value, text: impl FnOnce() -> String) -> Result<(), Gone> {
        if self.json { self.value(value) } else { self.text(text()) }
    }

    /// A remark on standard error.
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn note(&self, text: impl Into<String>) -> Result<(), Gone> {
        self.sink.put(Frame::Err(text.into()))
    }

    /// How far a long command is.
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn progress(&self, label: &str, done: u64, total: u64) -> Result<(), Gone> {
        self.sink.put(Frame::Progress { label: label.to_owned(), done, total })
    }

    /// Emphasised on a colour terminal.
    #[must_use]
    pub fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    /// Pushed back on a colour terminal.
    #[must_use]
    pub fn dim(&self, text: &str) -> String {
        self.styled("2", text)
    }

    /// Good news on a colour terminal.
    #[must_use]
    pub fn good(&self, text: &str) -> String {
        self.styled("32", text)
    }

    /// What is gone or wrong, on a colour terminal.
    #[must_use]
    pub fn bad(&self, text: &str) -> String {
        self.styled("31", text)
    }

    /// In one of some colours that are told apart well, on a colour terminal.
    #[must_use]
    pub fn hue(&self, number: usize, text: &str) -> String {
        const HUES: [&str; 12] = ["34", "35", "33", "36", "32", "31", "94", "95", "93", "96", "92", "91"];
        self.styled(HUES[number % HUES.len()], text)
    }

    /// White on black, whatever the terminal has, on a colour terminal.
    #[must_use]
    pub fn white_on_black(&self, text: &str) -> String {
        self.styled("97;40", text)
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.reader.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Rows under a heading, in columns. Columns whose heading begins with `>` are aligned to the right.
    #[must_use]
    pub fn columns(&self, headings: &[&str], rows: &[Vec<String>]) -> String {
        let right: Vec<bool> = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let headings: Vec<String> = headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        let mut widths: Vec<usize> = headings.iter().map(|heading| heading.width()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (index, cell) in cells.iter().enumerate() {
                let pad = " ".repeat(widths[index].saturating_sub(cell.width()));
                let gap = if index == 0 { "" } else { "  " };
                let shown =
                    if right[index] { format!("{gap}{pad}{cell}") } else { format!("{gap}{cell}{pad}") };
                line.push_str(&shown);
            }
            line.trim_end().to_owned()
        };
        let mut text = self.bold(&line(&headings));
        for row in rows {
            text.push('\n');
            text.push_str(&line(row));
        }
        text
    }
}

/// A value on one line. Characters that could steer a terminal are written as `\u` escapes: the same JSON value.
#[must_use]
pub fn json_line(value: &Value) -> String {
    let plain = value.to_string();
    if !plain.chars().any(steers) {
        return plain;
    }
    let mut line = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        if steers(c) {
            write!(line, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
        } else {
            line.push(c);
        }
    }
    line
}

/// A name as it may be shown on a terminal: what would steer it is escaped.
#[must_use]
pub fn printable(name: &str) -> String {
    escape(name, false)
}

fn escape(text: &str, keep_lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) && !(keep_lines && matches!(c, '\n' | '\t')) {
            write!(shown, "\\u{{{:x}}}", u32::from(c)).expect("a String takes everything");
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Control characters, marks that change the direction of text, and line separators.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Text whose colours, which were chosen for standard output, are taken out again.
fn without_colour(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or(piece, |(_, rest)| rest));
    }
    plain
}

/// Bytes for people.
#[must_use]
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count;
    let mut tenths = 0;
    let mut unit = 0;
    while value >= 1_000 && unit + 1 < units.len() {
        tenths = (value % 1_000) / 100;
        value /= 1_000;
        unit += 1;
    }
    if unit == 0 { format!("{value} B") } else { format!("{value}.{tenths} {}", units[unit]) }
}

/// A number with thin groups of thousands.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many there are of something: `1 row`, `2,000 rows`.
#[must_use]
pub fn number_of(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { more })
}

/// Standard output and error of this process, with a progress bar on a terminal.
pub struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
    err_is_terminal: bool,
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

impl Terminal {
    /// The streams of this process.
    #[must_use]
    pub fn new() -> Self {
        Self { bar: Mutex::new(None), err_is_terminal: io::stderr().is_terminal() }
    }

    /// What reads the output of this process.
    #[must_use]
    pub fn reader() -> Reader {
        let out_is_terminal = io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Reader { out_is_terminal, colour: out_is_terminal && !no_colour && !dumb }
    }

    fn show_progress(&self, label: &str, done: u64, total: u64) {
        if !self.err_is_terminal {
            return;
        }
        let mut slot = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = slot.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style(total));
            bar.set_message(printable(label));
            bar
        });
        if bar.length() != Some(total) {
            bar.set_style(style(total));
            bar.set_length(total);
        }
        bar.set_message(printable(label));
        bar.set_position(done);
        if total > 0 && done >= total {
            bar.finish_and_clear();
            *slot = None;
        }
    }

    /// Runs `print` with the bar out of the way.
    fn beside_bar(&self, print: impl FnOnce() -> io::Result<()>) -> Result<(), Gone> {
        let slot = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let printed = match slot.as_ref() {
            Some(bar) => bar.suspend(print),
            None => print(),
        };
        printed.map_err(|_| Gone)
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

fn style(total: u64) -> ProgressStyle {
    let template =
        if total > 0 { "{msg} [{bar:30}] {percent:>3}% eta {eta}" } else { "{msg} {spinner} {human_pos}" };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Sink for Terminal {
    fn put(&self, frame: Frame) -> Result<(), Gone> {
        match frame {
            Frame::Out(line) => self.beside_bar(|| {
                let mut out = io::stdout().lock();
                writeln!(out, "{line}")?;
                out.flush()
            }),
            // Without a reader of remarks the command still has its result to give.
            Frame::Err(line) if !self.err_is_terminal => {
                writeln!(io::stderr(), "{}", without_colour(&line)).or(Ok(()))
            }
            Frame::Err(line) => self.beside_bar(|| writeln!(io::stderr(), "{line}")).or(Ok(())),
            Frame::Progress { label, done, total } => {
                self.show_progress(&label, done, total);
                Ok(())
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_on_a_line_holds_no_character_that_steers_and_keeps_its_value() {
        let value = json!({"name": "a\u{1b}[2J\u{9b}\u{202e}b\n"});
        let line = json_line(&value);
        assert!(!line.chars().any(steers), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn names_are_shown_without_what_steers() {
        assert_eq!(printable("Ada \u{2066}x\u{7f}\n"), "Ada \\u{2066}x\\u{7f}\\u{a}");
        assert_eq!(printable("Zoë 北"), "Zoë 北");
    }

    #[test]
    fn colours_are_taken_out_and_nothing_else() {
        assert_eq!(without_colour("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m mm [1m"), "error: mm [1m");
        assert_eq!(without_colour("plain"), "plain");
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(number_of(1, "row", "rows"), "1 row");
        assert_eq!(number_of(2_000, "row", "rows"), "2,000 rows");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_550), "1.5 kB");
        assert_eq!(bytes(4_194_304), "4.1 MB");
    }
}
