//! One world: its nodes, what is done to them, and the two phases that it goes through.
//!
//! In the phase of *safety* every fault of the plan is on; what must hold at all times is checked after each restart
//! and now and then. In the phase of *liveness* there are no faults (villains stay): within a bounded number of
//! rounds of sessions all honest replicas must be the same, and then everything is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};

use eid_core::{EntryId, Permission, PublicKey, SecretKey, TreeId};

use crate::check::{self, Divergence, Held, Truth};
use crate::clock::Clock;
use crate::executor::{Group, Sim, Stopped, lock, within};
use crate::net::{Net, Node, Weather};
use crate::node::{Disk, Process, SessionSeen, Site};
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
    if let Some(Divergence::State { history, .. }) = &divergence {
        history.iter().for_each(|line| sim.say(format_args!("    {line}")));
    }
    if let Some(divergence) = &divergence {
        sim.say(format_args!("DIVERGENCE {}", chain(divergence)));
    }
    let virtual_us = sim.now_us();
    world.end();
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
            let site =
                Site { sim: sim.clone(), net: net.clone(), node, clock, disk, name: format!("n{index}") };
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

// ---- beginning ----

impl World {
    async fn set_up(self: &Arc<Self>) -> Result<(), Divergence> {
        for index in 0..self.hosts.len() {
            self.boot(index, None).await?;
        }
        let owner_of = |database: usize| database % self.plan.honest;
        for database in 0..self.plan.databases {
            let owner = owner_of(database);
            let Some(process) = self.process(owner) else { continue };
            let failed = |what: String| Divergence::Failed { node: process.name.clone(), what };
            let id = process.create(&format!("db{database}")).map_err(|e| failed(chain(&*e)))?;
            lock(&self.hosts[owner].state).joined.insert(id);
            let mut invite = None;
            if self.plan.granted {
                for (index, host) in self.hosts.iter().enumerate() {
                    let device = lock(&host.state).device;
                    if host.role == Role::Stranger || index == owner {
                        continue;
                    }
                    let Some(device) = device else { continue };
                    process.grant(&id, device, Permission::Write).map_err(|e| failed(chain(&*e)))?;
                    if let Some(member) = self.process(index) {
                        member.track(&id, &format!("db{database}")).map_err(|e| failed(chain(&*e)))?;
                        lock(&host.state).joined.insert(id);
                    }
                }
            } else {
                invite = Some(Arc::new(process.invite(&id).map_err(|e| failed(chain(&*e)))?));
            }
            lock(&self.trees).push(Tree { id, owner, invite });
        }
        if let Some(kind) = self.plan.villain {
            let index = self.plan.honest;
            if let Some(process) = self.process(index) {
                let tampering = Tampering::new(kind, process.device_key(), &self.sim, self.seed);
                self.net.set_tamper(self.hosts[index].site.node, Box::new(tampering));
            }
        }
        for host in self.hosts.iter().filter(|host| host.role == Role::Stranger) {
            self.net.tap(host.site.node);
        }
        Ok(())
    }

    /// Starts a node, as often as it takes. Checks what a restart must find.
    async fn boot(self: &Arc<Self>, index: usize, fuse: Option<u64>) -> Result<(), Divergence> {
        let host = &self.hosts[index];
        let mut fuse = fuse;
        for attempt in 0.. {
            let group = self.next_group();
            let (life, address, mut rng) = {
                let mut state = lock(&host.state);
                state.life += 1;
                if std::mem::take(&mut state.moves) || state.rng.chance(100) {
                    state.addresses += 1;
                    state.address = format!("n{index}-{}", state.addresses);
                }
                let label = state.rng.next_u64();
                (state.life, state.address.clone(), Rng::new(label, "life"))
            };
            let weak = Arc::downgrade(self);
            let at_crash = Box::new(move || {
                if let Some(world) = weak.upgrade() {
                    world.sim.sometimes("crash in a commit");
                    world.crashed(index, life);
                }
            });
            let fuse = fuse.take().filter(|_| !self.is_calm());
            let booted = Process::boot(&host.site, group, &address, &mut rng, fuse, at_crash).await;
            match booted {
                Ok(process) => {
                    self.sim.say(format_args!("n{index} runs, life {life}, at {address}"));
                    let process = Arc::new(process);
                    {
                        let mut state = lock(&host.state);
                        state.device = Some(process.device());
                        state.process = Some(Arc::clone(&process));
                        state.restarting = false;
                    }
                    if host.role == Role::Honest {
                        self.check_now(index)?;
                        self.check_beliefs()?;
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.sim.say(format_args!("n{index} does not start: {}", chain(&*error)));
                    self.sim.sometimes("crash in recovery");
                    self.net.crash(host.site.node);
                    self.sim.kill(group);
                    host.site.disk.stop();
                    host.site.disk.crash(&mut rng);
                    if attempt > 5 {
                        let what = format!("does not start: {}", chain(&*error));
                        return Err(Divergence::Failed { node: host.site.name.clone(), what });
                    }
                }
            }
        }
        Ok(())
    }

    /// A process is gone: by a crash now, or by one that its disk has already had.
    fn crashed(self: &Arc<Self>, index: usize, life: u64) {
        let host = &self.hosts[index];
        let process = {
            let mut state = lock(&host.state);
            if state.life != life {
                return;
            }
            state.process.take()
        };
        let Some(process) = process else { return };
        self.sim.say(format_args!("n{index} crashes, life {life}"));
        self.sim.sometimes("crash");
        if process.in_session() {
            self.sim.sometimes("crash during a session");
        }
        process.mount.kill();
        host.site.disk.stop();
        self.net.crash(host.site.node);
        self.sim.kill(process.group);
        let world = Arc::clone(self);
        let work = async move {
            // By the time this runs, every task of the process is gone.
            drop(process);
            let (pause, fuse) = {
                let mut state = lock(&world.hosts[index].state);
                let lost = world.hosts[index].site.disk.crash(&mut state.rng);
                if lost {
                    world.sim.sometimes("unflushed writes lost");
                }
                let pause = if state.rng.chance(600) { 50_000 } else { 20_000_000 };
                let fuse = state.rng.chance(300).then(|| 1 + state.rng.below(4));
                (state.rng.below(pause), fuse)
            };
            world.sim.sleep_us(pause).await;
            world.sim.sometimes("restart");
            match world.boot(index, fuse).await {
                Ok(()) => world.spawn_worker(index),
                Err(divergence) => world.fail(divergence),
            }
        };
        lock(&host.state).restarting = true;
        self.sim.spawn(Group::WORLD, Box::pin(work));
    }
}

// ---- with faults ----

impl World {
    fn spawn_worker(self: &Arc<Self>, index: usize) {
        if self.is_calm() {
            return;
        }
        let Some(process) = self.process(index) else { return };
        let life = lock(&self.hosts[index].state).life;
        let world = Arc::clone(self);
        let group = process.group;
        let work = async move {
            while !world.is_calm() && world.is_current(index, life) {
                let pause = lock(&world.hosts[index].state).rng.below(2 * world.plan.pace_us);
                world.sim.sleep_us(pause).await;
                if world.is_calm() || !world.is_current(index, life) {
                    return;
                }
                let _acting = Acting::begin(&world);
                match world.hosts[index].role {
                    Role::Stranger => world.pry(index, &process).await,
                    Role::Honest | Role::Villain => world.act(index, &process).await,
                }
            }
        };
        self.sim.spawn(group, Box::pin(work));
    }

    /// One action of a member.
    async fn act(self: &Arc<Self>, index: usize, process: &Arc<Process>) {
        let (session, tree, mut rng) = {
            let mut state = lock(&self.hosts[index].state);
            let session = state.rng.chance(self.plan.session_per_mille);
            let trees = lock(&self.trees);
            let at = state.rng.index(trees.len());
            let label = state.rng.next_u64();
            (session, trees[at].clone(), Rng::new(label, "action"))
        };
        let joined = lock(&self.hosts[index].state).joined.contains(&tree.id);
        if !joined {
            self.join(index, process, &tree).await;
            return;
        }
        if session {
            self.session(index, process, &tree, &mut rng).await;
            return;
        }
        let mut promised = Vec::new();
        let written = process.write(&tree.id, &mut rng, &mut promised);
        let tally = promised.len() as u64;
        lock(&self.hosts[index].state).acknowledged.entry(tree.id).or_default().extend(promised);
        lock(&self.progress).operations += tally;
        self.sim.trace(|trace| trace.sometimes_many("commit acknowledged", tally));
        match written {
            Ok(()) => {}
            Err(error) => {
                self.sim.say(format_args!("n{index} write: {}", chain(&*error)));
                self.sim.sometimes("write refused or failed");
                // Slow progress is progress: a world in which all disks are full ends too.
                lock(&self.progress).operations += u64::from(rng.chance(100));
                // A process whose disk is in doubt has to be started again, as a supervisor does.
                if process.is_broken() {
                    let life = lock(&self.hosts[index].state).life;
                    self.crashed(index, life);
                }
            }
        }
        if rng.chance(20)
            && let Err(divergence) = self.check_beliefs()
        {
            self.fail(divergence);
        }
    }

    async fn join(self: &Arc<Self>, index: usize, process: &Arc<Process>, tree: &Tree) {
        let Some(invite) = &tree.invite else { return };
        let Some(owner_key) = lock(&self.hosts[tree.owner].state).device else { return };
        let address = self.address(tree.owner);
        let joining = process.join(&tree.id, owner_key, &address, invite);
        match within(&self.sim, SESSION_US, joining).await {
            Some(Ok(())) => {
                lock(&self.hosts[index].state).joined.insert(tree.id);
                self.sim.say(format_args!("n{index} has joined {}", tree.id.short()));
                self.sim.sometimes("joined by invite");
            }
            Some(Err(error)) => {
                self.sim.say(format_args!("n{index} join: {}", chain(&*error)));
                self.sim.sometimes("join failed");
            }
            None => self.sim.sometimes("join without an end"),
        }
    }

    async fn session(self: &Arc<Self>, index: usize, process: &Arc<Process>, tree: &Tree, rng: &mut Rng) {
        let peers: Vec<usize> =
            (0..self.hosts.len()).filter(|i| *i != index && self.hosts[*i].role != Role::Stranger).collect();
        let Some(&peer) = rng.pick(&peers) else { return };
        let one = rng.chance(500).then_some(tree.id);
        let address = self.address(peer);
        match within(&self.sim, SESSION_US, process.sync(&address, one)).await {
            Some(Ok(seen)) => self.note_sessions(index, peer, &seen),
            Some(Err(error)) => {
                self.sim.say(format_args!("n{index} with n{peer}: {}", chain(&*error)));
                self.sim.sometimes("session failed");
                lock(&self.broken_off).insert((index, peer));
            }
            None => self.sim.sometimes("session without an end"),
        }
    }

    fn note_sessions(&self, index: usize, peer: usize, seen: &[SessionSeen]) {
        for session in seen {
            self.sim.say(format_args!("n{index} with n{peer}: {session}"));
            self.sim.sometimes(session.rung);
            self.sim.sometimes(if session.complete { "session complete" } else { "session incomplete" });
            let resumed = lock(&self.broken_off).remove(&(index, peer));
            if resumed && session.complete && session.pulled + session.pushed > 0 {
                self.sim.sometimes("session resumed");
            }
        }
    }

    /// One attempt of somebody without rights.
    async fn pry(self: &Arc<Self>, index: usize, process: &Arc<Process>) {
        let (peer, tree) = {
            let mut state = lock(&self.hosts[index].state);
            let trees = lock(&self.trees);
            let at = state.rng.index(trees.len());
            (state.rng.index(self.plan.honest), trees[at].id)
        };
        let address = self.address(peer);
        match within(&self.sim, SESSION_US, process.sync(&address, Some(tree))).await {
            Some(Ok(seen)) => self.note_sessions(index, peer, &seen),
            Some(Err(error)) => {
                self.sim.say(format_args!("stranger with n{peer}: {}", chain(&*error)));
                self.sim.sometimes("stranger refused");
            }
            None => self.sim.sometimes("session without an end"),
        }
    }

    /// Faults, one after another.
    async fn chaos(self: &Arc<Self>) {
        let mut rng = Rng::new(self.seed, "chaos");
        let mean = self.plan.chaos_us.unwrap_or(1_000_000);
        loop {
            self.sim.sleep_us(rng.below(2 * mean)).await;
            if self.is_calm() {
                return;
            }
            if let Some(&fault) = rng.pick(&self.plan.faults) {
                self.fault(fault, &mut rng).await;
            }
        }
    }

    async fn fault(self: &Arc<Self>, fault: FaultKind, rng: &mut Rng) {
        let index = rng.index(self.hosts.len());
        let other = (index + 1 + rng.index(self.hosts.len() - 1)) % self.hosts.len();
        let (a, b) = (self.hosts[index].site.node, self.hosts[other].site.node);
        // Not the process: what holds it keeps its store open after a crash.
        let Some(mount) = self.process(index).map(|process| Arc::clone(&process.mount)) else { return };
        self.sim.say(format_args!("fault {fault:?} at n{index}"));
        match fault {
            FaultKind::CrashNow => {
                let life = lock(&self.hosts[index].state).life;
                self.sim.sometimes("crash at a wait");
                self.crashed(index, life);
            }
            FaultKind::CrashInCommit => mount.crash_within(8),
            FaultKind::Partition => {
                self.sim.sometimes("partition");
                self.net.block(a, b);
                self.net.block(b, a);
                self.sim.sleep_us(rng.below(30_000_000)).await;
                self.net.heal();
                self.sim.sometimes("partition healed");
            }
            FaultKind::HalfPartition => {
                self.sim.sometimes("partition of one direction");
                self.net.block(a, b);
                self.sim.sleep_us(rng.below(30_000_000)).await;
                self.net.heal();
            }
            FaultKind::CutConnection => {
                if self.net.cut_any() {
                    self.sim.sometimes("connection cut at any time");
                }
            }
            FaultKind::DiskFull => {
                mount.set_full(true);
                self.sim.sleep_us(rng.below(4_000_000)).await;
                mount.set_full(false);
                if mount.tally().full > 0 {
                    self.sim.sometimes("disk full");
                }
            }
            FaultKind::DiskErrors => {
                mount.fail_some(300);
                self.sim.sleep_us(rng.below(4_000_000)).await;
                mount.fail_some(0);
                if mount.tally().failed > 0 {
                    self.sim.sometimes("disk error");
                }
            }
            FaultKind::ClockJump => {
                self.sim.sometimes("clock jumped");
                self.hosts[index].site.clock.jump(rng);
            }
            FaultKind::ClockFreeze => {
                self.sim.sometimes("clock frozen");
                self.hosts[index].site.clock.freeze();
                self.sim.sleep_us(rng.below(10_000_000)).await;
                self.hosts[index].site.clock.thaw();
            }
            FaultKind::NewAddress => {
                self.sim.sometimes("address changed");
                let life = {
                    let mut state = lock(&self.hosts[index].state);
                    state.moves = true;
                    state.life
                };
                let process = self.process(index);
                if let Some(process) = process.filter(|_| rng.chance(500)) {
                    // In order, as far as the disk lets it.
                    if process.close() {
                        self.sim.sometimes("closed in order");
                    }
                }
                self.crashed(index, life);
            }
        }
    }
}

// ---- what must hold at all times ----

impl World {
    fn held(&self, index: usize, tree: &TreeId) -> Result<Option<Held>, Divergence> {
        let Some(process) = self.process(index) else { return Ok(None) };
        lock(&self.truth).replica(&process.name, process.store(), tree)
    }

    /// What one replica must be at any time.
    fn check_now(&self, index: usize) -> Result<(), Divergence> {
        let host = &self.hosts[index];
        let trees = self.known_trees();
        for tree in trees {
            let held = self.held(index, &tree.id)?.unwrap_or_default().ids();
            let state = lock(&host.state);
            let promised = state.acknowledged.get(&tree.id).map_or(&[][..], Vec::as_slice);
            check::acknowledged(&host.site.name, &held, promised)?;
        }
        Ok(())
    }

    /// No honest node takes another to hold more than it does.
    fn check_beliefs(&self) -> Result<(), Divergence> {
        let trees = self.known_trees();
        for tree in &trees {
            let mut replicas = Vec::new();
            for index in (0..self.hosts.len()).filter(|i| self.hosts[*i].role == Role::Honest) {
                let (process, device) = {
                    let state = lock(&self.hosts[index].state);
                    (state.process.clone(), state.device)
                };
                let (Some(process), Some(device)) = (process, device) else { continue };
                let held = self.held(index, &tree.id)?.unwrap_or_default();
                replicas.push((process, device, held));
            }
            for (process, _, held) in &replicas {
                for (peer, device, theirs) in &replicas {
                    let believed = process.believes(&tree.id, device, peer);
                    if believed.held_there > 0 {
                        self.sim.sometimes("belief checked");
                    }
                    let (here, there) = (held.ids(), theirs.ids());
                    check::belief(&process.name, &held.log, believed.held_there, &peer.name, &there)?;
                    check::belief(&process.name, &theirs.log, believed.held_here, &process.name, &here)?;
                }
            }
        }
        Ok(())
    }
}

// ---- without faults ----

impl World {
    fn honest(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|i| self.hosts[*i].role == Role::Honest).collect()
    }

    async fn settle(self: &Arc<Self>) -> Result<(), Divergence> {
        for host in &self.hosts {
            host.site.clock.thaw();
            let process = lock(&host.state).process.clone();
            if let Some(process) = process {
                process.mount.settle();
            }
        }
        // Who is down comes back by itself; who is in doubt about its disk is started again.
        for index in 0..self.hosts.len() {
            let broken = self.process(index).is_some_and(|process| process.is_broken());
            if broken {
                let life = lock(&self.hosts[index].state).life;
                self.crashed(index, life);
            }
        }
        let rounds_max = 4 + u32::try_from(self.hosts.len()).unwrap_or(8);
        // What was begun with faults may still hang: it has to come to its end by itself.
        while lock(&self.progress).acting > 0 {
            self.sim.sleep_us(1_000_000).await;
        }
        for round in 0..=rounds_max {
            self.wait_for_all().await;
            if round == rounds_max {
                let what = self.what_differs()?.unwrap_or_default();
                return Err(Divergence::Unsettled { rounds: round, what });
            }
            if self.what_differs()?.is_none() {
                break;
            }
            self.round(round).await?;
        }
        self.check_all()?;
        self.quiet_round().await?;
        self.small_round().await?;
        self.deliver_again()?;
        self.restart_all().await?;
        self.check_all()
    }

    async fn wait_for_all(&self) {
        while (0..self.hosts.len()).any(|index| self.process(index).is_none())
            && lock(&self.failure).is_none()
        {
            self.sim.sleep_us(100_000).await;
        }
    }

    /// Every honest node joins what it has not joined, and talks to the next.
    async fn round(self: &Arc<Self>, round: u32) -> Result<(), Divergence> {
        let honest = self.honest();
        for (at, &index) in honest.iter().enumerate() {
            let Some(process) = self.process(index) else { continue };
            for tree in self.known_trees() {
                let joined = lock(&self.hosts[index].state).joined.contains(&tree.id);
                if !joined {
                    self.join(index, &process, &tree).await;
                }
            }
            let peer = honest[(at + 1) % honest.len()];
            // Villains go on as before.
            for villain in (0..self.hosts.len()).filter(|i| round < 2 && self.hosts[*i].role == Role::Villain)
            {
                if within(&self.sim, SESSION_US, process.sync(&self.address(villain), None)).await.is_none() {
                    let what = "a session with a villain has no end".to_owned();
                    return Err(Divergence::Failed { node: process.name.clone(), what });
                }
            }
            match within(&self.sim, SESSION_US, process.sync(&self.address(peer), None)).await {
                Some(Ok(seen)) => self.note_sessions(index, peer, &seen),
                Some(Err(error)) => self.sim.say(format_args!("n{index} with n{peer}: {}", chain(&*error))),
                None => {
                    let what = format!("a session with n{peer} has no end");
                    return Err(Divergence::Failed { node: process.name.clone(), what });
                }
            }
        }
        Ok(())
    }

    /// What keeps the honest replicas from being settled.
    fn what_differs(&self) -> Result<Option<String>, Divergence> {
        let honest = self.honest();
        for tree in self.known_trees() {
            let mut first: Option<(String, Held)> = None;
            for &index in &honest {
                let name = self.hosts[index].site.name.clone();
                let Some(held) = self.held(index, &tree.id)? else {
                    return Ok(Some(format!("{name} has nothing of {}", tree.id.short())));
                };
                match &first {
                    None => first = Some((name, held)),
                    Some((other, theirs)) => {
                        if let Err(divergence) = check::same((other, theirs), (&name, &held)) {
                            return Ok(Some(divergence.to_string()));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Everything that must hold when all is settled.
    fn check_all(&self) -> Result<(), Divergence> {
        self.check_beliefs()?;
        for index in self.honest() {
            self.check_now(index)?;
            let Some(process) = self.process(index) else { continue };
            check::fsck(&process.name, process.store())?;
            for tree in self.known_trees() {
                let held = self.held(index, &tree.id)?.unwrap_or_default().ids();
                let Some(model) = lock(&self.truth).model(&tree.id).map(|model| model.only(&held)) else {
                    continue;
                };
                process.check_state(&tree.id, &model)?;
                if index == 0 {
                    let (merges, forks) = model.shape();
                    self.sim.trace(|trace| {
                        trace.sometimes_many("merge", merges);
                        trace.sometimes_many("fork", forks);
                    });
                }
            }
        }
        for tree in self.known_trees() {
            let mut first: Option<(String, Option<[u8; 32]>)> = None;
            for index in self.honest() {
                let Some(process) = self.process(index) else { continue };
                let hash = process.state_hash(&tree.id)?;
                match &first {
                    None => first = Some((process.name.clone(), hash)),
                    Some((a, other)) if *other != hash => {
                        let (a, b) = (a.clone(), process.name.clone());
                        return Err(Divergence::Differ { a, b, what: "state hash".to_owned() });
                    }
                    Some(_) => {}
                }
            }
        }
        if let Some(what) = self.what_differs()? {
            return Err(Divergence::Failed { node: "all".to_owned(), what });
        }
        for host in self.hosts.iter().filter(|host| host.role == Role::Stranger) {
            let frames = self.net.tapped(host.site.node);
            check::no_leak(&host.site.name, &frames, &lock(&self.truth))?;
        }
        Ok(())
    }

    /// Sessions when nothing differs: next to nothing goes over the wire.
    async fn quiet_round(self: &Arc<Self>) -> Result<(), Divergence> {
        let honest = self.honest();
        for (at, &index) in honest.iter().enumerate() {
            let peer = honest[(at + 1) % honest.len()];
            let trees: Vec<TreeId> = lock(&self.trees).iter().map(|tree| tree.id).collect();
            for seen in self.calm_session(index, peer, None).await? {
                let wasteful = |what: String| Divergence::Wasteful {
                    node: self.hosts[index].site.name.clone(),
                    peer: self.hosts[peer].site.name.clone(),
                    what,
                };
                if seen.pulled + seen.pushed > 0 {
                    return Err(wasteful(format!("entries moved when nothing differed: {seen}")));
                }
                if seen.bytes_in.max(seen.bytes_out) > QUIET_BYTES_MAX {
                    return Err(wasteful(format!("too many bytes when nothing differed: {seen}")));
                }
                if !trees.contains(&seen.tree) {
                    return Err(wasteful(format!("a database that nobody made: {seen}")));
                }
            }
        }
        Ok(())
    }

    /// One commit on each of two replicas that hold the same: one entry goes each way, and little else.
    async fn small_round(self: &Arc<Self>) -> Result<(), Divergence> {
        let honest = self.honest();
        for tree in self.known_trees() {
            for at in 0..honest.len() {
                let (index, peer) = (honest[at], honest[(at + 1) % honest.len()]);
                // In a ring, the last pair has talked through the others.
                self.calm_session(index, peer, Some(tree.id)).await?;
                for one in [index, peer] {
                    let Some(process) = self.process(one) else { continue };
                    let id = process.write_one(&tree.id).map_err(|error| Divergence::Failed {
                        node: process.name.clone(),
                        what: format!("a write without any fault: {}", chain(&*error)),
                    })?;
                    lock(&self.hosts[one].state).acknowledged.entry(tree.id).or_default().push(id);
                }
                let seen = self.calm_session(index, peer, Some(tree.id)).await?;
                let (pulled, pushed): (u64, u64) =
                    seen.iter().fold((0, 0), |(a, b), seen| (a + seen.pulled, b + seen.pushed));
                let bytes = seen.iter().map(|seen| seen.bytes_in.max(seen.bytes_out)).max().unwrap_or(0);
                if (pulled, pushed) != (1, 1) || bytes > SMALL_BYTES_MAX {
                    let what = seen.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                    return Err(Divergence::Wasteful {
                        node: self.hosts[index].site.name.clone(),
                        peer: self.hosts[peer].site.name.clone(),
                        what: format!("one entry differed on each side: {what}"),
                    });
                }
                if let Some(seen) = seen.iter().find(|seen| seen.forgot) {
                    return Err(Divergence::Wasteful {
                        node: self.hosts[index].site.name.clone(),
                        peer: self.hosts[peer].site.name.clone(),
                        what: format!("what was acknowledged a moment ago is not remembered: {seen}"),
                    });
                }
            }
        }
        // The ring has passed on what each wrote to the next only: settle again.
        for _ in 0..2 {
            for at in 0..honest.len() {
                self.calm_session(honest[at], honest[(at + 1) % honest.len()], None).await?;
            }
        }
        Ok(())
    }

    async fn calm_session(
        self: &Arc<Self>,
        index: usize,
        peer: usize,
        tree: Option<TreeId>,
    ) -> Result<Vec<SessionSeen>, Divergence> {
        let failed = |what: String| Divergence::Failed {
            node: self.hosts[index].site.name.clone(),
            what: format!("a session with n{peer} without any fault: {what}"),
        };
        let Some(process) = self.process(index) else { return Ok(Vec::new()) };
        match within(&self.sim, SESSION_US, process.sync(&self.address(peer), tree)).await {
            Some(Ok(seen)) => {
                self.note_sessions(index, peer, &seen);
                Ok(seen)
            }
            Some(Err(error)) => Err(failed(chain(&*error))),
            None => Err(failed("no end".to_owned())),
        }
    }

    /// Everything that one replica holds, offered to all of them again, changes nothing.
    fn deliver_again(&self) -> Result<(), Divergence> {
        let mut rng = Rng::new(self.seed, "again");
        for tree in self.known_trees() {
            let honest = self.honest();
            if let Some(&index) = rng.pick(&honest) {
                let Some(process) = self.process(index) else { continue };
                let before = self.held(index, &tree.id)?.unwrap_or_default();
                let hash = process.state_hash(&tree.id)?;
                let entries: Vec<_> = {
                    let truth = lock(&self.truth);
                    let Some(model) = truth.model(&tree.id) else { continue };
                    before.log.iter().filter_map(|id| model.entry(id)).cloned().collect()
                };
                process.offer_all(&tree.id, &entries, &mut rng)?;
                let after = self.held(index, &tree.id)?.unwrap_or_default();
                if before.log != after.log
                    || before.tips != after.tips
                    || hash != process.state_hash(&tree.id)?
                {
                    return Err(Divergence::Failed {
                        node: process.name.clone(),
                        what: "entries that it held already changed it".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Every honest node goes through one more crash.
    async fn restart_all(self: &Arc<Self>) -> Result<(), Divergence> {
        for index in self.honest() {
            let life = lock(&self.hosts[index].state).life;
            self.crashed(index, life);
        }
        self.wait_for_all().await;
        // A crash may have lost a cursor, never an entry.
        Ok(())
    }
}
