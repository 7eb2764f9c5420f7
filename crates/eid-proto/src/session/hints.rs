//! Hints: what an initiator says of its entries, and what a responder makes of it.

use std::collections::BTreeSet;

use eid_core::dag::{Difference, Estimate, Mark, Replica, Seq, SeqSet};
use eid_core::sketch::{Cells, STRATA, STRATUM_BITS, Salt, ShortId, is_sampled};
use eid_core::{EntryId, ReadError};

use super::tips::ids_at;
use super::{Known, Rung};
use crate::bounded::List;
use crate::limits::{
    ALL_MAX, EXACT_HELD_MAX, LINE_CELLS, LINE_TIPS, NARROW_CELLS, NARROW_TIPS, SAMPLES_DENSE, SAMPLES_FEW,
    SAMPLES_MAX, STRATUM_ENTRIES_MIN, WIDE_CELLS, WINDOW_IDS_MAX,
};
use crate::message::{Hints, Open};

/// What to say: nothing when the other side holds everything, little when it is remembered what it holds.
pub(super) fn name_hints(
    replica: &dyn Replica,
    known: &Known,
    tips: u64,
    first: Option<Rung>,
) -> Result<Hints, ReadError> {
    let end = replica.end();
    if end == Seq(0) || first == Some(Rung::ByIds) {
        return Ok(Hints::None);
    }
    let forced = first >= Some(Rung::Sketch);
    if let (Some(mine), false) = (known.mine, forced) {
        if mine.seq >= end {
            return Ok(Hints::None);
        }
        return Ok(Hints::Samples(samples(replica, mine.seq, SAMPLES_FEW)?));
    }
    if end.0 <= ALL_MAX as u64 && !forced {
        let all: Vec<Seq> = (0..end.0).map(Seq).collect();
        return Ok(Hints::All(List::new(shorts_at(replica, &all)?)));
    }
    let cells = if is_wide(tips) {
        WIDE_CELLS
    } else if tips > LINE_TIPS {
        NARROW_CELLS
    } else {
        LINE_CELLS
    };
    let samples = samples(replica, Seq(0), count_for(tips))?;
    let Some(sketch) = replica.sketch()? else { return Ok(Hints::Samples(samples)) };
    let sampled = |stratum: usize| end.0 >> (STRATUM_BITS * u32::try_from(stratum).unwrap_or(u32::MAX));
    let strata = (0..STRATA).take_while(|stratum| sampled(*stratum) >= STRATUM_ENTRIES_MIN);
    let strata = strata.map(|stratum| sketch.stratum(stratum).to_bytes(cells[stratum]).into()).collect();
    Ok(Hints::Sketch { samples, strata: List::new(strata) })
}

/// Whether a replica with so many tips is wide.
fn is_wide(tips: u64) -> bool {
    tips > NARROW_TIPS
}

/// How many samples go with so many tips.
fn count_for(tips: u64) -> usize {
    let tips = usize::try_from(tips).unwrap_or(usize::MAX);
    if is_wide(tips as u64) { SAMPLES_FEW } else { SAMPLES_MAX - tips }
}

/// How far before the end of the log samples lie, at most `count` of them over so many entries.
fn distances(count: usize, span: u64) -> impl Iterator<Item = u64> {
    let part = match count {
        96.. => 12,
        64..96 => 6,
        _ => 3,
    };
    let next =
        move |at: &u64| Some(at + if *at < 2 * part || *at >= SAMPLES_DENSE { *at } else { at / part });
    std::iter::successors(Some(1), next).take_while(move |at| *at <= span).take(count)
}

/// Short ids of entries from the end of the log down to a position: the older, the farther apart.
fn samples(replica: &dyn Replica, from: Seq, count: usize) -> Result<List<ShortId, SAMPLES_MAX>, ReadError> {
    let end = replica.end();
    let seqs = distances(count, end.0.saturating_sub(from.0)).map(|distance| Seq(end.0 - distance));
    Ok(List::new(shorts_at(replica, &seqs.collect::<Vec<_>>())?))
}

/// How many entries that both sides hold lie after the newest sample that is held, if the other side is narrow and holds
/// what is common before what is not: on a line half of those up to the next sample.
fn after_samples(open: &Open, held: &[Option<Seq>]) -> Option<u64> {
    let newest = held.iter().position(Option::is_some)?;
    if is_wide(open.tips.count) || held[newest..].iter().any(Option::is_none) {
        return None;
    }
    let mut distances = distances(count_for(open.tips.count), open.end.seq).skip(newest.saturating_sub(1));
    let before = if newest == 0 { 0 } else { distances.next()? };
    Some((distances.next()? - before) / 2)
}

/// Short ids of entries that are held.
pub(super) fn shorts_at(replica: &dyn Replica, seqs: &[Seq]) -> Result<Vec<ShortId>, ReadError> {
    let mut sorted = seqs.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let (mut shorts, mut at) = (Vec::with_capacity(sorted.len()), 0);
    while at < sorted.len() {
        // A run of neighbours is one read.
        let mut to = at + 1;
        while to < sorted.len() && sorted[to].0 == sorted[to - 1].0 + 1 && to - at < 512 {
            to += 1;
        }
        let named = replica.named(sorted[at], to - at)?;
        shorts.extend(sorted[at..to].iter().copied().zip(named.iter().map(|named| named.short)));
        at = to;
    }
    let short = |seq: &Seq| shorts.binary_search_by_key(seq, |(seq, _)| *seq).ok().map(|at| shorts[at].1);
    Ok(seqs.iter().filter_map(short).collect())
}

/// Tips and samples in full: what a side surely holds.
pub(super) fn name_held(replica: &dyn Replica) -> Result<Vec<EntryId>, ReadError> {
    let mut held: Vec<Seq> = replica.tips()?.into_iter().map(|(_, seq)| seq).collect();
    held.sort_unstable_by_key(|seq| std::cmp::Reverse(*seq));
    held.truncate(EXACT_HELD_MAX - SAMPLES_MAX);
    let end = replica.end();
    held.extend(distances(SAMPLES_MAX, end.0).map(|distance| Seq(end.0 - distance)));
    held.sort_unstable();
    held.dedup();
    ids_at(replica, &held)
}

/// What a peeled stratum says of entries.
#[derive(Debug)]
pub(super) struct Marks {
    salt: Salt,
    stratum: usize,
    /// What one side of the two lacks.
    differs: BTreeSet<ShortId>,
}

impl Marks {
    /// How many entries differ, both sides together, as far as the sample tells.
    pub(super) fn differing(&self) -> u64 {
        let every = 1 << (STRATUM_BITS * u32::try_from(self.stratum).unwrap_or(0));
        (self.differs.len() as u64).saturating_mul(every)
    }

    pub(super) fn mark(&self, short: ShortId) -> Mark {
        if !is_sampled(self.salt, short, self.stratum) {
            Mark::Unknown
        } else if self.differs.contains(&short) {
            Mark::Lacked
        } else {
            Mark::Held
        }
    }
}

/// What hints come to.
#[derive(Debug)]
pub(super) enum Reading {
    /// What is lacked, entry by entry, and what is lacked here.
    Plan(SeqSet, Vec<ShortId>),
    /// What is lacked is found by a walk from what is held.
    Walk(Difference),
    /// What is lacked can be estimated.
    Estimate {
        estimate: Box<Estimate>,
        marks: Option<Marks>,
        /// The tips of this side.
        tips: Vec<Seq>,
        /// What is held as far as ids tell, without any marks.
        have: Vec<Seq>,
        /// How many entries are held after them, as far as samples of the log tell.
        oversent: Option<u64>,
    },
}

/// Makes the most of the hints of an opening; nothing when there are none. `held` are tips of the other side.
pub(super) fn read_hints(
    replica: &dyn Replica,
    open: &Open,
    held: &[Seq],
    first: Option<Rung>,
) -> Result<Option<Reading>, ReadError> {
    let tips: Vec<Seq> = replica.tips()?.into_iter().map(|(_, seq)| seq).collect();
    let ask = first == Some(Rung::Asked);
    let (named, marks) = match &open.hints {
        Hints::None => return Ok(None),
        Hints::Samples(samples) => (&samples[..], None),
        Hints::All(all) => (&all[..], None),
        Hints::Sketch { samples, strata } => {
            let sketch = replica.sketch()?;
            let mut marks = None;
            for (stratum, cells) in strata.iter().enumerate() {
                let (Some(sketch), Some(cells)) = (&sketch, Cells::from_bytes(cells)) else { break };
                let differs = sketch.stratum(stratum).difference(&cells).peel(sketch.salt(), stratum);
                let Some(differs) = differs.filter(|_| !cells.is_empty()) else { continue };
                if stratum > 0 {
                    marks = Some(Marks { salt: sketch.salt(), stratum, differs });
                    break;
                }
                if !ask && let Some((plan, lacks)) = exact(replica, open, differs)? {
                    return Ok(Some(Reading::Plan(plan, lacks)));
                }
            }
            (&samples[..], marks)
        }
    };
    let mut have = held.to_vec();
    let found = replica.find_prefixes(named)?;
    let oversent = matches!(open.hints, Hints::Sketch { .. }).then(|| after_samples(open, &found)).flatten();
    have.extend(found.into_iter().flatten());
    if open.end.seq > 0 && replica.end() > Seq(0) {
        // Whoever holds anything holds the root.
        have.push(Seq(0));
    }
    if matches!(open.hints, Hints::All(_)) && !ask {
        return Ok(Some(Reading::Walk(Difference::new(tips, have))));
    }
    let estimate = Box::new(Estimate::new(tips.iter().copied(), have.iter().copied()));
    Ok(Some(Reading::Estimate { estimate, marks, tips, have, oversent }))
}

/// What of a whole difference is here, and what is not; nothing when the numbers of entries say that it is not the whole.
fn exact(
    replica: &dyn Replica,
    open: &Open,
    differs: BTreeSet<ShortId>,
) -> Result<Option<(SeqSet, Vec<ShortId>)>, ReadError> {
    let differs: Vec<ShortId> = differs.into_iter().collect();
    let found = replica.find_prefixes(&differs)?;
    let mine: Vec<Seq> = found.iter().flatten().copied().collect();
    let lacks: Vec<ShortId> =
        differs.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(short, _)| *short).collect();
    let agrees =
        replica.end().0.checked_add(lacks.len() as u64) == open.end.seq.checked_add(mine.len() as u64);
    Ok(agrees.then(|| (SeqSet::of(mine), lacks)))
}

/// Chooses what to ask about, of entries in descending order: all as far as they fit in a window, else the newest, where
/// differences mostly are, and others at even distances.
pub(super) fn choose(left: &[Seq], uncertain: &[Seq]) -> Vec<Seq> {
    let mut chosen: Vec<Seq> = left.iter().take(WINDOW_IDS_MAX / 4).copied().collect();
    let room = WINDOW_IDS_MAX - chosen.len();
    if uncertain.len() <= room {
        chosen.extend_from_slice(uncertain);
        return chosen;
    }
    let (newest, rest) = uncertain.split_at(room / 2);
    chosen.extend_from_slice(newest);
    chosen.extend(rest.iter().step_by(rest.len().div_ceil(room - newest.len())));
    chosen
}
