//! A chat in the terminal. A room is a database, a message a row of it. Who has the ticket of a room asks to come in, and
//! whoever made the room approves or rejects, each in his own terminal; a room that was made with `--open` lets in whoever
//! has the ticket.
//!
//! ```text
//! cargo run -p eid-chat -- --username ada --transport http --room-name den
//! cargo run -p eid-chat -- --username ben --transport http TICKET
//! ```

mod askers;
mod door;
mod keys;
mod room;
mod screen;
mod seat;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use eid::{DatabaseTicket, Delivered, Error, ErrorKind, Instance, SyncEvent};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent};
use tokio::sync::mpsc;

use door::{Door, Ended};
use keys::with_control;
use room::Room;
use screen::Screen;

/// Greatest number of letters in a message.
const LETTERS_MAX: usize = 2_000;
/// Lines that PageUp and PageDown go.
const PAGE_LINES: usize = 10;

/// The exit code of whom nobody lets in.
const REFUSED: u8 = 3;
/// The exit code of who leaves before it is decided whether he is let in.
const PENDING: u8 = 7;

const EXIT_CODES: &str = "\
Who joins by a ticket that lets nobody in asks for it, and waits until the one who made the room has decided: Ctrl-Y \
there lets in, Ctrl-N turns away. A request is remembered, and goes on at the next start.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 turned away or refused, 7 left before it was decided.";

/// A chat in the terminal.
#[derive(Debug, Parser)]
#[command(name = "chat", after_help = EXIT_CODES)]
struct Args {
    /// What others see beside your messages.
    #[arg(long, value_name = "NAME")]
    username: String,
    /// How devices reach each other.
    #[arg(long, value_name = "TRANSPORT", default_value = "http")]
    transport: Transport,
    /// Where everything is kept. Without it, a directory of this name among the temporary ones.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Which of this machine's addresses others reach.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// With iroh: uses no relays, so that only who can be reached straight is.
    #[arg(long)]
    no_relay: bool,
    /// The room to open, or to make. Without it and without a ticket, the first one that is here or was asked for.
    #[arg(long, value_name = "NAME", conflicts_with = "ticket")]
    room_name: Option<String>,
    /// The ticket of the room lets in whoever has it, and need not be asked with. The room stays open.
    #[arg(long, conflicts_with = "ticket")]
    open: bool,
    /// Makes the room, prints its ticket, and ends.
    #[arg(long, requires = "room_name")]
    create_only: bool,
    /// What who decides reads when you ask to come in, such as how you know each other.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// The ticket of a room.
    ticket: Option<DatabaseTicket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    Http,
    Quic,
    Iroh,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            note(&text::shown(&error.to_string(), LETTERS_MAX));
            match error.kind() {
                ErrorKind::Refused | ErrorKind::Rejected | ErrorKind::Forbidden => ExitCode::from(REFUSED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(args: &Args) -> Result<ExitCode, Error> {
    let data =
        args.data.clone().unwrap_or_else(|| std::env::temp_dir().join("eid-chat").join(&args.username));
    let node = Instance::open(&data).await?;
    node.set_display_name(&args.username).await?;
    // Before anything goes on in the background.
    let outside = outside(&node, args)?;
    seat::listen(&node, &data, args).await?;
    let place = match outside {
        Some(ticket) => {
            room::keep_ticket(&data, &ticket);
            Place::Door(ticket)
        }
        None => Place::Room(room(&node, &data, args).await?),
    };
    let left = match place {
        Place::Room(room) if args.create_only => {
            show(&room.ticket().to_string());
            Left::Room
        }
        place => {
            let mut terminal = ratatui::init();
            let left = sit(&node, place, args, &mut terminal).await;
            ratatui::restore();
            left?
        }
    };
    node.close().await?;
    Ok(match left {
        Left::Room => ExitCode::SUCCESS,
        Left::Waiting => {
            note("nobody has decided yet; the request is remembered, and goes on at the next start");
            ExitCode::from(PENDING)
        }
        Left::Outside => {
            note("left before anything was asked for; start again with the ticket");
            ExitCode::FAILURE
        }
    })
}

/// Where somebody begins.
enum Place {
    Room(Room),
    /// Before a room that is not wholly here.
    Door(DatabaseTicket),
}

/// Where somebody was who wanted no more.
enum Left {
    Room,
    Waiting,
    Outside,
}

/// The ticket of the room to come into, when that is not wholly here.
fn outside(node: &Instance, args: &Args) -> Result<Option<DatabaseTicket>, Error> {
    let mut asked = door::asked(node)?.into_iter();
    Ok(match (&args.ticket, &args.room_name) {
        (Some(ticket), _) => {
            let is_here = node.database(&ticket.db.to_string())?.is_some();
            let is_asked = asked.any(|asked| asked.db == ticket.db);
            Some(ticket.clone()).filter(|_| !is_here || is_asked)
        }
        (None, Some(_)) => None,
        (None, None) => match node.databases()?.first() {
            Some(first) => asked.find(|asked| asked.db == first.id()),
            None => asked.next(),
        },
    })
}

/// The room that is here, or is made.
async fn room(node: &Instance, data: &Path, args: &Args) -> Result<Room, Error> {
    if let Some(ticket) = &args.ticket
        && let Some(database) = node.database(&ticket.db.to_string())?
    {
        room::keep_ticket(data, ticket);
        return Ok(Room::of(node, database, ticket.clone()));
    }
    Room::open(node, data, args.room_name.as_deref(), args.open).await
}

/// Comes into the room, by asking if need be, and chats.
async fn sit(
    node: &Instance,
    place: Place,
    args: &Args,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<Left, Error> {
    let mut keys = keys::keys();
    let room = match place {
        Place::Room(room) => room,
        Place::Door(ticket) => {
            let door = Door::new(node, &ticket, &args.username)?;
            match door.wait(node, &ticket, args.message.as_deref(), terminal, &mut keys).await? {
                Ended::In(database) => Room::of(node, database, ticket),
                Ended::Waiting => return Ok(Left::Waiting),
                Ended::Outside => return Ok(Left::Outside),
            }
        }
    };
    room.enter(&args.username).await?;
    let kept = node.keep_peers_in_step();
    let chatted = chat(node, &room, &args.username, terminal, &mut keys).await;
    drop(kept);
    chatted.map(|()| Left::Room)
}

/// Shows what comes, and writes what is typed, until somebody wants no more.
async fn chat(
    node: &Instance,
    room: &Room,
    username: &str,
    terminal: &mut ratatui::DefaultTerminal,
    keys: &mut mpsc::Receiver<Event>,
) -> Result<(), Error> {
    let (mut changes, mut events) = (room.changes()?, node.events());
    let mut screen = Screen::new(room.ticket(), username);
    loop {
        screen.room = room.name()?;
        screen.messages = room.messages()?;
        screen.members = room.members()?;
        screen.askers.update(room.askers()?);
        loop {
            // A terminal that cannot be drawn on is gone, and with it who looks at it.
            if terminal.draw(|frame| screen.draw(frame)).is_err() {
                return Ok(());
            }
            tokio::select! {
                changed = changes.next() => {
                    changed?;
                    while changes.next_ready()?.is_some() {}
                    break;
                }
                Some(event) = events.recv() => {
                    if may_be_asked(&event) {
                        screen.askers.update(room.askers()?);
                    }
                }
                key = keys.recv() => match key {
                    Some(Event::Paste(text)) => text.chars().for_each(|letter| typed(letter, &mut screen)),
                    Some(event) => match keys::pressed(&event).map_or(Wish::Nothing, |key| pressed(key, &mut screen)) {
                        Wish::Nothing => {}
                        Wish::Say(text) => room.say(username, &text).await?,
                        Wish::Decide(decision) => decide(room, &mut screen, decision).await?,
                        Wish::Leave => return Ok(()),
                    },
                    None => return Ok(()),
                },
            }
        }
    }
}

/// Whether somebody may ask who did not before.
fn may_be_asked(event: &Delivered) -> bool {
    matches!(event, Delivered::Event(SyncEvent::Requested { .. }) | Delivered::Lagged(_))
}

/// Decides about the first of those who ask.
async fn decide(room: &Room, screen: &mut Screen, decision: Decision) -> Result<(), Error> {
    let Some(first) = screen.askers.first() else { return Ok(()) };
    let who = format!("{}, key {},", askers::name_of(first), first.key.short());
    let (done, was) = match decision {
        Decision::LetIn => (room.approve(first).await, "was let in"),
        Decision::TurnAway => (room.reject(first).await, "was turned away"),
    };
    screen.note = Some(match done {
        Ok(()) => format!("{who} {was}"),
        // Somebody else may have decided, or this one is no admin any more.
        Err(error) => text::shown(&format!("{who} waits: {error}"), LETTERS_MAX),
    });
    screen.askers.update(room.askers()?);
    Ok(())
}

/// What somebody wants who pressed a key.
enum Wish {
    Nothing,
    Say(String),
    Decide(Decision),
    Leave,
}

/// What somebody wants with the first of those who ask.
enum Decision {
    LetIn,
    TurnAway,
}

fn pressed(key: KeyEvent, screen: &mut Screen) -> Wish {
    if keys::leaves(key) {
        return Wish::Leave;
    }
    screen.note = None;
    match (key.code, with_control(key)) {
        (_, Some('y')) => return Wish::Decide(Decision::LetIn),
        (_, Some('n')) => return Wish::Decide(Decision::TurnAway),
        // It is not meant as the letter.
        (_, Some(_)) => {}
        (KeyCode::Enter, _) => {
            screen.back = 0;
            let text = std::mem::take(&mut screen.input);
            if !text.trim().is_empty() {
                return Wish::Say(text);
            }
        }
        (KeyCode::Backspace, _) => drop(screen.input.pop()),
        (KeyCode::PageUp, _) => screen.back += PAGE_LINES,
        (KeyCode::PageDown, _) => screen.back = screen.back.saturating_sub(PAGE_LINES),
        (KeyCode::Up, _) => screen.back += 1,
        (KeyCode::Down, _) => screen.back = screen.back.saturating_sub(1),
        (KeyCode::End, _) => screen.back = 0,
        (KeyCode::Char(letter), _) => typed(letter, screen),
        _ => {}
    }
    Wish::Nothing
}

fn typed(letter: char, screen: &mut Screen) {
    if !letter.is_control() && screen.input.chars().count() < LETTERS_MAX {
        screen.input.push(letter);
    }
}

#[expect(clippy::print_stdout, reason = "the ticket is what was asked for")]
fn show(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "said while nothing is drawn")]
fn note(line: &str) {
    eprintln!("chat: {line}");
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyModifiers;

    use super::*;

    #[test]
    fn keys_to_decide_with_are_not_typed() {
        let ticket = DatabaseTicket {
            db: eid::TreeId([1; 32]),
            key: eid::PublicKey([2; 32]),
            addresses: Vec::new(),
            others: Vec::new(),
            invite: None,
        };
        let mut screen = Screen::new(&ticket, "ada");
        let mut press = |letter, held| {
            let wish = pressed(KeyEvent::new(KeyCode::Char(letter), held), &mut screen);
            (wish, screen.input.clone())
        };
        let (none, control) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        assert!(matches!(press('y', none), (Wish::Nothing, typed) if typed == "y"));
        assert!(matches!(press('y', control), (Wish::Decide(Decision::LetIn), typed) if typed == "y"));
        assert!(matches!(press('n', control), (Wish::Decide(Decision::TurnAway), typed) if typed == "y"));
        assert!(matches!(press('a', control), (Wish::Nothing, typed) if typed == "y"));
        // AltGr.
        assert!(matches!(press('@', control | KeyModifiers::ALT), (Wish::Nothing, typed) if typed == "y@"));
        assert!(matches!(press('c', control), (Wish::Leave, _)));
    }
}
