//! The way into a room that is not here yet: by a ticket that lets in, or by asking until somebody has decided.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use eid::{Database, DatabaseTicket, Error, ErrorKind, Instance, Permission};
use ratatui::Frame;
use ratatui::crossterm::event::Event;
use ratatui::layout::{Constraint, Flex, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Padding, Paragraph, Wrap};
use tokio::sync::mpsc;

use crate::askers::MESSAGE;
use crate::{keys, text};

/// How long a try may take; the next one goes on from there.
const WAIT: Duration = Duration::from_secs(30);
/// How long after an answer it is asked again. The request goes on in the background as well, but ever more seldom.
const AGAIN: Duration = Duration::from_secs(2);
/// Greatest number of columns and of rows that are drawn on.
const SIZE: (u16, u16) = (72, 16);
/// Greatest number of letters of what went wrong that are shown.
const TROUBLE_LETTERS_MAX: usize = 200;

/// How waiting at the door ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The room is here.
    In(Database),
    /// Somebody wanted to wait no more. What was asked for is remembered.
    Waiting,
    /// Somebody wanted to wait no more, before anything was asked for.
    Outside,
}

/// What is on the screen while the room is not here.
#[derive(Debug)]
pub(crate) struct Door {
    username: String,
    /// The key that the name is shown with where somebody decides.
    key: String,
    /// The device that the ticket leads to.
    server: String,
    gives_nothing: bool,
    /// Since when somebody has to decide.
    pending_since_ms: Option<u64>,
    trouble: Option<String>,
}

/// What this device has asked for by itself, and nobody has decided.
pub(crate) fn asked(node: &Instance) -> Result<Vec<DatabaseTicket>, Error> {
    let all = node.pending_joins()?.into_iter();
    Ok(all.filter(|asked| asked.key == node.device()).map(|asked| asked.ticket).collect())
}

impl Door {
    pub(crate) fn new(node: &Instance, ticket: &DatabaseTicket, username: &str) -> Result<Self, Error> {
        let mut this = Self {
            username: text::name(username),
            key: node.device().short(),
            server: ticket.key.short(),
            gives_nothing: ticket.invite.is_none(),
            pending_since_ms: None,
            trouble: None,
        };
        this.look(node, ticket)?;
        Ok(this)
    }

    /// Looks up since when somebody has to decide.
    fn look(&mut self, node: &Instance, ticket: &DatabaseTicket) -> Result<(), Error> {
        let mut all = node.pending_joins()?.into_iter();
        let own = all.find(|asked| asked.ticket.db == ticket.db && asked.key == node.device());
        self.pending_since_ms = own.map(|asked| asked.since_ms);
        Ok(())
    }

    /// Tries again and again to come in, until it is decided or somebody leaves.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`], [`ErrorKind::Refused`], and what trying again does not mend.
    pub(crate) async fn wait(
        mut self,
        node: &Instance,
        ticket: &DatabaseTicket,
        message: Option<&str>,
        terminal: &mut ratatui::DefaultTerminal,
        keys: &mut mpsc::Receiver<Event>,
    ) -> Result<Ended, Error> {
        loop {
            let mut join = node.join(ticket).asking(Permission::Write).within(WAIT);
            if let Some(message) = message {
                join = join.saying(BTreeMap::from([(MESSAGE.to_owned(), message.to_owned())]));
            }
            let Some(done) = self.until(join.run(), terminal, keys).await else { return Ok(self.left()) };
            match done {
                Ok(joined) => return Ok(Ended::In(joined.database)),
                Err(error) if error.kind() == ErrorKind::Pending => self.trouble = None,
                Err(error) if is_transient(error.kind()) => self.trouble = Some(error.to_string()),
                Err(error) => return Err(error),
            }
            self.look(node, ticket)?;
            if self.until(tokio::time::sleep(AGAIN), terminal, keys).await.is_none() {
                return Ok(self.left());
            }
        }
    }

    fn left(&self) -> Ended {
        if self.pending_since_ms.is_some() { Ended::Waiting } else { Ended::Outside }
    }

    /// Does something with the screen before one's eyes; nothing comes of it when somebody leaves meanwhile.
    async fn until<T>(
        &self,
        work: impl Future<Output = T>,
        terminal: &mut ratatui::DefaultTerminal,
        keys: &mut mpsc::Receiver<Event>,
    ) -> Option<T> {
        let mut work = pin!(work);
        loop {
            // A terminal that cannot be drawn on is gone, and with it who looks at it.
            terminal.draw(|frame| self.draw(frame)).ok()?;
            tokio::select! {
                done = &mut work => return Some(done),
                event = keys.recv() => {
                    if keys::pressed(&event?).is_some_and(keys::leaves) {
                        return None;
                    }
                }
            }
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [area] = Layout::horizontal([Constraint::Max(SIZE.0)]).flex(Flex::Center).areas(frame.area());
        let [area] = Layout::vertical([Constraint::Max(SIZE.1)]).flex(Flex::Center).areas(area);
        let title = if self.gives_nothing { " asking to come in " } else { " coming in " };
        let block = Block::bordered().title(title).padding(Padding::symmetric(2, 1));
        let paragraph = Paragraph::new(self.lines()).wrap(Wrap { trim: true }).block(block);
        frame.render_widget(paragraph, area);
    }

    fn lines(&self) -> Vec<Line<'static>> {
        let (bold, dim) =
            (Style::new().add_modifier(Modifier::BOLD), Style::new().add_modifier(Modifier::DIM));
        let mut lines = vec![
            Line::raw(format!("You are {}, key {}.", self.username, self.key)),
            Line::raw(format!("The ticket leads to the device with key {}.", self.server)),
            Line::default(),
        ];
        let how = match (self.pending_since_ms, self.gives_nothing) {
            (Some(since), _) => format!("Waiting for approval since {} UTC.", text::hour(since)),
            (None, true) => "Asking …".to_owned(),
            (None, false) => "Fetching the room …".to_owned(),
        };
        lines.push(Line::styled(how, bold));
        if self.pending_since_ms.is_some() {
            lines.push(Line::raw(
                "Who decides sees your name and your key. Once you are let in, the room opens here.",
            ));
        }
        if let Some(trouble) = &self.trouble {
            let trouble = text::shown(trouble, TROUBLE_LETTERS_MAX);
            lines.push(Line::default());
            lines.push(Line::raw(format!("The last try failed: {trouble}. It is tried again.")));
        }
        lines.push(Line::default());
        let leaving = match self.pending_since_ms {
            Some(_) => {
                "Esc leaves. The request is remembered: start again later, with or without the ticket."
            }
            None => "Esc leaves.",
        };
        lines.push(Line::styled(leaving, dim));
        lines
    }
}

/// Whether another try may do better.
fn is_transient(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::Busy | ErrorKind::Incomplete)
}
