//! The beginning of a world, and of each life of a node.

use super::*;

impl World {
    pub(super) async fn set_up(self: &Arc<Self>) -> Result<(), Divergence> {
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
            for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.role == Role::Villain)
            {
                let device = lock(&host.state).device;
                if let (Some(device), Some(kind)) = (device, self.plan.villain.filter(|kind| kind.is_admin()))
                {
                    self.sim.say(format_args!("n{index} is an admin, {kind:?}"));
                    process.grant(&id, device, Permission::Admin(5)).map_err(|e| failed(chain(&*e)))?;
                }
            }
            lock(&self.trees).push(Tree { id, owner, invite });
        }
        if let Some(kind) = self.plan.villain {
            let index = self.plan.honest;
            if let Some(process) = self.process(index) {
                let trees = self.known_trees().iter().map(|tree| tree.id).collect();
                let tampering = Tampering::new(kind, process.device_key(), &self.sim, self.seed, trees);
                self.net.set_tamper(self.hosts[index].site.node, Box::new(tampering));
            }
        }
        for host in self.hosts.iter().filter(|host| host.role == Role::Stranger) {
            self.net.tap(host.site.node);
        }
        Ok(())
    }

    /// Starts a node, as often as it takes. Checks what a restart must find.
    pub(super) async fn boot(self: &Arc<Self>, index: usize, fuse: Option<u64>) -> Result<(), Divergence> {
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
                    if self.plan.live && host.role == Role::Honest && !self.is_calm() {
                        self.keep_some(index, &process, &mut rng)?;
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

    /// Keeps one or two others in step, where they are reached at this moment.
    fn keep_some(&self, index: usize, process: &Process, rng: &mut Rng) -> Result<(), Divergence> {
        for _ in 0..1 + rng.index(2) {
            let peer = rng.index(self.hosts.len());
            if peer == index || self.hosts[peer].role == Role::Stranger {
                continue;
            }
            let address = self.address(peer);
            if address.is_empty() {
                continue;
            }
            process.keep_in_step(&address).map_err(|error| Divergence::Failed {
                node: process.name.clone(),
                what: format!("keeping n{peer} in step: {}", chain(&*error)),
            })?;
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
