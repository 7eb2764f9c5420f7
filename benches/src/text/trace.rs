//! Recorded editing sessions, as one or several people typed, and the order in which replicas do what they did.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::work::Failed;

/// A recorded session, in the format of the editing-traces collection.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trace {
    #[serde(default)]
    start_content: String,
    pub(crate) end_content: String,
    #[serde(default = "one")]
    pub(crate) num_agents: usize,
    txns: Vec<Transaction>,
}

fn one() -> usize {
    1
}

#[derive(Debug, Deserialize)]
struct Transaction {
    #[serde(default)]
    parents: Vec<usize>,
    #[serde(default)]
    agent: usize,
    patches: Vec<Patch>,
}

/// Position, how many characters are deleted there, what is put there.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Patch(pub(crate) usize, pub(crate) usize, pub(crate) String);

/// What one replica does next.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Step {
    Edit(usize, Patch),
    /// What a replica did since the last time becomes the next update.
    Seal(usize),
    /// A replica takes an update in.
    Deliver(usize, usize),
}

/// Steps in a file, read one by one: a process that replays them holds nothing else.
#[derive(Debug)]
pub(crate) struct Steps {
    lines: std::io::Lines<BufReader<File>>,
    pub(crate) agents: usize,
    pub(crate) count: usize,
}

impl Steps {
    pub(crate) fn write(trace: &Trace, per_update: usize, path: &Path) -> Result<(), Failed> {
        let steps = trace.steps(per_update);
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "{} {}", trace.num_agents, steps.len())?;
        for step in steps {
            serde_json::to_writer(&mut file, &step)?;
            writeln!(file)?;
        }
        Ok(file.flush()?)
    }

    pub(crate) fn open(path: &Path) -> Result<Self, Failed> {
        let mut lines = BufReader::new(File::open(path)?).lines();
        let first = lines.next().ok_or("no steps")??;
        let (agents, count) = first.split_once(' ').ok_or("no steps")?;
        Ok(Self { lines, agents: agents.parse()?, count: count.parse()? })
    }
}

impl Iterator for Steps {
    type Item = Result<Step, Failed>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        Some(line.map_err(Failed::from).and_then(|line| Ok(serde_json::from_str(&line)?)))
    }
}

impl Trace {
    pub(crate) fn read(path: &Path) -> Result<Self, Failed> {
        let mut text = Vec::new();
        let mut file = BufReader::new(File::open(path)?);
        if path.extension().is_some_and(|extension| extension == "gz") {
            flate2::read::GzDecoder::new(file).read_to_end(&mut text)?;
        } else {
            file.read_to_end(&mut text)?;
        }
        let mut trace: Self = serde_json::from_slice(&text)?;
        if !trace.start_content.is_empty() {
            let start = Patch(0, 0, std::mem::take(&mut trace.start_content));
            trace.txns.insert(0, Transaction { parents: Vec::new(), agent: 0, patches: vec![start] });
        }
        // One after another, unless it says otherwise.
        let concurrent = trace.txns.iter().any(|txn| !txn.parents.is_empty());
        for at in 1..if concurrent { 0 } else { trace.txns.len() } {
            trace.txns[at].parents = vec![at - 1];
        }
        let known = |(at, txn): (usize, &Transaction)| {
            txn.agent < trace.num_agents && txn.parents.iter().all(|parent| *parent < at)
        };
        if trace.txns.iter().enumerate().all(known) {
            Ok(trace)
        } else {
            Err("not a recorded session".into())
        }
    }

    /// All edits of a session of one person.
    pub(crate) fn edits(&self) -> Vec<&Patch> {
        self.txns.iter().flat_map(|txn| &txn.patches).collect()
    }

    /// Everybody's edits on what they had seen, in updates of at most so many edits; at the end all have all.
    fn steps(&self, per_update: usize) -> Vec<Step> {
        let missing = self.missing();
        let mut cut_after: BTreeSet<usize> = BTreeSet::new();
        for missing in &missing {
            for agent in 0..self.num_agents {
                cut_after.extend(missing.iter().filter(|txn| self.txns[**txn].agent == agent).max().copied());
            }
        }
        let mut steps = Vec::new();
        let mut open: Vec<Vec<usize>> = vec![Vec::new(); self.num_agents];
        let mut edits = vec![0; self.num_agents];
        let mut update_of = vec![usize::MAX; self.txns.len()];
        let mut updates = Vec::new();
        let mut seal =
            |agent: usize, open: &mut Vec<usize>, steps: &mut Vec<Step>, update_of: &mut [usize]| {
                if !open.is_empty() {
                    open.drain(..).for_each(|txn| update_of[txn] = updates.len());
                    updates.push(agent);
                    steps.push(Step::Seal(agent));
                }
                updates.len()
            };
        let mut held: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.num_agents];
        for (at, txn) in self.txns.iter().enumerate() {
            let agent = txn.agent;
            let needed: BTreeSet<usize> = missing[at].iter().map(|txn| update_of[*txn]).collect();
            if !needed.is_empty() || edits[agent] + txn.patches.len() > per_update {
                seal(agent, &mut open[agent], &mut steps, &mut update_of);
                edits[agent] = 0;
            }
            for update in needed {
                if held[agent].insert(update) {
                    steps.push(Step::Deliver(agent, update));
                }
            }
            steps.extend(txn.patches.iter().cloned().map(|patch| Step::Edit(agent, patch)));
            edits[agent] += txn.patches.len();
            open[agent].push(at);
            if cut_after.contains(&at) {
                seal(agent, &mut open[agent], &mut steps, &mut update_of);
                edits[agent] = 0;
            }
        }
        let mut count = 0;
        for (agent, open) in open.iter_mut().enumerate() {
            count = seal(agent, open, &mut steps, &mut update_of);
        }
        for (agent, held) in held.iter().enumerate() {
            let unseen = (0..count).filter(|update| updates[*update] != agent && !held.contains(update));
            steps.extend(unseen.map(|update| Step::Deliver(agent, update)));
        }
        steps
    }

    /// What of others each transaction had seen first.
    fn missing(&self) -> Vec<BTreeSet<usize>> {
        let mut held: Vec<Vec<bool>> = vec![vec![false; self.txns.len()]; self.num_agents];
        let mut all = Vec::with_capacity(self.txns.len());
        for (at, txn) in self.txns.iter().enumerate() {
            let held = &mut held[txn.agent];
            let (mut missing, mut todo) = (BTreeSet::new(), txn.parents.clone());
            while let Some(txn) = todo.pop() {
                if !held[txn] {
                    held[txn] = true;
                    missing.insert(txn);
                    todo.extend(&self.txns[txn].parents);
                }
            }
            held[at] = true;
            all.push(missing);
        }
        all
    }
}
