//! Who asks to come in and waits for somebody here to decide.

use eid::BootstrapRequest;

use crate::text;

/// With what somebody's own words go along with what he asks for.
pub(crate) const MESSAGE: &str = "message";
/// Greatest number of letters of these words that are shown.
const MESSAGE_LETTERS_MAX: usize = 200;

/// Those who ask, in the order in which they were seen first. Who asks again stays where he is, and who says something
/// else than before goes to the end: whom a key is about does not change while somebody reads.
#[derive(Debug, Default)]
pub(crate) struct Askers {
    waiting: Vec<BootstrapRequest>,
}

impl Askers {
    /// Takes note of who waits by now.
    pub(crate) fn update(&mut self, waiting: Vec<BootstrapRequest>) {
        self.waiting.retain(|seen| waiting.iter().any(|now| is_the_same(seen, now)));
        for now in waiting {
            if !self.waiting.iter().any(|seen| is_the_same(seen, &now)) {
                self.waiting.push(now);
            }
        }
    }

    /// Whom the keys are about.
    pub(crate) fn first(&self) -> Option<&BootstrapRequest> {
        self.waiting.first()
    }

    /// How many wait behind the first.
    pub(crate) fn others(&self) -> usize {
        self.waiting.len().saturating_sub(1)
    }
}

/// Whether two requests are of the same and say the same, whenever they came.
fn is_the_same(one: &BootstrapRequest, other: &BootstrapRequest) -> bool {
    BootstrapRequest { time_ms: other.time_ms, ..one.clone() } == *other
}

/// The name of who asks, as it may be shown.
pub(crate) fn name_of(request: &BootstrapRequest) -> String {
    if request.name.is_empty() { "somebody".to_owned() } else { text::name(&request.name) }
}

/// That somebody asks, with what he says, as it may be shown.
pub(crate) fn sentence(request: &BootstrapRequest) -> String {
    let asks = format!("{} asks to come in", name_of(request));
    match request.metadata.get(MESSAGE).filter(|message| !message.trim().is_empty()) {
        Some(message) => format!("{asks}: {}", text::shown(message, MESSAGE_LETTERS_MAX)),
        None => asks,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use eid::{Permission, PublicKey, RequestId, RequestStatus, TreeId};

    use super::*;

    pub(crate) fn asking(number: u8, name: &str, message: &str) -> BootstrapRequest {
        BootstrapRequest {
            id: RequestId([number; 16]),
            tree: TreeId([0; 32]),
            key: PublicKey([number; 32]),
            name: name.to_owned(),
            permission: Permission::Write,
            time_ms: 0,
            status: RequestStatus::Pending,
            metadata: BTreeMap::from([(MESSAGE.to_owned(), message.to_owned())]),
        }
    }

    #[test]
    fn who_asks_again_stays_first_and_who_says_something_else_goes_to_the_end() {
        let (ben, eve) = (asking(1, "ben", "it is me"), asking(2, "eve", ""));
        let mut askers = Askers::default();
        askers.update(vec![ben.clone(), eve.clone()]);
        let again = BootstrapRequest { time_ms: 9, ..ben.clone() };
        askers.update(vec![eve.clone(), again]);
        assert_eq!(askers.first().map(|first| &first.name), Some(&ben.name));
        assert_eq!(askers.others(), 1);
        askers.update(vec![asking(1, "ada", "it is me"), eve.clone()]);
        assert_eq!(askers.first(), Some(&eve), "what the first says is not what was read");
        askers.update(vec![eve]);
        assert_eq!(askers.others(), 0, "who does not wait any more is gone");
    }

    #[test]
    fn what_somebody_says_is_shown_without_what_a_terminal_would_obey_and_has_an_end() {
        let long = "a".repeat(10_000);
        let line = sentence(&asking(1, &format!("eve\u{1b}[2J{long}"), &format!("\u{202e}x\n{long}")));
        assert!(line.starts_with("eve\u{fffd}[2Jaaa"), "{line}");
        assert!(line.contains("… asks to come in: \u{fffd}x\u{fffd}aaa"), "{line}");
        assert!(line.chars().count() < 300, "{line}");
        assert_eq!(sentence(&asking(1, "", " ")), "somebody asks to come in");
    }
}
