//! The beginning of a world of engines, and of each life of a node.

use super::*;

use eid_core::Permission;
use eid_sync::Wish;
use eid_transport::{Connection, Link, Transport as _};

impl Engines {
    pub(super) async fn set_up(self: &Arc<Self>) -> Result<(), Divergence> {
        for index in 0..self.hosts.len() {
            self.boot(index, None).await?;
        }
        if self.plan.disk == crate::plan::DiskKind::Embedded {
            self.sim.sometimes("embedded backend");
        }
        for (number, members) in self.plan.members.iter().enumerate() {
            self.make(number, members)?;
        }
        if let Some(kind) = self.plan.villain {
            let index = self.plan.honest;
            if let Some(process) = self.process(index) {
                let trees = self.shared().iter().map(|tree| tree.id).collect();
                let tampering = Tampering::new(kind, process.device_key(), &self.sim, self.seed, trees);
                self.net.set_tamper(self.hosts[index].site.node, Box::new(tampering));
            }
        }
        let silent = self.answer_with_silence().await?;
        for &(index, peer) in &self.plan.knows {
            let (Some(process), Some(device)) = (self.process(index), self.device(peer)) else { continue };
            let address = lock(&self.hosts[peer].state).address.clone();
            process.register(device, &address).map_err(|e| self.failed(index, chain(&*e)))?;
        }
        for &index in &self.plan.silent {
            let Some(process) = self.process(index) else { continue };
            process.register(silent, SILENT).map_err(|e| self.failed(index, chain(&*e)))?;
        }
        for index in 0..self.hosts.len() {
            if let Some(process) = self.process(index) {
                process.keep_known();
            }
        }
        Ok(())
    }

    /// Makes a database, and gives it to its members.
    fn make(&self, number: usize, members: &[usize]) -> Result<(), Divergence> {
        let Some((&owner, others)) = members.split_first() else { return Ok(()) };
        let Some(process) = self.process(owner) else { return Ok(()) };
        let failed = |index| move |e: crate::node::AnyError| self.failed(index, chain(&*e));
        let name = format!("db{number}");
        let id = process.create(&name).map_err(failed(owner))?;
        for &member in others {
            let Some(device) = self.device(member) else { continue };
            process.grant(&id, device, Permission::Write).map_err(failed(owner))?;
        }
        for &member in others {
            let Some(process_there) = self.process(member) else { continue };
            process_there.track(&id, &name).map_err(failed(member))?;
            if self.plan.late.contains(&(number, member)) {
                self.sim.sometimes("member that holds nothing");
                continue;
            }
            process.copy_to(&id, &process_there).map_err(failed(member))?;
        }
        for index in self.honest().into_iter().filter(|index| !members.contains(index)) {
            // The id alone is no right.
            let Some(process_there) = self.process(index) else { continue };
            process_there.track(&id, &name).map_err(failed(index))?;
            self.sim.sometimes("asks without a right");
        }
        let every_ms = self.plan.periods.get(&number).copied();
        if every_ms.is_some() {
            lock(&self.wishes).insert(id, Wish { on_commit: false, every_ms });
        }
        lock(&self.trees).push(Shared { id, members: members.iter().copied().collect(), every_ms });
        Ok(())
    }

    /// Somebody listens, takes connections and links, and never says a word. Gives the key that is expected of it.
    async fn answer_with_silence(&self) -> Result<PublicKey, Divergence> {
        let mut rng = Rng::new(self.seed, "silent");
        let key = eid_core::SecretKey::from_seed(rng.bytes32()).public();
        if self.plan.silent.is_empty() {
            return Ok(key);
        }
        let node = Node(u32::try_from(self.hosts.len()).unwrap_or(u32::MAX));
        let transport = self.net.transport(node, SILENT);
        transport
            .listen()
            .await
            .map_err(|error| Divergence::Failed { node: SILENT.to_owned(), what: chain(&error) })?;
        let sim = self.sim.clone();
        self.sim.spawn(
            Group::WORLD,
            Box::pin(async move {
                while let Some(connection) = transport.accept().await {
                    sim.sometimes("silent peer dialled");
                    sim.spawn(Group::WORLD, Box::pin(hold(connection)));
                }
            }),
        );
        Ok(key)
    }

    /// Starts a node, as often as it takes, and then its engine, from what is in its rows.
    pub(super) async fn boot(self: &Arc<Self>, index: usize, fuse: Option<u64>) -> Result<(), Divergence> {
        let host = &self.hosts[index];
        let mut fuse = fuse;
        for attempt in 0.. {
            let group = self.next_group();
            let (life, address, mut rng) = {
                let mut state = lock(&host.state);
                state.life += 1;
                if std::mem::take(&mut state.moves) {
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
            let fuse = fuse.take().filter(|_| self.is_disturbed());
            let error = match Process::boot(&host.site, group, &address, &mut rng, fuse, at_crash).await {
                Ok(process) => {
                    self.sim.say(format_args!("n{index} runs, life {life}, at {address}"));
                    let process = Arc::new(process);
                    {
                        let mut state = lock(&host.state);
                        state.device = Some(process.device());
                        state.group = group;
                        state.process = Some(Arc::clone(&process));
                    }
                    self.begin_to_see(index)?;
                    process.keep_known();
                    return Ok(());
                }
                Err(error) => error,
            };
            self.sim.say(format_args!("n{index} does not start: {}", chain(&*error)));
            self.net.crash(host.site.node);
            self.sim.kill(group);
            host.site.disk.stop();
            host.site.disk.crash(&mut rng);
            if attempt > 5 {
                return Err(self.failed(index, format!("does not start: {}", chain(&*error))));
            }
        }
        Ok(())
    }

    /// A process is gone: by a crash now, or by one that its disk has already had.
    pub(super) fn crashed(self: &Arc<Self>, index: usize, life: u64) {
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
        process.mount.kill();
        host.site.disk.stop();
        self.net.crash(host.site.node);
        self.sim.kill(process.group);
        let world = Arc::clone(self);
        let work = async move {
            // By the time this runs, every task of the process is gone.
            drop(process);
            let (pause_us, fuse) = {
                let mut state = lock(&world.hosts[index].state);
                if world.hosts[index].site.disk.crash(&mut state.rng) {
                    world.sim.sometimes("unflushed writes lost");
                }
                let pause_us = if state.rng.chance(600) { 50_000 } else { 10_000_000 };
                (state.rng.below(pause_us), state.rng.chance(150).then(|| 1 + state.rng.below(4)))
            };
            world.sim.sleep_us(pause_us).await;
            world.sim.sometimes("restart");
            let moves = lock(&world.hosts[index].state).moves;
            match world.boot(index, fuse).await {
                Ok(()) => {
                    if moves {
                        world.sim.sometimes("address changed by a restart");
                        world.tell_address(index);
                    }
                    world.spawn_writer(index);
                }
                Err(divergence) => world.fail(divergence),
            }
        };
        self.sim.spawn(Group::WORLD, Box::pin(work));
    }

    /// Neighbours learn where a node is now: they are told, or, where it knows them too, are dialled by it.
    pub(super) fn tell_address(self: &Arc<Self>, index: usize) {
        let (address, device, mut rng) = {
            let mut state = lock(&self.hosts[index].state);
            (state.address.clone(), state.device, Rng::new(state.rng.next_u64(), "told"))
        };
        let Some(device) = device else { return };
        for &(other, _) in self.plan.knows.iter().filter(|(_, known)| *known == index) {
            // Who holds nothing has to ask.
            let asks = self.plan.late.iter().any(|(_, late)| *late == other);
            let is_found = self.plan.knows.contains(&(index, other))
                && !lock(&self.progress).stale.contains(&(index, other));
            if is_found && !asks && rng.chance(500) {
                self.sim.sometimes("address learnt by being dialled");
                lock(&self.progress).stale.insert((other, index));
                continue;
            }
            {
                let mut progress = lock(&self.progress);
                progress.stale.remove(&(other, index));
                progress.telling += 1;
            }
            let (world, address, pause_us) = (Arc::clone(self), address.clone(), rng.below(2_000_000));
            self.sim.spawn(
                Group::WORLD,
                Box::pin(async move {
                    world.sim.sleep_us(pause_us).await;
                    world.tell(other, device, &address).await;
                    lock(&world.progress).telling -= 1;
                }),
            );
        }
    }

    async fn tell(&self, index: usize, peer: PublicKey, address: &str) {
        loop {
            if let Some(process) = self.process(index) {
                match process.add_address(&peer, address) {
                    Ok(()) => {
                        self.sim.sometimes("address told");
                        return;
                    }
                    Err(error) => self.sim.say(format_args!("n{index} is not told: {}", chain(&*error))),
                }
            }
            self.sim.sleep_us(100_000).await;
        }
    }
}

/// Where nobody answers.
const SILENT: &str = "silent";

/// Takes every link, and reads none.
async fn hold(connection: Arc<dyn Connection>) {
    let mut links: Vec<Box<dyn Link>> = Vec::new();
    while let Some(link) = connection.accept().await {
        links.push(link);
    }
}
