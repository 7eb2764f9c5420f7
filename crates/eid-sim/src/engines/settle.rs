//! The time without faults: all honest nodes must settle by themselves, and then everything is checked.

use super::*;

impl Engines {
    pub(super) async fn settle(self: &Arc<Self>) -> Result<(), Divergence> {
        self.net.set_weather(Weather::fair());
        self.net.heal();
        self.net.hasten();
        for host in &self.hosts {
            let process = lock(&host.state).process.clone();
            if let Some(process) = process {
                process.mount.settle();
            }
        }
        for index in 0..self.hosts.len() {
            if self.process(index).is_some_and(|process| process.is_broken()) {
                let life = lock(&self.hosts[index].state).life;
                self.crashed(index, life);
            }
        }
        // Who is down comes back by itself, and hears then where others are.
        while (0..self.hosts.len()).any(|index| self.process(index).is_none())
            || lock(&self.progress).telling > 0
        {
            self.sim.sleep_us(100_000).await;
        }
        let silence_us = self.sim.now_us() + SILENCE_US;
        let slow_us = self.by_period_us();
        let mut patience_us = SETTLE_US + slow_us;
        if self.plan.reaps {
            self.net.reap_silent();
        } else {
            patience_us += SILENCE_US;
        }
        self.wait(patience_us, "without faults").await?;
        self.sim.sometimes("settled");
        if !self.plan.reaps {
            self.sim.sometimes("settled although half-open connections stay");
            // Who is in step over one of these cannot know yet that it is not.
            self.sim.sleep_us(silence_us.saturating_sub(self.sim.now_us())).await;
            self.wait(SETTLE_US + slow_us, "after a minute of silence").await?;
        }
        if self.plan.members.iter().any(|members| members.len() > 2) {
            self.sim.sometimes("behind a node that is no neighbour");
        }
        if self.shared().iter().any(|tree| tree.every_ms.is_some() && tree.members.len() > 2) {
            self.sim.sometimes("settled by period beyond a node that is no neighbour");
        }
        // A write at everybody goes over what is there.
        for tree in self.shared() {
            for &index in tree.members.iter().filter(|index| self.hosts[**index].honest) {
                let Some(process) = self.process(index) else { continue };
                let id = process
                    .write_one(&tree.id)
                    .map_err(|e| self.failed(index, format!("a write without any fault: {}", chain(&*e))))?;
                lock(&self.hosts[index].state).acknowledged.entry(tree.id).or_default().push(id);
            }
        }
        // The log of who wrote is read after this poll.
        self.sim.sleep_us(1000).await;
        self.wait(TOLD_US + slow_us, "after a write in step").await?;
        self.sim.sometimes("written in step");
        Ok(())
    }

    /// How long what is written may take through a database that is only looked at by period: a half more than a period
    /// for each two of its members.
    fn by_period_us(&self) -> u64 {
        let slow = |tree: &Shared| tree.every_ms.unwrap_or(0) * 1_500 * tree.members.len() as u64;
        self.shared().iter().map(slow).max().unwrap_or(0)
    }

    /// Waits until all hold the same and everybody is in step.
    async fn wait(&self, patience_us: u64, when: &str) -> Result<(), Divergence> {
        let begin_us = self.sim.now_us();
        loop {
            let mut what = self.what_differs().or_else(|| self.who_is_not_in_step());
            if what.is_none() {
                what = self.who_is_behind()?;
            }
            let Some(what) = what else {
                let us = self.sim.now_us() - begin_us;
                self.sim.say(format_args!("all is the same {when}, after {us} us"));
                return Ok(());
            };
            if self.sim.now_us() > begin_us + patience_us {
                let what = format!("{when}, after {} s: {what}", patience_us / 1_000_000);
                return Err(Divergence::Failed { node: "all".to_owned(), what });
            }
            self.sim.sleep_us(100_000).await;
        }
    }

    /// Everything that must hold when all is settled.
    pub(super) fn check_all(&self) -> Result<(), Divergence> {
        for tree in self.shared() {
            let mut first: Option<(usize, Held, Option<[u8; 32]>)> = None;
            for index in self.honest() {
                let Some(process) = self.process(index) else { continue };
                let held = lock(&self.truth).replica(&process.name, process.store(), &tree.id)?;
                if !tree.members.contains(&index) {
                    if let Some(id) = held.and_then(|held| held.log.first().copied()) {
                        return Err(Divergence::Leak { node: process.name.clone(), id });
                    }
                    continue;
                }
                let held = held.unwrap_or_default();
                let hash = process.state_hash(&tree.id)?;
                match &first {
                    Some((other, theirs, state)) => {
                        check::same((&self.hosts[*other].site.name, theirs), (&process.name, &held))?;
                        if *state != hash {
                            return Err(Divergence::Differ {
                                a: self.hosts[*other].site.name.clone(),
                                b: process.name.clone(),
                                what: "state hash".to_owned(),
                            });
                        }
                    }
                    None => {
                        let model = lock(&self.truth).model(&tree.id).map(|model| model.only(&held.ids()));
                        if let Some(model) = model {
                            process.check_state(&tree.id, &model)?;
                        }
                        check::fsck(&process.name, process.store())?;
                        first = Some((index, held, hash));
                    }
                }
            }
        }
        Ok(())
    }
}
