//! What is due with one peer: a machine that is told what happens and what time it is, and says what to do next. It does
//! nothing itself and reads no clock, so that any order of events can be tried.
//!
//! Nothing here is a queue: what must still be sent is what lies beyond the peer's acknowledgement, and is found anew each
//! time. Losing a schedule loses nothing.

use std::collections::BTreeMap;

use eid_core::TreeId;

use crate::access::Wish;
use crate::limits::{
    DIAL_MAX_MS, DOUBT_MS, FOLLOW_BACK_MS, LASTING_MS, LINGER_MS, OTHERS_MAX_MS, OTHERS_MS, PERIOD_MS,
    RETRY_FIRST_MS, RETRY_MAX_MS,
};

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Meet the peer.
    Dial,
    /// Ask which databases differ, of all that take part and that [`Schedule::knows`] nothing of.
    Sweep,
    /// Ask which of these differ.
    Ask(Vec<TreeId>),
    /// Begin a session.
    Session(TreeId),
    /// Close the connection: nothing needs it before it can be made again.
    HangUp,
    /// Nothing, until this time or until something happens.
    Wait(Option<u64>),
}

/// What is due with one peer. Times are in milliseconds of a clock that only goes forward.
#[derive(Debug)]
pub(crate) struct Schedule {
    link: Link,
    /// When the last connection was made.
    connected_at: u64,
    /// Attempts to meet the peer that failed, or that came to a connection which did not last, one after another.
    in_vain: u32,
    /// How each database that takes part here is to be synchronised.
    wishes: BTreeMap<TreeId, Wish>,
    /// Those that the peer has as well.
    shared: BTreeMap<TreeId, One>,
    sweep: Sweep,
    /// The peer is being asked which databases differ.
    is_asking: bool,
    random: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// There is none, and it is made at this time, or when something happens.
    Down { dial_at: Option<u64> },
    /// It is being made.
    Dialling,
    /// It is there; the peer tells on it what comes to it, or not.
    Up { tells: bool },
}

/// When the peer is asked after databases that are not known to be shared.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    at: u64,
    /// Whether there is something that the peer was not asked after yet.
    news: News,
    /// When the last one ended.
    ended: u64,
    /// How long the next one waits because something came to such a database.
    patience_ms: u64,
    /// How long the next one waits where nothing came: the peer may be about to learn of a right, or of a database.
    unknown_ms: u64,
}

/// Something that a sweep is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// There is none: sweeps look for what may have changed at the peer.
    None,
    /// The peer is to be asked after it.
    Waits,
    /// The peer is being asked after it.
    Asked,
}

impl Sweep {
    /// None was made on this connection.
    fn first(now: u64) -> Self {
        Self { at: now, news: News::Waits, ended: now, patience_ms: OTHERS_MS, unknown_ms: OTHERS_MS }
    }

    /// One is to be made now; when one is under way, another one after it.
    fn wanted(&mut self, now: u64) {
        (self.at, self.news) = (now, News::Waits);
    }
}

/// One database that is shared with the peer.
#[derive(Debug, Clone, Copy)]
struct One {
    /// When it is next looked at.
    at: u64,
    /// It is known to differ, so no question is needed.
    differs: bool,
    /// Its place among those that differ.
    rank: usize,
    is_running: bool,
    /// Something has come to it while its session ran.
    again: bool,
    /// When the peer last said whether it differs.
    looked_at: u64,
    /// When the last session about it ended.
    ended_at: u64,
    /// The peer was asked to tell what comes to it.
    followed_at: Option<u64>,
    /// The peer tells what comes to it, since then.
    in_step_at: Option<u64>,
    /// It was found to differ although the peer tells what comes to it: perhaps that is on its way.
    is_doubted: bool,
    /// How long the next session waits when one is needed soon after the last.
    retry_ms: u64,
}

impl Schedule {
    /// Begins without a connection, which is to be made at once.
    pub(crate) fn new(wishes: BTreeMap<TreeId, Wish>, random: u64, now: u64) -> Self {
        let mut schedule = Self {
            link: Link::Down { dial_at: None },
            connected_at: 0,
            in_vain: 0,
            wishes,
            shared: BTreeMap::new(),
            sweep: Sweep::first(0),
            is_asking: false,
            random: random | 1,
        };
        schedule.seen(now);
        schedule
    }

    // ---- what happens

    /// How databases are to be synchronised has changed.
    pub(crate) fn wish(&mut self, wishes: BTreeMap<TreeId, Wish>, now: u64) {
        let mut is_more = false;
        for (tree, wish) in &wishes {
            let before = self.wishes.get(tree);
            if before == Some(wish) {
                continue;
            }
            is_more |= before.is_none_or(|before| wish.is_more_than(before));
            match self.shared.get_mut(tree) {
                Some(one) if wish.on_commit && one.followed_at.is_none() => one.at = now,
                Some(one) => {
                    if !wish.on_commit {
                        // Nobody is asked to tell any more.
                        (one.followed_at, one.in_step_at) = (None, None);
                    }
                    if !one.differs {
                        one.at = one.at.min(now + wish.period_ms());
                    }
                }
                None => {
                    self.sweep.wanted(now);
                    self.sweep.unknown_ms = OTHERS_MS;
                }
            }
        }
        self.shared.retain(|tree, one| one.is_running || wishes.contains_key(tree));
        self.wishes = wishes;
        if is_more && self.in_vain == 0 {
            self.seen(now);
        }
    }

    /// The peer gave a sign of life, or there is another way to it, or somebody asks for everything now.
    pub(crate) fn seen(&mut self, now: u64) {
        self.in_vain = 0;
        if let Link::Down { dial_at } = &mut self.link
            && !self.wishes.is_empty()
        {
            *dial_at = Some(now);
        }
    }

    /// Somebody asks for everything now.
    pub(crate) fn hurry(&mut self, now: u64) {
        self.seen(now);
        self.sweep.wanted(now);
        self.shared.values_mut().for_each(|one| one.at = one.at.min(now));
    }

    /// The peer could not be met.
    pub(crate) fn failed(&mut self, now: u64) {
        self.in_vain = self.in_vain.saturating_add(1);
        let wait_ms = doubled(RETRY_FIRST_MS, self.in_vain - 1, DIAL_MAX_MS);
        self.link = Link::Down { dial_at: Some(now + self.jittered(wait_ms)) };
    }

    /// The peer was met. Whether it tells what comes to it.
    pub(crate) fn connected(&mut self, tells: bool, now: u64) {
        self.link = Link::Up { tells };
        self.connected_at = now;
        self.is_asking = false;
        self.shared.clear();
        self.sweep = Sweep::first(now);
    }

    /// The connection is gone. With `elsewhere`, another way is tried at once. One that does not last is made ever later,
    /// also when it was of use: whoever ends it would do so again.
    pub(crate) fn lost(&mut self, was_useful: bool, elsewhere: bool, now: u64) {
        if !was_useful {
            return self.failed(now);
        }
        let has_lasted = now.saturating_sub(self.connected_at) >= LASTING_MS;
        self.in_vain = if has_lasted { 0 } else { self.in_vain.saturating_add(1) };
        let wait_ms = doubled(RETRY_FIRST_MS, self.in_vain.saturating_sub(1), DIAL_MAX_MS);
        let wait_ms = if elsewhere { 0 } else { self.jittered(wait_ms) };
        self.link = Link::Down { dial_at: Some(now + wait_ms) };
    }

    /// It was closed because the peer has to be shown more keys: it is made again at once.
    pub(crate) fn lacking(&mut self, now: u64) {
        self.link = Link::Down { dial_at: Some(now) };
    }

    /// It was hung up: the connection is made again when something is due.
    pub(crate) fn hung_up(&mut self) {
        self.in_vain = 0;
        self.link = Link::Down { dial_at: self.next_look() };
    }

    /// Something has come to a database that the peer does not follow.
    pub(crate) fn committed(&mut self, tree: TreeId, now: u64) {
        if !self.wishes.get(&tree).is_some_and(|wish| wish.on_commit) {
            return;
        }
        let tells = matches!(self.link, Link::Up { tells: true });
        match self.shared.get_mut(&tree) {
            Some(one) if one.is_running => one.again = true,
            // A session is due already, when it may be after the last one.
            Some(one) if one.differs => {}
            // A peer that is followed follows back: what comes goes by itself then, and a session beside it would bring the
            // same once more. It may also not want to.
            Some(one) if tells => {
                let follows_at = one.followed_at.map_or(0, |at| at + FOLLOW_BACK_MS);
                one.at = one.at.min(now.max(follows_at).max(one.looked_at + OTHERS_MS));
            }
            Some(one) => one.at = one.at.min(now.max(one.ended_at + one.retry_ms)),
            None => self.sweep.at = self.sweep.at.min((self.sweep.ended + self.sweep.patience_ms).max(now)),
        }
    }

    /// The peer has said which databases differ: of those that are shared, each one, and whether it differs, in the order
    /// in which sessions are to begin.
    pub(crate) fn answered(&mut self, asked: &Action, shared: &[(TreeId, bool)], now: u64) {
        self.is_asking = false;
        match asked {
            Action::Sweep => {
                let patience_ms = if shared.is_empty() { self.sweep.patience_ms * 2 } else { OTHERS_MS };
                let patience_ms = patience_ms.min(OTHERS_MAX_MS);
                let is_known = |tree: &TreeId| self.knows(tree) || shared.iter().any(|(one, _)| one == tree);
                let all_known = self.wishes.keys().all(is_known);
                // Asked again and again only on a connection that stays.
                let unknown_ms = self.sweep.unknown_ms;
                let wait_ms = if all_known || !self.wants_to_be_told() { PERIOD_MS } else { unknown_ms };
                let unknown_ms = (unknown_ms * 2).min(PERIOD_MS);
                let (at, news) = match self.sweep.news {
                    News::Waits => (now, News::Waits),
                    News::None | News::Asked => (now + wait_ms, News::None),
                };
                self.sweep = Sweep { at, news, ended: now, patience_ms, unknown_ms };
            }
            Action::Ask(trees) => {
                // What the peer does not have or give any more.
                let gone = |tree: &TreeId| trees.contains(tree) && !shared.iter().any(|(one, _)| one == tree);
                self.shared.retain(|tree, one| one.is_running || !gone(tree));
                // It may come back.
                self.sweep.at = self.sweep.at.min(now + PERIOD_MS);
            }
            _ => {}
        }
        let tells = matches!(self.link, Link::Up { tells: true });
        for (rank, (tree, differs)) in shared.iter().enumerate() {
            let every_ms = self.every_ms(tree);
            let new = One {
                at: now,
                differs: false,
                rank,
                is_running: false,
                again: false,
                looked_at: now,
                ended_at: 0,
                followed_at: None,
                in_step_at: None,
                is_doubted: false,
                retry_ms: 0,
            };
            let one = self.shared.entry(*tree).or_insert(new);
            if !one.is_running {
                one.looked_at = now;
                let is_doubted = *differs && tells && one.in_step_at.is_some() && !one.is_doubted;
                one.is_doubted = is_doubted;
                if is_doubted {
                    one.at = now + DOUBT_MS;
                    continue;
                }
                one.differs |= differs;
                one.rank = rank;
                one.at = if one.differs { one.at.min(now + one.retry_ms) } else { now + every_ms };
            }
        }
    }

    /// The question could not be answered.
    pub(crate) fn not_answered(&mut self, now: u64) {
        self.is_asking = false;
        if self.sweep.news == News::Asked {
            self.sweep.news = News::Waits;
        }
        self.sweep.at = self.sweep.at.max(now + RETRY_FIRST_MS);
        for one in self.shared.values_mut() {
            (one.at, one.looked_at) = (one.at.max(now + RETRY_FIRST_MS), now);
        }
    }

    /// A session has ended.
    pub(crate) fn ended(&mut self, tree: TreeId, is_done: bool, now: u64) {
        let every_ms = self.every_ms(&tree);
        let tells = matches!(self.link, Link::Up { tells: true });
        let Some(one) = self.shared.get_mut(&tree) else { return };
        one.is_running = false;
        let was_calm = now.saturating_sub(one.ended_at) > 2 * one.retry_ms;
        let retry_ms = if was_calm && is_done { 0 } else { one.retry_ms * 2 };
        one.retry_ms = retry_ms.clamp(RETRY_FIRST_MS, RETRY_MAX_MS);
        one.ended_at = now;
        one.differs = !is_done;
        let retry_ms = one.retry_ms;
        let again = std::mem::take(&mut one.again);
        let at = match (is_done, again) {
            (true, false) => now + every_ms,
            // Perhaps only what the session has brought, or what goes by itself in a moment.
            (true, true) => now + if tells { FOLLOW_BACK_MS } else { OTHERS_MS }.min(every_ms),
            (false, _) => now + self.jittered(retry_ms),
        };
        if let Some(one) = self.shared.get_mut(&tree) {
            one.at = at;
        }
        if !self.wishes.contains_key(&tree) {
            self.shared.remove(&tree);
        }
    }

    /// The peer says of a database that it does not have it, or does not give it: it is asked after like one of which that
    /// is not known.
    pub(crate) fn unavailable(&mut self, tree: TreeId, now: u64) {
        if self.shared.get(&tree).is_some_and(|one| !one.is_running) {
            self.shared.remove(&tree);
            let wait_ms = if self.wants_to_be_told() { self.sweep.unknown_ms } else { PERIOD_MS };
            self.sweep.at = self.sweep.at.min(now + wait_ms);
        }
    }

    /// The peer was asked to tell what comes to a database; without a place from which to tell, a session is needed first.
    pub(crate) fn followed(&mut self, tree: TreeId, is_asked: bool, now: u64) {
        let retry = self.shared.get(&tree).map_or(0, |one| one.retry_ms.max(RETRY_FIRST_MS));
        let at = now + self.jittered(retry);
        let Some(one) = self.shared.get_mut(&tree) else { return };
        if is_asked {
            one.followed_at = Some(now);
        } else if !one.is_running {
            (one.differs, one.at) = (true, at);
        }
    }

    /// The peer tells what comes to a database.
    pub(crate) fn in_step(&mut self, tree: TreeId, now: u64) {
        if let Some(one) = self.shared.get_mut(&tree) {
            one.in_step_at.get_or_insert(now);
        }
    }

    /// The peer does not tell what came to a database: a session has to bring it. With `ended` it tells nothing any more.
    pub(crate) fn behind(&mut self, tree: TreeId, ended: bool, now: u64) {
        let Some(one) = self.shared.get(&tree).copied() else { return };
        if one.is_running || one.differs {
            if let Some(one) = self.shared.get_mut(&tree) {
                one.in_step_at = None;
            }
            return;
        }
        let was_calm = one.in_step_at.zip(one.followed_at);
        let was_calm =
            was_calm.is_some_and(|(in_step, followed)| now >= in_step.max(followed + one.retry_ms));
        // At once, unless that has just not been enough.
        let retry_ms = if was_calm { 0 } else { one.retry_ms };
        let at = now + self.jittered(if ended { retry_ms.max(RETRY_FIRST_MS) } else { retry_ms });
        self.shared.insert(tree, One { differs: true, at, retry_ms, in_step_at: None, ..one });
    }

    // ---- what to do

    /// What to do now.
    pub(crate) fn poll(&mut self, now: u64) -> Action {
        match self.link {
            Link::Dialling => Action::Wait(None),
            Link::Down { dial_at: Some(at) } if at <= now && !self.wishes.is_empty() => {
                self.link = Link::Dialling;
                Action::Dial
            }
            Link::Down { dial_at } => Action::Wait(dial_at.filter(|_| !self.wishes.is_empty())),
            Link::Up { .. } => self.poll_up(now),
        }
    }

    fn poll_up(&mut self, now: u64) -> Action {
        let due = |one: &One| !one.is_running && one.at <= now;
        let sessions = self.shared.iter_mut().filter(|(_, one)| one.differs && due(one));
        if let Some((tree, one)) = sessions.min_by_key(|(_, one)| one.rank) {
            one.is_running = true;
            return Action::Session(*tree);
        }
        if !self.is_asking {
            if self.sweep.at <= now && !self.wishes.is_empty() {
                self.is_asking = true;
                if self.sweep.news == News::Waits {
                    self.sweep.news = News::Asked;
                }
                return Action::Sweep;
            }
            if self.shared.values().any(due) {
                self.is_asking = true;
                return Action::Ask(self.due_soon(now));
            }
        }
        let is_idle = !self.is_asking && !self.shared.values().any(|one| one.is_running);
        if is_idle && !self.wants_to_be_told() && self.next_look().is_none_or(|at| at > now + LINGER_MS) {
            return Action::HangUp;
        }
        let waits = self.shared.values().filter(|one| !one.is_running && (one.differs || !self.is_asking));
        let sweep = Some(self.sweep.at).filter(|_| !self.is_asking && !self.wishes.is_empty());
        Action::Wait(waits.map(|one| one.at).chain(sweep).min())
    }

    /// What is due, and what would be in a moment: one question is enough for all of it.
    fn due_soon(&self, now: u64) -> Vec<TreeId> {
        let is_soon = |tree: &TreeId, one: &One| {
            !one.is_running && !one.differs && one.at <= now + self.every_ms(tree) / 10
        };
        self.shared.iter().filter(|(tree, one)| is_soon(tree, one)).map(|(tree, _)| *tree).collect()
    }

    /// When something is due next that a connection has to be made for.
    fn next_look(&self) -> Option<u64> {
        let unknown = self.wishes.keys().any(|tree| !self.shared.contains_key(tree));
        let shared = self.shared.values().map(|one| one.at);
        shared.chain(unknown.then_some(self.sweep.at)).min()
    }

    // ---- what is known

    /// Whether a database is known to be shared with the peer.
    pub(crate) fn knows(&self, tree: &TreeId) -> bool {
        self.shared.contains_key(tree)
    }

    /// How a database is to be synchronised, if it is.
    pub(crate) fn wish_for(&self, tree: &TreeId) -> Option<Wish> {
        self.wishes.get(tree).copied()
    }

    /// The databases whose peer is to tell at once what comes to them.
    pub(crate) fn wants_to_be_told(&self) -> bool {
        self.wishes.values().any(|wish| wish.on_commit)
    }

    /// Whether nothing is under way or due: the peer was asked after every database, and each that is shared is as far as
    /// it is to be. `tells` says whether the peer tells what comes to one.
    pub(crate) fn is_settled(&self, tells_of: impl Fn(&TreeId) -> bool) -> bool {
        let Link::Up { tells } = self.link else { return false };
        let is_settled = |(tree, one): (&TreeId, &One)| {
            let told = !tells || !self.wish_for(tree).is_some_and(|wish| wish.on_commit) || tells_of(tree);
            !one.is_running && !one.differs && told
        };
        self.sweep.news == News::None && self.shared.iter().all(is_settled)
    }

    /// Attempts to meet the peer that failed, one after another.
    pub(crate) fn in_vain(&self) -> u32 {
        self.in_vain
    }

    /// When the peer is dialled next, if that is decided.
    pub(crate) fn dials_at(&self) -> Option<u64> {
        match self.link {
            Link::Down { dial_at } => dial_at.filter(|_| !self.wishes.is_empty()),
            Link::Dialling | Link::Up { .. } => None,
        }
    }

    fn every_ms(&self, tree: &TreeId) -> u64 {
        self.wishes.get(tree).map_or(PERIOD_MS, Wish::period_ms)
    }

    /// Some time, at most so much and at least half of it: not everybody who has waited comes back at once.
    fn jittered(&mut self, ms: u64) -> u64 {
        // An xorshift: nothing here is a secret.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ms - self.random % (ms / 2).max(1)
    }
}

/// So much, doubled so often, at most so much.
fn doubled(first: u64, times: u32, most: u64) -> u64 {
    first.checked_shl(times.min(32)).unwrap_or(most).min(most)
}

#[cfg(test)]
mod tests;
