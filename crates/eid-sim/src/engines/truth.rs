//! What nodes say and believe of each other, compared with what is.
//!
//! A node says and believes other things only when a task of its own was polled or something was committed at it. So
//! after every poll the node is looked at whose task it was, and after a poll of the world's own, every one.

use super::*;

use crate::node::{AnyError, KeptSeen};
use eid_core::dag::{Replica as _, Seq};
use eid_sync::limits::DIAL_MAX_MS;
use eid_sync::{ConnectionState, Delivered, KeepState, SessionReport, SyncEvent};

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    nodes: BTreeMap<usize, Node>,
    /// How far a belief was found to be true: who, of whom, in what.
    true_upto: BTreeMap<(usize, usize, TreeId), Upto>,
    /// Whose key was proven to whom, in any life.
    met: BTreeSet<(usize, PublicKey)>,
}

#[derive(Debug, Default)]
struct Node {
    commits: u64,
    beliefs: u64,
    logs: BTreeMap<TreeId, Log>,
    said: BTreeMap<PublicKey, KeptSeen>,
    at_meeting: BTreeMap<PublicKey, BTreeMap<TreeId, usize>>,
}

/// The log of a database at a node.
#[derive(Debug, Default)]
struct Log {
    ids: Vec<EntryId>,
    /// When each was seen in it first, in milliseconds since 1970.
    at_ms: Vec<u64>,
    held: BTreeSet<EntryId>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Upto {
    mine: usize,
    theirs: usize,
}

impl Engines {
    /// Looks at whoever may say or believe something else than before the last step.
    pub(super) fn look_at_the_last(&self) -> Result<(), Divergence> {
        let group = self.sim.polled();
        for index in 0..self.hosts.len() {
            let (process, own) = {
                let state = lock(&self.hosts[index].state);
                (state.process.clone(), state.group)
            };
            let Some(process) = process.filter(|_| group == own || group == Group::WORLD) else { continue };
            if self.hosts[index].honest {
                let seen = &mut *lock(&self.seen);
                self.look_at(index, &process, seen)?;
            }
        }
        Ok(())
    }

    fn look_at(&self, index: usize, process: &Process, seen: &mut Seen) -> Result<(), Divergence> {
        let (commits, beliefs) = self.hosts[index].ledger.counts();
        let node = seen.nodes.entry(index).or_default();
        if node.commits != commits {
            node.commits = commits;
            self.read_logs(index, process, node)?;
        }
        let has_learnt = std::mem::replace(&mut node.beliefs, beliefs) != beliefs;
        for delivered in process.happened() {
            if let Delivered::Event(SyncEvent::Session(report)) = &delivered {
                self.check_lacking(index, process, report, seen)?;
            }
            self.note_event(index, delivered, seen);
        }
        if has_learnt {
            self.check_beliefs_of(index, process, seen, None)?;
        }
        self.check_words_of(index, process, seen)
    }

    fn note_event(&self, index: usize, delivered: Delivered, seen: &mut Seen) {
        let name = |peer: &PublicKey| self.name_of(peer);
        match delivered {
            Delivered::Event(SyncEvent::Connected { peer, .. }) => drop(seen.met.insert((index, peer))),
            Delivered::Event(SyncEvent::Session(report)) => {
                let (tree, complete) = (report.tree.map(|tree| tree.short()), report.complete);
                let peer = name(&report.peer);
                self.sim.say(format_args!("n{index} with {peer}, session about {tree:?}: {complete}"));
            }
            Delivered::Event(SyncEvent::Failed { report, error, .. }) => {
                let tree = report.tree.map(|tree| tree.short());
                let peer = name(&report.peer);
                self.sim.say(format_args!("n{index} with {peer}, session about {tree:?}: {error}"));
                self.sim.sometimes("session failed");
            }
            Delivered::Event(SyncEvent::Arrived { peer, tree, admitted, refused, .. }) => {
                let (peer, tree) = (name(&peer), tree.short());
                self.sim.say(format_args!(
                    "n{index} is told by {peer} of {admitted} entries of {tree}, {refused} refused"
                ));
                self.sim.sometimes("told of entries");
            }
            Delivered::Event(SyncEvent::InStep { peer, tree }) => {
                self.sim.say(format_args!("n{index} follows {} in {}", name(&peer), tree.short()));
            }
            Delivered::Event(SyncEvent::OutOfStep { peer, tree }) => {
                self.sim.say(format_args!("n{index} does not follow {} in {}", name(&peer), tree.short()));
            }
            Delivered::Lagged(_) => self.sim.sometimes("events missed"),
            Delivered::Event(_) => {}
        }
    }

    fn name_of(&self, peer: &PublicKey) -> String {
        self.index_of(peer).map_or("the silent one".to_owned(), |other| format!("n{other}"))
    }

    /// A node has begun a life: it holds what was durable in the one before, and what it had promised.
    pub(super) fn begin_to_see(&self, index: usize) -> Result<(), Divergence> {
        let Some(process) = self.process(index).filter(|_| self.hosts[index].honest) else { return Ok(()) };
        let seen = &mut *lock(&self.seen);
        let (commits, beliefs) = self.hosts[index].ledger.counts();
        let mut node = Node { commits, beliefs, ..Node::default() };
        self.read_logs(index, &process, &mut node)?;
        let held: BTreeSet<EntryId> = node.logs.values().flat_map(|log| log.held.iter().copied()).collect();
        for promised in lock(&self.hosts[index].state).acknowledged.values() {
            check::acknowledged(&process.name, &held, promised)?;
        }
        if let Some(id) = self.hosts[index].ledger.found(held) {
            return Err(Divergence::Lost { node: process.name.clone(), id });
        }
        seen.nodes.insert(index, node);
        seen.true_upto.retain(|(a, b, _), _| *a != index && *b != index);
        self.check_beliefs_of(index, &process, seen, None)?;
        for other in self.honest().into_iter().filter(|other| *other != index) {
            if let Some(process) = self.process(other) {
                self.check_beliefs_of(other, &process, seen, Some(index))?;
            }
        }
        Ok(())
    }

    /// Takes note of what has come.
    fn read_logs(&self, index: usize, process: &Process, node: &mut Node) -> Result<(), Divergence> {
        for tree in lock(&self.trees).iter().filter(|tree| tree.members.contains(&index)) {
            let log = node.logs.entry(tree.id).or_default();
            let failed = |error: &dyn std::error::Error| {
                self.failed(index, format!("reading a log: {}", chain(error)))
            };
            let Some(snapshot) = process.store().tree(&tree.id).map_err(|e| failed(&e))? else { continue };
            let (from, end) = (Seq(log.ids.len() as u64), snapshot.end());
            if end < from {
                return Err(self.failed(index, format!("the log has {} entries, and had {}", end.0, from.0)));
            }
            if end == from {
                continue;
            }
            for entry in snapshot.log(from..end, usize::MAX).map_err(|e| failed(&e))? {
                let id = EntryId::of_block(&entry.block);
                log.ids.push(id);
                log.at_ms.push(self.hosts[index].site.clock.now_ms());
                log.held.insert(id);
            }
        }
        Ok(())
    }

    /// What a node remembers of others, of all or of one, is so.
    fn check_beliefs_of(
        &self,
        index: usize,
        process: &Process,
        seen: &mut Seen,
        of: Option<usize>,
    ) -> Result<(), Divergence> {
        for tree in lock(&self.trees).iter().filter(|tree| tree.members.contains(&index)) {
            for &peer in
                tree.members.iter().filter(|peer| **peer != index && of.is_none_or(|of| of == **peer))
            {
                if self.hosts[peer].honest {
                    self.check_belief((index, peer), process, tree, seen)?;
                }
            }
        }
        Ok(())
    }

    fn check_belief(
        &self,
        (index, peer): (usize, usize),
        process: &Process,
        tree: &Shared,
        seen: &mut Seen,
    ) -> Result<(), Divergence> {
        let Some(device) = self.device(peer) else { return Ok(()) };
        let known = process
            .known_of(&tree.id, &device)
            .map_err(|e| self.failed(index, format!("what is known: {}", chain(&*e))))?;
        let name = &self.hosts[peer].site.name;
        let none = Log::default();
        let log = |index| seen.nodes.get(&index).and_then(|node| node.logs.get(&tree.id)).unwrap_or(&none);
        let (own, theirs) = (log(index), log(peer));
        let mut upto = seen.true_upto.get(&(index, peer, tree.id)).copied().unwrap_or_default();
        if let Some(cursor) = known.mine.filter(|cursor| cursor.epoch == process.store().epoch_of(&tree.id)) {
            let end = usize::try_from(cursor.seq.0).unwrap_or(usize::MAX);
            let held = |id: &EntryId| self.hosts[peer].ledger.is_durable(id);
            self.check_upto(&process.name, name, (&own.ids, upto.mine, end), held)?;
            upto.mine = upto.mine.max(end);
            self.sim.sometimes("acknowledgement checked");
        }
        // Where it is down, nobody can say what its log will be.
        let there = self.process(peer);
        let epoch = there.map(|there| there.store().epoch_of(&tree.id));
        if let Some(cursor) = known.theirs.filter(|cursor| Some(cursor.epoch) == epoch) {
            let end = usize::try_from(cursor.seq.0).unwrap_or(usize::MAX);
            let held = |id: &EntryId| own.held.contains(id);
            let itself = format!("itself, as for the log of {name},");
            self.check_upto(&process.name, &itself, (&theirs.ids, upto.theirs, end), held)?;
            upto.theirs = upto.theirs.max(end);
            self.sim.sometimes("cursor checked");
        }
        seen.true_upto.insert((index, peer, tree.id), upto);
        let is_met = seen.met.contains(&(index, device));
        self.check_status((index, device), process, tree, (upto.mine, is_met))
    }

    /// Who has asked a peer in a session, and says that nothing of it is lacking, has what the peer held when the session
    /// began.
    fn check_lacking(
        &self,
        index: usize,
        process: &Process,
        report: &SessionReport,
        seen: &Seen,
    ) -> Result<(), Divergence> {
        let (Some(tree), Some(0), Some(_)) = (report.tree, report.behind, &report.via) else { return Ok(()) };
        let Some(peer) = self.index_of(&report.peer) else { return Ok(()) };
        let none = Log::default();
        let log = |index| seen.nodes.get(&index).and_then(|node| node.logs.get(&tree)).unwrap_or(&none);
        let (own, theirs) = (log(index), log(peer));
        let since = report.began_ms;
        let mut missing = theirs
            .ids
            .iter()
            .zip(&theirs.at_ms)
            .filter(|(id, at_ms)| **at_ms < since && !own.held.contains(*id));
        if let Some((id, at_ms)) = missing.next() {
            let what = format!(
                "says that it lacks nothing of {} at n{peer} as of {since}, and lacks {}, there since {at_ms}, and {} more",
                tree.short(),
                id.short(),
                missing.count()
            );
            return Err(self.failed(index, what));
        }
        let status = process
            .status(&tree, &report.peer)
            .map_err(|error| self.failed(index, format!("its status: {}", chain(&*error))))?;
        if status.behind.is_none() || status.behind_as_of < Some(since) {
            return Err(self.failed(index, format!("has asked n{peer} at {since}, and says: {status:?}")));
        }
        self.sim.sometimes("what is lacking compared");
        Ok(())
    }

    /// What is said of a peer claims no more than what it was found to hold.
    fn check_status(
        &self,
        (index, peer): (usize, PublicKey),
        process: &Process,
        tree: &Shared,
        (held, was_met): (usize, bool),
    ) -> Result<(), Divergence> {
        let failed = |error: AnyError| self.failed(index, format!("its status: {}", chain(&*error)));
        let status = process.status(&tree.id, &peer).map_err(failed)?;
        let entries = process.entries(&tree.id).unwrap_or(0);
        let now_ms = self.hosts[index].site.clock.now_ms();
        let failed_ms = status.last_error.as_ref().map(|error| error.at_ms);
        let wrong = if status.acknowledged > held as u64 || status.acknowledged + status.ahead != entries {
            Some("what is acknowledged")
        } else if status.acknowledged_tips.is_some() != (status.ahead == 0 && entries > 0) {
            Some("which tips are acknowledged")
        } else if status.has_local_data != (entries > 0) {
            Some("what is here")
        } else if [status.behind_as_of, status.last_sync, failed_ms]
            .into_iter()
            .flatten()
            .any(|ms| ms > now_ms)
        {
            Some("the time")
        } else if !was_met && status.last_sync.is_some() {
            Some("a session")
        } else if status.transfers.iter().any(|one| one.entries > one.entries_total) {
            Some("what moves")
        } else if status.state == Some(KeepState::InStep) && status.connection != ConnectionState::Connected {
            Some("a connection")
        } else if status.attempts > 0 && status.last_error.is_none() {
            Some("that something failed, and not what")
        } else if status.state == Some(KeepState::Waiting)
            && status.next_attempt.is_none_or(|ms| ms > now_ms + DIAL_MAX_MS)
        {
            Some("when it is tried next")
        } else {
            None
        };
        if let Some(what) = wrong {
            let what = format!(
                "claims more than {held} of {entries} entries at {}: {what}: {status:?}",
                self.name_of(&peer)
            );
            return Err(self.failed(index, what));
        }
        self.sim.sometimes("status compared");
        Ok(())
    }

    fn check_upto(
        &self,
        node: &str,
        peer: &str,
        (log, from, end): (&[EntryId], usize, usize),
        held: impl Fn(&EntryId) -> bool,
    ) -> Result<(), Divergence> {
        if end > log.len() {
            return Err(Divergence::Failed {
                node: node.to_owned(),
                what: format!("takes {peer} to hold {end} entries of {}", log.len()),
            });
        }
        match log[from.min(end)..end].iter().find(|id| !held(id)) {
            Some(id) => Err(Divergence::Overstated { node: node.to_owned(), peer: peer.to_owned(), id: *id }),
            None => Ok(()),
        }
    }

    /// What a node says of its peers is so.
    fn check_words_of(&self, index: usize, process: &Process, seen: &mut Seen) -> Result<(), Divergence> {
        for (peer, status) in process.known_status() {
            let Some(peer) = peer else {
                if status.state == KeepState::InStep || status.last_sync_ms.is_some() {
                    return Err(self.failed(index, format!("says of whom it has never met: {status:?}")));
                }
                continue;
            };
            let node = seen.nodes.entry(index).or_default();
            let before = node.said.get(&peer);
            if before == Some(&status) {
                continue;
            }
            let (state, last_sync_ms) = (before.map(|b| b.state), before.and_then(|b| b.last_sync_ms));
            node.said.insert(peer, status.clone());
            if status.last_sync_ms != last_sync_ms {
                self.check_last(index, peer, &status, seen)?;
            }
            if let Some(other) = self.index_of(&peer).filter(|other| self.hosts[*other].honest) {
                self.check_beliefs_of(index, process, seen, Some(other))?;
            }
            if Some(status.state) == state {
                continue;
            }
            self.sim.say(format_args!("n{index} with {}: {:?}", self.name_of(&peer), status.state));
            match (status.state, self.index_of(&peer)) {
                (KeepState::CatchingUp, Some(other)) if state != Some(KeepState::InStep) => {
                    self.note_meeting(index, other, peer, seen);
                }
                (KeepState::InStep, other) => {
                    self.check_in_step(index, other, peer, seen)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The time of the last session is one that was, and there was a session.
    fn check_last(
        &self,
        index: usize,
        peer: PublicKey,
        status: &KeptSeen,
        seen: &Seen,
    ) -> Result<(), Divergence> {
        let Some(last_ms) = status.last_sync_ms else {
            return Err(self.failed(index, format!("forgets the last session with {}", peer.short())));
        };
        let now_ms = self.hosts[index].site.clock.now_ms();
        if last_ms > now_ms {
            return Err(self.failed(index, format!("names a last session {} ms from now", last_ms - now_ms)));
        }
        if !seen.met.contains(&(index, peer)) {
            let what = format!("names a session with {}, whom it has never met", self.name_of(&peer));
            return Err(self.failed(index, what));
        }
        self.sim.sometimes("last session checked");
        Ok(())
    }

    /// A connection begins: what the peer holds for good now is here once they are in step.
    fn note_meeting(&self, index: usize, other: usize, peer: PublicKey, seen: &mut Seen) {
        let mut held = BTreeMap::new();
        if let Some(there) = seen.nodes.get(&other) {
            let ledger = &self.hosts[other].ledger;
            for (tree, log) in &there.logs {
                let end = log.ids.iter().rposition(|id| ledger.is_durable(id)).map_or(0, |last| last + 1);
                held.insert(*tree, end);
            }
        }
        seen.nodes.entry(index).or_default().at_meeting.insert(peer, held);
    }

    fn check_in_step(
        &self,
        index: usize,
        other: Option<usize>,
        peer: PublicKey,
        seen: &Seen,
    ) -> Result<(), Divergence> {
        let Some(other) = other else {
            return Err(self.failed(index, "says that it is in step with who never answers".to_owned()));
        };
        self.sim.sometimes("in step");
        let (Some(here), Some(there)) = (seen.nodes.get(&index), seen.nodes.get(&other)) else {
            return Ok(());
        };
        let slow = lock(&self.wishes);
        let meeting = here.at_meeting.get(&peer).into_iter().flatten();
        // What is looked at by period may not be due.
        for (tree, end) in meeting.filter(|(tree, _)| !slow.contains_key(*tree)) {
            let (Some(own), Some(theirs)) = (here.logs.get(tree), there.logs.get(tree)) else { continue };
            let mut missing = theirs.ids.iter().take(*end).filter(|id| !own.held.contains(*id));
            if let Some(id) = missing.next() {
                let what = format!(
                    "says that it is in step with n{other}, and lacks entry {} of {}, and {} more, that were there when \
                     they met",
                    id.short(),
                    tree.short(),
                    missing.count()
                );
                return Err(self.failed(index, what));
            }
            self.sim.sometimes("in step checked");
        }
        Ok(())
    }

    /// What keeps honest members of a database from holding the same entries.
    pub(super) fn what_differs(&self) -> Option<String> {
        let seen = lock(&self.seen);
        for tree in lock(&self.trees).iter() {
            let mut first: Option<(usize, &BTreeSet<EntryId>)> = None;
            for index in tree.members.iter().copied().filter(|index| self.hosts[*index].honest) {
                let Some(log) = seen.nodes.get(&index).and_then(|node| node.logs.get(&tree.id)) else {
                    return Some(format!("n{index} has nothing of {}", tree.id.short()));
                };
                match first {
                    Some((other, held)) if *held != log.held => {
                        let (more, less) =
                            (held.difference(&log.held).count(), log.held.difference(held).count());
                        let name = tree.id.short();
                        return Some(format!(
                            "n{other} has {more} entries of {name} that n{index} lacks, and lacks {less} of its"
                        ));
                    }
                    Some(_) => {}
                    None => first = Some((index, &log.held)),
                }
            }
        }
        None
    }

    /// Who says of a neighbour that he has what is not here, or does not say that he has nothing more, once all hold the
    /// same. What a neighbour has acknowledged is what is his, as it is remembered.
    pub(super) fn who_is_behind(&self) -> Result<Option<String>, Divergence> {
        let stale = lock(&self.progress).stale.clone();
        let trees = self.shared();
        for &(index, other) in self.plan.knows.difference(&stale) {
            let is_honest = self.hosts[index].honest && self.hosts[other].honest;
            let (Some(process), Some(peer)) = (self.process(index).filter(|_| is_honest), self.device(other))
            else {
                continue;
            };
            for tree in
                trees.iter().filter(|tree| tree.members.contains(&index) && tree.members.contains(&other))
            {
                let status = process.status(&tree.id, &peer).map_err(|e| self.failed(index, chain(&*e)))?;
                let now_ms = self.hosts[index].site.clock.now_ms();
                let entries = process.entries(&tree.id).unwrap_or(0);
                let times = [status.behind_as_of, status.last_sync];
                if times.into_iter().flatten().any(|ms| ms > now_ms)
                    || status.acknowledged + status.ahead != entries
                    || status.acknowledged_tips.is_some() != (status.ahead == 0)
                {
                    return Err(
                        self.failed(index, format!("says of n{other} among {entries} entries: {status:?}"))
                    );
                }
                self.sim.sometimes("status checked");
                if status.behind != Some(0) {
                    return Ok(Some(format!("n{index} says of n{other}: {status:?}")));
                }
            }
        }
        Ok(None)
    }

    /// Whether nothing that two share is told at once.
    fn is_by_period(&self, index: usize, other: usize) -> bool {
        let trees = lock(&self.trees);
        let mut shared =
            trees.iter().filter(|tree| tree.members.contains(&index) && tree.members.contains(&other));
        shared.all(|tree| tree.every_ms.is_some())
    }

    /// Who is to be in step with whom, and does not say that it is.
    pub(super) fn who_is_not_in_step(&self) -> Option<String> {
        let stale = lock(&self.progress).stale.clone();
        let seen = lock(&self.seen);
        for &(index, other) in self.plan.knows.difference(&stale) {
            if !self.hosts[index].honest || !self.hosts[other].honest {
                continue;
            }
            let said = self.device(other).and_then(|peer| seen.nodes.get(&index)?.said.get(&peer));
            match said {
                Some(status) if status.state == KeepState::InStep => {}
                Some(status) if status.state == KeepState::Resting && self.is_by_period(index, other) => {}
                said => return Some(format!("n{index} with n{other}: {said:?}")),
            }
        }
        None
    }
}
