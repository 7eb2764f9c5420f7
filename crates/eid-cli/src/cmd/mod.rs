//! The commands, one module per noun.

pub mod db;
pub mod demo;
pub mod doc;
pub mod graph;
pub mod history;
pub mod init;
pub mod join;
pub mod keys;
pub mod list;
pub mod log;
pub mod manual;
pub mod peers;
pub mod serve;
pub mod share;
pub mod status;
pub mod sync;
pub mod table;
pub mod text;
pub mod verify;

use std::path::{Path, PathBuf};

use eid::{Database, Instance};

use crate::args::Command;
use crate::failure::Failure;
use crate::output::{Out, printable};

/// What every command works with.
#[derive(Debug, Clone)]
pub struct Context {
    /// The instance that owns the data directory.
    pub node: Instance,
    /// Where relative paths begin: the directory of whoever typed the command.
    pub cwd: PathBuf,
    /// Where the output goes.
    pub out: Out,
}

impl Context {
    /// The database that a person means.
    ///
    /// # Errors
    /// When there is none, or more than one, of this name.
    pub fn database(&self, name: &str) -> Result<Database, Failure> {
        let found = self.node.database(name)?;
        found.ok_or_else(|| {
            Failure::not_found(format!("there is no database \"{}\"", printable(name)))
                .hint("`eid db list` shows the databases of this instance")
        })
    }

    /// A path that a person typed.
    #[must_use]
    pub fn path(&self, typed: &Path) -> PathBuf {
        self.cwd.join(typed)
    }
}

/// Runs any command that works with an instance which somebody else owns.
///
/// # Errors
/// Whatever the command fails with.
pub async fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Init(args) => init::run(context, args).await,
        Command::Db(args) => db::run(context, args).await,
        Command::Set(args) => doc::set(context, args).await,
        Command::Get(args) => doc::get(context, args),
        Command::Unset(args) => doc::unset(context, args).await,
        Command::Incr(args) => doc::incr(context, args).await,
        Command::List(args) => list::run(context, args).await,
        Command::Table(args) => table::run(context, args).await,
        Command::Text(args) => text::run(context, args).await,
        Command::Share(args) => share::run(context, args).await,
        Command::Join(args) => join::run(context, args).await,
        Command::Sync(args) | Command::Pull(args) | Command::Push(args) => sync::run(context, args).await,
        Command::Peers(args) => peers::run(context, args).await,
        Command::Keys(args) => keys::run(context, args).await,
        Command::Status(args) => status::run(context, args),
        Command::Log(args) => log::run(context, args),
        Command::Graph(args) => graph::run(context, args),
        Command::Diff(args) => history::diff(context, args),
        Command::Blame(args) => history::blame(context, args),
        Command::At(args) => history::at(context, args),
        Command::Undo(args) => history::undo(context, args).await,
        Command::Verify(args) => verify::run(context, args).await,
        Command::Demo(_) | Command::Serve(_) | Command::Completions(_) | Command::Man(_) => {
            Err(Failure::usage("this command does not run inside another node"))
        }
    }
}
