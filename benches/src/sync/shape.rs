//! Shapes of histories, and who holds what of them.

use std::io::Read as _;
use std::path::Path;

use crate::work::Failed;

/// Bytes of the value that an entry of a made shape writes.
const VALUE_BYTES: usize = 100;
/// An entry of a recorded shape writes at most so much.
const VALUE_BYTES_MAX: usize = 512 * 1024;

/// The shapes that are made here. The names of those that take both sides apart say by how much.
pub(crate) const NAMES: [&str; 8] =
    ["linear-behind", "linear-both", "fan", "diverged", "writers", "million", "branch", "gossip"];

/// One entry of a history.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Earlier entries; none for what follows the root.
    pub parents: Vec<u32>,
    pub author: u32,
    pub value_bytes: usize,
}

/// A history, and who holds what of it before a session: closed sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    pub nodes: Vec<Node>,
    pub client: Vec<bool>,
    pub server: Vec<bool>,
}

/// What is withheld of a shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Split {
    /// As the made shape says.
    Own,
    /// Nothing.
    Equal,
    /// The client holds nothing.
    Bootstrap,
    /// The client lacks the last so many.
    Tail(usize),
    /// Each side lacks so much of it, in closed sets.
    Random(f64),
}

impl Split {
    pub(crate) fn parse(text: &str) -> Result<Self, Failed> {
        match text.split_once(':') {
            None if text == "equal" => Ok(Self::Equal),
            None if text == "bootstrap" => Ok(Self::Bootstrap),
            Some(("tail", n)) => Ok(Self::Tail(n.parse()?)),
            Some(("random", percent)) => Ok(Self::Random(percent.parse()?)),
            _ => Err("--split takes equal, bootstrap, tail:N or random:PERCENT".into()),
        }
    }
}

impl Shape {
    /// A made shape by its name, else one that is read from a file. A name may go on with `:N`, which divides its sizes.
    pub(crate) fn load(name: &str, split: Split) -> Result<Self, Failed> {
        let (known, divisor) = match name.split_once(':') {
            Some((known, divisor)) if NAMES.contains(&known) => (known, divisor.parse()?),
            _ => (name, 1),
        };
        let mut shape = match NAMES.contains(&known) {
            true => made(known, divisor),
            false => read(Path::new(name))?,
        };
        shape.withhold(split);
        Ok(shape)
    }

    fn push(&mut self, parents: Vec<u32>, author: u32) -> u32 {
        self.push_held(parents, author, true, true)
    }

    fn push_held(&mut self, parents: Vec<u32>, author: u32, client: bool, server: bool) -> u32 {
        let at = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(Node { parents, author, value_bytes: VALUE_BYTES });
        self.client.push(client);
        self.server.push(server);
        at
    }

    /// A line of so many entries from here.
    fn line(&mut self, from: Option<u32>, count: usize, client: bool, server: bool) -> Option<u32> {
        let author = u32::from(client) + 2 * u32::from(server);
        (0..count).fold(from, |at, _| Some(self.push_held(at.into_iter().collect(), author, client, server)))
    }

    fn withhold(&mut self, split: Split) {
        let count = self.nodes.len();
        match split {
            Split::Own => {}
            Split::Equal => (self.client, self.server) = (vec![true; count], vec![true; count]),
            Split::Bootstrap => (self.client, self.server) = (vec![false; count], vec![true; count]),
            Split::Tail(n) => {
                self.server = vec![true; count];
                self.client = (0..count).map(|at| at + n < count).collect();
            }
            Split::Random(percent) => {
                let mut random = Random(41);
                self.client = self.peeled(percent, &mut random);
                self.server = self.peeled(percent, &mut random);
            }
        }
    }

    /// What is left when tips are taken off, one after the other, until so much is gone of what the client holds.
    fn peeled(&self, percent: f64, random: &mut Random) -> Vec<bool> {
        let count = self.nodes.len();
        let mut children = vec![0u32; count];
        for parent in self.nodes.iter().flat_map(|node| &node.parents) {
            children[*parent as usize] += 1;
        }
        let mut tips: Vec<u32> =
            (0..count).filter(|at| children[*at] == 0).filter_map(|at| u32::try_from(at).ok()).collect();
        let mut held = vec![true; count];
        let mut left = (count as f64 * percent / 100.0) as usize;
        while left > 0 && !tips.is_empty() {
            let at = tips.swap_remove(random.below(tips.len()));
            held[at as usize] = false;
            left -= usize::from(self.client[at as usize]);
            for parent in &self.nodes[at as usize].parents {
                children[*parent as usize] -= 1;
                if children[*parent as usize] == 0 {
                    tips.push(*parent);
                }
            }
        }
        held
    }
}

fn made(name: &str, divisor: usize) -> Shape {
    let size = |n: usize| (n / divisor).max(1);
    let mut shape = Shape::default();
    match name {
        "linear-behind" => {
            let at = shape.line(None, size(100_000) - 100, true, true);
            shape.line(at, 100, false, true);
        }
        "linear-both" => {
            let at = shape.line(None, size(100_000), true, true);
            shape.line(at, 50, true, false);
            shape.line(at, 50, false, true);
        }
        "fan" => {
            let base = shape.push(Vec::new(), 0);
            for n in 0..1700 {
                shape.push_held(vec![base], n % 20, n < 1000, !(300..1000).contains(&n));
            }
        }
        "diverged" => {
            let at = shape.line(None, size(10_000), true, true);
            shape.line(at, size(50_000), true, false);
            shape.line(at, size(50_000), false, true);
        }
        "writers" => writers(&mut shape, size(80_000), size(10_000), size(10_000)),
        "million" => writers(&mut shape, size(1_000_000), 5, 3),
        "branch" => {
            let low = shape.line(None, 100, true, true);
            shape.line(low, 20, true, false);
            let top = shape.line(low, size(300_000), true, true);
            shape.line(top, 20, false, true);
        }
        _ => gossip(&mut shape, size(28_000)),
    }
    shape
}

/// A hundred writers, each going on from what it and another one wrote last; then two halves of them apart.
fn writers(shape: &mut Shape, shared: usize, client: usize, server: usize) {
    const WRITERS: usize = 100;
    let mut random = Random(7);
    let base = shape.push(Vec::new(), 0);
    let mut heads = vec![base; WRITERS];
    let mut write = |shape: &mut Shape, among: std::ops::Range<usize>, client, server| {
        let one = among.start + random.below(among.len());
        let other = among.start + random.below(among.len());
        let mut parents = vec![heads[one], heads[other]];
        parents.dedup();
        heads[one] = shape.push_held(parents, u32::try_from(one).unwrap_or(0), client, server);
    };
    (0..shared).for_each(|_| write(shape, 0..WRITERS, true, true));
    (0..client).for_each(|_| write(shape, 0..WRITERS / 2, true, false));
    (0..server).for_each(|_| write(shape, WRITERS / 2..WRITERS, false, true));
}

/// Two hundred writers who each write upon all that they have, and sometimes hear of what another one has.
fn gossip(shape: &mut Shape, count: usize) {
    const WRITERS: usize = 200;
    const HEARD_PER_ENTRY: usize = 2;
    const PARENTS_MAX: usize = 64;
    let mut random = Random(11);
    let words = count / 64 + 2;
    let base = shape.push(Vec::new(), 0);
    let mut known = vec![vec![0u64; words]; WRITERS];
    known.iter_mut().for_each(|known| known[0] = 1);
    let mut tips = vec![vec![base]; WRITERS];
    let mut children: Vec<Vec<u32>> = vec![Vec::new()];
    let holds = |known: &[u64], at: u32| known[at as usize / 64] >> (at % 64) & 1 == 1;
    for _ in 0..count {
        let writer = random.below(WRITERS);
        let parents: Vec<u32> = tips[writer].iter().rev().take(PARENTS_MAX).copied().collect();
        let at = shape.push(parents.clone(), u32::try_from(writer).unwrap_or(0));
        parents.iter().for_each(|parent| children[*parent as usize].push(at));
        children.push(Vec::new());
        tips[writer].retain(|tip| !parents.contains(tip));
        tips[writer].push(at);
        known[writer][at as usize / 64] |= 1 << (at % 64);
        for _ in 0..HEARD_PER_ENTRY {
            let (one, other) = (random.below(WRITERS), random.below(WRITERS));
            let heard = known[other].clone();
            known[one].iter_mut().zip(&heard).for_each(|(mine, theirs)| *mine |= theirs);
            let mut both: Vec<u32> = tips[one].iter().chain(&tips[other]).copied().collect();
            both.sort_unstable();
            both.dedup();
            both.retain(|tip| !children[*tip as usize].iter().any(|child| holds(&known[one], *child)));
            tips[one] = both;
        }
    }
    let held = |known: &[u64]| {
        (0..shape.nodes.len()).map(|at| holds(known, u32::try_from(at).unwrap_or(0))).collect::<Vec<bool>>()
    };
    (shape.client, shape.server) = (held(&known[0]), held(&known[1]));
}

/// Reads a recorded shape: per line the parents, the author, a time and the bytes that were written.
fn read(path: &Path) -> Result<Shape, Failed> {
    let file = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut text = String::new();
    match path.extension().is_some_and(|ext| ext == "gz") {
        true => drop(flate2::read::GzDecoder::new(&*file).read_to_string(&mut text)?),
        false => text = String::from_utf8(file)?,
    }
    let mut shape = Shape::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let at = shape.nodes.len();
        let wrong = || format!("node {at} of {} is none: {line:?}", path.display());
        let [parents, author, _time, bytes] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(wrong().into());
        };
        let parents: Vec<u32> = parents
            .split(',')
            .filter(|parent| !parent.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        if parents.iter().any(|parent| *parent as usize >= at) {
            return Err(wrong().into());
        }
        let value_bytes = bytes.parse::<usize>()?.min(VALUE_BYTES_MAX);
        shape.push(parents, author.parse()?);
        shape.nodes[at].value_bytes = value_bytes;
    }
    Ok(shape)
}

/// Numbers that are the same on every run (SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
#[derive(Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }
}
