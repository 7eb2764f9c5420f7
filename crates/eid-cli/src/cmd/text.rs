//! `eid text`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command as Process;
use std::sync::{Arc, Mutex, PoisonError};

use eid::control::{Frame, Reader, Secret};
use eid::{Database, EntryId};
use serde_json::{Value, json};

use crate::args::{Cli, Command, Position, Text, TextPlace, Tips};
use crate::cmd::{self, Context, Ordered, doc};
use crate::failure::{Exit, Failure};
use crate::output::{Gone, Out, Sink, number_of, printable};
use crate::owner::{self, Place};
use crate::passwords;

/// Runs one of its sub-commands, except that which opens an editor.
///
/// # Errors
/// Whatever the sub-command fails with.
pub async fn run(context: &Context, args: &Text) -> Result<(), Failure> {
    match args {
        Text::Show { place, or_empty } => show(context, place, *or_empty),
        Text::Insert { place, at, text } => {
            let db = context.database(&place.db)?;
            let at = match at {
                Position::At(at) => *at,
                Position::End => db.text(&place.store).len()?,
            };
            let ((), entry) = db.commit(|tx| tx.text(&place.store).insert(at, text)).await?;
            let letters = text.chars().count() as u64;
            doc::written(context, entry, || {
                format!("inserted {} at {at}", number_of(letters, "character", "characters"))
            })
        }
        Text::Delete { place, at, len } => {
            let db = context.database(&place.db)?;
            exists(&db, place)?;
            let ((), entry) = db.commit(|tx| tx.text(&place.store).delete(*at, *len)).await?;
            doc::written(context, entry, || {
                format!("deleted {} at {at}", number_of(*len as u64, "character", "characters"))
            })
        }
        Text::Set { place, file, at } => {
            let text = read(&context.path(file))?;
            let db = context.database(&place.db)?;
            let change = |tx: &eid::Transaction<'_>| tx.text(&place.store).set(&text);
            let entry = match at {
                None | Some(Tips::Now) => db.commit(change).await?.1,
                Some(Tips::Entries(tips)) => db.commit_at(tips, change).await?.1,
            };
            let value = json!({"entry": entry.map(|entry| entry.to_string()), "changed": entry.is_some()});
            context.out.say(&value, || match entry {
                Some(_) => format!("stored what differs in {}", printable(&place.store)),
                None => "nothing differs".to_owned(),
            })?;
            Ok(())
        }
        Text::Edit { .. } => Err(Failure::usage("an editor opens only where the command was typed")),
    }
}

fn show(context: &Context, place: &TextPlace, or_empty: bool) -> Result<(), Failure> {
    let db = context.database(&place.db)?;
    if !or_empty {
        exists(&db, place)?;
    }
    // One version, so that the text and the entries that it is made of belong together.
    let version = db.at(&db.tips()?)?;
    let text = version.text(&place.store).read()?;
    if context.out.json() {
        let tips: Vec<String> = version.tips()?.iter().map(EntryId::to_string).collect();
        context.out.value(&json!({"text": text, "length": text.chars().count(), "tips": tips}))?;
    } else {
        context.out.data(text.strip_suffix('\n').unwrap_or(&text))?;
    }
    Ok(())
}

fn exists(db: &Database, place: &TextPlace) -> Result<(), Failure> {
    if db.kind_of(&place.store)?.is_some() {
        return Ok(());
    }
    let failure = Failure::not_found(format!("there is no text \"{}\"", printable(&place.store)));
    Err(failure.hint("`eid text insert` and `eid text edit` make one"))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|cause| Failure::io(format!("cannot read {}", path.display()), &cause))
}

/// Keeps what a command prints.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Sink for Kept {
    fn put(&self, frame: Frame) -> Result<(), Gone> {
        if let Frame::Out(line) = frame {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
        Ok(())
    }
}

/// Opens `$VISUAL` or `$EDITOR` on the text and stores the difference, made on the version that the editor showed: what
/// others wrote meanwhile is kept beside it.
///
/// # Errors
/// When the editor fails; nothing is stored then.
pub async fn edit(cli: &Cli, place: &TextPlace, at: &Place, cwd: &Path, out: &Out) -> Result<u8, Failure> {
    let shown = Command::Text(Text::Show { place: place.clone(), or_empty: true });
    let kept = Arc::new(Kept::default());
    let quiet = Out::new(Arc::clone(&kept) as Arc<dyn Sink>, Reader::default(), true);
    let argv = |words: &[&str], json: bool| -> Vec<OsString> {
        let json: &[&str] = if json { &["--json"] } else { &[] };
        let user = cli.global.user.iter().flat_map(|name| ["--user", name.as_str()]);
        let words = json.iter().copied().chain(user).chain(["text"]).chain(words.iter().copied());
        std::iter::once("eid").chain(words).map(OsString::from).collect()
    };
    let passwords = passwords::read(cli)?;
    let acting = (cli.global.user.as_deref(), passwords.as_slice());
    let words = argv(&["show", "--or-empty", "--", &place.db, &place.store], true);
    let code = elsewhere_or_here(words, &shown, at, acting, cwd, &quiet).await?;
    if code != 0 {
        return Ok(code);
    }
    let lines = std::mem::take(&mut *kept.0.lock().unwrap_or_else(PoisonError::into_inner));
    let shown: Value = lines.last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let before = shown["text"].as_str().unwrap_or_default();
    let tips: Vec<&str> = shown["tips"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();

    let file = tempfile::Builder::new().prefix("eid-").suffix(".txt").tempfile();
    let file = file.map_err(|cause| Failure::io("cannot make a file for the editor", &cause))?;
    let path = file.path().to_owned();
    let io = |cause| Failure::io(format!("cannot use {}", path.display()), &cause);
    std::fs::write(&path, before).map_err(io)?;
    let edited = path.clone();
    let opened = tokio::task::spawn_blocking(move || open_editor(&edited)).await;
    opened.map_err(|_| Failure::new(Exit::Failed, "failed", "the editor was cut off"))??;
    if read(&path)? == before {
        if out.json() {
            out.value(&json!({"entry": null, "changed": false}))?;
        } else {
            out.note("nothing was changed")?;
        }
        return Ok(0);
    }
    let (name, tips) = (path.to_string_lossy().into_owned(), tips.join(","));
    let words = argv(&["set", "--at", &tips, "--", &place.db, &place.store, &name], cli.global.json);
    let set = Text::Set {
        place: place.clone(),
        file: path.clone(),
        at: Some(tips.parse().map_err(Failure::usage)?),
    };
    let stored = elsewhere_or_here(words, &Command::Text(set), at, acting, cwd, out).await;
    if !matches!(stored, Ok(0)) {
        // What was typed is not thrown away with the failure.
        let (_, kept) = file.keep().map_err(|error| io(error.error))?;
        out.note(format!("what you wrote is in {}", kept.display()))?;
    }
    stored
}

/// Has the owner of the data directory run a command, or runs it and lets go of the directory again.
async fn elsewhere_or_here(
    argv: Vec<OsString>,
    command: &Command,
    at: &Place,
    acting: (Option<&str>, &[Secret]),
    cwd: &Path,
    out: &Out,
) -> Result<u8, Failure> {
    let (user, passwords) = acting;
    let request = owner::request(argv, cwd, passwords.to_vec(), out)?;
    match owner::take(at, &request, out).await? {
        owner::Taken::Ran(code) => Ok(code),
        owner::Taken::Ours(node) => {
            let user = user.map(str::to_owned);
            let ordered = Ordered { cwd: cwd.to_owned(), user, passwords: request.passwords };
            let result = Box::pin(cmd::run_for(&node, out, ordered, command)).await;
            let closed = node.close().await;
            result?;
            closed?;
            Ok(0)
        }
    }
}

fn open_editor(path: &Path) -> Result<(), Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".into());
    // As other programs do it: the variable may hold options too.
    let mut shell = Process::new("sh");
    shell.arg("-c").arg(format!("{} \"$1\"", editor.to_string_lossy())).arg("editor").arg(path);
    let status = shell.status().map_err(|cause| Failure::io("cannot start the editor", &cause))?;
    if status.success() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Failed, "failed", "the editor failed; nothing was stored");
    Err(failure.hint("set EDITOR to the editor that you want"))
}
