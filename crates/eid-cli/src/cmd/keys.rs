//! `eid keys`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use eid::{Database, EntryId, ErrorKind, KeyMode, Permission, SecretKey, Slot};
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::Keys;
use crate::cmd::Context;
use crate::cmd::log::{People, utc};
use crate::failure::{Exit, Failure, sentence};
use crate::limits::RECOVERY_FILE_BYTES_MAX;
use crate::output::{number_of, printable};

/// Runs one of its sub-commands.
///
/// # Errors
/// Whatever the sub-command fails with.
pub async fn run(context: &Context, args: &Keys) -> Result<(), Failure> {
    match args {
        Keys::List { db } => list(context, &context.database(db)?),
        Keys::Grant { db, key, permission, recovery_key } => {
            let recovery = recovery_key.as_ref().map(|file| read_recovery(context, file)).transpose()?;
            let database = context.database(db)?;
            let slot = slot(key)?;
            if let Slot::Invite(_) = slot {
                return Err(Failure::usage("an invite is not granted anything")
                    .hint("`eid share` opens one, `eid keys revoke` withdraws it"));
            }
            let permission = parse_permission(context, &database, &slot, permission)?;
            let before = database.void_count()?;
            let entry = match recovery {
                Some(recovery) => database.grant_with(recovery, slot, permission).await,
                None => database.grant(slot, permission).await,
            };
            let entry = entry.map_err(stronger)?;
            let void = database.void_count()?.saturating_sub(before);
            let value = json!({
                "key": key, "permission": permission.to_string(), "entry": entry.to_string(), "void": void,
            });
            context.out.say(&value, || format!("{key} has {permission} now"))?;
            tell_void(context, db, void)
        }
        Keys::Revoke { db, key, everywhere, leave, fence, own, recovery_key } => {
            let recovery = recovery_key.as_ref().map(|file| read_recovery(context, file)).transpose()?;
            let key =
                everywhere.as_ref().or(key.as_ref()).ok_or_else(|| Failure::usage("there is no key"))?;
            let database =
                db.as_ref().map(|name| Ok::<_, Failure>((name, context.database(name)?))).transpose()?;
            let slot = slot(key)?;
            if !own && recovery.is_none() && context.is_own(&slot)? {
                let whose = context.whose();
                return Err(Failure::usage(format!(
                    "this is {whose} own key: revoked, it can write no more"
                ))
                .hint("add --own if that is meant; another admin can grant it again"));
            }
            match database {
                Some((name, database)) => {
                    is_there(&database, (name, &slot))?;
                    revoke(context, (name, &database), (key, slot), mode(*leave, fence), recovery).await
                }
                None => revoke_everywhere(context, slot, recovery).await,
            }
        }
        Keys::Rotate { db, to } => {
            let database = context.database(db)?;
            let (entry, key) = match to {
                None => database.renew_key().await.map_err(stronger)?,
                Some(text) => {
                    let Slot::Key(to) = slot(text)? else {
                        return Err(Failure::usage(
                            "a key takes the place of a key, not everyone or an invite",
                        ));
                    };
                    if context.is_own(&Slot::Key(to))? && database.author_key()? == to {
                        return Err(Failure::usage("this is the key that signs here already"));
                    }
                    (database.rotate(to).await.map_err(stronger)?, to)
                }
            };
            let value = json!({"key": key.to_string(), "entry": entry.to_string()});
            context.out.say(&value, || format!("{key} takes the place of the key that signed here"))?;
            Ok(())
        }
    }
}

fn mode(leave: bool, fence: &[EntryId]) -> KeyMode {
    match (leave, fence) {
        (true, _) => KeyMode::Leave,
        (false, []) => KeyMode::Remove { fence: None },
        (false, ids) => KeyMode::Remove { fence: Some(ids.to_vec()) },
    }
}

async fn revoke(
    context: &Context,
    (name, db): (&str, &Database),
    (key, slot): (&str, Slot),
    mode: KeyMode,
    recovery: Option<SecretKey>,
) -> Result<(), Failure> {
    let before = db.void_count()?;
    let entry = match recovery {
        Some(recovery) => db.revoke_with(recovery, slot, mode).await,
        None => db.revoke(slot, mode).await,
    };
    let entry = entry.map_err(stronger)?;
    let void = db.void_count()?.saturating_sub(before);
    let value = json!({"key": key, "entry": entry.to_string(), "void": void});
    context.out.say(&value, || format!("{key} is revoked"))?;
    tell_void(context, name, void)
}

/// An invite that nobody ever opened is a slip: nothing is to be written of it.
fn is_there(db: &Database, (name, slot): (&str, &Slot)) -> Result<(), Failure> {
    let Slot::Invite(key) = slot else { return Ok(()) };
    if db.invites()?.iter().any(|invite| invite.key == *key) {
        return Ok(());
    }
    let name = printable(name);
    Err(Failure::not_found(format!("{name} has no such open invite")).hint(format!(
        "`eid keys list {name}` shows them; one with --uses ends when it is used up or expires"
    )))
}

/// Of a lost device: what can be done is done, and what could not is told.
async fn revoke_everywhere(
    context: &Context,
    slot: Slot,
    recovery: Option<SecretKey>,
) -> Result<(), Failure> {
    let Slot::Key(key) = slot else {
        return Err(Failure::usage("a key is revoked everywhere, not everyone or an invite"));
    };
    let (mut done, mut kept) = (0, 0);
    for revoked in context.acting().revoke_everywhere(key, recovery).await? {
        let (id, name) = (revoked.database.id().to_string(), revoked.database.name()?);
        let (status, entry, error) = match revoked.outcome {
            Ok(Some(entry)) => ("revoked", Some(entry.to_string()), None),
            Ok(None) => ("nothing", None, None),
            Err(error) => ("failed", None, Some(sentence(&error))),
        };
        done += u64::from(entry.is_some());
        kept += u64::from(error.is_some());
        let value = json!({"id": id, "name": name, "status": status, "entry": entry, "error": error});
        let text = match (&entry, &error) {
            (_, Some(error)) => format!("{}: not revoked: {}", printable(&name), printable(error)),
            (Some(_), None) => format!("{}: revoked", printable(&name)),
            (None, None) => format!("{}: it had no permission of its own", printable(&name)),
        };
        context.out.say(&value, || text)?;
    }
    if kept == 0 {
        return Ok(());
    }
    let databases = number_of(kept, "database", "databases");
    let message = format!("the key could not be revoked in {databases}, and was in {done}");
    Err(Failure::new(Exit::Refused, "not_everywhere", message).hint(
        "a stronger admin can do it, or the recovery key of the database: run it again with --recovery-key FILE",
    ))
}

/// Says how many entries count no more, and where they are told of.
fn tell_void(context: &Context, db: &str, void: u64) -> Result<(), Failure> {
    if void > 0 {
        let (entries, db) = (number_of(void, "entry", "entries"), printable(db));
        context.out.note(format!("{entries} became void: eid audit {db} --void"))?;
    }
    Ok(())
}

/// A refusal to change settings, with who could.
pub(super) fn stronger(error: eid::Error) -> Failure {
    let is_refused = error.kind() == ErrorKind::Forbidden;
    let failure = Failure::from(error);
    if !is_refused {
        return failure;
    }
    failure.hint(
        "`eid keys list DB` shows who may do what; a stronger admin can do it, or the recovery key: `eid keys grant` and \
         `revoke` take --recovery-key FILE",
    )
}

/// Reads a recovery key as `eid db create` gave it. It is wiped from memory when it was used.
fn read_recovery(context: &Context, typed: &Path) -> Result<SecretKey, Failure> {
    let path = context.path(typed);
    let unreadable = |cause| Failure::io(format!("cannot read {}", path.display()), &cause);
    let file = File::open(&path).map_err(unreadable)?;
    // Room from the start, so that nothing is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * RECOVERY_FILE_BYTES_MAX));
    file.take(RECOVERY_FILE_BYTES_MAX as u64).read_to_end(&mut text).map_err(unreadable)?;
    seed_of(text.trim_ascii()).map(|seed| SecretKey::from_seed(*seed)).ok_or_else(|| {
        Failure::input(format!("{} does not hold a recovery key", path.display()))
            .hint("it is the line `ed25519-secret:...` that `eid db create` showed or wrote")
    })
}

fn seed_of(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.strip_prefix(b"ed25519-secret:").filter(|digits| digits.len() == 64)?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(seed)
}

fn list(context: &Context, db: &Database) -> Result<(), Failure> {
    let people = People::of(context)?;
    let mut rows = Vec::new();
    for key in db.keys()? {
        let text = slot_text(&key.slot);
        let own = context.is_own(&key.slot)?;
        let permission = key.permission.map(|permission| permission.to_string());
        let status = if permission.is_some() { "active" } else { "revoked" };
        if context.out.json() {
            context.out.value(&json!({
                "key": text, "permission": permission, "level": key.permission.and_then(Permission::level),
                "status": status, "entry": key.entry.to_string(), "by": key.by.to_string(), "own": own,
            }))?;
        } else {
            let mark = match &context.user {
                _ if !own => String::new(),
                Some(user) => printable(user.name()),
                None => "this device".to_owned(),
            };
            let (by, entry) = (people.name(&key.by), key.entry.to_string());
            rows.push(vec![text, permission.unwrap_or_default(), status.to_owned(), by, entry, mark]);
        }
    }
    for invite in db.invites()? {
        let text = slot_text(&Slot::Invite(invite.key));
        let permission = invite.permission.map(|permission| permission.to_string());
        let status = if permission.is_some() { "active" } else { "revoked" };
        if context.out.json() {
            context.out.value(&json!({
                "key": text, "permission": permission, "level": null, "status": status,
                "entry": invite.entry.to_string(), "by": invite.by.to_string(), "own": false,
                "expires_ms": invite.expires_ms,
            }))?;
        } else {
            let until = invite.expires_ms.map(|ms| format!("until {}", utc(ms))).unwrap_or_default();
            let (by, entry) = (people.name(&invite.by), invite.entry.to_string());
            rows.push(vec![text, permission.unwrap_or_default(), status.to_owned(), by, entry, until]);
        }
    }
    if !context.out.json() {
        let headings = ["KEY", "PERMISSION", "STATUS", "SET BY", "IN ENTRY", ""];
        context.out.text(context.out.columns(&headings, &rows))?;
    }
    Ok(())
}

/// Stands before the key of an invite.
const INVITE: &str = "invite:";

/// How a slot is typed.
pub(super) fn slot_text(slot: &Slot) -> String {
    match slot {
        Slot::Key(key) => key.to_string(),
        Slot::Everyone => "*".to_owned(),
        Slot::Invite(key) => format!("{INVITE}{key}"),
    }
}

fn slot(text: &str) -> Result<Slot, Failure> {
    if text == "*" {
        return Ok(Slot::Everyone);
    }
    let parsed = match text.strip_prefix(INVITE) {
        Some(key) => key.parse().map(Slot::Invite),
        None => text.parse().map(Slot::Key),
    };
    parsed.map_err(|error| {
        Failure::usage(format!("\"{}\" is not a key: {error}", printable(text)))
            .hint("`eid init` prints a device's key; `*` means everyone, `invite:KEY` an open invite of `eid share`")
    })
}

/// `admin` alone is one level below that of whoever acts, and so never meant for an own key.
fn parse_permission(
    context: &Context,
    db: &Database,
    slot: &Slot,
    text: &str,
) -> Result<Permission, Failure> {
    if *slot == Slot::Everyone && (text == "admin" || text.starts_with("admin:")) {
        return Err(Failure::usage("everyone cannot be an admin")
            .hint("give `*` relay, read or write, and name the keys that are to be admins"));
    }
    if text == "admin" {
        if context.is_own(slot)? {
            let whose = context.whose();
            return Err(Failure::usage(format!(
                "this is {whose} own key, and `admin` without a level would weaken it"
            ))
            .hint("`eid keys list DB` shows its level; write `admin:LEVEL` if another one is meant"));
        }
        let own = db.permission(&[db.author_key()?])?.and_then(Permission::level);
        let below = own.map_or(Some(1), |level| level.checked_add(1));
        return below.map(Permission::Admin).ok_or_else(|| {
            Failure::usage("there is no admin below the one who acts here")
                .hint("write `admin:LEVEL` or `write`")
        });
    }
    text.parse().map_err(|error| Failure::usage(format!("\"{}\": {error}", printable(text))))
}
