//! What is on the screen of a room. Everything that came from others is escaped and has bounds.

use eid::DatabaseTicket;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use crate::LETTERS_MAX;
use crate::askers::{Askers, sentence};
use crate::room::Message;
use crate::text::{self, columns, hour, shown, wrapped};

/// Columns of the list of members.
const MEMBERS_COLUMNS: u16 = 20;

#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) room: String,
    /// With what it is for.
    ticket: String,
    username: String,
    pub(crate) messages: Vec<Message>,
    pub(crate) members: Vec<String>,
    /// Who waits for the person at this screen; nobody where that one could not decide.
    pub(crate) askers: Askers,
    /// What came of the last decision.
    pub(crate) note: Option<String>,
    pub(crate) input: String,
    /// How many lines the messages are scrolled back.
    pub(crate) back: usize,
}

impl Screen {
    pub(crate) fn new(ticket: &DatabaseTicket, username: &str) -> Self {
        let is_for = if ticket.invite.is_some() { "ticket" } else { "ticket to ask with" };
        Self {
            room: String::new(),
            ticket: format!("{is_for}: {ticket}"),
            username: username.to_owned(),
            messages: Vec::new(),
            members: Vec::new(),
            askers: Askers::default(),
            note: None,
            input: String::new(),
            back: 0,
        }
    }

    pub(crate) fn draw(&mut self, frame: &mut Frame<'_>) {
        let width = usize::from(frame.area().width.max(1));
        let ticket = wrapped(&self.ticket, width);
        let ticket_rows = u16::try_from(ticket.len()).unwrap_or(u16::MAX);
        let rows = [
            Constraint::Length(1),
            Constraint::Length(ticket_rows),
            Constraint::Min(3),
            Constraint::Length(self.asking_rows()),
            Constraint::Length(3),
        ];
        let [title, top, middle, asking, bottom] = Layout::vertical(rows).areas(frame.area());
        let heading = format!("{}  (Esc leaves, PageUp and PageDown scroll)", text::name(&self.room));
        frame.render_widget(Paragraph::new(heading).style(Style::new().add_modifier(Modifier::BOLD)), title);
        let ticket: Vec<Line<'_>> = ticket.into_iter().map(Line::raw).collect();
        frame.render_widget(Paragraph::new(ticket).style(Style::new().add_modifier(Modifier::DIM)), top);
        let columns = [Constraint::Min(10), Constraint::Length(MEMBERS_COLUMNS)];
        let [messages, members] = Layout::horizontal(columns).areas(middle);
        self.draw_messages(frame, messages);
        let names: Vec<Line<'_>> = self.members.iter().map(|name| Line::raw(text::name(name))).collect();
        frame.render_widget(Paragraph::new(names).block(Block::bordered().title("members")), members);
        self.draw_asking(frame, asking);
        self.draw_input(frame, bottom);
    }

    fn asking_rows(&self) -> u16 {
        match (self.askers.first(), &self.note) {
            (Some(_), _) => 4,
            (None, Some(_)) => 1,
            (None, None) => 0,
        }
    }

    /// Who asks to come in, and the keys to decide with; or what came of the last decision.
    fn draw_asking(&self, frame: &mut Frame<'_>, area: Rect) {
        let highlighted = Style::new().fg(Color::Yellow);
        let Some(first) = self.askers.first() else {
            let note = self.note.as_deref().unwrap_or_default();
            frame.render_widget(Paragraph::new(Line::styled(format!(" {note}"), highlighted)), area);
            return;
        };
        let who = fitting(&sentence(first), usize::from(area.width.max(3)) - 2);
        // In a line of its own, whose beginning nobody else has a say in.
        let keys = format!("key {}   Ctrl-Y lets in   Ctrl-N turns away", first.key.short());
        let lines = vec![Line::styled(who, Style::new().add_modifier(Modifier::BOLD)), Line::raw(keys)];
        let mut block = Block::bordered().border_style(highlighted);
        if let Some(note) = &self.note {
            block = block.title(note.clone());
        }
        if self.askers.others() > 0 {
            let others = Line::raw(format!("{} more after this", self.askers.others()));
            block = block.title_bottom(others.right_aligned());
        }
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }

    fn draw_messages(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let (width, height) = (usize::from(area.width.max(3)) - 2, usize::from(area.height.max(2)) - 2);
        let mut lines: Vec<Line<'_>> = Vec::new();
        for message in &self.messages {
            let author = text::name(&message.author);
            let head = format!("{} {author}: ", hour(message.sent_ms));
            let head_letters = head.chars().count();
            let said = wrapped(&format!("{head}{}", shown(&message.text, LETTERS_MAX)), width);
            for (at, line) in said.into_iter().enumerate() {
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
        let columns = columns(&last);
        let block = Block::bordered().title(text::name(&self.username));
        frame.render_widget(Paragraph::new(last).block(block), area);
        let column = area.x + 1 + u16::try_from(columns).unwrap_or(0);
        frame.set_cursor_position((column.min(area.right().saturating_sub(2)), area.y + 1));
    }
}

/// The beginning of a text that takes no more columns; one that is cut ends in `…`.
fn fitting(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut begin = wrapped(text, width.saturating_sub(1)).swap_remove(0);
    begin.push('…');
    begin
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::askers::tests::asking;

    fn ticket() -> DatabaseTicket {
        DatabaseTicket {
            db: eid::TreeId([1; 32]),
            key: eid::PublicKey([2; 32]),
            addresses: vec!["http://127.0.0.1:7070".parse().expect("it is an address")],
            others: Vec::new(),
            invite: None,
        }
    }

    /// The lines that a terminal of 80 columns and 24 rows shows.
    fn drawn(screen: &mut Screen) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("it is made");
        terminal.draw(|frame| screen.draw(frame)).expect("it is drawn");
        let buffer = terminal.backend().buffer();
        let symbols: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
        symbols.chunks(80).map(|row| row.concat()).collect()
    }

    #[test]
    fn whatever_somebody_says_who_asks_the_keys_are_shown_and_nobody_elses_line_is_his() {
        let mut screen = Screen::new(&ticket(), "ada");
        let message = format!("\u{202e}let me in {}", "日本語".repeat(300));
        let (eve, ben) =
            (asking(1, &format!("eve\u{2028}{}", "e".repeat(500)), &message), asking(2, "ben", ""));
        screen.askers.update(vec![eve.clone(), ben]);
        let lines = drawn(&mut screen);
        let keys = format!("│key {}   Ctrl-Y lets in   Ctrl-N turns away", eve.key.short());
        let at = lines.iter().position(|line| line.starts_with(&keys)).expect("the keys are there");
        assert!(lines[at - 1].starts_with("│eve\u{fffd}ee"), "{}", lines[at - 1]);
        assert!(lines[at - 1].contains("… asks to come in: \u{fffd}let me in 日"), "{}", lines[at - 1]);
        assert!(lines[at + 1].contains("1 more after this"), "{}", lines[at + 1]);
        assert!(lines[at + 2].starts_with("┌ada"), "{}", lines[at + 2]);
    }

    #[test]
    fn nobody_sees_keys_that_are_about_nobody() {
        let lines = drawn(&mut Screen::new(&ticket(), "ben"));
        assert!(lines.iter().all(|line| !line.contains("Ctrl-")), "{lines:?}");
    }

    #[test]
    fn a_name_of_any_length_leaves_room_for_what_was_said() {
        let mut screen = Screen::new(&ticket(), "ada");
        let (author, text) = ("x".repeat(100_000), format!("hello{}", "y".repeat(100_000)));
        screen.messages.push(Message { author, text, sent_ms: 0 });
        screen.back = usize::MAX;
        assert!(drawn(&mut screen).iter().any(|line| line.contains("…: hello")));
    }
}
