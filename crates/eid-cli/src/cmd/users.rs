//! `eid user`, `eid track`, `eid untrack`.

use eid::{DatabasePreferences, SyncSettings};
use serde_json::{Value, json};

use crate::args::{Track, User};
use crate::cmd::Context;
use crate::failure::Failure;
use crate::output::printable;
use crate::value::Period;

/// Runs one of the sub-commands of `eid user`.
///
/// # Errors
/// Whatever the sub-command fails with.
pub async fn run(context: &Context, args: &User) -> Result<(), Failure> {
    match args {
        User::Create { name } => {
            let new = context.next_password();
            let user = context.node.create_user(name, new.as_password()).await?;
            let key = user.key()?.to_string();
            let has_password = new.as_password().is_some();
            let value = json!({"name": name, "key": key, "has_password": has_password});
            context.out.say(&value, || {
                let without = if has_password { "" } else { ", without a password" };
                format!("created {}{without}\nkey {key}", printable(name))
            })?;
            Ok(())
        }
        User::List => list(context),
        User::Password { name } => {
            let (old, new) = (context.next_password(), context.next_password());
            let user = context.node.login(name, old.as_password()).await?;
            let changed = user.change_password(old.as_password(), new.as_password()).await;
            user.logout();
            changed?;
            let has_password = new.as_password().is_some();
            context.out.say(&json!({"name": name, "has_password": has_password}), || {
                let what = if has_password { "has another password" } else { "needs no password" };
                format!("{} {what} from here on", printable(name))
            })?;
            Ok(())
        }
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for user in context.node.users()? {
        let key = user.key.to_string();
        if context.out.json() {
            context.out.value(&json!({
                "name": user.name, "key": key, "has_password": user.has_password, "device": user.is_device,
            }))?;
        } else {
            let password = if user.has_password { "yes" } else { "no" };
            let mark = if user.is_device { "this device" } else { "" };
            rows.push(vec![printable(&user.name), password.to_owned(), key, mark.to_owned()]);
        }
    }
    if !context.out.json() {
        context.out.text(context.out.columns(&["NAME", "PASSWORD", "KEY", ""], &rows))?;
    }
    Ok(())
}

/// Sets how a database is synchronised for the user.
///
/// # Errors
/// When there is no such database, or the interval is below a second.
pub async fn track(context: &Context, args: &Track) -> Result<(), Failure> {
    let db = context.database(&args.db)?;
    let user = context.acting();
    let held = user.preferences(&db.id())?.map(|held| held.sync.properties);
    let sync = SyncSettings {
        sync_enabled: !args.off,
        sync_on_commit: args.on_commit,
        interval_seconds: match args.every {
            Some(Period::Off) => None,
            Some(Period::Seconds(seconds)) => Some(seconds),
            None => SyncSettings::default().interval_seconds,
        },
        properties: held.unwrap_or_default(),
    };
    let preferences = DatabasePreferences { database: db.id(), sync };
    user.set_preferences(&preferences).await?;
    context.out.say(&as_json(&preferences), || {
        let (name, sync) = (db.name().unwrap_or_default(), &preferences.sync);
        let every = sync.interval_seconds.map(|seconds| format!("every {seconds} s"));
        let wanted = match (sync.sync_enabled, sync.sync_on_commit, every) {
            (false, ..) => "off".to_owned(),
            (true, true, Some(every)) => format!("on commit and {every}"),
            (true, true, None) => "on commit".to_owned(),
            (true, false, Some(every)) => every,
            (true, false, None) => "neither on commit nor by the clock".to_owned(),
        };
        format!("{} is tracked by {}: {wanted}", printable(&name), printable(user.name()))
    })?;
    Ok(())
}

fn as_json(preferences: &DatabasePreferences) -> Value {
    let sync = &preferences.sync;
    json!({
        "id": preferences.database.to_string(), "tracked": true, "sync_enabled": sync.sync_enabled,
        "sync_on_commit": sync.sync_on_commit, "interval_seconds": sync.interval_seconds,
        "properties": sync.properties,
    })
}

/// Ends tracking for the user.
///
/// # Errors
/// When there is no such database, or the user does not track it.
pub async fn untrack(context: &Context, named: &str) -> Result<(), Failure> {
    let db = context.database(named)?;
    let user = context.acting();
    if !user.untrack(&db.id()).await? {
        let (who, which) = (printable(user.name()), printable(named));
        return Err(Failure::not_found(format!("{who} does not track \"{which}\""))
            .hint("`eid track DB` begins to; what is here stays either way"));
    }
    let id = db.id().to_string();
    context.out.say(&json!({"id": id, "tracked": false}), || {
        format!("{} does not track {} any more; what is here stays", printable(user.name()), printable(named))
    })?;
    Ok(())
}
