//! The control link: the handshake, and then requests, one per turn of the dialling side.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::dag::{Replica, tips_hash};
use eid_core::{EntryId, Permission, PublicKey, TreeId};
use eid_proto::limits::STATES_MAX;
use eid_proto::message::{Request, Response, TreeInfo};
use eid_proto::{Established, Handshake, HandshakeOutput, List, RefusalCode, Text, bits, state_of};
use eid_store::StoreError;
use eid_transport::{BoxFuture, Link, LinkError, Received};

use crate::bucket::Bucket;
use crate::drive::Context;
use crate::error::SyncError;
use crate::events::SyncEvent;
use crate::limits::{
    CONTROL_IDLE_MS, FRAME_MS, HANDSHAKE_MS, IDLE_MS, RACE_DOOR_MS, REQUESTS_MAX, REQUESTS_PER_SECOND,
    STATES_LOOKED_AT,
};
use crate::race::Door;
use crate::request::{Ask, answer_ask};
use crate::runtime::{Runtime, blocking, within};

/// The states of the databases that some keys may read: what a server tells whom it lets in.
pub(crate) type States<'a> = dyn Fn(Vec<PublicKey>) -> BoxFuture<'static, Vec<[u8; 8]>> + Send + Sync + 'a;

/// The states of the first databases that a peer may read.
pub(crate) fn states_for(context: &Context) -> Result<Vec<[u8; 8]>, StoreError> {
    let trees = context.access.trees();
    let readable = trees.iter().take(STATES_LOOKED_AT).filter(|tree| context.rights_in(tree).read);
    let mut states = Vec::new();
    for tree in readable.take(STATES_MAX) {
        if let Some(snapshot) = context.store.tree(tree)? {
            let tips = snapshot.tips().map_err(StoreError::from)?;
            states.push(state_of(tree, &tips_hash(tips.iter().map(|(id, _)| id))));
        }
    }
    Ok(states)
}

/// Drives a handshake over the first link of a connection. Whoever comes to a door waits before it says who it is, until
/// whoever has passed it before is in, or not.
pub(crate) async fn greet(
    handshake: Handshake,
    link: &mut dyn Link,
    runtime: &dyn Runtime,
    states: &States<'_>,
    door: Option<&Door>,
) -> Result<Established, SyncError> {
    within(runtime, HANDSHAKE_MS, exchange(handshake, link, runtime, states, door))
        .await
        .ok_or(SyncError::TimedOut { what: "the handshake", ms: HANDSHAKE_MS })?
}

async fn exchange(
    mut handshake: Handshake,
    link: &mut dyn Link,
    runtime: &dyn Runtime,
    states: &States<'_>,
    mut door: Option<&Door>,
) -> Result<Established, SyncError> {
    let (mut failure, mut _passing) = (None, None);
    loop {
        match handshake.poll() {
            HandshakeOutput::Send(frame) => link.send(frame).await?,
            HandshakeOutput::EndTurn => link.end_turn().await?,
            HandshakeOutput::NeedFrame => {
                let frame = turn_of_one(link).await?;
                // Whatever is wrong, the other side may be owed a refusal.
                failure = handshake.handle_frame(&frame).err();
                if let Some(door) = door.take().filter(|_| failure.is_none()) {
                    _passing = within(runtime, RACE_DOOR_MS, door.lock()).await;
                }
            }
            HandshakeOutput::Tell(keys) => handshake.tell(states(keys).await),
            HandshakeOutput::Established(established) => return Ok(established),
            HandshakeOutput::Failed => {
                return Err(failure.map_or(SyncError::Misplaced, SyncError::from));
            }
        }
    }
}

/// Receives a turn that consists of one frame.
async fn turn_of_one(link: &mut dyn Link) -> Result<Bytes, SyncError> {
    let frame = match link.recv().await? {
        Received::Frame(frame) => frame,
        Received::EndOfTurn | Received::Aside(_) => return Err(SyncError::Misplaced),
        Received::Closed => return Err(LinkError::Closed.into()),
    };
    match link.recv().await? {
        Received::EndOfTurn => Ok(frame),
        Received::Frame(_) | Received::Aside(_) => Err(SyncError::Misplaced),
        Received::Closed => Err(LinkError::Closed.into()),
    }
}

/// The dialling end of a control link after the handshake.
#[derive(Debug)]
pub(crate) struct Control {
    link: Box<dyn Link>,
    /// A request was given up half-way: the link cannot be used again.
    broken: bool,
}

impl Control {
    pub(crate) fn new(link: Box<dyn Link>) -> Self {
        Self { link, broken: false }
    }

    /// Asks, and waits for the answer. Gives the bytes of both as well: sent, received.
    pub(crate) async fn request(
        &mut self,
        request: &Request,
        runtime: &dyn Runtime,
    ) -> Result<(Response, u64, u64), SyncError> {
        if self.broken {
            return Err(LinkError::Closed.into());
        }
        self.broken = true;
        let before = self.link.bytes();
        let link = &mut *self.link;
        let frame = request.encode();
        let asking = async move {
            link.send(frame).await?;
            link.end_turn().await?;
            turn_of_one(link).await
        };
        let frame = within(runtime, IDLE_MS, asking)
            .await
            .ok_or(SyncError::TimedOut { what: "an answer", ms: IDLE_MS })??;
        let response = Response::decode(&frame)?;
        self.broken = false;
        if let Response::Refused(code) = response {
            return Err(SyncError::Refused(code));
        }
        let after = self.link.bytes();
        Ok((response, after.sent - before.sent, after.received - before.received))
    }
}

/// What a peer has shown of itself to the answering side.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) device: PublicKey,
    /// Further keys: of databases and invites.
    pub(crate) further: Arc<[PublicKey]>,
}

/// Answers requests until the peer goes away, or is silent while `busy` says that nothing else goes on. Tells
/// what others may want to know: who redeemed an invite, and who asks for access.
pub(crate) async fn answer_requests(
    link: &mut dyn Link,
    context: &Context,
    caller: &Caller,
    tell: &(dyn Fn(SyncEvent) + Send + Sync),
    busy: &(dyn Fn() -> bool + Send + Sync),
) -> Result<(), SyncError> {
    let runtime = &*context.runtime;
    let mut bucket = Bucket::new(REQUESTS_MAX, REQUESTS_PER_SECOND, runtime.now_ms());
    loop {
        while let Err(wait_ms) = bucket.take(1, runtime.now_ms()) {
            runtime.sleep(wait_ms).await;
        }
        let Some(received) = within(runtime, CONTROL_IDLE_MS, link.recv()).await else {
            if busy() {
                continue;
            }
            return Err(SyncError::TimedOut { what: "a request", ms: CONTROL_IDLE_MS });
        };
        let frame = match received? {
            Received::Frame(frame) => frame,
            Received::EndOfTurn | Received::Aside(_) => return Err(SyncError::Misplaced),
            Received::Closed => return Ok(()),
        };
        match within(runtime, FRAME_MS, link.recv()).await {
            Some(Ok(Received::EndOfTurn)) => {}
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(Received::Closed)) => return Err(LinkError::Closed.into()),
            Some(Ok(Received::Frame(_) | Received::Aside(_))) => return Err(SyncError::Misplaced),
            None => return Err(SyncError::TimedOut { what: "the end of a request", ms: FRAME_MS }),
        }
        let request = Request::decode(&frame)?;
        let (asked, caller) = (context.clone(), caller.clone());
        let response =
            blocking(runtime, move || answer(request, &asked, &caller)).await.ok_or(SyncError::Stopped)?;
        let (response, event) = response.unwrap_or_else(|error| {
            tracing::warn!(%error, "a request could not be answered");
            (Response::Refused(RefusalCode::Failed), None)
        });
        if let Some(event) = event {
            tell(event);
        }
        let answering = async {
            link.send(response.encode()).await?;
            link.end_turn().await
        };
        within(runtime, FRAME_MS, answering)
            .await
            .ok_or(SyncError::TimedOut { what: "sending an answer", ms: FRAME_MS })??;
    }
}

/// Answers one request, by the rights of this moment, and says what is to be told of it here.
fn answer(
    request: Request,
    context: &Context,
    caller: &Caller,
) -> Result<(Response, Option<SyncEvent>), StoreError> {
    match request {
        Request::OpenMany(asked) => Ok((open_many(&asked, context)?, None)),
        Request::Discover => {
            let offered = |tree: TreeId| {
                let right = context.permission(&tree).filter(|right| *right >= Permission::Read)?;
                let summary = context.access.describe(&tree);
                Some(TreeInfo {
                    tree: tree.0,
                    title: Text::new(&summary.title),
                    entries: summary.entries,
                    changed_ms: summary.changed_ms,
                    right: right.into(),
                })
            };
            let readable = context.access.trees().into_iter().filter_map(offered);
            Ok((Response::Discover(List::new(readable.collect())), None))
        }
        Request::Redeem { tree, name } => {
            let tree = TreeId(tree);
            let response = redeem(&tree, &name.into_string(), context, caller);
            let is_granted = matches!(response, Response::Granted(_));
            let event = is_granted.then_some(SyncEvent::Redeemed { tree, joiner: caller.device });
            Ok((response, event))
        }
        Request::Ask { tree, wanted, name, metadata } => {
            let ask = Ask {
                tree: TreeId(tree),
                key: caller.device,
                permission: wanted.into(),
                name: name.into_string(),
                metadata: metadata.into_map(),
            };
            Ok(answer_ask(ask, context, caller))
        }
    }
}

fn open_many(asked: &[([u8; 32], [u8; 32])], context: &Context) -> Result<Response, StoreError> {
    // Listed once: a stranger may ask about a thousand databases in one request.
    let served: BTreeSet<TreeId> = context.access.trees().into_iter().collect();
    let (mut differs, mut unavailable) = (Vec::new(), Vec::new());
    for (tree, theirs) in asked {
        let tree = TreeId(*tree);
        let rights = context.rights_if(served.contains(&tree), &tree, served.first());
        let snapshot = if rights.any() { context.store.tree(&tree)? } else { None };
        let mine = match &snapshot {
            Some(snapshot) => {
                Some(tips_hash(snapshot.tips().map_err(StoreError::from)?.iter().map(|(id, _)| id)))
            }
            None => None,
        };
        unavailable.push(mine.is_none());
        // What is lacking here is asked for in a session, which only the dialler begins.
        let lacks = rights.read && snapshot.as_ref().is_some_and(|snapshot| snapshot.missing() > 0);
        differs.push(lacks || mine.is_some_and(|mine| mine != *theirs));
    }
    Ok(Response::OpenMany { differs: bits::pack(differs), unavailable: bits::pack(unavailable) })
}

fn redeem(tree: &TreeId, name: &str, context: &Context, caller: &Caller) -> Response {
    let takes_part = context.access.trees().contains(tree);
    if caller.further.is_empty() {
        return Response::Refused(RefusalCode::Unavailable);
    }
    if !takes_part {
        // As much is looked up as for one that does: of a database that nobody has, no invite was made.
        let nobodys = TreeId(tips_hash([&EntryId(tree.0)]));
        return match context.access.redeem(&nobodys, &caller.further, &caller.device, name) {
            Ok(_) | Err(_) => Response::Refused(RefusalCode::Unavailable),
        };
    }
    match context.access.redeem(tree, &caller.further, &caller.device, name) {
        Ok(permission) => {
            // The right is granted, whether or not it is remembered to whom.
            let joined = context.peers.joined(caller.device, name, context.runtime.now_ms());
            if let Err(error) = joined {
                tracing::warn!(%tree, %error, "who joined could not be remembered");
            }
            Response::Granted(permission.into())
        }
        // Somebody who joined before, and did not hear the answer, may ask again.
        Err(RefusalCode::InviteUsed | RefusalCode::InviteExpired) if context.rights(tree).read => {
            match context.access.permission(tree, &[caller.device]) {
                Some(permission) => Response::Granted(permission.into()),
                None => Response::Refused(RefusalCode::Unavailable),
            }
        }
        Err(code) => Response::Refused(code),
    }
}
