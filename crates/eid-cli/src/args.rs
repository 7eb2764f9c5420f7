//! What can be typed: one type per noun, an example under each `--help`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr as _;

use clap::{Args, Parser, Subcommand, ValueEnum};
use eid::{Address, EntryId, Path as DocPath, Permission, PublicKey};

use crate::value::Period;

/// Everything on one command line.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "eid",
    version,
    about = "A local-first, peer-to-peer database",
    long_about = "A local-first, peer-to-peer database: write offline, and every replica converges.\n\n\
        Begin with `eid demo`, which shows the whole of it in under a minute.",
    after_help = "Example:\n  eid db create notes\n  eid set notes profile.name Ada\n  eid get notes profile.name",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = false
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that stand before or after the command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The directory of the instance [default: the platform's data directory]
    #[arg(long, short = 'd', global = true, value_name = "DIR", env = "EID_DATA", display_order = 900)]
    pub data: Option<PathBuf>,
    /// Prints JSON: one object per line for lists, else one value as the last line
    #[arg(long, global = true, display_order = 901)]
    pub json: bool,
    /// Where the instance keeps its bytes: `file:DIR` or `memory:` [default: the data directory]
    #[arg(long, value_name = "URL", value_parser = parse_backend, display_order = 902)]
    pub store: Option<BackendUrl>,
    /// The user who acts; without it, the device
    #[arg(long, global = true, value_name = "NAME", display_order = 903)]
    pub user: Option<String>,
    /// Reads passwords from this file descriptor, a line each; without it, from a prompt
    #[arg(long, global = true, value_name = "FD", display_order = 904)]
    pub password_fd: Option<u32>,
    /// Logs more on standard error; twice for everything
    #[arg(long, short = 'v', global = true, action = clap::ArgAction::Count, display_order = 905)]
    pub verbose: u8,
}

/// Where an instance keeps its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendUrl {
    /// The embedded store in this directory.
    File(PathBuf),
    /// Nowhere: gone when the process ends.
    Memory,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Shows three instances that converge on real data
    #[command(after_help = "Example:\n  eid demo\n  eid demo --dir /tmp/eid-demo --keep")]
    Demo(Demo),
    /// Makes the instance and prints its device key
    #[command(after_help = "Example:\n  eid init --name \"Ada's laptop\"")]
    Init(Init),
    /// Runs the node until SIGINT or SIGTERM
    #[command(
        after_help = "Example:\n  eid serve --http 127.0.0.1:7070\n  eid serve --http 127.0.0.1:0 --json\n  eid serve --iroh\n  \
            eid serve --http 0.0.0.0:7070 --rate 2M --peer-rate 500k"
    )]
    Serve(Serve),
    /// Databases: create, list, show, rename, title, forget
    #[command(subcommand, after_help = "Example:\n  eid db create notes\n  eid db list")]
    Db(Db),
    /// Writes a value into a document
    #[command(
        after_help = "PATH has dots or is a JSON pointer; VALUE is JSON, or text when it is not valid JSON. What is at PATH is \
            replaced; a value on the way to PATH that is no map is not: unset it first. `eid list` changes single items of \
            a list.\n\n\
            Example:\n  eid set notes profile.name Ada\n  eid set notes /tags '[\"a\",\"b\"]'\n  eid set notes zip 01234 --text"
    )]
    Set(Set),
    /// Reads a value of a document
    #[command(after_help = "Example:\n  eid get notes profile.name\n  eid get notes profile --json")]
    Get(Get),
    /// Deletes a value of a document
    #[command(after_help = "Example:\n  eid unset notes profile.name")]
    Unset(Get),
    /// Adds to a counter of a document
    #[command(after_help = "Example:\n  eid incr notes visits\n  eid incr notes stock -3")]
    Incr(Incr),
    /// Lists in documents, which several change at once: show, insert, set, move, delete
    #[command(
        subcommand,
        after_help = "Positions count from 0. What others insert, move and delete at the same time is kept beside it.\n\n\
            Example:\n  eid list insert notes todos end 'buy milk'\n  eid list move notes todos 2 0"
    )]
    List(List),
    /// Tables: import, export, get, put, delete, query, index, watch
    #[command(
        subcommand,
        after_help = "Example:\n  eid table import geo airports airports.csv --key iata\n  eid table query geo airports --where 'state = AK' --limit 5"
    )]
    Table(Table),
    /// Texts that several edit at once: show, insert, delete, set, edit
    #[command(
        subcommand,
        after_help = "Positions count characters (Unicode scalar values).\n\n\
            Example:\n  eid text insert notes body 0 'Dear all,'\n  eid text edit notes body"
    )]
    Text(Text),
    /// Prints a ticket with which another device joins
    #[command(
        after_help = "Without --uses the invite is in the settings of the database, and whoever has the ticket joins through any device \
            that serves it. With --uses this one counts, and has to be reachable when the other joins.\n\n\
            Example:\n  eid share notes --write\n  eid share notes --read --uses 3 --expires 7d\n  eid share notes --ask"
    )]
    Share(Share),
    /// Joins the database of a ticket
    #[command(
        after_help = "With a ticket that gives nothing it asks for a right, and ends with exit code 7 while nobody has approved. What was \
            asked for is remembered: `eid serve`, `eid sync`, and the same command again complete it.\n\n\
            Example:\n  eid join 'eid:?db=...'\n  eid join 'eid:?db=...' --request write --wait 60"
    )]
    Join(Join),
    /// Who asks for access to the databases of this instance: list, approve, reject
    #[command(
        subcommand,
        after_help = "Example:\n  eid requests list\n  eid requests approve 3f9c --as read"
    )]
    Requests(Requests),
    /// Synchronises with peers, both directions
    #[command(
        after_help = "Without --peer and --address it goes to every peer that is remembered (a join remembers the server).\n\n\
            Example:\n  eid sync\n  eid sync notes --address http://127.0.0.1:7070"
    )]
    Sync(Sync),
    /// Fetches what peers have (entries go both ways, as in `sync`)
    #[command(after_help = "Example:\n  eid pull notes --peer laptop")]
    Pull(Sync),
    /// Delivers what peers lack (entries go both ways, as in `sync`)
    #[command(after_help = "Example:\n  eid push notes --peer laptop")]
    Push(Sync),
    /// Lists the databases that whoever answers at an address lets this device read
    #[command(
        after_help = "Only what this device, or the --user, may read; `eid join TICKET` brings another one here.\n\n\
            Example:\n  eid discover http://192.0.2.7:7070"
    )]
    Discover(Discover),
    /// Peers: list, add, block, unblock, forget
    #[command(subcommand, after_help = "Example:\n  eid peers list\n  eid peers add http://192.0.2.7:7070")]
    Peers(Peers),
    /// Who may do what: list, grant, revoke, rotate
    #[command(subcommand, after_help = "Example:\n  eid keys list notes")]
    Keys(Keys),
    /// Lists who changed which right, or, with --void, what has no effect and why
    #[command(
        after_help = "An entry is void when a stronger admin removed whoever wrote it, or when that relied on one who was \
            removed. It keeps its place and has no effect; `eid accept` lets it count again.\n\n\
            Example:\n  eid audit notes\n  eid audit notes --void --json"
    )]
    Audit(Audit),
    /// Lets void entries count again
    #[command(after_help = "Example:\n  eid audit notes --void\n  eid accept notes bafyr4i...")]
    Accept(Accept),
    /// Users: create, list, password
    #[command(
        subcommand,
        after_help = "Any command acts for a user with --user NAME.\n\n\
            Example:\n  eid user create ada\n  eid --user ada db create diary"
    )]
    User(User),
    /// Tries every peer now and tells what is undelivered, and why
    #[command(after_help = "Ends with 5 when something is undelivered.\n\nExample:\n  eid flush")]
    Flush(Flush),
    /// Tells why a peer is not known to have an entry
    #[command(after_help = "Example:\n  eid log notes\n  eid why ENTRY laptop")]
    Why(Why),
    /// Sets how a database is synchronised by itself, for --user or for the device
    #[command(
        after_help = "What several users want is combined: on if anybody wants it, with the shortest interval.\n\n\
            Example:\n  eid track notes --on-commit --every 60\n  eid track notes --off"
    )]
    Track(Track),
    /// Synchronises a database no longer by itself; what is here stays
    #[command(after_help = "Example:\n  eid untrack notes")]
    Untrack {
        /// Name, id, or at least 8 characters of the id
        db: String,
    },
    /// Shows databases, peers and what is known of them
    #[command(after_help = "Example:\n  eid status\n  eid status notes --json\n  eid status --watch")]
    Status(Status),
    /// Lists the history of a database, the latest first
    #[command(
        after_help = "With --graph, lines lead from each entry down to what it descends from: ● is an entry, ○ a merge, \
            ◆ a change of settings, ◉ a tip. It shortens ids; `at`, `diff` and `undo` take whole ones, which --ids \
            shows.\n\nExample:\n  eid log notes --limit 10\n  eid log notes --graph --ids"
    )]
    Log(Log),
    /// Draws the history of a database as a picture
    #[command(after_help = "Example:\n  eid graph notes --out notes.svg")]
    Graph(Graph),
    /// Shows what differs between two versions
    #[command(
        after_help = "TIPS names a version: the id of an entry, several ids with commas between them, or `now`. `eid log` \
            shows ids.\n\nExample:\n  eid diff notes bafyr4i... now"
    )]
    Diff(Diff),
    /// Shows who wrote what is at a path or in a row
    #[command(after_help = "In a table, PATH is the key of a row, or a key and a field.\n\n\
            Example:\n  eid blame notes profile.name\n  eid blame geo SEA --store airports")]
    Blame(Get),
    /// Reads an older version
    #[command(
        after_help = "TIPS names a version: the id of an entry, several ids with commas between them, or `now`.\n\n\
            Example:\n  eid at notes bafyr4i... get profile.name\n  eid at notes bafyr4i... show"
    )]
    At(At),
    /// Takes back the last change that this device made, or one entry, by another entry
    #[command(
        after_help = "What others have written since stays, and is listed. Undoing twice does the change again.\n\n\
            Example:\n  eid undo notes\n  eid undo notes --entry bafyr4i..."
    )]
    Undo(Undo),
    /// Checks everything that is stored
    #[command(
        after_help = "Recomputes whatever is derived from the entries and compares. Exit code 6 when something is corrupt, and\n\
            when a repair had to leave out payloads or entries: they are named, and `eid sync` brings back what a peer\n\
            holds. A damaged payload costs itself alone; a damaged header costs the entry and what descends from it.\n\n\
            Example:\n  eid verify\n  eid verify --repair"
    )]
    Verify(Verify),
    /// Writes one consistent copy of everything into a file
    #[command(
        after_help = "Works while a node serves the directory: the copy is of the moment at which it begins. The file holds \
            the keys of this device and what is not shared, so only its owner may read it: keep it like a key.\n\n\
            Example:\n  eid backup notes.backup"
    )]
    Backup(Backup),
    /// Makes the data directory of a backup
    #[command(
        after_help = "Into a new or empty directory only. The copy is a device of its own, which may read what it has and \
            write once its key is granted a right: it prints the commands. --same-device is for when the device that was \
            backed up is gone for good: two devices with one key take each other's entries for their own.\n\n\
            Example:\n  eid --data restored restore notes.backup\n  eid restore notes.backup --same-device"
    )]
    Restore(Restore),
    /// Prints the completions of a shell
    #[command(
        after_help = "Example:\n  eid completions bash > ~/.local/share/bash-completion/completions/eid\n  eid completions fish > ~/.config/fish/completions/eid.fish"
    )]
    Completions(Completions),
    /// Writes the man pages into a directory
    #[command(after_help = "Example:\n  eid man ~/.local/share/man/man1\n  man eid-table-import")]
    Man(Man),
}

/// `eid completions`
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `eid man`
#[derive(Debug, Clone, Args)]
pub struct Man {
    /// Where the pages go; made if it is not there
    pub dir: PathBuf,
}

/// `eid demo`
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Where the three instances live [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keeps the temporary directory
    #[arg(long)]
    pub keep: bool,
}

/// `eid init`
#[derive(Debug, Clone, Args)]
pub struct Init {
    /// The name that other people see for this device
    #[arg(long, short = 'n', value_name = "DISPLAY")]
    pub name: Option<String>,
}

/// `eid serve`
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Serves HTTP on this address; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// Lets in so many devices at once over HTTP from one address, such as from behind one router or proxy [default: 32]
    #[arg(long, value_name = "N", requires = "http", value_parser = clap::value_parser!(u32).range(1..=2048))]
    pub per_address: Option<u32>,
    /// Serves QUIC on this address, over UDP; port 0 picks a free one
    #[cfg(feature = "quic")]
    #[arg(long, value_name = "ADDR")]
    pub quic: Option<String>,
    /// Serves iroh, which goes straight where the network lets it and over a relay where not; ADDR binds one socket
    #[cfg(feature = "iroh")]
    #[arg(long, value_name = "ADDR", num_args = 0..=1, require_equals = true)]
    pub iroh: Option<Option<std::net::SocketAddr>>,
    /// The relay of iroh: its URL, `default` or `staging` for those of the makers of iroh, `disabled` for none
    #[cfg(feature = "iroh")]
    #[arg(long, value_name = "URL", requires = "iroh", default_value = "default", value_parser = relay)]
    pub relay: eid::Relay,
    /// Finds devices on the local network by multicast DNS, and shows this one there
    #[cfg(feature = "iroh")]
    #[arg(long, requires = "iroh")]
    pub mdns: bool,
    /// Sends, and receives, at most so many bytes a second with all peers together: `500k`, `2M`
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub rate: Option<u64>,
    /// Sends, and receives, at most so many bytes a second with each peer
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub peer_rate: Option<u64>,
}

/// Bytes a second: a number, or one with `k` or `M` for 1,024 and 1,048,576 of them.
fn rate(text: &str) -> Result<u64, String> {
    let (number, times) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1024),
        None => text.strip_suffix('M').map_or((text, 1), |number| (number, 1024 * 1024)),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(times));
    let bytes = bytes.ok_or("a rate is a number of bytes a second, such as 500000, 500k or 2M")?;
    if bytes < eid::BANDWIDTH_MIN {
        return Err(format!(
            "a rate is at least {}k, so that large entries get through",
            eid::BANDWIDTH_MIN / 1024
        ));
    }
    Ok(bytes)
}

#[cfg(feature = "iroh")]
fn relay(text: &str) -> Result<eid::Relay, String> {
    match text {
        "default" => Ok(eid::Relay::Public),
        "staging" => Ok(eid::Relay::Staging),
        "disabled" | "off" => Ok(eid::Relay::Off),
        url => match url.parse::<eid::RelayUrl>() {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(eid::Relay::Custom(vec![url])),
            _ => Err("a relay is a URL as https://HOST/, `default`, `staging` or `disabled`".to_owned()),
        },
    }
}

/// `eid db`
#[derive(Debug, Clone, Subcommand)]
pub enum Db {
    /// Creates a database and shows its recovery key this once
    #[command(after_help = "Example:\n  eid db create notes --recovery-file notes.recovery")]
    Create {
        /// Its name on this device
        name: String,
        /// Writes the recovery key into this file (which must not exist) instead of showing it
        #[arg(long, value_name = "FILE")]
        recovery_file: Option<PathBuf>,
    },
    /// Lists the databases
    #[command(after_help = "Example:\n  eid db list --json")]
    List,
    /// Shows one database
    #[command(after_help = "Example:\n  eid db show notes")]
    Show {
        /// Name, id, or at least 8 characters of the id
        db: String,
    },
    /// Gives a database another name on this device
    #[command(after_help = "Example:\n  eid db rename notes diary")]
    Rename {
        /// Name, id, or at least 8 characters of the id
        db: String,
        /// The name from now on
        name: String,
    },
    /// Sets the title that all members see
    #[command(after_help = "Example:\n  eid db title notes \"Our notes\"")]
    Title {
        /// Name, id, or at least 8 characters of the id
        db: String,
        /// The title
        text: String,
    },
    /// Removes a database from this device
    #[command(after_help = "Example:\n  eid db forget notes")]
    Forget {
        /// Name, id, or at least 8 characters of the id
        db: String,
    },
}

/// `eid set`
#[derive(Debug, Clone, Args)]
pub struct Set {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// Where in the document: `a.b.c` or `/a/b/c`
    #[arg(value_parser = DocPath::from_str)]
    pub path: DocPath,
    /// JSON, or text
    #[arg(allow_hyphen_values = true)]
    pub value: String,
    /// Takes VALUE as text, even when it is valid JSON
    #[arg(long)]
    pub text: bool,
    /// The document store
    #[arg(long = "store", id = "doc_store", value_name = "NAME", default_value = eid::DEFAULT_DOC_STORE)]
    pub doc_store: String,
}

/// `eid get`, `eid unset`
#[derive(Debug, Clone, Args)]
pub struct Get {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// Where in the document: `a.b.c` or `/a/b/c`
    #[arg(value_parser = DocPath::from_str)]
    pub path: DocPath,
    /// The document store
    #[arg(long = "store", id = "doc_store", value_name = "NAME", default_value = eid::DEFAULT_DOC_STORE)]
    pub doc_store: String,
}

/// `eid incr`
#[derive(Debug, Clone, Args)]
pub struct Incr {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// Where in the document: `a.b.c` or `/a/b/c`
    #[arg(value_parser = DocPath::from_str)]
    pub path: DocPath,
    /// How much; may be negative
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    pub by: i64,
    /// The document store
    #[arg(long = "store", id = "doc_store", value_name = "NAME", default_value = eid::DEFAULT_DOC_STORE)]
    pub doc_store: String,
}

/// Names a list in a document.
#[derive(Debug, Clone, Args)]
pub struct ListPlace {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// Where in the document: `a.b.c` or `/a/b/c`
    #[arg(value_parser = DocPath::from_str)]
    pub path: DocPath,
    /// The document store
    #[arg(long = "store", id = "doc_store", value_name = "NAME", default_value = eid::DEFAULT_DOC_STORE)]
    pub doc_store: String,
}

/// `eid list`
#[derive(Debug, Clone, Subcommand)]
pub enum List {
    /// Prints the items with their positions
    #[command(after_help = "Example:\n  eid list show notes todos\n  eid list show notes todos --json")]
    Show {
        /// Which
        #[command(flatten)]
        place: ListPlace,
    },
    /// Puts an item in before a position; the first one makes the list
    #[command(
        after_help = "Example:\n  eid list insert notes todos 0 'buy milk'\n  eid list insert notes todos end '{\"n\":1}'"
    )]
    Insert {
        /// Which
        #[command(flatten)]
        place: ListPlace,
        /// How many items are before it, or `end`
        #[arg(value_name = "AT", value_parser = item_position)]
        at: Position,
        /// JSON, or text
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Takes VALUE as text, even when it is valid JSON
        #[arg(long)]
        text: bool,
    },
    /// Changes the value of an item, which stays the same item
    #[command(after_help = "Example:\n  eid list set notes todos 0 'buy oat milk'")]
    Set {
        /// Which
        #[command(flatten)]
        place: ListPlace,
        /// The position of the item
        at: usize,
        /// JSON, or text
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Takes VALUE as text, even when it is valid JSON
        #[arg(long)]
        text: bool,
    },
    /// Moves an item
    #[command(after_help = "Example:\n  eid list move notes todos 2 0\n  eid list move notes todos 0 end")]
    Move {
        /// Which
        #[command(flatten)]
        place: ListPlace,
        /// The position of the item
        from: usize,
        /// Its position afterwards, or `end`
        #[arg(value_name = "TO", value_parser = item_position)]
        to: Position,
    },
    /// Takes an item out
    #[command(after_help = "Example:\n  eid list delete notes todos 0")]
    Delete {
        /// Which
        #[command(flatten)]
        place: ListPlace,
        /// The position of the item
        at: usize,
    },
}

fn item_position(text: &str) -> Result<Position, String> {
    position(text).ok_or_else(|| "a position is a number of items, or `end`".to_owned())
}

/// How rows are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma-separated values with a header line
    Csv,
    /// One JSON object per line
    Jsonl,
}

/// `eid table`
#[derive(Debug, Clone, Subcommand)]
pub enum Table {
    /// Imports the rows of a file
    #[command(
        after_help = "CSV: the first line names the columns. A cell becomes a number when JSON writes that number with \
            exactly the same characters (12, -7, 31.95), and is text otherwise (007, 1e5, 1.50, true, an empty cell), so \
            that nothing of the file is lost. JSON lines: one object per line. A row whose key is in the table, or in \
            the file before it, gives that row its fields.\n\n\
            A bad line ends the import with its file, line and column; nothing of its batch is written, the batches \
            before it stay.\n\nExample:\n  eid table import geo airports airports.csv --key iata"
    )]
    Import {
        /// Name, id, or at least 8 characters of the id
        db: String,
        /// The table
        table: String,
        /// The file
        file: PathBuf,
        /// How the file is written [default: by its ending]
        #[arg(long, short = 'f')]
        format: Option<Format>,
        /// The column whose value is the key of its row [default: generated keys]
        #[arg(long, short = 'k', value_name = "COLUMN")]
        key: Option<String>,
        /// Rows in one entry
        #[arg(long, short = 'b', value_name = "N", default_value_t = crate::limits::IMPORT_BATCH_ROWS,
              value_parser = clap::value_parser!(u64).range(1..=crate::limits::IMPORT_BATCH_ROWS_MAX))]
        batch: u64,
    },
    /// Prints all rows
    #[command(after_help = "Example:\n  eid table export geo airports > airports.csv")]
    Export {
        /// Name, id, or at least 8 characters of the id
        db: String,
        /// The table
        table: String,
        /// How to write the rows; with --json always JSON lines
        #[arg(long, short = 'f', default_value = "csv")]
        format: Format,
    },
    /// Prints one row
    #[command(after_help = "Example:\n  eid table get geo airports SEA")]
    Get {
        /// Name, id, or at least 8 characters of the id
        db: String,
        /// The table
        table: String,
        /// The row's key
        key: String,
    },
    /// Adds a row, or puts it in the place of the one with its key
    #[command(
        after_help = "Fields that JSON does not name are gone afterwards, unless --merge keeps them.\n\n\
            Example:\n  eid table put geo airports XXX '{\"name\":\"Nowhere\"}'\n  \
            eid table put geo airports XXX '{\"state\":\"AK\"}' --merge"
    )]
    Put {
        /// Name, id, or at least 8 characters of the id
        db: String,
        /// The table
        table: String,
        /// The row's key
        key: String,
        /// The row, a JSON object
        #[arg(value_name = "JSON")]
        row: String,
        /// Keeps the fields that JSON does not name
        #[arg(long, short = 'm')]
        merge: bool,
    },
    /// Deletes one row
    #[command(after_help = "Example:\n  eid table delete geo airports XXX")]
    Delete {
        /// Name, id, or at least 8 characters of the id
        db: String,
        /// The table
        table: String,
        /// The row's key
        key: String,
    },
    /// Prints the rows that match
    #[command(
        after_help = "--where takes FIELD OP VALUE, where OP is = != < <= > >= or ~ (a pattern with *), VALUE is JSON or text, \
            and conditions are joined by `and`, `or`, `not` and parentheses; all of several --where must hold. With --json \
            each line is {\"key\":..,\"row\":{..}}; when --limit left rows out, the last line has \"next\" too, which --after \
            takes.\n\n\
            Example:\n  eid table query geo airports --where 'state = AK and latitude > 60' --order name --limit 5\n  \
            eid table query geo airports --where \"state = AK or state = HI\" --explain"
    )]
    Query {
        /// What is asked
        #[command(flatten)]
        question: Question,
        /// Tells how the question is answered instead of answering it
        #[arg(long)]
        explain: bool,
        /// Goes on after the page that ended with this
        #[arg(long, value_name = "CURSOR")]
        after: Option<eid::PageCursor>,
    },
    /// Makes an index on a field, on this device and as a wish on all others; without FIELD, lists the indexes
    #[command(after_help = "Example:\n  eid table index geo airports state\n  eid table index geo airports")]
    Index {
        /// Name, id, or at least 8 characters of the id
        db: String,
        /// The table
        table: String,
        /// The field, or a path into it
        field: Option<DocPath>,
        /// Drops the index instead
        #[arg(long, requires = "field")]
        drop: bool,
    },
    /// Prints the rows that match, and then what is added, changed and removed, until interrupted
    #[command(
        after_help = "While it runs, other commands on the same data directory work through it. With --json each line is \
            {\"event\":\"row\"|\"added\"|\"changed\",\"key\":..,\"row\":{..}} or {\"event\":\"removed\",\"key\":..}.\n\n\
            Example:\n  eid table watch geo airports --where 'state = AK'"
    )]
    Watch {
        /// What is asked
        #[command(flatten)]
        question: Question,
        /// Prints only what changes
        #[arg(long)]
        changes: bool,
    },
}

/// A question to a table.
#[derive(Debug, Clone, Args)]
pub struct Question {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// The table
    pub table: String,
    /// A condition
    #[arg(long = "where", short = 'w', value_name = "CONDITION")]
    pub conditions: Vec<String>,
    /// Sorts by this field, ascending; `-FIELD` descending; several, the first first [default: by key]
    #[arg(long, short = 'o', value_name = "FIELD", allow_hyphen_values = true)]
    pub order: Vec<String>,
    /// At most this many rows
    #[arg(long, short = 'l', value_name = "N")]
    pub limit: Option<usize>,
}

/// Names a text.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TextPlace {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// The store of the text
    #[arg(id = "text_store", value_name = "STORE")]
    pub store: String,
}

/// `eid text`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Text {
    /// Prints a text
    #[command(after_help = "Example:\n  eid text show notes body > body.txt")]
    Show {
        /// Which
        #[command(flatten)]
        place: TextPlace,
        /// A text that is not there is empty
        #[arg(long, hide = true)]
        or_empty: bool,
    },
    /// Puts text in before a position
    #[command(
        after_help = "Example:\n  eid text insert notes body 0 'Dear all,'\n  eid text insert notes body end ' Bye.'"
    )]
    Insert {
        /// Which
        #[command(flatten)]
        place: TextPlace,
        /// How many characters are before it, or `end`
        #[arg(value_name = "AT", value_parser = text_position)]
        at: Position,
        /// What
        #[arg(allow_hyphen_values = true)]
        text: String,
    },
    /// Takes characters out from a position on
    #[command(after_help = "Example:\n  eid text delete notes body 0 5")]
    Delete {
        /// Which
        #[command(flatten)]
        place: TextPlace,
        /// How many characters are before the first of them
        at: usize,
        /// How many
        len: usize,
    },
    /// Makes a text what a file says, by the edits in which they differ
    #[command(after_help = "Example:\n  eid text set notes body body.txt")]
    Set {
        /// Which
        #[command(flatten)]
        place: TextPlace,
        /// The file
        file: PathBuf,
        /// The version that the file was made from: what was written since is kept beside it
        #[arg(long, value_name = "TIPS")]
        at: Option<Tips>,
    },
    /// Opens $VISUAL or $EDITOR and stores the difference
    #[command(after_help = "What others write while the editor is open is kept beside what you write.\n\n\
            Example:\n  EDITOR=nano eid text edit notes body")]
    Edit {
        /// Which
        #[command(flatten)]
        place: TextPlace,
    },
}

/// A position in a text or a list, or its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// So many characters or items are before it.
    At(usize),
    /// After everything.
    End,
}

fn position(text: &str) -> Option<Position> {
    match text {
        "end" => Some(Position::End),
        number => number.parse().ok().map(Position::At),
    }
}

fn text_position(text: &str) -> Result<Position, String> {
    position(text).ok_or_else(|| "a position is a number of characters, or `end`".to_owned())
}

/// `eid share`
#[derive(Debug, Clone, Args)]
pub struct Share {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// The joiner may read (the default)
    #[arg(long, short = 'r', conflicts_with = "write")]
    pub read: bool,
    /// The joiner may read and write
    #[arg(long, short = 'w')]
    pub write: bool,
    /// The joiner has to ask, and an admin approves: `eid requests`. Every member can make such a ticket
    #[arg(long, conflicts_with_all = ["read", "write", "uses", "expires"])]
    pub ask: bool,
    /// How many devices may join with it [default: no limit]
    #[arg(long, short = 'u', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: Option<u32>,
    /// How long it is good for: 90s, 15m, 12h, 7d [default: no limit]
    #[arg(long, short = 'e', value_name = "DURATION", value_parser = crate::value::duration_ms)]
    pub expires: Option<u64>,
    /// An address under which others reach this node, such as that of a proxy [default: what it listens on]
    #[arg(long, short = 'a', value_name = "ADDRESS")]
    pub address: Vec<Address>,
    /// Draws the ticket as a QR code too, for a camera; not with --json
    #[arg(long)]
    pub qr: bool,
}

/// `eid join`
#[derive(Debug, Clone, Args)]
pub struct Join {
    /// The ticket
    pub ticket: String,
    /// Name of the database on this device [default: the one it has at the other]
    #[arg(long, short = 'n', value_name = "NAME")]
    pub name: Option<String>,
    /// Asks for `read`, `write`, `admin` or `admin:LEVEL`, when the ticket gives nothing [default: read]
    #[arg(long, short = 'r', value_name = "PERMISSION", value_parser = crate::value::wanted)]
    pub request: Option<Permission>,
    /// Says something with what is asked for, for whoever approves
    #[arg(long, short = 'm', value_name = "TEXT")]
    pub message: Option<String>,
    /// Gives up after this many seconds [default: 60; an approval is not waited for]
    #[arg(long, short = 'w', value_name = "SECONDS")]
    pub wait: Option<u64>,
}

/// `eid requests`
#[derive(Debug, Clone, Subcommand)]
pub enum Requests {
    /// Lists who asks for access, and what was decided
    #[command(after_help = "Example:\n  eid requests list --json")]
    List,
    /// Grants the key of a request what it asks for
    #[command(after_help = "Example:\n  eid requests approve 3f9c17aa --as read")]
    Approve {
        /// The id of the request, or the beginning of it
        id: String,
        /// Grants this instead: `relay`, `read`, `write`, `admin`, `admin:LEVEL`
        #[arg(long = "as", value_name = "PERMISSION", value_parser = crate::value::granted)]
        permission: Option<Permission>,
    },
    /// Decides against a request: nobody is granted anything
    #[command(after_help = "Example:\n  eid requests reject 3f9c17aa")]
    Reject {
        /// The id of the request, or the beginning of it
        id: String,
    },
}

/// `eid sync`, `eid pull`, `eid push`
#[derive(Debug, Clone, Args)]
pub struct Sync {
    /// Name, id, or at least 8 characters of the id [default: every database that both may see]
    pub db: Option<String>,
    /// Only with this peer: its key or its name. What it lets this device read and is not here yet comes too
    #[arg(long, short = 'p', value_name = "PEER", conflicts_with = "address")]
    pub peer: Option<String>,
    /// Only with whoever answers here. What that lets this device read and is not here yet comes too
    #[arg(long, short = 'a', value_name = "ADDRESS")]
    pub address: Option<Address>,
    /// Gives up after this many seconds
    #[arg(long, short = 'w', value_name = "SECONDS", default_value_t = crate::limits::NETWORK_WAIT_SECONDS)]
    pub wait: u64,
}

/// `eid flush`
#[derive(Debug, Clone, Args)]
pub struct Flush {
    /// Gives up after this many seconds
    #[arg(long, short = 'w', value_name = "SECONDS", default_value_t = crate::limits::NETWORK_WAIT_SECONDS)]
    pub wait: u64,
}

/// `eid why`
#[derive(Debug, Clone, Args)]
pub struct Why {
    /// The entry: its id
    pub entry: EntryId,
    /// The peer: its key, its name or an address
    pub peer: String,
}

/// `eid discover`
#[derive(Debug, Clone, Args)]
pub struct Discover {
    /// `http://HOST:PORT`, `quic:HOST:PORT`, `iroh:KEY?..`
    pub address: Address,
    /// Gives up after this many seconds
    #[arg(long, short = 'w', value_name = "SECONDS", default_value_t = crate::limits::NETWORK_WAIT_SECONDS)]
    pub wait: u64,
}

/// `eid peers`
#[derive(Debug, Clone, Subcommand)]
pub enum Peers {
    /// Lists the peers
    #[command(after_help = "Example:\n  eid peers list")]
    List,
    /// Remembers an address for `eid sync`; the key is learnt when it answers first
    #[command(
        after_help = "With --key it is an address of that peer, which is known by it before it answers; one that is \
            known already has it beside its others.\n\n\
            Example:\n  eid peers add http://192.0.2.7:7070\n  \
            eid peers add quic:192.0.2.7:7071 --key ed25519:... --name laptop"
    )]
    Add {
        /// `http://HOST:PORT`, `quic:HOST:PORT`, `iroh:KEY?..`
        address: Address,
        /// The key of the device that is reached there: nobody else is talked to
        #[arg(long, short = 'k', value_name = "KEY")]
        key: Option<PublicKey>,
        /// What it is called here until it says what it calls itself
        #[arg(long, short = 'n', value_name = "NAME", requires = "key")]
        name: Option<String>,
    },
    /// Dials a peer no more, except when it is named; it is still served when it dials
    #[command(after_help = "Example:\n  eid peers pause laptop\n  eid peers resume laptop")]
    Pause {
        /// Its key, its name or an address of it
        peer: String,
    },
    /// Dials a peer again that was paused
    #[command(after_help = "Example:\n  eid peers resume laptop")]
    Resume {
        /// Its key, its name or an address of it
        peer: String,
    },
    /// Has nothing to do with a peer any more: neither dials nor answers it; its rights and what it wrote stay
    #[command(
        after_help = "What it wrote still comes by way of others. To take its rights away, see `eid keys revoke`.\n\n\
            Example:\n  eid peers block laptop\n  eid peers unblock laptop"
    )]
    Block {
        /// Its key, its name or an address of it
        peer: String,
    },
    /// Deals with a peer again that was blocked
    #[command(after_help = "Example:\n  eid peers unblock laptop")]
    Unblock {
        /// Its key, its name or an address of it
        peer: String,
    },
    /// Forgets a peer with all its addresses, and that it was blocked; its rights and what it wrote stay
    #[command(after_help = "To take its rights away, see `eid keys revoke`.\n\n\
            Example:\n  eid peers forget laptop\n  eid peers forget http://192.0.2.7:7070")]
    Forget {
        /// Its key, its name or an address of it
        peer: String,
    },
}

/// `eid keys`
#[derive(Debug, Clone, Subcommand)]
pub enum Keys {
    /// Lists keys and their permissions, and the open invites
    #[command(
        after_help = "admin:0 is the recovery key that `eid db create` showed. An open invite, `invite:ed25519:...`, is of a \
            ticket that `eid share` made without --uses.\n\nExample:\n  eid keys list notes"
    )]
    List {
        /// Name, id, or at least 8 characters of the id
        db: String,
    },
    /// Gives a key a permission
    #[command(after_help = "Example:\n  eid keys grant notes ed25519:... write")]
    Grant {
        /// Name, id, or at least 8 characters of the id
        db: String,
        /// `ed25519:...`, or `*` for everyone
        key: String,
        /// `relay`, `read`, `write`, `admin` (one level below this device) or `admin:LEVEL`
        permission: String,
        /// Signs once with the recovery key in this file, instead of this device's key
        #[arg(long, value_name = "FILE")]
        recovery_key: Option<PathBuf>,
    },
    /// Takes a key's permission away, with what it wrote that this device has not seen
    #[command(
        after_help = "What the key wrote outside of what stays is void: it keeps its place and has no effect. `eid audit \
            DB --void` lists it, `eid accept` lets it count again.\n\n\
            An open invite, which `eid keys list` shows as `invite:ed25519:...`, is withdrawn: nobody joins with its tickets \
            any more, and who joined before stays.\n\n\
            Example:\n  eid keys revoke notes ed25519:...\n  eid keys revoke notes invite:ed25519:...\n  eid keys revoke notes ed25519:... --recovery-key notes.recovery\n  \
            eid keys revoke --everywhere ed25519:..."
    )]
    Revoke {
        /// Name, id, or at least 8 characters of the id
        #[arg(required_unless_present = "everywhere")]
        db: Option<String>,
        /// `ed25519:...`, `*` for everyone, or `invite:ed25519:...` for an open invite
        #[arg(required_unless_present = "everywhere")]
        key: Option<String>,
        /// Revokes this key, as of a lost device, in every database in which it has a permission of its own
        #[arg(long, value_name = "KEY", conflicts_with_all = ["db", "key", "leave", "fence"])]
        everywhere: Option<String>,
        /// Refuses only what comes after; what it wrote concurrently stays
        #[arg(long)]
        leave: bool,
        /// Keeps of what it wrote only what these entries descend from, and these [default: all that is here]
        #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with = "leave")]
        fence: Vec<EntryId>,
        /// Revokes this device's own key, which then cannot write any more
        #[arg(long)]
        own: bool,
        /// Signs once with the recovery key in this file, instead of this device's key
        #[arg(long, value_name = "FILE")]
        recovery_key: Option<PathBuf>,
    },
    /// Gives the permission of the key that signs here to another key, in one entry
    #[command(
        after_help = "Without --to, a key is made for it, which signs here from then on. The key by which other devices \
            know this one may still read.\n\nExample:\n  eid keys rotate notes\n  eid keys rotate notes --to ed25519:..."
    )]
    Rotate {
        /// Name, id, or at least 8 characters of the id
        db: String,
        /// The key that takes its place, such as that of a device which replaces this one
        #[arg(long, value_name = "KEY")]
        to: Option<String>,
    },
}

/// `eid audit`
#[derive(Debug, Clone, Args)]
pub struct Audit {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// Lists the entries that have no effect, with the reason of each
    #[arg(long)]
    pub void: bool,
    /// At most this many entries
    #[arg(long, short = 'l', value_name = "N", default_value_t = crate::limits::AUDIT_ENTRIES)]
    pub limit: usize,
    /// Begins at this place in the order of arrival
    #[arg(long, value_name = "PLACE", default_value_t = 0)]
    pub from: u64,
}

/// `eid accept`
#[derive(Debug, Clone, Args)]
pub struct Accept {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// Whole ids of entries, as `eid audit DB --void` shows them
    #[arg(value_name = "ENTRY", required = true, value_delimiter = ',')]
    pub entries: Vec<EntryId>,
}

/// `eid user`
#[derive(Debug, Clone, Subcommand)]
pub enum User {
    /// Makes a user with a key of its own; without a password, whoever can read the data directory is the user
    #[command(after_help = "The password comes from a prompt, or as a line from --password-fd.\n\n\
            Example:\n  eid user create ada\n  eid user create ada --password-fd 3 3< password.txt")]
    Create {
        /// The name, compared byte by byte
        name: String,
    },
    /// Lists the users and their keys
    #[command(after_help = "Example:\n  eid user list")]
    List,
    /// Changes a password; the keys stay
    #[command(
        after_help = "The old one and the new one come from a prompt, or as two lines from --password-fd. An empty one \
            is none.\n\nExample:\n  eid user password ada"
    )]
    Password {
        /// The user
        name: String,
    },
}

/// `eid track`
#[derive(Debug, Clone, Args)]
pub struct Track {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// Sends what is written at once
    #[arg(long)]
    pub on_commit: bool,
    /// Synchronises again after this many seconds, at least 1; `off` for never by the clock [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = crate::value::period)]
    pub every: Option<Period>,
    /// Does not synchronise by itself
    #[arg(long)]
    pub off: bool,
}

/// `eid status`
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Name, id, or at least 8 characters of the id [default: all]
    pub db: Option<String>,
    /// Shows it again each time that it has changed
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Lists the last sessions instead, the last one first
    #[arg(long, conflicts_with = "watch")]
    pub history: bool,
    /// At most this many sessions
    #[arg(long, short = 'l', value_name = "N", requires = "history", default_value_t = crate::limits::HISTORY_SESSIONS)]
    pub limit: usize,
    /// Forgets the sessions of the history that ended longer ago than this, 15m, 12h, 7d, or all of them
    #[arg(
        long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "all",
        conflicts_with_all = ["db", "watch", "history"], value_parser = crate::value::age_ms
    )]
    pub forget_history: Option<u64>,
}

/// `eid log`
#[derive(Debug, Clone, Args)]
pub struct Log {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// Only entries that write this store
    #[arg(long = "store", id = "doc_store", value_name = "NAME")]
    pub doc_store: Option<String>,
    /// At most this many entries
    #[arg(long, short = 'l', value_name = "N", default_value_t = crate::limits::LOG_ENTRIES)]
    pub limit: usize,
    /// Draws how entries descend from one another
    #[arg(long, short = 'g')]
    pub graph: bool,
    /// Draws with characters that every terminal has
    #[arg(long, requires = "graph")]
    pub ascii: bool,
    /// Draws whole ids, as `at`, `diff` and `undo` take them
    #[arg(long, requires = "graph")]
    pub ids: bool,
}

/// `eid graph`
#[derive(Debug, Clone, Args)]
pub struct Graph {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// The picture: an SVG file
    #[arg(long, short = 'o', value_name = "FILE")]
    pub out: PathBuf,
    /// At most this many entries, the newest
    #[arg(long, short = 'l', value_name = "N", default_value_t = crate::limits::PICTURE_ENTRIES as u64,
          value_parser = clap::value_parser!(u64).range(1..=crate::limits::PICTURE_ENTRIES_MAX))]
    pub limit: u64,
}

/// Names a version of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tips {
    /// What is there now.
    Now,
    /// What these entries and all that they descend from make.
    Entries(Vec<EntryId>),
}

impl std::str::FromStr for Tips {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "now" {
            return Ok(Self::Now);
        }
        let entries = text.split(',').map(|id| id.trim().parse::<EntryId>());
        let entries = entries.collect::<Result<_, _>>();
        entries
            .map(Self::Entries)
            .map_err(|error| format!("{error}; a version is `now` or whole ids of entries"))
    }
}

/// `eid diff`
#[derive(Debug, Clone, Args)]
pub struct Diff {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// The version before
    #[arg(value_name = "TIPS")]
    pub from: Tips,
    /// The version after
    #[arg(value_name = "TIPS")]
    pub to: Tips,
    /// Only in this store
    #[arg(long = "store", id = "doc_store", value_name = "NAME")]
    pub doc_store: Option<String>,
}

/// `eid at`
#[derive(Debug, Clone, Args)]
pub struct At {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// The version
    #[arg(value_name = "TIPS")]
    pub tips: Tips,
    /// What to read of it
    #[command(subcommand)]
    pub what: AtWhat,
}

/// What `eid at` reads.
#[derive(Debug, Clone, Subcommand)]
pub enum AtWhat {
    /// Prints a value of a document
    #[command(after_help = "Example:\n  eid at notes bafyr4i... get profile.name")]
    Get {
        /// Where in the document: `a.b.c` or `/a/b/c`
        #[arg(value_parser = DocPath::from_str)]
        path: DocPath,
        /// The document store
        #[arg(long = "store", id = "doc_store", value_name = "NAME", default_value = eid::DEFAULT_DOC_STORE)]
        doc_store: String,
    },
    /// Prints one row of a table
    #[command(after_help = "Example:\n  eid at geo bafyr4i... row airports SEA")]
    Row {
        /// The table
        table: String,
        /// The row's key
        key: String,
    },
    /// Shows what the version holds
    #[command(after_help = "Example:\n  eid at notes bafyr4i... show")]
    Show,
}

/// `eid undo`
#[derive(Debug, Clone, Args)]
pub struct Undo {
    /// Name, id, or at least 8 characters of the id
    pub db: String,
    /// The entry that is taken back [default: the last one of this device]
    #[arg(long, short = 'e', value_name = "ID")]
    pub entry: Option<EntryId>,
}

/// `eid verify`
#[derive(Debug, Clone, Args)]
pub struct Verify {
    /// Name, id, or at least 8 characters of the id; the rest of the store is checked with it [default: all]
    pub db: Option<String>,
    /// Rebuilds what is derived where it is wrong, and leaves out what is damaged
    #[arg(long)]
    pub repair: bool,
}

/// `eid backup`
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// The file; an earlier backup there is replaced once this one is whole
    pub file: PathBuf,
}

/// `eid restore`
#[derive(Debug, Clone, Args)]
pub struct Restore {
    /// The file that `eid backup` wrote
    pub file: PathBuf,
    /// Goes on as the device that was backed up, which must not be used any more
    #[arg(long)]
    pub same_device: bool,
}

fn parse_backend(text: &str) -> Result<BackendUrl, String> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(BackendUrl::File(PathBuf::from(path))),
        Some(("memory", "")) => Ok(BackendUrl::Memory),
        _ => Err("a store is `file:DIR` or `memory:`".to_owned()),
    }
}

/// Moves `--store URL` to the front, wherever it stands.
///
/// `set`, `get` and `log` have a `--store NAME` of their own. The value tells the two apart: a backend begins with
/// its scheme, so global options may stand before or after the command all the same.
#[must_use]
pub fn backend_first(argv: Vec<OsString>) -> Vec<OsString> {
    let is_backend =
        |value: &str| ["file:", "memory:", "postgres:"].iter().any(|scheme| value.starts_with(scheme));
    let mut rest = argv.into_iter();
    let mut front: Vec<OsString> = rest.next().into_iter().collect();
    let mut back: Vec<OsString> = Vec::new();
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy().into_owned();
        if text == "--" {
            back.push(arg);
            break;
        }
        if text == "--store" {
            match rest.next() {
                Some(value) if is_backend(&value.to_string_lossy()) => front.extend([arg, value]),
                Some(value) => back.extend([arg, value]),
                None => back.push(arg),
            }
        } else if text.strip_prefix("--store=").is_some_and(is_backend) {
            front.push(arg);
        } else {
            back.push(arg);
        }
    }
    front.extend(back);
    front.extend(rest);
    front
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let argv = line.split(' ').map(OsString::from).collect();
        Cli::try_parse_from(backend_first(argv))
    }

    #[test]
    fn the_command_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[cfg(feature = "iroh")]
    #[test]
    fn iroh_takes_its_relay_from_a_word_or_a_url() {
        let serve = |line: &str| match parse(line).expect(line).command {
            Command::Serve(serve) => serve,
            other => panic!("{other:?}"),
        };
        let url: eid::RelayUrl = "https://relay.example/".parse().expect("a URL");
        for (line, socket, relay) in [
            ("eid serve --iroh", None, eid::Relay::Public),
            ("eid serve --iroh --relay default", None, eid::Relay::Public),
            ("eid serve --relay staging --iroh", None, eid::Relay::Staging),
            ("eid serve --iroh --relay disabled", None, eid::Relay::Off),
            ("eid serve --iroh --relay off", None, eid::Relay::Off),
            ("eid serve --iroh --relay https://relay.example/", None, eid::Relay::Custom(vec![url])),
            ("eid serve --iroh=127.0.0.1:7 --mdns", Some("127.0.0.1:7"), eid::Relay::Public),
        ] {
            let serve = serve(line);
            let socket = socket.map(|text| text.parse().expect("a socket"));
            assert_eq!((serve.iroh, &serve.relay), (Some(socket), &relay), "{line}");
            assert_eq!(serve.mdns, line.contains("--mdns"), "{line}");
        }
        assert_eq!(serve("eid serve --http 127.0.0.1:7").iroh, None);
        for line in ["eid serve --relay disabled", "eid serve --mdns", "eid serve --iroh --relay ftp://h/"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn no_command_takes_the_name_of_a_global_option() {
        fn check(command: &clap::Command, globals: &[String]) {
            for sub in command.get_subcommands() {
                for arg in sub.get_arguments() {
                    assert!(
                        !globals.contains(&arg.get_id().to_string()),
                        "{} {}",
                        sub.get_name(),
                        arg.get_id()
                    );
                }
                check(sub, globals);
            }
        }
        let globals: Vec<String> =
            Cli::command().get_arguments().map(|arg| arg.get_id().to_string()).collect();
        assert!(globals.iter().any(|id| id == "json"));
        check(&Cli::command(), &globals);
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in ["eid --json -d x --store memory: db list", "eid db list --store=memory: --json --data x"]
        {
            let cli = parse(line).unwrap();
            assert!(cli.global.json);
            assert_eq!(cli.global.data, Some(PathBuf::from("x")));
            assert_eq!(cli.global.store, Some(BackendUrl::Memory));
        }
    }

    #[test]
    fn store_names_a_backend_by_its_scheme_and_a_document_store_otherwise() {
        let cli = parse("eid set --store settings notes a 1 --store file:/tmp/x").unwrap();
        assert_eq!(cli.global.store, Some(BackendUrl::File("/tmp/x".into())));
        let Command::Set(set) = cli.command else { panic!("set") };
        assert_eq!(set.doc_store, "settings");
        assert!(parse("eid --store settings db list").is_err());
        let cli = parse("eid set notes a -- --store").unwrap();
        assert!(matches!(cli.command, Command::Set(set) if set.value == "--store"));
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example:"), "{path} shows no example");
                check(sub, &path);
            }
        }
        check(&Cli::command(), "eid");
    }
}
