//! A chat in the terminal. A room is a database, a message a row of it; whoever has the ticket can come in.
//!
//! ```text
//! cargo run -p eid-chat -- --username ada --transport http --room-name den
//! cargo run -p eid-chat -- --username ben --transport http TICKET
//! ```

mod room;
mod screen;
mod seat;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use eid::{DatabaseTicket, Error, Instance};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use room::Room;
use screen::Screen;

/// Greatest number of letters in a message.
const LETTERS_MAX: usize = 2_000;
/// Lines that PageUp and PageDown go.
const PAGE_LINES: usize = 10;
/// Keys that wait while something is written.
const KEYS_MAX: usize = 256;

/// A chat in the terminal.
#[derive(Debug, Parser)]
#[command(name = "chat")]
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
    /// The room to open, or to make. Without it and without a ticket, the first one that is here.
    #[arg(long, value_name = "NAME", conflicts_with = "ticket")]
    room_name: Option<String>,
    /// Makes the room, prints its ticket, and ends.
    #[arg(long, requires = "room_name")]
    create_only: bool,
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
    let args = Args::parse();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), Error> {
    let data =
        args.data.clone().unwrap_or_else(|| std::env::temp_dir().join("eid-chat").join(&args.username));
    let node = Instance::open(&data).await?;
    node.set_display_name(&args.username).await?;
    seat::listen(&node, &data, args).await?;
    let room = match &args.ticket {
        Some(ticket) => Room::join(&node, &data, ticket).await?,
        None => Room::open(&node, &data, args.room_name.as_deref()).await?,
    };
    if args.create_only {
        show(room.ticket());
    } else {
        room.enter(&args.username).await?;
        let kept = node.keep_peers_in_step();
        let mut terminal = ratatui::init();
        let chatted = chat(&room, &args.username, &mut terminal).await;
        ratatui::restore();
        drop(kept);
        chatted?;
    }
    drop(room);
    node.close().await
}

/// Shows what comes, and writes what is typed, until somebody wants no more.
async fn chat(room: &Room, username: &str, terminal: &mut ratatui::DefaultTerminal) -> Result<(), Error> {
    let mut keys = keys();
    let mut changes = room.changes()?;
    let mut screen = Screen::new(room.name()?, room.ticket(), username);
    loop {
        screen.messages = room.messages()?;
        screen.members = room.members()?;
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
                key = keys.recv() => match key {
                    Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match pressed(key, &mut screen) {
                        Wish::Nothing => {}
                        Wish::Say(text) => room.say(username, &text).await?,
                        Wish::Leave => return Ok(()),
                    },
                    Some(Event::Paste(text)) => text.chars().for_each(|letter| typed(letter, &mut screen)),
                    Some(_) => {}
                    None => return Ok(()),
                },
            }
        }
    }
}

/// What is typed, read by a thread of its own: the terminal can only be waited for.
fn keys() -> mpsc::Receiver<Event> {
    let (typed, keys) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if typed.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}

/// What somebody wants who pressed a key.
enum Wish {
    Nothing,
    Say(String),
    Leave,
}

fn pressed(key: KeyEvent, screen: &mut Screen) -> Wish {
    match key.code {
        KeyCode::Esc => return Wish::Leave,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Wish::Leave,
        KeyCode::Enter => {
            screen.back = 0;
            let text = std::mem::take(&mut screen.input);
            if !text.trim().is_empty() {
                return Wish::Say(text);
            }
        }
        KeyCode::Backspace => drop(screen.input.pop()),
        KeyCode::PageUp => screen.back += PAGE_LINES,
        KeyCode::PageDown => screen.back = screen.back.saturating_sub(PAGE_LINES),
        KeyCode::Up => screen.back += 1,
        KeyCode::Down => screen.back = screen.back.saturating_sub(1),
        KeyCode::End => screen.back = 0,
        KeyCode::Char(letter) => typed(letter, screen),
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

#[expect(clippy::print_stderr, reason = "the person at the terminal is told what went wrong")]
fn complain(error: &Error) {
    eprintln!("chat: {error}");
}
