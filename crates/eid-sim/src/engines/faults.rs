//! What happens in the pieces with faults.

use super::*;

impl Engines {
    /// A node writes, in any of its databases, until the faults end.
    pub(super) fn spawn_writer(self: &Arc<Self>, index: usize) {
        let Some(process) = self.process(index).filter(|_| self.is_disturbed()) else { return };
        let life = lock(&self.hosts[index].state).life;
        let own: Vec<TreeId> = self
            .shared()
            .into_iter()
            .filter(|tree| tree.members.contains(&index))
            .map(|tree| tree.id)
            .collect();
        let (world, group) = (Arc::clone(self), process.group);
        let work = async move {
            loop {
                let (pause_us, label) = {
                    let rng = &mut lock(&world.hosts[index].state).rng;
                    (rng.below(2 * world.plan.pace_us), rng.next_u64())
                };
                world.sim.sleep_us(pause_us).await;
                if !world.is_disturbed() || !world.is_current(index, life) {
                    return;
                }
                let mut rng = Rng::new(label, "write");
                if let Some(tree) = rng.pick(&own).copied() {
                    world.write(index, &process, &tree, &mut rng);
                }
            }
        };
        self.sim.spawn(group, Box::pin(work));
    }

    fn write(self: &Arc<Self>, index: usize, process: &Process, tree: &TreeId, rng: &mut Rng) {
        let mut promised = Vec::new();
        let written = process.write(tree, rng, &mut promised);
        let tally = promised.len() as u64;
        lock(&self.hosts[index].state).acknowledged.entry(*tree).or_default().extend(promised);
        lock(&self.progress).committed += tally;
        self.sim.trace(|trace| trace.sometimes_many("commit acknowledged", tally));
        if let Err(error) = written {
            self.sim.say(format_args!("n{index} write: {}", chain(&*error)));
            // A process whose disk is in doubt has to be started again, as a supervisor does.
            if process.is_broken() {
                let life = lock(&self.hosts[index].state).life;
                self.crashed(index, life);
            }
        }
    }

    /// Faults, one after another, until the piece ends.
    pub(super) async fn chaos(self: &Arc<Self>, piece: usize) {
        let mut rng = Rng::new(self.seed, &format!("chaos {piece}"));
        loop {
            self.sim.sleep_us(rng.below(2 * self.plan.chaos_us)).await;
            if !self.is_disturbed() {
                return;
            }
            if let Some(&fault) = rng.pick(&self.plan.disturbances) {
                self.disturbance(fault, &mut rng).await;
            }
        }
    }

    async fn disturbance(self: &Arc<Self>, fault: Disturbance, rng: &mut Rng) {
        let index = rng.index(self.hosts.len());
        let Some(mount) = self.process(index).map(|process| Arc::clone(&process.mount)) else { return };
        let life = lock(&self.hosts[index].state).life;
        self.sim.say(format_args!("{fault:?} at n{index}"));
        match fault {
            Disturbance::CrashNow => self.crashed(index, life),
            Disturbance::CrashInCommit => mount.crash_within(8),
            Disturbance::Partition => {
                self.sim.sometimes("partition");
                let side: Vec<bool> = self.hosts.iter().map(|_| rng.chance(500)).collect();
                for (a, b) in self.pairs().filter(|(a, b)| side[*a] != side[*b]) {
                    self.net.block(self.hosts[a].site.node, self.hosts[b].site.node);
                }
                self.hold_partition(rng).await;
            }
            Disturbance::HalfPartition => {
                self.sim.sometimes("partition of one direction");
                let other = (index + 1 + rng.index(self.hosts.len() - 1)) % self.hosts.len();
                self.net.block(self.hosts[index].site.node, self.hosts[other].site.node);
                self.hold_partition(rng).await;
            }
            Disturbance::CutConnection => {
                if self.net.cut_any() {
                    self.sim.sometimes("connection cut at any time");
                }
            }
            Disturbance::SilenceConnection => {
                if self.net.silence_any() {
                    self.sim.sometimes("connection half-open at any time");
                }
            }
            Disturbance::NewAddress if rng.chance(500) => {
                lock(&self.hosts[index].state).moves = true;
                self.crashed(index, life);
            }
            Disturbance::NewAddress => self.move_now(index, life).await,
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let nodes = self.hosts.len();
        (0..nodes).flat_map(move |a| (0..nodes).filter(move |b| a != *b).map(move |b| (a, b)))
    }

    async fn hold_partition(&self, rng: &mut Rng) {
        let until_us = self.sim.now_us() + rng.below(30_000_000);
        while self.is_disturbed() && self.sim.now_us() < until_us {
            self.sim.sleep_us(250_000).await;
        }
        self.net.heal();
    }

    /// A node is reached elsewhere from now on, and goes on.
    async fn move_now(self: &Arc<Self>, index: usize, life: u64) {
        let address = {
            let mut state = lock(&self.hosts[index].state);
            state.addresses += 1;
            state.address = format!("n{index}-{}", state.addresses);
            state.address.clone()
        };
        let Some(process) = self.process(index) else { return };
        if let Err(error) = process.move_to(&self.hosts[index].site, &address).await {
            self.fail(self.failed(index, format!("moving: {}", chain(&*error))));
            return;
        }
        drop(process);
        self.sim.say(format_args!("n{index} is at {address}"));
        self.sim.sometimes("address changed while it runs");
        if self.is_current(index, life) {
            self.tell_address(index);
        }
    }
}
