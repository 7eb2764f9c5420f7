//! What is typed.

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

/// Keys that wait while something is written.
const KEYS_MAX: usize = 256;

/// Reads what is typed in a thread of its own: the terminal can only be waited for.
pub(crate) fn keys() -> mpsc::Receiver<Event> {
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

/// The key that was pressed, if it was that.
pub(crate) fn pressed(event: &Event) -> Option<KeyEvent> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(*key),
        _ => None,
    }
}

/// Whether a key is pressed by somebody who wants no more.
pub(crate) fn leaves(key: KeyEvent) -> bool {
    key.code == KeyCode::Esc || with_control(key) == Some('c')
}

/// The letter that Ctrl is held with. With Alt as well it is AltGr on some keyboards, which makes another letter.
pub(crate) fn with_control(key: KeyEvent) -> Option<char> {
    let is_held = key.modifiers.contains(KeyModifiers::CONTROL) && !key.modifiers.contains(KeyModifiers::ALT);
    match key.code {
        KeyCode::Char(letter) if is_held => Some(letter.to_ascii_lowercase()),
        _ => None,
    }
}
