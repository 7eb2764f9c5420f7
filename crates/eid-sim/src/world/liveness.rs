//! The phase without faults: all honest replicas must settle, and everything is checked.

use super::*;

impl World {
    pub(super) fn honest(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|i| self.hosts[*i].role == Role::Honest).collect()
    }

    pub(super) async fn settle(self: &Arc<Self>) -> Result<(), Divergence> {
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
        self.wait_for_all().await;
        self.readmit()?;
        self.want_all()?;
        if self.plan.live {
            self.settle_live().await?;
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

    /// A chain of honest nodes that keep each other in step comes to hold the same without a session that anybody asks for;
    /// what is written then goes over each connection once.
    async fn settle_live(self: &Arc<Self>) -> Result<(), Divergence> {
        let honest = self.honest();
        for &index in &honest {
            if let Some(process) = self.process(index) {
                process.let_go();
            }
        }
        for pair in honest.windows(2) {
            let Some(process) = self.process(pair[1]) else { continue };
            process.keep_in_step(&self.address(pair[0])).map_err(|error| Divergence::Failed {
                node: process.name.clone(),
                what: format!("keeping n{} in step: {}", pair[0], chain(&*error)),
            })?;
        }
        // Who was refused, or has lost its right and does not know that it has it back, asks only now and then.
        let patience_us = 1500 * 1_000_000;
        self.live_until_equal("kept in step", patience_us).await?;
        self.write_everywhere(1)?;
        self.live_until_equal("a write", patience_us).await?;
        let pushed = |world: &Self| {
            let pushed = world.honest().into_iter().filter_map(|index| Some(world.process(index)?.pushed()));
            pushed.fold((0, 0), |(a, b), pushed| (a + pushed.admitted, b + pushed.duplicates))
        };
        pushed(self);
        self.write_everywhere(5)?;
        self.live_until_equal("several writes", 20_000_000).await?;
        // What goes back where it came from is on its way by now.
        self.sim.sleep_us(1_000_000).await;
        let (admitted, duplicates) = pushed(self);
        self.sim.say(format_args!("{admitted} entries were pushed, {duplicates} of them twice"));
        if duplicates > 0 && self.plan.settings_per_mille == 0 {
            return Err(Divergence::Wasteful {
                node: "one of a chain".to_owned(),
                peer: "another".to_owned(),
                what: format!("{admitted} entries were pushed, and {duplicates} that were there already"),
            });
        }
        if admitted > 0 {
            self.sim.sometimes("in step without a session");
        }
        for process in honest.into_iter().filter_map(|index| self.process(index)) {
            process.let_go();
        }
        Ok(())
    }

    /// Honest nodes that have not joined a database join it, and those that hold nothing of it ask its owner: who holds
    /// nothing is told nothing.
    async fn join_where_nothing_is(self: &Arc<Self>) -> Result<(), Divergence> {
        for index in self.honest() {
            let Some(process) = self.process(index) else { continue };
            for tree in self.known_trees() {
                let joined = lock(&self.hosts[index].state).joined.contains(&tree.id);
                if !joined {
                    self.join(index, &process, &tree).await;
                }
                if index != tree.owner && self.held(index, &tree.id)?.is_none() {
                    let address = self.address(tree.owner);
                    let asking = process.sync(&address, Some(tree.id));
                    if let Some(Err(error)) = within(&self.sim, SESSION_US, asking).await {
                        self.sim.say(format_args!("n{index} with n{}: {}", tree.owner, chain(&*error)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Every honest node writes so many entries to every database.
    fn write_everywhere(&self, count: usize) -> Result<(), Divergence> {
        for index in self.honest() {
            let Some(process) = self.process(index) else { continue };
            for tree in self.known_trees() {
                for _ in 0..count {
                    let id = process.write_one(&tree.id).map_err(|error| Divergence::Failed {
                        node: process.name.clone(),
                        what: format!("a write without any fault: {}", chain(&*error)),
                    })?;
                    lock(&self.hosts[index].state).acknowledged.entry(tree.id).or_default().push(id);
                }
            }
        }
        Ok(())
    }

    /// Waits until all honest nodes hold the same and everybody is in step.
    async fn live_until_equal(self: &Arc<Self>, what: &str, patience_us: u64) -> Result<(), Divergence> {
        let deadline_us = self.sim.now_us() + patience_us;
        loop {
            self.join_where_nothing_is().await?;
            let differs = self.what_differs()?;
            let is_in_step =
                || self.honest().into_iter().filter_map(|index| self.process(index)).all(|p| p.is_in_step());
            if differs.is_none() && is_in_step() {
                self.sim.say(format_args!("the chain is in step: {what}"));
                return Ok(());
            }
            if self.sim.now_us() > deadline_us {
                return Err(Divergence::Failed {
                    node: "a chain that is kept in step".to_owned(),
                    what: format!("{what}: {}", differs.unwrap_or_else(|| "not in step".to_owned())),
                });
            }
            self.sim.sleep_us(200_000).await;
        }
    }

    /// The owner of each database lets every honest member write again that may not, as far as the owner knows or will
    /// learn: its word is stronger than that of any who took the right away.
    fn readmit(&self) -> Result<(), Divergence> {
        if self.plan.settings_per_mille == 0 {
            return Ok(());
        }
        for tree in self.known_trees() {
            let Some(owner) = self.process(tree.owner) else { continue };
            for (index, device) in self.devices() {
                if self.hosts[index].role == Role::Honest && index != tree.owner {
                    owner.grant(&tree.id, device, Permission::Write).map_err(|error| Divergence::Failed {
                        node: owner.name.clone(),
                        what: format!("letting n{index} write again: {}", chain(&*error)),
                    })?;
                }
            }
        }
        Ok(())
    }

    /// What was given up is wanted again. Nobody has asked for it, nor taken it, before.
    fn want_all(&self) -> Result<(), Divergence> {
        for index in self.honest() {
            let Some(process) = self.process(index) else { continue };
            for tree in self.known_trees() {
                let Some(held) = self.held(index, &tree.id)? else { continue };
                let (_, given_up) = process.payloads_not_here(&tree.id)?;
                let wanted = process.store().want_payloads(&tree.id, &held.log);
                let (_, left) = process.payloads_not_here(&tree.id)?;
                if !matches!(&wanted, Ok(wanted) if *wanted == given_up) || left > 0 {
                    let what = format!("{wanted:?} of {given_up} payloads are wanted again, {left} not");
                    return Err(Divergence::Failed { node: process.name.clone(), what });
                }
            }
        }
        Ok(())
    }

    pub(super) async fn wait_for_all(&self) {
        while (0..self.hosts.len()).any(|index| self.process(index).is_none())
            && lock(&self.failure).is_none()
        {
            self.sim.sleep_us(100_000).await;
        }
    }

    /// Every honest node joins what it has not joined, and talks to the next.
    pub(super) async fn round(self: &Arc<Self>, round: u32) -> Result<(), Divergence> {
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
    pub(super) fn what_differs(&self) -> Result<Option<String>, Divergence> {
        let honest = self.honest();
        for tree in self.known_trees() {
            let mut first: Option<(String, Held)> = None;
            for &index in &honest {
                let name = self.hosts[index].site.name.clone();
                let Some(held) = self.held(index, &tree.id)? else {
                    return Ok(Some(format!("{name} has nothing of {}", tree.id.short())));
                };
                let missing = self.process(index).map(|process| process.payloads_not_here(&tree.id));
                if let Some((missing @ 1.., _)) = missing.transpose()? {
                    return Ok(Some(format!("{name} lacks {missing} payloads of {}", tree.id.short())));
                }
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
    pub(super) fn check_all(&self) -> Result<(), Divergence> {
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
                match process.check_standing(&tree.id, &model)? {
                    Some(0) => {}
                    Some(_) => self.sim.sometimes("void entries held"),
                    None => {
                        let (node, what) = (process.name.clone(), "views are behind the settings".to_owned());
                        return Err(Divergence::Failed { node, what });
                    }
                }
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
    pub(super) async fn quiet_round(self: &Arc<Self>) -> Result<(), Divergence> {
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
    pub(super) async fn small_round(self: &Arc<Self>) -> Result<(), Divergence> {
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

    pub(super) async fn calm_session(
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
    pub(super) fn deliver_again(&self) -> Result<(), Divergence> {
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
    pub(super) async fn restart_all(self: &Arc<Self>) -> Result<(), Divergence> {
        for index in self.honest() {
            let life = lock(&self.hosts[index].state).life;
            self.crashed(index, life);
        }
        self.wait_for_all().await;
        // A crash may have lost a cursor, never an entry.
        Ok(())
    }
}
