//! Drawing the shapes of real histories, and names that do not mean well.

use std::collections::BTreeSet;

use eid::EntryId;
use eid_cli::graph::svg::{self, Heading};
use eid_cli::graph::terminal::{Drawing, Piece, Signs};
use eid_cli::graph::{Mark, Node};

/// Parts of two public git histories, measured: parents, author and time of each commit. Facts only, no text.
const BRANCHY: &str = include_str!("data/dag-rust-analyzer.tsv");
const NEARLY_LINEAR: &str = include_str!("data/dag-jj.tsv");

fn id(number: usize) -> EntryId {
    let mut id = [0x5a; 32];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    EntryId(id)
}

/// The entries of a shape, newest first.
fn shape(text: &str) -> Vec<Node> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let parents = |line: &str| -> Vec<usize> {
        let field = line.split('\t').next().unwrap_or_default();
        field
            .split(',')
            .filter(|number| !number.is_empty())
            .map(|number| number.parse().expect("a number"))
            .collect()
    };
    let all: BTreeSet<usize> = lines.iter().flat_map(|line| parents(line)).collect();
    let nodes = lines.iter().enumerate().map(|(number, line)| {
        let mut fields = line.split('\t').skip(1).map(|field| field.parse::<u64>().expect("a number"));
        let author = fields.next().expect("an author") as usize;
        let time_ms = fields.next().expect("a time") * 1000;
        let above = parents(line);
        let mark = match above.len() {
            _ if number % 29 == 0 => Mark::Settings,
            0 | 1 => Mark::Entry,
            _ => Mark::Merge,
        };
        let stores = if mark == Mark::Merge { vec![] } else { vec!["main".to_owned(), "notes".to_owned()] };
        let parents = above.into_iter().map(id).collect();
        Node {
            id: id(number),
            parents,
            author,
            time_ms,
            stores,
            mark,
            is_tip: !all.contains(&number),
            is_void: number % 31 == 7,
        }
    });
    let mut nodes: Vec<Node> = nodes.collect();
    nodes.reverse();
    nodes
}

fn drawn(nodes: &[Node], signs: Signs, lanes_max: usize) -> Vec<String> {
    let mut drawing = Drawing::new(signs, lanes_max);
    let mut lines = Vec::new();
    for node in nodes {
        let drawn = drawing.draw(node);
        let text: String = drawn
            .entry
            .iter()
            .map(|piece| match piece {
                Piece::Line(text) | Piece::Entry(text, _) => text.as_str(),
            })
            .collect();
        assert_eq!(text.chars().count(), drawn.width);
        lines.push(text.trim_end().to_owned());
        lines.extend(drawn.below);
    }
    lines.extend(drawing.open());
    lines
}

fn authors(nodes: &[Node]) -> Vec<String> {
    let count = nodes.iter().map(|node| node.author + 1).max().unwrap_or(0);
    (0..count).map(|author| format!("author {author}")).collect()
}

fn node(number: usize, parents: &[usize]) -> Node {
    Node {
        id: id(number),
        parents: parents.iter().copied().map(id).collect(),
        author: number % 3,
        time_ms: 1_700_000_000_000,
        stores: vec!["main".to_owned()],
        mark: if parents.len() > 1 { Mark::Merge } else { Mark::Entry },
        is_tip: number == 0,
        is_void: false,
    }
}

#[test]
fn forks_and_merges_are_drawn_so_that_every_line_can_be_followed() {
    let nodes =
        [node(0, &[1, 2]), node(1, &[5]), node(2, &[3, 4]), node(3, &[5]), node(4, &[5]), node(5, &[])];
    assert_eq!(
        drawn(&nodes, Signs::Unicode, 8),
        ["◉", "├─╮", "● │", "│ ○", "│ ├─╮", "│ ● │", "├─╯ │", "│   ●", "├───╯", "●"]
    );
    assert_eq!(
        drawn(&nodes, Signs::Ascii, 8),
        ["@", "+-.", "* |", "| o", "| +-.", "| * |", "+-' |", "|   *", "+---'", "*"]
    );
}

#[test]
fn a_line_that_is_only_crossed_stays_whole() {
    let nodes = [node(0, &[1]), node(10, &[2]), node(20, &[3, 1]), node(1, &[]), node(2, &[]), node(3, &[])];
    assert_eq!(drawn(&nodes, Signs::Unicode, 8), ["◉", "│ ●", "│ │ ○", "├─│─┤", "● │ │", "  ● │", "    ●"]);
}

#[test]
fn what_is_void_has_a_sign_of_its_own_whatever_else_it_is() {
    let void = |number, parents: &[usize], mark| Node { is_void: true, mark, ..node(number, parents) };
    let nodes = [
        void(0, &[1], Mark::Entry),
        void(1, &[2, 3], Mark::Merge),
        void(2, &[3], Mark::Settings),
        node(3, &[]),
    ];
    assert_eq!(drawn(&nodes, Signs::Unicode, 8), ["⊗", "⊗", "├─╮", "⊗ │", "╰─┤", "  ●"]);
    assert_eq!(drawn(&nodes, Signs::Ascii, 8), ["x", "x", "+-.", "x |", "'-+", "  *"]);
    let heading = Heading { title: "t", entries: 4, authors: &authors(&nodes) };
    let picture = svg::draw(&heading, &nodes);
    // Once for each, and once where signs are explained.
    assert_eq!((picture.matches("\"cross\"").count(), picture.matches(">void</t").count()), (4, 4));
    assert!(picture.contains("1 tip · 3 authors · 3 void<"), "{picture}");
    // Each is crossed out in its own group.
    for row in picture.split("<title>").skip(2) {
        let is_void = nodes[..3].iter().any(|node| row.contains(&node.id.to_string()));
        assert_eq!(row.contains("\"cross\"") && row.contains("it has no effect"), is_void, "{row}");
    }
    let without = svg::draw(&heading, &[node(3, &[])]);
    assert!(!without.contains("\"cross\"") && !without.contains("void<"), "{without}");
}

#[test]
fn lanes_beyond_the_last_share_a_column_and_older_lines_are_left_open() {
    let nodes: Vec<Node> = (0..6).map(|number| node(number, &[number + 10])).collect();
    let lines = drawn(&nodes, Signs::Unicode, 3);
    assert_eq!(lines, ["◉", "│ ●", "│ │ ●", "│ │ ●", "│ │ ●", "│ │ ●", "┊ ┊ ┊"]);
}

#[test]
fn real_histories_stay_narrow_and_ascii_is_ascii() {
    for (text, columns_max) in [(BRANCHY, 16), (NEARLY_LINEAR, 16)] {
        let nodes = shape(text);
        let lines = drawn(&nodes, Signs::Unicode, 16);
        assert!(lines.iter().all(|line| line.chars().count() <= 2 * columns_max));
        assert!(lines.len() < nodes.len() * 2 + 2);
        assert!(drawn(&nodes, Signs::Ascii, 16).iter().all(|line| line.is_ascii()));
        if let Some(dir) = std::env::var_os("EID_DRAW_INTO") {
            let dir = std::path::PathBuf::from(dir);
            let name = format!("shape-{}", nodes.len());
            std::fs::write(dir.join(format!("{name}.txt")), lines.join("\n")).unwrap();
            let names = authors(&nodes);
            let heading = Heading { title: "A real history", entries: 41_328, authors: &names };
            std::fs::write(dir.join(format!("{name}.svg")), svg::draw(&heading, &nodes)).unwrap();
        }
    }
}

#[test]
fn a_picture_has_every_entry_every_line_and_nothing_of_what_names_would_smuggle_in() {
    let mut nodes = shape(BRANCHY);
    let evil = "</text><script>alert(1)</script>&\"'\u{1b}[2J\u{202e}\u{0}";
    nodes[3].stores = vec![evil.to_owned(); 7];
    let mut names = authors(&nodes);
    names[0] = evil.to_owned();
    let heading = Heading { title: evil, entries: nodes.len() as u64, authors: &names };
    let picture = svg::draw(&heading, &nodes);
    assert!(!picture.contains("<script"));
    assert!(!picture.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'));
    // Well-formed: every tag that opens closes, in order, and no text holds a bare sign.
    let mut open: Vec<&str> = Vec::new();
    for tag in picture.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').unwrap();
        assert!(!text.contains('>'), "{text}");
        let entities = text.split('&').skip(1);
        entities.for_each(|entity| assert!(entity.contains(';'), "{text}"));
        let name = tag.split(' ').next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => assert_eq!(tag.matches('"').count() % 2, 0),
            None => open.push(name),
        }
    }
    assert_eq!(open, [""; 0]);
    let lines: usize = nodes.iter().map(|node| node.parents.len()).sum();
    let drawn_lines = picture.split("<g class=\"lines\">").nth(1).unwrap().split("</g>").next().unwrap();
    assert_eq!(drawn_lines.matches("<path").count(), lines);
    for node in &nodes {
        assert!(picture.contains(&node.id.to_string()));
    }
}
