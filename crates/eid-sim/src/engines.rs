//! Worlds of engines: every node keeps in step with the peers in its book, all the time, and nobody tells it anything.
//!
//! Nodes know each other along the edges of a connected graph, mostly not each with each. In pieces of at most
//! [`plan::PIECE_US_MAX`] there are faults, while everybody writes; after each piece all honest nodes must come to hold
//! the same of every database that they share, within [`SETTLE_US`], and be in step. Whenever a task was polled, what its
//! node says and believes of others is compared with what is on their disks.

mod begin;
mod faults;
pub mod plan;
mod settle;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};

use eid_core::{EntryId, PublicKey, TreeId};
use eid_sync::Compression;

use crate::check::{self, Divergence, Held, Truth};
use crate::clock::Clock;
use crate::disk::Ledger;
use crate::executor::{Group, Sim, Stopped, lock};
use crate::net::{Net, Node, Weather};
use crate::node::{Disk, Process, Site, Wishes};
use crate::rng::Rng;
use crate::trace::Verbosity;
use crate::villain::Tampering;
use crate::world::{Outcome, chain, end_of};

use plan::{Disturbance, Plan};
use truth::Seen;

/// What must have occurred in a run of many seeds.
pub const EXPECTED: &[&str] = &[
    "acknowledgement checked",
    "acknowledgement invented",
    "address changed by a restart",
    "address changed while it runs",
    "address learnt by being dialled",
    "address told",
    "asks without a right",
    "behind a node that is no neighbour",
    "commit acknowledged",
    "connection cut at any time",
    "connection half-open",
    "connection half-open at any time",
    "crash",
    "crash in a commit",
    "cursor checked",
    "dial into a partition",
    "embedded backend",
    "entry forged",
    "frame altered",
    "frame replayed",
    "height invented",
    "hints poisoned",
    "in step",
    "in step checked",
    "last session checked",
    "link cut",
    "member that holds nothing",
    "partition",
    "partition of one direction",
    "restart",
    "settled",
    "settled although half-open connections stay",
    "settled by period beyond a node that is no neighbour",
    "several pieces",
    "silent peer dialled",
    "status checked",
    "status compared",
    "two entries signed at one place",
    "unflushed writes lost",
    "what is lacking compared",
    "written in step",
];

/// Longest time, virtual, in which all must hold the same and be in step once the faults have ended.
pub const SETTLE_US: u64 = 60 * 1_000_000;
/// How much longer when connections stay on which nothing arrives: the engine leaves them after a minute.
const SILENCE_US: u64 = 65 * 1_000_000;
/// Longest time, virtual, in which what is written reaches everybody who is in step.
const TOLD_US: u64 = 5 * 1_000_000;

/// Runs one seed from its beginning to its end.
#[must_use]
pub fn run(seed: u64, verbosity: Verbosity) -> Outcome {
    let world = Arc::new(Engines::new(seed, verbosity));
    world.live();
    let divergence = lock(&world.failure).take();
    let sim = world.sim.clone();
    for host in &world.hosts {
        let process = lock(&host.state).process.take();
        if let Some(process) = process {
            process.mount.kill();
        }
    }
    end_of(&sim, divergence)
}

#[derive(Debug)]
struct Host {
    honest: bool,
    site: Site,
    ledger: Arc<Ledger>,
    state: Mutex<HostState>,
}

#[derive(Debug)]
struct HostState {
    rng: Rng,
    process: Option<Arc<Process>>,
    life: u64,
    group: Group,
    address: String,
    addresses: u32,
    /// It comes back at another address.
    moves: bool,
    acknowledged: BTreeMap<TreeId, Vec<EntryId>>,
    device: Option<PublicKey>,
}

/// A database, and who has the right to it.
#[derive(Debug, Clone)]
struct Shared {
    id: TreeId,
    members: BTreeSet<usize>,
    /// Milliseconds between two looks, where what comes is not told at once.
    every_ms: Option<u64>,
}

struct Engines {
    seed: u64,
    plan: Plan,
    sim: Sim,
    net: Net,
    hosts: Vec<Host>,
    /// Of all of them.
    wishes: Wishes,
    trees: Mutex<Vec<Shared>>,
    seen: Mutex<Seen>,
    truth: Mutex<Truth>,
    failure: Mutex<Option<Divergence>>,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    next_group: u64,
    /// Everybody writes, and there are faults.
    disturbed: bool,
    /// Addresses that somebody is still to be told.
    telling: u64,
    /// Who has an address of whom that is not right any more, and will not be told.
    stale: BTreeSet<(usize, usize)>,
    committed: u64,
}

impl Engines {
    fn new(seed: u64, verbosity: Verbosity) -> Self {
        let plan = Plan::of(seed);
        let sim = Sim::new(seed, verbosity);
        let net = Net::new(&sim, seed, Weather::fair());
        let wishes = Wishes::default();
        let host = |index: usize| {
            let node = Node(u32::try_from(index).unwrap_or(u32::MAX));
            let (honest, ledger) = (index < plan.honest, Arc::new(Ledger::default()));
            let site = Site {
                sim: sim.clone(),
                net: net.clone(),
                node,
                clock: Arc::new(Clock::right(&sim)),
                disk: Disk::new(plan.disk),
                name: format!("n{index}"),
                first_rung: plan.first_rung,
                // A villain changes what it can read.
                compression: if !honest || index % 3 == 2 {
                    Compression::Never
                } else {
                    Compression::WhereItPays
                },
                ledger: Some(Arc::clone(&ledger)),
                memory_bytes: None,
                wishes: Arc::clone(&wishes),
            };
            let state = HostState {
                rng: Rng::new(seed, &format!("host {index}")),
                process: None,
                life: 0,
                group: Group::WORLD,
                address: String::new(),
                addresses: 0,
                moves: true,
                acknowledged: BTreeMap::new(),
                device: None,
            };
            Host { honest, site, ledger, state: Mutex::new(state) }
        };
        let hosts = (0..plan.nodes()).map(host).collect();
        sim.say(format_args!("seed {seed}: {plan:?}"));
        Self {
            seed,
            plan,
            sim,
            net,
            hosts,
            wishes,
            trees: Mutex::default(),
            seen: Mutex::default(),
            truth: Mutex::default(),
            failure: Mutex::default(),
            progress: Mutex::new(Progress { next_group: 1, ..Progress::default() }),
        }
    }

    /// Everything that happens.
    fn live(self: &Arc<Self>) {
        let world = Arc::clone(self);
        if !self.drive(60_000_000, async move { world.set_up().await }) {
            return;
        }
        if self.plan.pieces.len() > 1 {
            self.sim.sometimes("several pieces");
        }
        for (piece, &us) in self.plan.pieces.iter().enumerate() {
            self.disturb(piece, us);
            let world = Arc::clone(self);
            let deadline_us = self.sim.now_us() + 4 * (SETTLE_US + SILENCE_US);
            if !self.drive(deadline_us, async move { world.settle().await }) {
                return;
            }
        }
        if let Err(divergence) = self.check_all() {
            self.fail(divergence);
        }
    }

    /// Runs one task of the world to its end. Says whether everything is as it must be.
    fn drive(
        self: &Arc<Self>,
        deadline_us: u64,
        work: impl Future<Output = Result<(), Divergence>> + Send + 'static,
    ) -> bool {
        let done = Arc::new(Mutex::new(None));
        let ended = Arc::clone(&done);
        let task = async move {
            let result = work.await;
            *lock(&ended) = Some(result);
        };
        self.sim.spawn(Group::WORLD, Box::pin(task));
        let stopped = self.sim.run(deadline_us, || {
            self.look();
            lock(&done).is_some() || lock(&self.failure).is_some()
        });
        match lock(&done).take() {
            Some(Ok(())) => {}
            Some(Err(divergence)) => self.fail(divergence),
            None => self.fail(Divergence::Failed {
                node: "world".to_owned(),
                what: match stopped {
                    Stopped::Idle => "nothing goes on, and something still waits".to_owned(),
                    Stopped::Spinning => "something goes on without end".to_owned(),
                    Stopped::Deadline | Stopped::Satisfied => {
                        "time is over, and something still waits".to_owned()
                    }
                },
            }),
        }
        lock(&self.failure).is_none()
    }

    /// Faults, and writes, for so long.
    fn disturb(self: &Arc<Self>, piece: usize, us: u64) {
        self.sim.say(format_args!("disturbed for {us} us"));
        lock(&self.progress).disturbed = true;
        self.net.set_weather(self.plan.weather.clone());
        for index in 0..self.hosts.len() {
            self.spawn_writer(index);
        }
        if !self.plan.disturbances.is_empty() {
            let world = Arc::clone(self);
            self.sim.spawn(Group::WORLD, Box::pin(async move { world.chaos(piece).await }));
        }
        let end_us = self.sim.now_us() + us;
        let world = Arc::clone(self);
        // Something is always due before the end, so that time goes on to it.
        let sleeping = self.sim.sleep_us(us);
        self.sim.spawn(
            Group::WORLD,
            Box::pin(async move {
                sleeping.await;
                lock(&world.progress).disturbed = false;
            }),
        );
        self.sim.run(end_us, || {
            self.look();
            lock(&self.failure).is_some() || !self.is_disturbed()
        });
        lock(&self.progress).disturbed = false;
    }

    /// Compares what is said with what is, after each step.
    fn look(&self) {
        if let Err(divergence) = self.look_at_the_last() {
            self.fail(divergence);
        }
    }

    fn fail(&self, divergence: Divergence) {
        lock(&self.failure).get_or_insert(divergence);
    }

    fn failed(&self, index: usize, what: String) -> Divergence {
        Divergence::Failed { node: self.hosts[index].site.name.clone(), what }
    }

    fn next_group(&self) -> Group {
        let mut progress = lock(&self.progress);
        let group = Group(progress.next_group);
        progress.next_group += 1;
        group
    }

    fn process(&self, index: usize) -> Option<Arc<Process>> {
        lock(&self.hosts[index].state).process.clone()
    }

    fn device(&self, index: usize) -> Option<PublicKey> {
        lock(&self.hosts[index].state).device
    }

    fn index_of(&self, device: &PublicKey) -> Option<usize> {
        (0..self.hosts.len()).find(|index| self.device(*index) == Some(*device))
    }

    fn is_disturbed(&self) -> bool {
        lock(&self.progress).disturbed
    }

    /// Whether a process of this life still runs.
    fn is_current(&self, index: usize, life: u64) -> bool {
        let state = lock(&self.hosts[index].state);
        state.process.is_some() && state.life == life
    }

    fn honest(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|index| self.hosts[*index].honest).collect()
    }

    fn shared(&self) -> Vec<Shared> {
        lock(&self.trees).clone()
    }
}
