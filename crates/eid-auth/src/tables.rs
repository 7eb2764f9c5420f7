//! The settings entries that an engine knows, by number, and every rule that is asked of one entry.
//!
//! The rules are those of [`crate::oracle`]; what differs is how little is looked at. Numbers are given in the order
//! in which entries become known, which is a topological order; no answer depends on it otherwise.

use std::collections::BTreeMap;

use eid_core::{EntryId, Permission, PublicKey, Slot};

use crate::bits::Bits;

/// The number of a settings entry.
pub(crate) type Node = u32;

/// The number of a slot.
pub(crate) type SlotNo = u32;

/// How strong an admin is: smaller is stronger.
pub(crate) type Level = u64;

/// The level of whoever is not an admin.
pub(crate) const NO_LEVEL: Level = 1 << 32;

pub(crate) const EVERYONE: SlotNo = 0;

/// The shared title is folded like a slot. Nobody's right depends on it.
pub(crate) const TITLE: SlotNo = 1;

/// What stays of a key's work.
#[derive(Debug)]
pub(crate) struct Fence {
    pub ids: Vec<EntryId>,
    /// The settings entries that are in the fence or below it.
    pub settings: Bits,
}

#[derive(Debug)]
pub(crate) enum How {
    Set,
    Leave,
    Remove(Option<Fence>),
    /// Opens an invite, until a time that decides nothing here.
    Invite(Option<u64>),
}

/// What an entry does to one slot.
#[derive(Debug)]
pub(crate) struct Write {
    pub slot: SlotNo,
    /// Nothing when it revokes.
    pub gives: Option<Permission>,
    pub how: How,
}

/// A settings entry.
#[derive(Debug)]
pub(crate) struct Row {
    pub id: EntryId,
    pub key: PublicKey,
    /// By whose right it was written: the slot of its author, of a join that of its invite.
    pub author: SlotNo,
    /// The level of its author in its past.
    pub level: Level,
    pub root: bool,
    /// What a join takes of its invite.
    pub takes: Option<Permission>,
    /// The greatest number of rules that it or its past names.
    pub rules: u64,
    pub title: Option<String>,
    /// Sorted by slot, one for each.
    pub writes: Vec<Write>,
    pub accepts: Vec<EntryId>,
    /// The settings entries of its past, and which of those are void when only they are known.
    pub past: Bits,
    pub void_before: Bits,
    /// The same with this entry; nothing until that is settled.
    pub void_after: Option<Bits>,
}

/// One write of a slot: by which entry, and which of its writes it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Writer {
    pub level: Level,
    pub node: Node,
    at: u32,
}

#[derive(Debug)]
pub(crate) struct SlotRow {
    /// Nothing for the title.
    pub slot: Option<Slot>,
    /// Who wrote it, the strongest first, of equals the earlier numbered first.
    pub writers: Vec<Writer>,
    /// The settings entries by this key; the joins by this invite.
    pub authored: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct Tables {
    pub nodes: Vec<Row>,
    pub slots: Vec<SlotRow>,
    pub ids: BTreeMap<EntryId, Node>,
    keys: BTreeMap<PublicKey, SlotNo>,
    invites: BTreeMap<PublicKey, SlotNo>,
    pub accepted: BTreeMap<EntryId, Vec<Node>>,
}

/// A set of settings entries, those of it that are void, and whose removals are heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub set: &'a Bits,
    pub void: &'a Bits,
    /// Judge as this entry, which accepts, would have it: no weaker removals, no equal ones that it had seen.
    pub heard_by: Option<Node>,
}

impl Scene<'_> {
    pub(crate) fn is_live(&self, node: Node) -> bool {
        self.set.contains(node) && !self.void.contains(node)
    }
}

/// Whose standing is in question: what it needed, and which settings it had seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub level: Level,
    pub needs: Permission,
    pub past: &'a Bits,
}

/// Why an entry does not stand, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Removed {
        by: Node,
        slot: SlotNo,
    },
    /// Without the void entry of its past that is named, if one can be named.
    Right {
        cause: Option<Node>,
    },
    Level {
        cause: Option<Node>,
    },
    Slot {
        slot: SlotNo,
        cause: Option<Node>,
    },
}

/// What is wrong with a settings entry in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overreach {
    NotAdmin,
    Outranked { slot: SlotNo, by: Node },
    AboveOneself { slot: SlotNo },
}

/// What is wrong with a join in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The invite was withdrawn, or never made, or gives less.
    Invite { gives: Option<Permission> },
    /// The slot was set.
    Taken { by: Node },
}

const WEAKEST_ADMIN: Permission = Permission::Admin(u32::MAX);

impl Tables {
    pub(crate) fn new() -> Self {
        let slot = |slot| SlotRow { slot, writers: Vec::new(), authored: Vec::new() };
        Self {
            nodes: Vec::new(),
            slots: vec![slot(Some(Slot::Everyone)), slot(None)],
            ids: BTreeMap::new(),
            keys: BTreeMap::new(),
            invites: BTreeMap::new(),
            accepted: BTreeMap::new(),
        }
    }

    pub(crate) fn row(&self, node: Node) -> &Row {
        &self.nodes[node as usize]
    }

    pub(crate) fn slot_of(&self, key: &PublicKey) -> Option<SlotNo> {
        self.keys.get(key).copied()
    }

    pub(crate) fn find(&self, slot: &Slot) -> Option<SlotNo> {
        match slot {
            Slot::Everyone => Some(EVERYONE),
            Slot::Key(key) => self.slot_of(key),
            Slot::Invite(key) => self.invites.get(key).copied(),
        }
    }

    pub(crate) fn number(&mut self, slot: &Slot) -> SlotNo {
        let (numbers, key) = match slot {
            Slot::Everyone => return EVERYONE,
            Slot::Key(key) => (&mut self.keys, key),
            Slot::Invite(key) => (&mut self.invites, key),
        };
        let next = self.slots.len() as SlotNo;
        let number = *numbers.entry(*key).or_insert(next);
        if number == next {
            self.slots.push(SlotRow { slot: Some(*slot), writers: Vec::new(), authored: Vec::new() });
        }
        number
    }

    /// Adds an entry whose whole past is known.
    pub(crate) fn add(&mut self, row: Row) -> Node {
        let node = self.nodes.len() as Node;
        for (at, write) in (0..).zip(&row.writes) {
            let writers = &mut self.slots[write.slot as usize].writers;
            let writer = Writer { level: row.level, node, at };
            let place = writers.partition_point(|held| *held < writer);
            writers.insert(place, writer);
        }
        for id in &row.accepts {
            self.accepted.entry(*id).or_default().push(node);
        }
        self.slots[row.author as usize].authored.push(node);
        self.ids.insert(row.id, node);
        self.nodes.push(row);
        node
    }

    pub(crate) fn write(&self, node: Node, slot: SlotNo) -> Option<&Write> {
        let writes = &self.row(node).writes;
        writes.binary_search_by_key(&slot, |write| write.slot).ok().map(|at| &writes[at])
    }

    pub(crate) fn write_of(&self, writer: Writer) -> &Write {
        &self.row(writer.node).writes[writer.at as usize]
    }

    /// The current writes of a slot: the last effective ones of those that `member` admits.
    ///
    /// A write is effective when it has seen every stronger effective one. So the writes of one level that are
    /// effective have all seen what is effective above, and the weakest effective level is the current one.
    pub(crate) fn current(&self, slot: SlotNo, below: Level, member: impl Fn(Node) -> bool) -> Vec<Writer> {
        let (mut above, mut heads, mut level) = (Vec::new(), Vec::<Writer>::new(), 0);
        for writer in &self.slots[slot as usize].writers {
            if writer.level >= below {
                break;
            }
            if !member(writer.node) {
                continue;
            }
            let past = &self.row(writer.node).past;
            if writer.level > level {
                if heads.iter().all(|head| past.contains(head.node)) {
                    above = std::mem::replace(&mut heads, vec![*writer]);
                    level = writer.level;
                }
            } else if above.iter().all(|head: &Writer| past.contains(head.node)) {
                heads.retain(|head| !past.contains(head.node));
                heads.push(*writer);
            }
        }
        heads
    }

    /// What a slot gives: of several current writes, the most restrictive. Nothing when it was never written.
    pub(crate) fn slot_value(
        &self,
        slot: SlotNo,
        member: impl Fn(Node) -> bool,
    ) -> Option<(Option<Permission>, Node)> {
        let values = self.current(slot, Level::MAX, member);
        let values = values.into_iter().map(|writer| (self.write_of(writer).gives, writer.node));
        values.min_by_key(|(gives, node)| (*gives, self.row(*node).id))
    }

    /// What a key may do: by its own slot if it has one, even a revoked one, else by the one for everyone.
    pub(crate) fn permission(
        &self,
        slot: Option<SlotNo>,
        member: impl Fn(Node) -> bool,
    ) -> (Option<Permission>, Option<Node>) {
        let own = slot.and_then(|slot| self.slot_value(slot, &member));
        match own.or_else(|| self.slot_value(EVERYONE, &member)) {
            Some((gives, node)) => (gives, Some(node)),
            None => (None, None),
        }
    }

    /// Whether an author may write these slots in the state that `member` gives. The level is his in that state.
    pub(crate) fn overreach(
        &self,
        author: SlotNo,
        writes: &[Write],
        level: Level,
        member: impl Fn(Node) -> bool,
    ) -> Option<Overreach> {
        if level == NO_LEVEL {
            return Some(Overreach::NotAdmin);
        }
        for write in writes.iter().filter(|write| write.slot != TITLE) {
            let slot = write.slot;
            for value in self.current(slot, Level::MAX, &member) {
                let outranked = match self.write_of(value).gives {
                    Some(Permission::Admin(held)) => slot == author || level < Level::from(held),
                    Some(_) => true,
                    None => level <= value.level,
                };
                if !outranked {
                    return Some(Overreach::Outranked { slot, by: value.node });
                }
            }
            if write.gives.and_then(Permission::level).is_some_and(|granted| Level::from(granted) < level) {
                return Some(Overreach::AboveOneself { slot });
            }
        }
        None
    }

    /// Whether a key may join in the state that `member` gives. Nothing stands in for an invite or for a slot: each is
    /// asked for by itself.
    pub(crate) fn misfit(
        &self,
        invite: Option<SlotNo>,
        joiner: Option<SlotNo>,
        takes: Permission,
        member: impl Fn(Node) -> bool,
    ) -> Option<Misfit> {
        let gives = invite.and_then(|slot| self.slot_value(slot, &member)).and_then(|(gives, _)| gives);
        if gives < Some(takes) {
            return Some(Misfit::Invite { gives });
        }
        let taken = joiner.and_then(|slot| self.slot_value(slot, &member));
        taken.map(|(_, by)| Misfit::Taken { by })
    }

    fn hears(&self, acceptor: Option<Node>, remover: Node) -> bool {
        acceptor.is_none_or(|acceptor| {
            let (accepts, removes) = (self.row(acceptor), self.row(remover));
            removes.level < accepts.level || removes.level == accepts.level && !accepts.past.contains(remover)
        })
    }

    /// Whether this write takes away what the subject used, leaving aside what the fence keeps and what shields it.
    pub(crate) fn takes(&self, remover: Node, write: &Write, subject: Subject<'_>) -> bool {
        let row = self.row(remover);
        row.level < subject.level
            // Laid down by its holder: else whoever steals a key erases its history.
            && row.author != write.slot
            && !matches!(write.how, How::Leave)
            && write.gives < Some(subject.needs)
            // Who knew of it is judged by validity and by what the slots give.
            && !subject.past.contains(remover)
    }

    /// The settings entries that a removal keeps.
    pub(crate) fn kept<'a>(&'a self, remover: Node, write: &'a Write) -> &'a Bits {
        match &write.how {
            How::Remove(Some(fence)) => &fence.settings,
            _ => &self.row(remover).past,
        }
    }

    /// Whether a stronger grant that the remover had not seen, and that the subject is built on, protects it. Not when
    /// the removal is effective all the same: then that grant gave way to a write that the remover did know.
    fn is_shielded(&self, remover: Node, slot: SlotNo, subject: Subject<'_>, scene: Scene<'_>) -> bool {
        let row = self.row(remover);
        let stronger = self.slots[slot as usize].writers.iter().take_while(|writer| writer.level < row.level);
        let unseen_grant = stronger.copied().any(|writer| {
            subject.past.contains(writer.node)
                && !row.past.contains(writer.node)
                && scene.is_live(writer.node)
                && self.write_of(writer).gives.is_some()
        });
        unseen_grant
            && !self
                .current(slot, row.level, |node| scene.is_live(node))
                .iter()
                .all(|head| row.past.contains(head.node))
    }

    /// Who takes away what the subject used through a slot, whatever their fences keep.
    pub(crate) fn removers<'a>(
        &'a self,
        slot: SlotNo,
        subject: Subject<'a>,
        scene: Scene<'a>,
    ) -> impl Iterator<Item = (Node, &'a Write)> + 'a {
        let writers = self.slots[slot as usize].writers.iter().copied();
        writers
            .take_while(move |writer| writer.level < subject.level)
            .map(move |writer| (writer.node, self.write_of(writer)))
            .filter(move |(node, write)| {
                self.takes(*node, write, subject)
                    && scene.is_live(*node)
                    && self.hears(scene.heard_by, *node)
                    && !self.is_shielded(*node, slot, subject, scene)
            })
    }

    /// What a settings entry needed, and what it had seen.
    pub(crate) fn subject(&self, node: Node) -> Subject<'_> {
        let row = self.row(node);
        // Whoever is left an admin of at least this level may do what the entry did.
        let admin = || u32::try_from(row.level).map_or(WEAKEST_ADMIN, Permission::Admin);
        Subject { level: row.level, needs: row.takes.unwrap_or_else(admin), past: &row.past }
    }

    /// Why a settings entry does not stand in a scene that holds its past; what is stronger must be settled.
    pub(crate) fn fault(&self, node: Node, scene: Scene<'_>) -> Option<Fault> {
        let row = self.row(node);
        if row.root {
            return None;
        }
        let mut removers = self.removers(row.author, self.subject(node), scene);
        if let Some((by, _)) = removers.find(|(by, write)| !self.kept(*by, write).contains(node)) {
            return Some(Fault::Removed { by, slot: row.author });
        }
        let cause = self.change_of_past(node, scene)?;
        // Work that is weaker is not settled yet: what the entry knew of it holds.
        let member = |other: Node| {
            let void = if self.row(other).level <= row.level { scene.void } else { &row.void_before };
            row.past.contains(other) && !void.contains(other)
        };
        let cause = Some(cause);
        if let (Some(takes), [write]) = (row.takes, row.writes.as_slice()) {
            return self.misfit(Some(row.author), Some(write.slot), takes, member).map(
                |misfit| match misfit {
                    Misfit::Invite { .. } => Fault::Right { cause },
                    Misfit::Taken { .. } => Fault::Slot { slot: write.slot, cause },
                },
            );
        }
        let (permission, _) = self.permission(Some(row.author), member);
        let level = level_of(permission);
        match self.overreach(row.author, &row.writes, level, member) {
            Some(Overreach::NotAdmin) => Some(Fault::Right { cause }),
            Some(Overreach::Outranked { slot, .. } | Overreach::AboveOneself { slot }) => {
                Some(Fault::Slot { slot, cause })
            }
            None if level > row.level => Some(Fault::Level { cause }),
            None => None,
        }
    }

    /// An entry of its past that became void, or stands again, and that matters to a settings entry.
    fn change_of_past(&self, node: Node, scene: Scene<'_>) -> Option<Node> {
        let row = self.row(node);
        if scene.void.is_same(&row.void_before) {
            return None;
        }
        let slots = [row.author].into_iter().chain(row.writes.iter().map(|write| write.slot));
        let mut writers = slots.flat_map(|slot| {
            let writers = self.slots[slot as usize].writers.iter();
            writers.take_while(|writer| writer.level <= row.level).map(|writer| writer.node)
        });
        writers.find(|other| {
            row.past.contains(*other) && scene.void.contains(*other) != row.void_before.contains(*other)
        })
    }
}

pub(crate) fn level_of(permission: Option<Permission>) -> Level {
    permission.and_then(Permission::level).map_or(NO_LEVEL, Level::from)
}
