//! What members, strangers and misfortune do in the phase with faults.

use super::*;

impl World {
    pub(super) fn spawn_worker(self: &Arc<Self>, index: usize) {
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
    pub(super) async fn act(self: &Arc<Self>, index: usize, process: &Arc<Process>) {
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
        if rng.chance(self.plan.settings_per_mille) {
            self.change_settings(index, process, &tree, &mut rng);
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

    /// A member changes settings as it likes; a villain also as it may no longer.
    fn change_settings(self: &Arc<Self>, index: usize, process: &Arc<Process>, tree: &Tree, rng: &mut Rng) {
        let others = self.devices().into_iter().filter(|(other, _)| *other != index);
        let keys: Vec<PublicKey> = others.map(|(_, key)| key).collect();
        let is_villain = self.hosts[index].role == Role::Villain;
        if is_villain && rng.chance(500) {
            match process.back_date(&tree.id, &keys, self.plan.invites, rng) {
                Ok(Some(_)) => self.sim.sometimes("entry back-dated"),
                Ok(None) => {}
                Err(error) => self.sim.say(format_args!("n{index} back-dates: {}", chain(&*error))),
            }
            return;
        }
        let wildcard = self.plan.wildcard && !self.plan.stranger;
        let changed = if self.plan.invites && rng.chance(600) {
            process.use_invites(&tree.id, rng)
        } else {
            process.change_settings(&tree.id, &keys, wildcard, rng)
        };
        match changed {
            Ok((id, what)) => {
                self.sim.say(format_args!(
                    "n{index} in {}: somebody {what} by {}",
                    tree.id.short(),
                    id.short()
                ));
                self.sim.sometimes(what);
                lock(&self.hosts[index].state).acknowledged.entry(tree.id).or_default().push(id);
                lock(&self.progress).operations += 1;
            }
            Err(error) => {
                self.sim.say(format_args!("n{index} settings: {}", chain(&*error)));
                self.sim.sometimes("settings refused or failed");
                lock(&self.progress).operations += u64::from(rng.chance(100));
                if process.is_broken() {
                    let life = lock(&self.hosts[index].state).life;
                    self.crashed(index, life);
                }
            }
        }
    }

    /// The keys of all members.
    pub(super) fn devices(&self) -> Vec<(usize, PublicKey)> {
        let members = self.hosts.iter().enumerate().filter(|(_, host)| host.role != Role::Stranger);
        members.filter_map(|(index, host)| Some((index, lock(&host.state).device?))).collect()
    }

    pub(super) async fn join(self: &Arc<Self>, index: usize, process: &Arc<Process>, tree: &Tree) {
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

    pub(super) async fn session(
        self: &Arc<Self>,
        index: usize,
        process: &Arc<Process>,
        tree: &Tree,
        rng: &mut Rng,
    ) {
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

    pub(super) fn note_sessions(&self, index: usize, peer: usize, seen: &[SessionSeen]) {
        for session in seen {
            self.sim.say(format_args!("n{index} with n{peer}: {session}"));
            self.sim.sometimes(session.rung);
            self.sim.sometimes(if session.complete { "session complete" } else { "session incomplete" });
            let reads = |process: Arc<Process>| process.permission(&session.tree, &process.device());
            if session.pushed > 0 && self.process(index).and_then(reads) == Some(Permission::Read) {
                self.sim.sometimes("reader brings entries");
            }
            if session.filled > 0 {
                self.sim.sometimes("payload came back");
            }
            let resumed = lock(&self.broken_off).remove(&(index, peer));
            if resumed && session.complete && session.pulled + session.pushed > 0 {
                self.sim.sometimes("session resumed");
            }
        }
    }

    /// One attempt of somebody without rights.
    pub(super) async fn pry(self: &Arc<Self>, index: usize, process: &Arc<Process>) {
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
    pub(super) async fn chaos(self: &Arc<Self>) {
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

    pub(super) async fn fault(self: &Arc<Self>, fault: FaultKind, rng: &mut Rng) {
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
            FaultKind::LosePayloads => self.lose_payloads(index, rng),
        }
    }

    /// A node loses payloads that another honest one holds.
    fn lose_payloads(self: &Arc<Self>, index: usize, rng: &mut Rng) {
        let Some(process) = self.process(index) else { return };
        for tree in self.known_trees() {
            let Ok(Some(held)) = self.held(index, &tree.id) else { continue };
            let mut ids: Vec<EntryId> = (0..3).filter_map(|_| rng.pick(&held.log).copied()).collect();
            let others = self.honest().into_iter().filter(|other| *other != index);
            let others: Vec<_> = others.filter_map(|other| self.process(other)).collect();
            let kept = others.iter().map(|other| other.holds_whole(&tree.id, &ids)).max_by_key(Vec::len);
            ids = process.holds_whole(&tree.id, &kept.unwrap_or_default());
            if ids.is_empty() {
                continue;
            }
            let at_once = rng.chance(600);
            match process.lose_payloads(&tree.id, &ids, at_once) {
                Ok(0) => {}
                Ok(lost) => {
                    self.sim.say(format_args!("n{index} loses {lost} payloads of {}", tree.id.short()));
                    self.sim.sometimes(if at_once { "payload lost" } else { "payload given up" });
                }
                Err(error) => {
                    self.sim.say(format_args!("n{index} loses payloads: {}", chain(&*error)));
                    if process.is_broken() {
                        let life = lock(&self.hosts[index].state).life;
                        self.crashed(index, life);
                    }
                }
            }
        }
    }
}
