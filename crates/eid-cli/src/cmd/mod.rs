//! The commands, one module per noun.

pub mod audit;
pub mod backup;
pub mod db;
pub mod demo;
pub mod discover;
pub mod doc;
pub mod flush;
pub mod graph;
pub mod history;
pub mod init;
pub mod join;
pub mod keys;
pub mod list;
pub mod log;
pub mod manual;
pub mod peers;
pub mod requests;
pub mod serve;
pub mod share;
pub mod status;
pub mod sync;
pub mod table;
pub mod text;
pub mod transfers;
pub mod users;
pub mod verify;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use eid::control::Secret;
use eid::{Database, Instance, Slot, User};

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
    /// Who is logged in for it; otherwise it acts for the device.
    pub user: Option<User>,
    /// Further passwords that it takes, in their order.
    pub passwords: Arc<Mutex<VecDeque<Secret>>>,
}

impl Context {
    /// The database that a person means.
    ///
    /// # Errors
    /// When there is none, or more than one, of this name.
    pub fn database(&self, name: &str) -> Result<Database, Failure> {
        let found = match &self.user {
            Some(user) => user.database(name)?,
            None => self.node.database(name)?,
        };
        found.ok_or_else(|| {
            Failure::not_found(format!("there is no database \"{}\"", printable(name)))
                .hint("`eid db list` shows the databases of this instance")
        })
    }

    /// For whom it acts.
    #[must_use]
    pub fn acting(&self) -> User {
        self.user.clone().unwrap_or_else(|| self.node.device_user())
    }

    /// Whether a slot is of a key of whoever acts.
    ///
    /// # Errors
    /// When the user was logged out.
    pub fn is_own(&self, slot: &Slot) -> Result<bool, Failure> {
        let own = self.acting().keys()?;
        Ok(own.iter().any(|key| *slot == Slot::Key(*key)))
    }

    /// Whose key such a key is, for a sentence.
    #[must_use]
    pub fn whose(&self) -> String {
        self.user
            .as_ref()
            .map_or_else(|| "this device's".to_owned(), |user| format!("{}'s", printable(user.name())))
    }

    /// The next password that was given with the command, perhaps none.
    #[must_use]
    pub fn next_password(&self) -> Secret {
        let mut passwords = self.passwords.lock().unwrap_or_else(PoisonError::into_inner);
        passwords.pop_front().unwrap_or_default()
    }

    /// A path that a person typed.
    #[must_use]
    pub fn path(&self, typed: &Path) -> PathBuf {
        self.cwd.join(typed)
    }
}

/// Where a command runs, and for whom.
#[derive(Debug)]
pub struct Ordered {
    /// Where relative paths begin.
    pub cwd: PathBuf,
    /// The name of the user for whom it acts.
    pub user: Option<String>,
    /// The passwords that it takes, that of the user first.
    pub passwords: Vec<Secret>,
}

/// Logs in, runs a command and logs out.
///
/// # Errors
/// Whatever the command fails with, or that the password is wrong.
pub async fn run_for(node: &Instance, out: &Out, ordered: Ordered, command: &Command) -> Result<(), Failure> {
    let passwords = Arc::new(Mutex::new(VecDeque::from(ordered.passwords)));
    let mut context =
        Context { node: node.clone(), cwd: ordered.cwd, out: out.clone(), user: None, passwords };
    if let Some(name) = &ordered.user {
        let password = context.next_password();
        context.user = Some(node.login(name, password.as_password()).await?);
    }
    let done = run(&context, command).await;
    if let Some(user) = context.user {
        user.logout();
    }
    done
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
        Command::Requests(args) => requests::run(context, args).await,
        Command::Sync(args) | Command::Pull(args) | Command::Push(args) => sync::run(context, args).await,
        Command::Flush(args) => flush::flush(context, args).await,
        Command::Why(args) => flush::why(context, args).await,
        Command::Discover(args) => discover::run(context, args).await,
        Command::Peers(args) => peers::run(context, args).await,
        Command::Keys(args) => keys::run(context, args).await,
        Command::Audit(args) => audit::audit(context, args),
        Command::Accept(args) => audit::accept(context, args).await,
        Command::User(args) => users::run(context, args).await,
        Command::Track(args) => users::track(context, args).await,
        Command::Untrack { db } => users::untrack(context, db).await,
        Command::Status(args) => status::run(context, args).await,
        Command::Log(args) => log::run(context, args),
        Command::Graph(args) => graph::run(context, args),
        Command::Diff(args) => history::diff(context, args),
        Command::Blame(args) => history::blame(context, args),
        Command::At(args) => history::at(context, args),
        Command::Undo(args) => history::undo(context, args).await,
        Command::Verify(args) => verify::run(context, args).await,
        Command::Backup(args) => backup::backup(context, args).await,
        Command::Demo(_)
        | Command::Serve(_)
        | Command::Restore(_)
        | Command::Completions(_)
        | Command::Man(_) => Err(Failure::usage("this command does not run inside another node")),
    }
}
