//! `eid backup` and `eid restore`.

use std::path::Path;

use eid::{ErrorKind, Identity, Instance, PublicKey};
use serde_json::json;

use crate::args::{BackendUrl, Backup, Restore};
use crate::cmd::Context;
use crate::failure::Failure;
use crate::limits::BACKUP_TOLD_BYTES;
use crate::output::{Out, count, printable};
use crate::owner::Place;

/// Tells a person how far it is, but not with every piece.
fn teller(out: &Out, label: &'static str) -> impl FnMut(u64, u64) + Send + 'static + use<> {
    let (out, mut told) = (out.clone(), 0);
    move |done, total| {
        if done - told >= BACKUP_TOLD_BYTES || (done == total && told > 0) {
            told = done;
            if out.progress(label, done, total).is_err() {
                tracing::debug!("nobody watches the progress");
            }
        }
    }
}

/// Writes everything into a file.
///
/// # Errors
/// When the file cannot be written, or is there and is no backup.
pub async fn backup(context: &Context, args: &Backup) -> Result<(), Failure> {
    let file = context.path(&args.file);
    let mut tell = teller(&context.out, "copying bytes");
    let done = context.node.backup(&file, move |done| tell(done, 0)).await;
    let done = done.map_err(Failure::beyond_repair)?;
    let path = file.display().to_string();
    let value = json!({"file": path, "rows": done.rows, "bytes": done.bytes});
    context.out.say(&value, || {
        format!("{} rows, {} bytes: {}", count(done.rows), count(done.bytes), printable(&path))
    })?;
    context.out.note("it holds the keys of this device: keep it where only you can read it")?;
    Ok(())
}

/// Makes the data directory of a backup, and says what to do next.
///
/// # Errors
/// Corrupt when the file is not a whole backup; when the directory holds something.
pub async fn restore(args: &Restore, place: &Place, cwd: &Path, out: &Out) -> Result<(), Failure> {
    let directory = match &place.backend {
        None => place.data.clone(),
        Some(BackendUrl::File(dir)) => cwd.join(dir),
        Some(BackendUrl::Memory) => {
            return Err(Failure::usage("what is restored into memory is gone at once"));
        }
    };
    let identity = if args.same_device { Identity::Same } else { Identity::New };
    let restored = eid::restore(cwd.join(&args.file), &directory, identity, teller(out, "restoring bytes"));
    let restored = restored.await.map_err(|error| {
        let kind = error.kind();
        let failure = Failure::from(error);
        match kind {
            ErrorKind::Corrupt => failure.hint("nothing was made of it; take another backup"),
            ErrorKind::NotEmpty => {
                failure.hint("name a directory that is not there with --data DIR; nothing was changed")
            }
            _ => failure,
        }
    })?;
    let node = place.open().await?;
    let told = tell(&node, restored.device, args.same_device, out);
    node.close().await?;
    told
}

fn tell(node: &Instance, before: Option<PublicKey>, is_same: bool, out: &Out) -> Result<(), Failure> {
    let device = node.device().to_string();
    let mut databases = Vec::new();
    for database in node.databases()? {
        let id = database.id().to_string();
        let grant = (!is_same).then(|| format!("eid keys grant {id} {device} write"));
        databases.push(json!({"id": id, "name": database.name()?, "grant": grant}));
    }
    let before = before.map(|before| before.to_string());
    let value = json!({"device": device, "before": before, "same_device": is_same, "databases": databases});
    out.say(&value, || {
        if is_same {
            return format!(
                "{} databases are here again, and this is the device {device}.\n\
                 Whatever else has its key, such as the directory that was backed up, must not be used any more.",
                databases.len()
            );
        }
        let mut text = format!(
            "{} databases are here again, and can be read. This copy is another device: {device}\n",
            databases.len()
        );
        if !databases.is_empty() {
            text.push_str(
                "To write, its key needs a right. On a device that may give it, or here with `--recovery-key FILE` \
                 added:\n",
            );
        }
        for database in &databases {
            let (grant, name) = (&database["grant"], &database["name"]);
            let text_of = |value: &serde_json::Value| printable(value.as_str().unwrap_or_default());
            text.push_str(&format!("  {}    # {}\n", text_of(grant), text_of(name)));
        }
        if let Some(before) = &before {
            text.push_str(&format!(
                "If the device that was backed up is lost, take its rights away too:\n  \
                 eid keys revoke --everywhere {before}\n"
            ));
        }
        text.trim_end().to_owned()
    })?;
    Ok(())
}
