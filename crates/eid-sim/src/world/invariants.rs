//! What must hold at all times.

use super::*;

impl World {
    pub(super) fn held(&self, index: usize, tree: &TreeId) -> Result<Option<Held>, Divergence> {
        let Some(process) = self.process(index) else { return Ok(None) };
        lock(&self.truth).replica(&process.name, process.store(), tree)
    }

    /// As [`Self::held`]; nothing when it cannot be read now. After a write that failed, the store begins anew before it
    /// is read, and a disk that still fails may refuse that too, or stop in it: what is there is asked again later.
    fn held_if_readable(&self, index: usize, tree: &TreeId) -> Result<Option<Held>, Divergence> {
        match self.held(index, tree) {
            Err(Divergence::Failed { .. }) if !self.is_calm() => {
                self.sim.sometimes("replica not readable");
                Ok(None)
            }
            held => Ok(Some(held?.unwrap_or_default())),
        }
    }

    /// What one replica must be at any time.
    pub(super) fn check_now(&self, index: usize) -> Result<(), Divergence> {
        let host = &self.hosts[index];
        let trees = self.known_trees();
        for tree in trees {
            let Some(held) = self.held_if_readable(index, &tree.id)? else { continue };
            let held = held.ids();
            self.check_standing(index, &tree.id, &held)?;
            let state = lock(&host.state);
            let promised = state.acknowledged.get(&tree.id).map_or(&[][..], Vec::as_slice);
            check::acknowledged(&host.site.name, &held, promised)?;
        }
        Ok(())
    }

    /// What counts in a replica is what the rules say of the entries that it holds, however they came. So replicas that
    /// hold the same agree.
    fn check_standing(
        &self,
        index: usize,
        tree: &TreeId,
        held: &BTreeSet<EntryId>,
    ) -> Result<(), Divergence> {
        let Some(process) = self.process(index).filter(|_| self.plan.settings_per_mille > 0) else {
            return Ok(());
        };
        let model = lock(&self.truth).model(tree).map(|model| model.only(held));
        let Some(model) = model.filter(|model| !model.is_empty()) else { return Ok(()) };
        match process.check_standing(tree, &model) {
            Ok(Some(void)) => {
                self.sim.sometimes("standing checked");
                if void > 0 {
                    self.sim.sometimes("void entries held");
                }
                Ok(())
            }
            // Settings came that a failing disk keeps from being taken in; or nothing can be read now.
            Ok(None) | Err(Divergence::Failed { .. }) if !self.is_calm() => {
                self.sim.sometimes("standing not readable");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// No honest node takes another to hold more than it does.
    pub(super) fn check_beliefs(&self) -> Result<(), Divergence> {
        let trees = self.known_trees();
        for tree in &trees {
            let mut replicas = Vec::new();
            for index in (0..self.hosts.len()).filter(|i| self.hosts[*i].role == Role::Honest) {
                let (process, device) = {
                    let state = lock(&self.hosts[index].state);
                    (state.process.clone(), state.device)
                };
                let (Some(process), Some(device)) = (process, device) else { continue };
                let Some(held) = self.held_if_readable(index, &tree.id)? else { continue };
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
                    let itself = format!("itself, as for the log of {},", peer.name);
                    check::belief(&process.name, &theirs.log, believed.held_here, &itself, &here)?;
                }
            }
        }
        Ok(())
    }
}
