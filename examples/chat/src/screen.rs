//! What is on the screen. Everything that came from others is shown without control characters.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};
use unicode_width::UnicodeWidthChar as _;

use crate::room::Message;

/// Columns of the list of members.
const MEMBERS_COLUMNS: u16 = 20;

#[derive(Debug)]
pub(crate) struct Screen {
    room: String,
    ticket: String,
    username: String,
    pub(crate) messages: Vec<Message>,
    pub(crate) members: Vec<String>,
    pub(crate) input: String,
    /// How many lines the messages are scrolled back.
    pub(crate) back: usize,
}

impl Screen {
    pub(crate) fn new(room: String, ticket: &str, username: &str) -> Self {
        Self {
            room,
            ticket: ticket.to_owned(),
            username: username.to_owned(),
            messages: Vec::new(),
            members: Vec::new(),
            input: String::new(),
            back: 0,
        }
    }

    pub(crate) fn draw(&mut self, frame: &mut Frame<'_>) {
        let width = usize::from(frame.area().width.max(1));
        let ticket = wrapped(&format!("ticket: {}", self.ticket), width);
        let ticket_rows = u16::try_from(ticket.len()).unwrap_or(u16::MAX);
        let rows = [
            Constraint::Length(1),
            Constraint::Length(ticket_rows),
            Constraint::Min(3),
            Constraint::Length(3),
        ];
        let [title, top, middle, bottom] = Layout::vertical(rows).areas(frame.area());
        let heading = format!("{}  (Esc leaves, PageUp and PageDown scroll)", shown(&self.room));
        frame.render_widget(Paragraph::new(heading).style(Style::new().add_modifier(Modifier::BOLD)), title);
        let ticket: Vec<Line<'_>> = ticket.into_iter().map(Line::raw).collect();
        frame.render_widget(Paragraph::new(ticket).style(Style::new().add_modifier(Modifier::DIM)), top);
        let columns = [Constraint::Min(10), Constraint::Length(MEMBERS_COLUMNS)];
        let [messages, members] = Layout::horizontal(columns).areas(middle);
        self.draw_messages(frame, messages);
        let names: Vec<Line<'_>> = self.members.iter().map(|name| Line::raw(shown(name))).collect();
        frame.render_widget(Paragraph::new(names).block(Block::bordered().title("members")), members);
        self.draw_input(frame, bottom);
    }

    fn draw_messages(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let (width, height) = (usize::from(area.width.max(3)) - 2, usize::from(area.height.max(2)) - 2);
        let mut lines: Vec<Line<'_>> = Vec::new();
        for message in &self.messages {
            let author = shown(&message.author);
            let head = format!("{} {author}: ", hour(message.sent_ms));
            let head_letters = head.chars().count();
            for (at, line) in
                wrapped(&format!("{head}{}", shown(&message.text)), width).into_iter().enumerate()
            {
                if at == 0 && line.chars().count() >= head_letters {
                    let cut = line.char_indices().nth(head_letters).map_or(line.len(), |(cut, _)| cut);
                    let (head, text) = line.split_at(cut);
                    let bold = Style::new().add_modifier(Modifier::BOLD);
                    lines.push(Line::from(vec![
                        Span::styled(head.to_owned(), bold),
                        Span::raw(text.to_owned()),
                    ]));
                } else {
                    lines.push(Line::raw(line));
                }
            }
        }
        self.back = self.back.min(lines.len().saturating_sub(height));
        let end = lines.len() - self.back;
        let from = end.saturating_sub(height);
        let seen: Vec<Line<'_>> = lines.drain(from..end).collect();
        let title = if self.back > 0 { format!("{} lines below", self.back) } else { "messages".to_owned() };
        frame.render_widget(Paragraph::new(seen).block(Block::bordered().title(title)), area);
    }

    fn draw_input(&self, frame: &mut Frame<'_>, area: Rect) {
        let width = usize::from(area.width.max(4)) - 3;
        // The end of what is typed is what is looked at.
        let last = wrapped(&self.input, width).pop().unwrap_or_default();
        let columns: usize = last.chars().map(|letter| letter.width().unwrap_or(0)).sum();
        let block = Block::bordered().title(shown(&self.username));
        frame.render_widget(Paragraph::new(last).block(block), area);
        let column = area.x + 1 + u16::try_from(columns).unwrap_or(0);
        frame.set_cursor_position((column.min(area.right().saturating_sub(2)), area.y + 1));
    }
}

/// A text without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Hours and minutes, in the time of Greenwich.
fn hour(ms: u64) -> String {
    let minutes = ms / 60_000;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// A text in lines of at most so many columns.
fn wrapped(text: &str, width: usize) -> Vec<String> {
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

#[expect(clippy::print_stderr, reason = "said before the screen is drawn")]
pub(crate) fn note(line: &str) {
    eprintln!("chat: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_no_more_columns_than_there_are_and_lose_no_letter() {
        for text in ["", "a", "abcdefgh", "日本語日本語", "a日b本c語"] {
            let lines = wrapped(text, 4);
            assert_eq!(lines.concat(), text);
            let widest = lines.iter().map(|line| line.chars().filter_map(|l| l.width()).sum::<usize>()).max();
            assert!(widest <= Some(4), "{lines:?}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn the_hour_is_of_the_day() {
        assert_eq!(hour(1_767_225_600_000 + 61 * 60_000), "01:01");
    }
}
