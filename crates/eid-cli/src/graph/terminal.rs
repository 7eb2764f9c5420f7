//! The DAG as lines of text: one for each entry, and one more where lines fork or come together.

use std::collections::BTreeSet;

use super::lanes::{Lanes, Placed};
use super::{Mark, Node};

/// The signs that lines are drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// Box-drawing characters.
    Unicode,
    /// What every terminal has.
    Ascii,
}

/// A part of a line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Lines between entries.
    Line(String),
    /// The sign of an entry of this author.
    Entry(String, usize),
}

/// One entry as it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// The line of the entry, up to where its description goes.
    pub entry: Vec<Piece>,
    /// How many columns that takes.
    pub width: usize,
    /// The lines below it that lead to its parents, if they do more than go straight on.
    pub below: Option<String>,
}

/// Draws entries one after another.
#[derive(Debug)]
pub struct Drawing {
    lanes: Lanes<eid::EntryId>,
    signs: Signs,
    /// Lanes from this one on are drawn in one column.
    lanes_max: usize,
}

const UP: u8 = 1;
const DOWN: u8 = 2;
const LEFT: u8 = 4;
const RIGHT: u8 = 8;

impl Signs {
    fn line(self, mask: u8) -> char {
        // In the order of the mask's values.
        let signs: [char; 16] = match self {
            Self::Unicode => [' ', '│', '│', '│', '─', '╯', '╮', '┤', '─', '╰', '╭', '├', '─', '┴', '┬', '┼'],
            Self::Ascii => [' ', '|', '|', '|', '-', '\'', '.', '+', '-', '\'', '.', '+', '-', '+', '+', '+'],
        };
        signs[usize::from(mask & 15)]
    }

    fn folded(self) -> char {
        match self {
            Self::Unicode => '┊',
            Self::Ascii => ':',
        }
    }

    fn node(self, node: &Node) -> char {
        if node.is_void {
            return match self {
                Self::Unicode => '⊗',
                Self::Ascii => 'x',
            };
        }
        match (self, node.mark, node.is_tip) {
            (Self::Unicode, Mark::Settings, _) => '◆',
            (Self::Unicode, _, true) => '◉',
            (Self::Unicode, Mark::Merge, _) => '○',
            (Self::Unicode, Mark::Entry, _) => '●',
            (Self::Ascii, Mark::Settings, _) => '#',
            (Self::Ascii, _, true) => '@',
            (Self::Ascii, Mark::Merge, _) => 'o',
            (Self::Ascii, Mark::Entry, _) => '*',
        }
    }
}

impl Drawing {
    /// Begins with the newest entry.
    #[must_use]
    pub fn new(signs: Signs, lanes_max: usize) -> Self {
        Self { lanes: Lanes::default(), signs, lanes_max: lanes_max.max(2) }
    }

    /// Draws the next entry.
    pub fn draw(&mut self, node: &Node) -> Drawn {
        let placed = self.lanes.place(&node.id, &node.parents);
        let columns = self.columns(&placed);
        let own = self.column(placed.lane);
        let count = columns.iter().chain([&own]).max().map_or(1, |last| last + 1);
        let mut entry = Vec::new();
        let mut line = String::new();
        for column in 0..count {
            if column == own {
                entry.push(Piece::Line(std::mem::take(&mut line)));
                entry.push(Piece::Entry(self.signs.node(node).to_string(), node.author));
            } else {
                line.push(self.vertical(column, columns.contains(&column)));
            }
            line.push(' ');
        }
        entry.push(Piece::Line(line));
        let below = self.below(&placed, own);
        Drawn { entry, width: count * 2, below }
    }

    /// What is left open when no more is drawn: lines that lead to older entries.
    #[must_use]
    pub fn open(&self) -> Option<String> {
        let lanes = self.lanes.open();
        let mut columns: Vec<usize> = lanes.into_iter().map(|lane| self.column(lane)).collect();
        columns.dedup();
        let last = *columns.last()?;
        let sign = |column: usize| if columns.contains(&column) { self.signs.folded() } else { ' ' };
        Some((0..=last).flat_map(|column| [sign(column), ' ']).collect::<String>().trim_end().to_owned())
    }

    fn column(&self, lane: usize) -> usize {
        lane.min(self.lanes_max - 1)
    }

    fn vertical(&self, column: usize, is_open: bool) -> char {
        match (is_open, column + 1 == self.lanes_max) {
            (false, _) => ' ',
            (true, true) => self.signs.folded(),
            (true, false) => self.signs.line(UP | DOWN),
        }
    }

    /// The columns in which lanes go by.
    fn columns(&self, placed: &Placed) -> BTreeSet<usize> {
        placed.through.iter().map(|lane| self.column(*lane)).collect()
    }

    fn below(&self, placed: &Placed, own: usize) -> Option<String> {
        let targets: Vec<usize> = placed.edges.iter().map(|edge| self.column(edge.lane)).collect();
        let left = targets.iter().copied().min()?.min(own);
        let right = targets.iter().copied().max()?.max(own);
        if left == right {
            return None;
        }
        let through = self.columns(placed);
        let count = through.last().copied().map_or(0, |last| last + 1).max(right + 1);
        let mut line = String::new();
        for column in 0..count {
            let is_target = targets.contains(&column);
            let goes_by = through.contains(&column);
            let in_reach = (left..=right).contains(&column);
            if column == own || is_target {
                let mut mask = 0;
                mask |= if column == own || goes_by { UP } else { 0 };
                mask |= if is_target || goes_by { DOWN } else { 0 };
                mask |= if column > left { LEFT } else { 0 };
                mask |= if column < right { RIGHT } else { 0 };
                line.push(self.signs.line(mask));
            } else if goes_by {
                // A line that is crossed stays whole: nothing forks there.
                line.push(self.vertical(column, true));
            } else {
                line.push(if in_reach { self.signs.line(LEFT | RIGHT) } else { ' ' });
            }
            let bridged = (left..right).contains(&column);
            line.push(if bridged { self.signs.line(LEFT | RIGHT) } else { ' ' });
        }
        Some(line.trim_end().to_owned())
    }
}
