//! `eid requests`.

use eid::{BootstrapRequest, Permission, RequestId, RequestStatus};
use serde_json::{Value, json};

use crate::args::Requests;
use crate::cmd::Context;
use crate::cmd::keys::stronger;
use crate::cmd::log::utc;
use crate::failure::{Exit, Failure};
use crate::output::printable;

/// Runs one of its sub-commands.
///
/// # Errors
/// Whatever the sub-command fails with.
pub async fn run(context: &Context, args: &Requests) -> Result<(), Failure> {
    match args {
        Requests::List => list(context),
        Requests::Approve { id, permission } => {
            let id = named(context, id)?;
            let done = context.acting().approve_request(id, *permission).await.map_err(stronger)?;
            let who = who(&done);
            Ok(context.out.say(&object(&done), || match done.status {
                RequestStatus::Approved(granted) => format!("{who} has {granted} now"),
                RequestStatus::Pending | RequestStatus::Rejected => format!("{who} has nothing"),
            })?)
        }
        Requests::Reject { id } => {
            let id = named(context, id)?;
            let done = context.acting().reject_request(id).await.map_err(stronger)?;
            Ok(context.out.say(&object(&done), || format!("rejected what {} asks for", who(&done)))?)
        }
    }
}

/// The request that a person means by its id or the beginning of it.
fn named(context: &Context, wanted: &str) -> Result<RequestId, Failure> {
    let mut found = context.node.requests()?;
    found.retain(|request| !wanted.is_empty() && request.id.to_string().starts_with(wanted));
    match found.as_slice() {
        [] => Err(Failure::not_found(format!("there is no request \"{}\"", printable(wanted)))
            .hint("`eid requests list` shows the requests")),
        [one] => Ok(one.id),
        several => {
            let ids: Vec<String> = several.iter().map(|request| request.id.to_string()).collect();
            let message =
                format!("{} requests begin with \"{}\": {}", ids.len(), printable(wanted), ids.join(", "));
            Err(Failure::new(Exit::Usage, "ambiguous", message).hint("write more of the id"))
        }
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let requests = context.node.requests()?;
    if context.out.json() {
        for request in &requests {
            context.out.value(&object(request))?;
        }
        return Ok(());
    }
    if requests.is_empty() {
        context.out.note("nobody has asked for access; `eid share DB --ask` makes a ticket to ask with")?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = requests.iter().map(|request| cells(context, request)).collect();
    let headings = ["ID", "DATABASE", "WHO", "WANTS", "STATUS", "ASKED", ""];
    Ok(context.out.text(context.out.columns(&headings, &rows))?)
}

fn cells(context: &Context, request: &BootstrapRequest) -> Vec<String> {
    let tree = request.tree.to_string();
    let database = context.node.database(&tree).ok().flatten().and_then(|db| db.name().ok());
    let said: Vec<String> = request
        .metadata
        .iter()
        .map(|(name, text)| format!("{}: {}", printable(name), printable(text)))
        .collect();
    vec![
        request.id.to_string()[..8].to_owned(),
        database.map_or_else(|| request.tree.short(), |name| printable(&name)),
        who(request),
        wants(request.permission),
        status(request),
        utc(request.time_ms),
        said.join(", "),
    ]
}

/// Who asks, for a sentence.
fn who(request: &BootstrapRequest) -> String {
    let key = request.key.short();
    if request.name.is_empty() { key } else { format!("{} ({key})", printable(&request.name)) }
}

/// What somebody wants, in one word.
pub(super) fn wants(permission: Permission) -> String {
    if permission == eid::ANY_LEVEL { "admin".to_owned() } else { permission.to_string() }
}

fn status(request: &BootstrapRequest) -> String {
    match request.status {
        RequestStatus::Pending => "pending".to_owned(),
        RequestStatus::Approved(granted) if granted == request.permission => "approved".to_owned(),
        RequestStatus::Approved(granted) => format!("approved as {granted}"),
        RequestStatus::Rejected => "rejected".to_owned(),
    }
}

/// A request as `--json` shows it.
fn object(request: &BootstrapRequest) -> Value {
    let (status, granted) = match request.status {
        RequestStatus::Pending => ("pending", None),
        RequestStatus::Approved(granted) => ("approved", Some(granted.to_string())),
        RequestStatus::Rejected => ("rejected", None),
    };
    json!({
        "id": request.id.to_string(), "db": request.tree.to_string(), "key": request.key.to_string(),
        "name": request.name, "permission": wants(request.permission), "time": request.time_ms, "status": status,
        "granted": granted, "metadata": request.metadata,
    })
}
