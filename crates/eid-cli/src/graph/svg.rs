//! The DAG as a picture: one SVG file that every browser shows, dark or light.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use eid::EntryId;

use super::lanes::Lanes;
use super::{Mark, Node, store_list};
use crate::cmd::log::utc;
use crate::limits::{PICTURE_AUTHORS, PICTURE_LANES};
use crate::output::{count, number_of, printable};

/// What the picture says besides its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading<'a> {
    /// The name of the database.
    pub title: &'a str,
    /// How many entries there are in all.
    pub entries: u64,
    /// What the authors are called, by number.
    pub authors: &'a [String],
}

/// How large things are, in pixels.
const ROW: usize = 24;
const LANE: usize = 16;
const DATE: usize = 112;
const MARGIN: usize = 20;
const TEXT: usize = 620;
const LEGEND_COLUMN: usize = 200;

struct Row<'n> {
    node: &'n Node,
    lane: usize,
    edges: Vec<usize>,
}

/// Draws the newest entries; lines to older ones end at the lower edge.
#[must_use]
pub fn draw(heading: &Heading<'_>, nodes: &[Node]) -> String {
    let mut lanes = Lanes::default();
    let column = |lane: usize| lane.min(PICTURE_LANES - 1);
    let mut rows = Vec::with_capacity(nodes.len());
    let mut row_of: BTreeMap<EntryId, usize> = BTreeMap::new();
    let mut columns = 1;
    for (index, node) in nodes.iter().enumerate() {
        let placed = lanes.place(&node.id, &node.parents);
        let edges: Vec<usize> = placed.edges.iter().map(|edge| column(edge.lane)).collect();
        let lane = column(placed.lane);
        columns = edges.iter().chain([&lane]).fold(columns, |most, lane| most.max(lane + 1));
        rows.push(Row { node, lane, edges });
        row_of.insert(node.id, index);
    }
    let legend = legend(heading, nodes);
    let top = MARGIN + legend.height;
    let text_x = DATE + columns * LANE + MARGIN;
    let (width, height) = ((text_x + TEXT).max(legend.width), top + rows.len() * ROW + 2 * MARGIN);
    let x = |lane: usize| DATE + lane * LANE + LANE / 2;
    let y = |row: usize| top + row * ROW + ROW / 2;

    let mut svg = String::with_capacity(1024 + rows.len() * 512);
    put(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n<style>\n{}</style>\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n{}",
            escape(heading.title),
            style(heading.authors.len()),
            legend.svg
        ),
    );
    days(&mut svg, &rows, width, y);
    svg.push_str("<g class=\"lines\">\n");
    for (index, row) in rows.iter().enumerate() {
        for (parent, lane) in row.node.parents.iter().zip(&row.edges) {
            let (from, to, begin) = (x(row.lane), x(*lane), y(index));
            let (end, cut) = match row_of.get(parent) {
                Some(parent) => (y(*parent), ""),
                None => (top + rows.len() * ROW + MARGIN, " cut"),
            };
            // A line that comes in from the side has the colour of the branch that it comes from.
            let branch = row_of.get(parent).map(|parent| nodes[*parent].author);
            let is_first = row.node.parents.first() == Some(parent);
            let class = author_class(branch.filter(|_| !is_first).unwrap_or(row.node.author));
            put(&mut svg, format_args!("<path class=\"{class}{cut}\" d=\"M{from} {begin}"));
            if from != to {
                let (bend, below) = (begin + ROW / 2, (begin + ROW).min(end));
                put(&mut svg, format_args!("C{from} {bend} {to} {bend} {to} {below}"));
            }
            put(&mut svg, format_args!("V{end}\"/>\n"));
        }
    }
    svg.push_str("</g>\n");
    for (index, row) in rows.iter().enumerate() {
        entry(&mut svg, heading, row, (x(row.lane), y(index)), text_x);
    }
    svg.push_str("</svg>\n");
    svg
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a String takes everything");
}

/// A line between the days, with the date of what is above it.
fn days(svg: &mut String, rows: &[Row<'_>], width: usize, y: impl Fn(usize) -> usize) {
    let mut last: Option<String> = None;
    for (index, row) in rows.iter().enumerate() {
        let time = utc(row.node.time_ms);
        let day = time.split(' ').next().unwrap_or_default().to_owned();
        let baseline = y(index) + 4;
        if last.as_ref() != Some(&day) {
            let rule = y(index) - ROW / 2;
            put(svg, format_args!("<path class=\"rule\" d=\"M{MARGIN} {rule}H{}\"/>", width - MARGIN));
            put(svg, format_args!("<text class=\"day\" x=\"{MARGIN}\" y=\"{baseline}\">{day}</text>\n"));
            last = Some(day);
        }
    }
}

fn entry(svg: &mut String, heading: &Heading<'_>, row: &Row<'_>, (x, y): (usize, usize), text_x: usize) {
    let node = row.node;
    let author = heading.authors.get(node.author).map_or("", String::as_str);
    let time = utc(node.time_ms);
    let class = author_class(node.author);
    let void = if node.is_void { " void" } else { "" };
    put(svg, format_args!("<g class=\"{class}{void}\"><title>{}\n", escape(&node.id.to_string())));
    put(svg, format_args!("{} UTC by {}\n", escape(&time), escape(author)));
    put(svg, format_args!("stores: {}\n", escape(&node.stores.join(", "))));
    let has_none = if node.is_void { "\nvoid: it has no effect" } else { "" };
    put(svg, format_args!("{}{has_none}</title>", number_of(node.parents.len() as u64, "parent", "parents")));
    if node.is_tip {
        put(svg, format_args!("<circle class=\"ring\" cx=\"{x}\" cy=\"{y}\" r=\"9\"/>"));
    }
    match node.mark {
        Mark::Settings => {
            put(svg, format_args!("<path class=\"dot\" d=\"M{x} {}l6 6l-6 6l-6 -6z\"/>", y - 6));
        }
        Mark::Merge => put(svg, format_args!("<circle class=\"merge\" cx=\"{x}\" cy=\"{y}\" r=\"4\"/>")),
        Mark::Entry => put(svg, format_args!("<circle class=\"dot\" cx=\"{x}\" cy=\"{y}\" r=\"5\"/>")),
    }
    if node.is_void {
        put(svg, format_args!("<path class=\"cross\" d=\"M{x} {y}{CROSS}\"/>"));
    }
    let clock = time.split(' ').nth(1).unwrap_or_default();
    let baseline = y + 4;
    put(svg, format_args!("<text class=\"time\" x=\"{text_x}\" y=\"{baseline}\">{clock}</text>"));
    let [name_x, stores_x, id_x] = [72, 200, 520].map(|offset| text_x + offset);
    let shown = shorten(author, 16);
    put(svg, format_args!("<text class=\"name\" x=\"{name_x}\" y=\"{baseline}\">{}</text>", escape(&shown)));
    let stores = shorten(&store_list(&node.stores), 38);
    put(svg, format_args!("<text class=\"plain\" x=\"{stores_x}\" y=\"{baseline}\">{}", escape(&stores)));
    if node.is_tip {
        svg.push_str(" <tspan class=\"tip\">tip</tspan>");
    }
    if node.is_void {
        svg.push_str(" <tspan class=\"bad\">void</tspan>");
    }
    put(
        svg,
        format_args!(
            "</text><text class=\"id\" x=\"{id_x}\" y=\"{baseline}\">{}</text></g>\n",
            node.id.short()
        ),
    );
}

/// Two strokes across the sign of an entry, from its middle.
const CROSS: &str = "m-6 -6l12 12m0 -12l-12 12";

struct Legend {
    svg: String,
    width: usize,
    height: usize,
}

fn legend(heading: &Heading<'_>, nodes: &[Node]) -> Legend {
    let mut written = vec![0u64; heading.authors.len()];
    for node in nodes {
        if let Some(count) = written.get_mut(node.author) {
            *count += 1;
        }
    }
    let mut order: Vec<usize> = (0..written.len()).collect();
    order.sort_by_key(|author| (u64::MAX - written[*author], *author));
    let mut svg = String::new();
    let title = printable(heading.title);
    put(&mut svg, format_args!("<text class=\"title\" x=\"{MARGIN}\" y=\"36\">{}</text>\n", escape(&title)));
    let shown = match (nodes.len() as u64, heading.entries) {
        (shown, all) if shown < all => format!("the newest {} of {} entries", count(shown), count(all)),
        (_, all) => number_of(all, "entry", "entries"),
    };
    let tips = nodes.iter().filter(|node| node.is_tip).count() as u64;
    let mut facts =
        vec![shown, number_of(tips, "tip", "tips"), number_of(written.len() as u64, "author", "authors")];
    let void = nodes.iter().filter(|node| node.is_void).count() as u64;
    if void > 0 {
        facts.push(format!("{} void", count(void)));
    }
    put(&mut svg, format_args!("<text class=\"day\" x=\"{MARGIN}\" y=\"58\">{}</text>\n", facts.join(" · ")));
    let mut at = MARGIN + 6;
    let crossed = format!(
        "<g class=\"void\"><circle class=\"dot\" cx=\"X\" cy=\"80\" r=\"5\"/><path class=\"cross\" d=\"MX 80{CROSS}\"/></g>"
    );
    let mut signs = vec![
        ("<circle class=\"dot\" cx=\"X\" cy=\"80\" r=\"5\"/>", "entry"),
        ("<circle class=\"merge\" cx=\"X\" cy=\"80\" r=\"4\"/>", "merge"),
        ("<path class=\"dot\" d=\"MX 74l6 6l-6 6l-6 -6z\"/>", "settings"),
        (
            "<circle class=\"ring\" cx=\"X\" cy=\"80\" r=\"9\"/><circle class=\"dot\" cx=\"X\" cy=\"80\" r=\"5\"/>",
            "tip",
        ),
    ];
    if void > 0 {
        signs.push((&crossed, "void"));
    }
    for (sign, name) in signs {
        let sign = sign.replace('X', &at.to_string());
        let text = at + 16;
        put(
            &mut svg,
            format_args!(
                "<g class=\"sign\">{sign}<text class=\"plain\" x=\"{text}\" y=\"84\">{name}</text></g>\n"
            ),
        );
        at += 96;
    }
    const PER_LINE: usize = 4;
    let named = order.len().min(PICTURE_AUTHORS);
    for (place, author) in order[..named].iter().enumerate() {
        let (x, y) = (MARGIN + 6 + place % PER_LINE * LEGEND_COLUMN, 108 + place / PER_LINE * 20);
        let name = shorten(&heading.authors[*author], 18);
        let class = author_class(*author);
        put(
            &mut svg,
            format_args!("<g class=\"{class}\"><circle class=\"dot\" cx=\"{x}\" cy=\"{y}\" r=\"5\"/>"),
        );
        let (text, baseline) = (x + 16, y + 4);
        let written = count(written[*author]);
        put(
            &mut svg,
            format_args!(
                "<text class=\"name\" x=\"{text}\" y=\"{baseline}\">{} <tspan class=\"day\">{written}</tspan></text></g>\n",
                escape(&name)
            ),
        );
    }
    let mut lines = named.div_ceil(PER_LINE);
    if named < order.len() {
        let y = 112 + lines * 20;
        let others = number_of((order.len() - named) as u64, "more author", "more authors");
        put(
            &mut svg,
            format_args!("<text class=\"day\" x=\"{}\" y=\"{y}\">and {others}</text>\n", MARGIN + 22),
        );
        lines += 1;
    }
    Legend { svg, width: MARGIN * 2 + PER_LINE * LEGEND_COLUMN, height: 96 + lines * 20 }
}

fn author_class(author: usize) -> String {
    format!("a{}", author % HUES)
}

/// Colours of authors, at the golden angle from one another; then they come again.
const HUES: usize = 24;

fn style(authors: usize) -> String {
    let mut style = String::from(
        "text{font:13px ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}\n\
         .paper{fill:#fff}.title{font-size:20px;font-weight:600}.day,.time,.id{fill:#6e7781}\n\
         .time,.id{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:12px}\n\
         .name{font-weight:600;fill:currentColor}.tip{font-weight:600;fill:#1a7f37}\n\
         .rule{stroke:#d8dee4;stroke-width:1;fill:none}.sign{color:#57606a}\n\
         .lines path{fill:none;stroke:currentColor;stroke-width:2;stroke-opacity:.75;stroke-linejoin:round}\n\
         .lines .cut{stroke-dasharray:3 4}\n\
         .dot{fill:currentColor}.merge{fill:#fff;stroke:currentColor;stroke-width:2}\n\
         .ring{fill:none;stroke:currentColor;stroke-width:2}\n\
         .void .dot{fill:#fff;stroke:currentColor;stroke-width:2}.void .plain{fill:#6e7781}\n\
         .cross{fill:none;stroke:#cf222e;stroke-width:2}.bad{font-weight:600;fill:#cf222e}\n",
    );
    let (mut light, mut dark) = (String::new(), String::new());
    for author in 0..authors.min(HUES) {
        let hue = (author * 13_751 / 100 + 212) % 360;
        put(&mut light, format_args!(".a{author}{{color:hsl({hue},65%,40%)}}"));
        put(&mut dark, format_args!(".a{author}{{color:hsl({hue},70%,68%)}}"));
    }
    put(
        &mut style,
        format_args!(
            "{light}\n@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}.paper,.merge{{fill:#0d1117}}\
             .day,.time,.id{{fill:#8b949e}}.rule{{stroke:#30363d}}.tip{{fill:#3fb950}}\
             .void .dot{{fill:#0d1117}}.void .plain{{fill:#8b949e}}.cross{{stroke:#f85149}}.bad{{fill:#f85149}}.sign{{color:#8b949e}}\n{dark}}}\n"
        ),
    );
    style
}

/// At most this many characters.
fn shorten(text: &str, most: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Text as it may stand in XML: what would end the text or steer whoever shows it is written out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Two characters that XML cannot hold at all.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
