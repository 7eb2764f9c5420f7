//! One world: its nodes, what is done to them, and the two phases that it goes through.
//!
//! In the phase of *safety* every fault of the plan is on; what must hold at all times is checked after each restart
//! and now and then. In the phase of *liveness* there are no faults (villains stay): within a bounded number of
//! rounds of sessions all honest replicas must be the same, and then everything is checked.

mod begin;
mod invariants;
mod liveness;
mod safety;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};

use eid_core::{EntryId, Permission, PublicKey, SecretKey, TreeId};
use eid_sync::Compression;

use crate::check::{self, Divergence, Held, Truth};
use crate::clock::Clock;
use crate::executor::{Group, Sim, Stopped, lock, within};
use crate::net::{Net, Node, Weather};
use crate::node::{Disk, Process, SessionSeen, Site, Wishes};
use crate::plan::{DiskKind, FaultKind, Plan};
use crate::rng::Rng;
use crate::trace::Verbosity;
use crate::villain::Tampering;

/// Longest phase with faults, virtual.
const SAFETY_US: u64 = 1800 * 1_000_000;
/// Longest phase without faults, virtual.
const LIVENESS_US: u64 = 3600 * 1_000_000;
/// Longest wait for one session, virtual.
const SESSION_US: u64 = 300 * 1_000_000;
/// Bytes of frames that a session may take each way when nothing differs.
const QUIET_BYTES_MAX: u64 = 1024;
/// Bytes of frames that a session may take each way, beyond the entries, when each side has one entry more.
const SMALL_BYTES_MAX: u64 = 4096;

/// What a world came to.
#[derive(Debug)]
pub struct Outcome {
    /// Why it is not as it must be, if it is not.
    pub divergence: Option<Divergence>,
    /// Names everything that happened.
    pub trace_hash: [u8; 32],
    /// What occurred, and how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// The last lines of its trace.
    pub last: Vec<String>,
    /// How long it lasted, virtual.
    pub virtual_us: u64,
}

/// Runs one seed from its beginning to its end.
#[must_use]
pub fn run(seed: u64, verbosity: Verbosity) -> Outcome {
    let world = Arc::new(World::new(seed, verbosity));
    world.live();
    let divergence = lock(&world.failure).take();
    let sim = world.sim.clone();
    world.end();
    end_of(&sim, divergence)
}

/// What a world came to that is over, whose processes are gone.
pub(crate) fn end_of(sim: &Sim, divergence: Option<Divergence>) -> Outcome {
    if let Some(Divergence::State { history, .. }) = &divergence {
        history.iter().for_each(|line| sim.say(format_args!("    {line}")));
    }
    if let Some(divergence) = &divergence {
        sim.say(format_args!("DIVERGENCE {}", chain(divergence)));
    }
    let virtual_us = sim.now_us();
    sim.clear();
    sim.trace(|trace| Outcome {
        divergence,
        trace_hash: trace.hash(),
        counts: trace.counts().clone(),
        last: trace.last().map(str::to_owned).collect(),
        virtual_us,
    })
}

/// An error with its causes.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Honest,
    Villain,
    Stranger,
}

#[derive(Debug)]
struct Host {
    role: Role,
    site: Site,
    state: Mutex<HostState>,
}

#[derive(Debug)]
struct HostState {
    rng: Rng,
    process: Option<Arc<Process>>,
    life: u64,
    /// Its address, and how many it has had.
    address: String,
    addresses: u32,
    /// It comes back at another address.
    moves: bool,
    acknowledged: BTreeMap<TreeId, Vec<EntryId>>,
    /// The trees that it has joined: a restart must find them.
    joined: BTreeSet<TreeId>,
    device: Option<PublicKey>,
    restarting: bool,
}

#[derive(Debug, Clone)]
struct Tree {
    id: TreeId,
    owner: usize,
    /// What lets others in, when they were not granted a right at the beginning.
    invite: Option<Arc<SecretKey>>,
}

struct World {
    seed: u64,
    plan: Plan,
    sim: Sim,
    net: Net,
    hosts: Vec<Host>,
    trees: Mutex<Vec<Tree>>,
    truth: Mutex<Truth>,
    failure: Mutex<Option<Divergence>>,
    /// Pairs whose last session did not come to its end.
    broken_off: Mutex<BTreeSet<(usize, usize)>>,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    operations: u64,
    calm: bool,
    next_group: u64,
    /// Actions of workers that are under way.
    acting: u64,
}

/// Counts an action that is under way, until it ends or its process is killed.
struct Acting(Arc<World>);

impl Acting {
    fn begin(world: &Arc<World>) -> Self {
        lock(&world.progress).acting += 1;
        Self(Arc::clone(world))
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        lock(&self.0.progress).acting -= 1;
    }
}

impl World {
    fn new(seed: u64, verbosity: Verbosity) -> Self {
        let plan = Plan::of(seed);
        let sim = Sim::new(seed, verbosity);
        let net = Net::new(&sim, seed, Weather::fair());
        let mut roles = vec![Role::Honest; plan.honest];
        roles.extend(plan.villain.map(|_| Role::Villain));
        roles.extend(plan.stranger.then_some(Role::Stranger));
        let host = |(index, role): (usize, Role)| {
            let node = Node(u32::try_from(index).unwrap_or(u32::MAX));
            let clock = Arc::new(Clock::right(&sim));
            let disk = Disk::new(if role == Role::Honest { plan.disk } else { DiskKind::Journal });
            let (name, first_rung) = (format!("n{index}"), plan.first_rung);
            // A villain changes what it can read.
            let is_plain = role == Role::Villain || index % 3 == 2;
            let compression = if is_plain { Compression::Never } else { Compression::WhereItPays };
            let (sim, net) = (sim.clone(), net.clone());
            let site = Site {
                sim,
                net,
                node,
                clock,
                disk,
                name,
                first_rung,
                compression,
                ledger: None,
                memory_bytes: None,
                wishes: Wishes::default(),
            };
            let state = HostState {
                rng: Rng::new(seed, &format!("host {index}")),
                process: None,
                life: 0,
                address: String::new(),
                addresses: 0,
                moves: true,
                acknowledged: BTreeMap::new(),
                joined: BTreeSet::new(),
                device: None,
                restarting: false,
            };
            Host { role, site, state: Mutex::new(state) }
        };
        let hosts = roles.into_iter().enumerate().map(host).collect();
        sim.say(format_args!("seed {seed}: {plan:?}"));
        Self {
            seed,
            plan,
            sim,
            net,
            hosts,
            trees: Mutex::default(),
            truth: Mutex::default(),
            failure: Mutex::default(),
            broken_off: Mutex::default(),
            progress: Mutex::new(Progress { next_group: 1, ..Progress::default() }),
        }
    }

    /// Everything that happens.
    fn live(self: &Arc<Self>) {
        let failed = || lock(&self.failure).is_some();
        let world = Arc::clone(self);
        if !self.drive(60_000_000, async move { world.set_up().await }) || failed() {
            return;
        }
        self.net.set_weather(self.plan.weather.clone());
        if self.plan.disk == DiskKind::Embedded {
            self.sim.sometimes("embedded backend");
        }
        for index in 0..self.hosts.len() {
            self.spawn_worker(index);
        }
        if self.plan.chaos_us.is_some() {
            let world = Arc::clone(self);
            self.sim.spawn(Group::WORLD, Box::pin(async move { world.chaos().await }));
        }
        let enough = self.plan.operations;
        self.sim.run(SAFETY_US, || failed() || lock(&self.progress).operations >= enough);
        if failed() {
            return;
        }
        lock(&self.progress).calm = true;
        self.net.set_weather(Weather::fair());
        self.net.heal();
        self.net.reap_silent();
        let world = Arc::clone(self);
        let deadline = self.sim.now_us() + LIVENESS_US;
        self.drive(deadline, async move { world.settle().await });
    }

    /// Runs one task of the world to its end.
    fn drive(
        &self,
        deadline_us: u64,
        work: impl Future<Output = Result<(), Divergence>> + Send + 'static,
    ) -> bool {
        let done = Arc::new(Mutex::new(None));
        let ended = Arc::clone(&done);
        self.sim.spawn(
            Group::WORLD,
            Box::pin(async move {
                let result = work.await;
                *lock(&ended) = Some(result);
            }),
        );
        let stopped = self.sim.run(deadline_us, || lock(&done).is_some() || lock(&self.failure).is_some());
        match lock(&done).take() {
            Some(Ok(())) => return true,
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
        false
    }

    fn fail(&self, divergence: Divergence) {
        lock(&self.failure).get_or_insert(divergence);
    }

    /// Frees what the world holds in circles.
    fn end(&self) {
        for host in &self.hosts {
            let process = lock(&host.state).process.take();
            if let Some(process) = process {
                process.mount.kill();
            }
        }
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

    fn known_trees(&self) -> Vec<Tree> {
        lock(&self.trees).clone()
    }

    fn address(&self, index: usize) -> String {
        lock(&self.hosts[index].state).address.clone()
    }

    fn is_calm(&self) -> bool {
        lock(&self.progress).calm
    }

    /// Whether a process of this life still runs.
    fn is_current(&self, index: usize, life: u64) -> bool {
        let state = lock(&self.hosts[index].state);
        state.process.is_some() && state.life == life
    }
}
