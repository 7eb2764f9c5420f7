//! A list of items in leaves of bounded size under a tree that adds up what they measure.
//!
//! Items are put in and changed, never taken out. Finding by position, the position of an item, and the nearest item
//! on either side that is low enough all take logarithmic time.

use super::limits::CHUNK_ITEMS_MAX;

/// What a stretch of the list adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measure {
    /// How many elements are shown.
    pub(super) shown: usize,
    /// The least of the items' lows.
    pub(super) low: u32,
}

impl Measure {
    fn sum(parts: impl Iterator<Item = Self>) -> Self {
        parts.fold(Self { shown: 0, low: u32::MAX }, |sum, part| Self {
            shown: sum.shown + part.shown,
            low: sum.low.min(part.low),
        })
    }
}

/// What the tree asks of an item.
pub(super) trait Item {
    fn measure(&self) -> Measure;
}

/// Where an item is, until the next item is put in. An index past the last item of a leaf is a place to put one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) leaf: u32,
    pub(super) index: usize,
}

/// The list. Leaf 0 is the first one; only it can be empty.
#[derive(Debug, Clone)]
pub(super) struct Chunks<T> {
    leaves: Vec<Leaf<T>>,
    inners: Vec<Inner>,
    root: u32,
}

#[derive(Debug, Clone)]
struct Leaf<T> {
    above: u32,
    after: Option<u32>,
    items: Vec<T>,
}

#[derive(Debug, Clone)]
struct Inner {
    above: Option<u32>,
    below: Below,
    children: Vec<u32>,
    measures: Vec<Measure>,
}

#[derive(Debug, Clone, Copy)]
enum Towards {
    First,
    Last,
}

impl Towards {
    fn pick<P>(self, parts: &[P], fits: impl Fn(&P) -> bool) -> Option<usize> {
        match self {
            Self::First => parts.iter().position(fits),
            Self::Last => parts.iter().rposition(fits),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Below {
    Leaves,
    Inners,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self {
            leaves: vec![Leaf { above: 0, after: None, items: Vec::new() }],
            inners: vec![Inner {
                above: None,
                below: Below::Leaves,
                children: vec![0],
                measures: vec![Measure::sum(std::iter::empty())],
            }],
            root: 0,
        }
    }
}

impl<T: Item> Chunks<T> {
    /// What the whole list measures.
    pub(super) fn measure(&self) -> Measure {
        Measure::sum(self.inner(self.root).measures.iter().copied())
    }

    pub(super) fn get(&self, place: Place) -> Option<&T> {
        self.leaf(place.leaf).items.get(place.index)
    }

    /// The items of one leaf.
    pub(super) fn items(&self, leaf: u32) -> &[T] {
        &self.leaf(leaf).items
    }

    /// Changes an item in place.
    pub(super) fn change<A>(&mut self, place: Place, change: impl FnOnce(&mut T) -> A) -> A {
        let done = change(&mut self.leaves[place.leaf as usize].items[place.index]);
        self.measure_again(place.leaf);
        done
    }

    pub(super) fn first(&self) -> Option<Place> {
        let place = Place { leaf: 0, index: 0 };
        self.get(place).map(|_| place)
    }

    /// The place after the last item.
    pub(super) fn end(&self) -> Place {
        let mut at = self.root;
        loop {
            let inner = self.inner(at);
            let last = inner.children[inner.children.len() - 1];
            match inner.below {
                Below::Inners => at = last,
                Below::Leaves => return Place { leaf: last, index: self.leaf(last).items.len() },
            }
        }
    }

    pub(super) fn next(&self, place: Place) -> Option<Place> {
        let leaf = self.leaf(place.leaf);
        if place.index + 1 < leaf.items.len() {
            return Some(Place { index: place.index + 1, ..place });
        }
        leaf.after.map(|leaf| Place { leaf, index: 0 })
    }

    /// The item that shows the element at a position, and which of its shown elements that is.
    pub(super) fn find(&self, position: usize) -> Option<(Place, usize)> {
        let mut rest = position;
        let mut at = self.root;
        loop {
            let inner = self.inner(at);
            let slot = inner.measures.iter().position(|part| {
                let here = rest < part.shown;
                if !here {
                    rest -= part.shown;
                }
                here
            })?;
            at = inner.children[slot];
            if matches!(inner.below, Below::Leaves) {
                break;
            }
        }
        for (index, item) in self.leaf(at).items.iter().enumerate() {
            let shown = item.measure().shown;
            if rest < shown {
                return Some((Place { leaf: at, index }, rest));
            }
            rest -= shown;
        }
        None
    }

    /// How many elements are shown before an item.
    pub(super) fn shown_before(&self, place: Place) -> usize {
        let leaf = self.leaf(place.leaf);
        let mut shown: usize = leaf.items[..place.index].iter().map(|item| item.measure().shown).sum();
        let (mut child, mut above) = (place.leaf, Some(leaf.above));
        while let Some(at) = above {
            let inner = self.inner(at);
            shown += inner.measures[..inner.slot(child)].iter().map(|part| part.shown).sum::<usize>();
            (child, above) = (at, inner.above);
        }
        shown
    }

    /// The nearest item after this one whose low is at most `limit`.
    pub(super) fn next_low(&self, place: Place, limit: u32) -> Option<Place> {
        let leaf = self.leaf(place.leaf);
        let low = |item: &T| item.measure().low <= limit;
        if let Some(ahead) = leaf.items[place.index + 1..].iter().position(low) {
            return Some(Place { index: place.index + 1 + ahead, ..place });
        }
        let (mut child, mut above) = (place.leaf, Some(leaf.above));
        while let Some(at) = above {
            let inner = self.inner(at);
            let from = inner.slot(child) + 1;
            if let Some(ahead) = inner.measures[from..].iter().position(|part| part.low <= limit) {
                return self.descend(at, from + ahead, limit, Towards::First);
            }
            (child, above) = (at, inner.above);
        }
        None
    }

    /// The nearest item before this one whose low is at most `limit`.
    pub(super) fn previous_low(&self, place: Place, limit: u32) -> Option<Place> {
        let leaf = self.leaf(place.leaf);
        let low = |item: &T| item.measure().low <= limit;
        if let Some(index) = leaf.items[..place.index].iter().rposition(low) {
            return Some(Place { index, ..place });
        }
        let (mut child, mut above) = (place.leaf, Some(leaf.above));
        while let Some(at) = above {
            let inner = self.inner(at);
            let slot = inner.slot(child);
            if let Some(slot) = inner.measures[..slot].iter().rposition(|part| part.low <= limit) {
                return self.descend(at, slot, limit, Towards::Last);
            }
            (child, above) = (at, inner.above);
        }
        None
    }

    /// Puts an item at a place, before what is there. `moved` hears of every item that has another leaf than before.
    pub(super) fn insert(&mut self, place: Place, item: T, mut moved: impl FnMut(&T, u32)) {
        moved(&item, place.leaf);
        let leaf = &mut self.leaves[place.leaf as usize];
        leaf.items.insert(place.index, item);
        if leaf.items.len() > CHUNK_ITEMS_MAX {
            let items = leaf.items.split_off(leaf.items.len() / 2);
            let made = number(self.leaves.len());
            for item in &items {
                moved(item, made);
            }
            let leaf = &mut self.leaves[place.leaf as usize];
            let (above, after) = (leaf.above, leaf.after.replace(made));
            self.leaves.push(Leaf { above, after, items });
            let measure = Measure::sum(self.leaf(made).items.iter().map(Item::measure));
            self.adopt(above, place.leaf, made, measure);
        }
        self.measure_again(place.leaf);
    }

    /// Makes a node the next one after a child, and splits what grows too large.
    fn adopt(&mut self, above: u32, child: u32, made: u32, measure: Measure) {
        let inner = &mut self.inners[above as usize];
        let slot = inner.slot(child) + 1;
        inner.children.insert(slot, made);
        inner.measures.insert(slot, measure);
        if inner.children.len() <= CHUNK_ITEMS_MAX {
            return;
        }
        let half = inner.children.len() / 2;
        let (children, measures) = (inner.children.split_off(half), inner.measures.split_off(half));
        let (below, grand) = (inner.below, inner.above);
        // What stays was measured with its child before that was split: the whole is measured again afterwards.
        let stays = Measure::sum(inner.measures.iter().copied());
        let goes = Measure::sum(measures.iter().copied());
        let split = number(self.inners.len());
        for child in &children {
            match below {
                Below::Leaves => self.leaves[*child as usize].above = split,
                Below::Inners => self.inners[*child as usize].above = Some(split),
            }
        }
        self.inners.push(Inner { above: grand, below, children, measures });
        if let Some(grand) = grand {
            let slot = self.inner(grand).slot(above);
            self.inners[grand as usize].measures[slot] = stays;
            self.adopt(grand, above, split, goes);
        } else {
            let root = number(self.inners.len());
            self.inners.push(Inner {
                above: None,
                below: Below::Inners,
                children: vec![above, split],
                measures: vec![stays, goes],
            });
            self.inners[above as usize].above = Some(root);
            self.inners[split as usize].above = Some(root);
            self.root = root;
        }
    }

    fn measure_again(&mut self, leaf: u32) {
        let mut measure = Measure::sum(self.leaf(leaf).items.iter().map(Item::measure));
        let (mut child, mut above) = (leaf, Some(self.leaf(leaf).above));
        while let Some(at) = above {
            let inner = &mut self.inners[at as usize];
            let slot = inner.slot(child);
            inner.measures[slot] = measure;
            measure = Measure::sum(inner.measures.iter().copied());
            (child, above) = (at, inner.above);
        }
    }

    /// Goes down to the first or the last item that is low enough.
    fn descend(&self, mut at: u32, mut slot: usize, limit: u32, towards: Towards) -> Option<Place> {
        loop {
            let inner = self.inner(at);
            let child = inner.children[slot];
            match inner.below {
                Below::Leaves => {
                    let index = towards.pick(&self.leaf(child).items, |item| item.measure().low <= limit)?;
                    return Some(Place { leaf: child, index });
                }
                Below::Inners => {
                    slot = towards.pick(&self.inner(child).measures, |part| part.low <= limit)?;
                    at = child;
                }
            }
        }
    }

    fn leaf(&self, leaf: u32) -> &Leaf<T> {
        &self.leaves[leaf as usize]
    }

    fn inner(&self, inner: u32) -> &Inner {
        &self.inners[inner as usize]
    }
}

impl Inner {
    fn slot(&self, child: u32) -> usize {
        self.children
            .iter()
            .position(|held| *held == child)
            .expect("a node is among the children of its parent")
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("fewer chunks than elements, which have 32-bit depths")
}
