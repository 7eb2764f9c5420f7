//! What one seed makes of a world, before anything runs.

use eid_sync::Rung;

use crate::net::Weather;
use crate::rng::Rng;

/// Which kind of disk the nodes of a world have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// Rows in memory with a journal ([`crate::disk::Journal`]).
    Journal,
    /// The embedded backend over sectors that are lost, torn and reordered.
    Embedded,
}

/// What a participant that is not honest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Villain {
    /// Has the right to write, and alters what it forwards: flipped bits, wrong signatures.
    Forger,
    /// Has the right to write, and sends entries of its own with wrong heights and times.
    Liar,
    /// Has the right to write, and sends frames again that it has sent before.
    Replayer,
    /// Is an admin until it is removed, and signs behind whatever it has seen before, with a false clock.
    BackDater,
    /// Uses its key in two places: different peers are given different entries.
    Equivocator,
    /// Is an admin, removes others, purges what they wrote, and grants to whom it likes.
    RogueAdmin,
    /// Has the right to write, and says what is not true of what it holds.
    Poisoner,
}

impl Villain {
    /// Whether it is made an admin.
    #[must_use]
    pub fn is_admin(self) -> bool {
        matches!(self, Self::BackDater | Self::RogueAdmin)
    }
}

/// The options of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Nodes that keep the rules.
    pub honest: usize,
    /// One more node, with the right to write, that does not.
    pub villain: Option<Villain>,
    /// Whether one more node, without any right, asks, and pushes.
    pub stranger: bool,
    /// Databases.
    pub databases: usize,
    /// Operations in the phase with faults.
    pub operations: u64,
    /// How badly the network behaves in that phase.
    pub weather: Weather,
    /// What the nodes keep their rows on.
    pub disk: DiskKind,
    /// Mean pause between two faults, microseconds; absent: none but those of the network.
    pub chaos_us: Option<u64>,
    /// Which kinds of faults there are.
    pub faults: Vec<FaultKind>,
    /// Mean pause between two actions of one node, microseconds.
    pub pace_us: u64,
    /// How many of a thousand actions are sessions.
    pub session_per_mille: u64,
    /// Whether all members are granted at the beginning, rather than invited when they join.
    pub granted: bool,
    /// How many of a thousand actions change settings.
    pub settings_per_mille: u64,
    /// Whether the right of everyone is changed too. A stranger would rightly be served then.
    pub wildcard: bool,
    /// Whether changes of settings open and withdraw invites, by which keys join that were not there before.
    pub invites: bool,
    /// The rung that every session begins the ladder at; absent: the cheapest.
    pub first_rung: Option<Rung>,
    /// Whether honest nodes keep others in step, besides the sessions that they run.
    pub live: bool,
}

/// Faults that the world injects, besides those of the network's weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant names a fault")]
pub enum FaultKind {
    CrashNow,
    CrashInCommit,
    Partition,
    HalfPartition,
    CutConnection,
    DiskFull,
    DiskErrors,
    ClockJump,
    ClockFreeze,
    NewAddress,
    LosePayloads,
}

/// Every kind of fault.
pub const FAULTS: [FaultKind; 11] = [
    FaultKind::CrashNow,
    FaultKind::CrashInCommit,
    FaultKind::Partition,
    FaultKind::HalfPartition,
    FaultKind::CutConnection,
    FaultKind::DiskFull,
    FaultKind::DiskErrors,
    FaultKind::ClockJump,
    FaultKind::ClockFreeze,
    FaultKind::NewAddress,
    FaultKind::LosePayloads,
];

impl Plan {
    /// What a seed makes of it. Each kind of fault is absent in a part of the worlds, so that none hides another.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let rng = &mut Rng::new(seed, "plan");
        let calm = rng.chance(80);
        let mut villain = rng.chance(300).then(|| match rng.below(3) {
            0 => Villain::Forger,
            1 => Villain::Liar,
            _ => Villain::Replayer,
        });
        // Who breaks the rules of authority, while honest admins change the settings too.
        let of_authority = &mut Rng::new(seed, "authority");
        let kinds = [Villain::BackDater, Villain::Equivocator, Villain::RogueAdmin, Villain::Forger];
        let broken = of_authority.pick(&kinds).copied().filter(|_| of_authority.chance(200));
        let settings = broken.is_some() || of_authority.chance(100);
        villain = broken.or(villain);
        let of_hints = &mut Rng::new(seed, "hints");
        villain = villain.or(of_hints.chance(150).then_some(Villain::Poisoner));
        let rungs = [Rung::TipsKnown, Rung::Remembered, Rung::Sketch, Rung::Asked, Rung::ByIds];
        let first_rung = of_hints.pick(&rungs).copied().filter(|_| of_hints.chance(400));
        let honest = 2 + rng.index(if villain.is_some() { 3 } else { 4 });
        let long = rng.chance(100);
        Self {
            honest,
            villain,
            stranger: rng.chance(250),
            databases: 1 + usize::from(rng.chance(300)),
            operations: if long { rng.range(80..151) } else { rng.range(20..60) },
            weather: if calm { Weather::fair() } else { Weather::foul(rng) },
            disk: if rng.chance(60) { DiskKind::Embedded } else { DiskKind::Journal },
            chaos_us: (!calm && rng.chance(850)).then(|| rng.range(300_000..6_000_000)),
            faults: FAULTS.into_iter().filter(|_| rng.chance(550)).collect(),
            pace_us: rng.range(30_000..600_000),
            session_per_mille: rng.range(100..500),
            granted: rng.chance(400),
            settings_per_mille: if settings { of_authority.range(40..160) } else { 0 },
            wildcard: of_authority.chance(300),
            invites: settings && Rng::new(seed, "invites").chance(700),
            first_rung,
            live: Rng::new(seed, "live").chance(400),
        }
    }
}
