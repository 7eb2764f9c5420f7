//! Honest instances, and a rogue: a store that takes whatever is signed, and an engine that sends all of it.

use std::sync::Arc;

use eid_core::cbor::Writer;
use eid_core::dag::{Replica as _, Seq};
use eid_core::{
    Draft, Entry, EntryId, Height, History, Judge, Nonce, Payload, Permission, PublicKey, Question,
    ReadError, Refusal, SecretKey, SectionDraft, SettingsOp, StoreName, Time, TreeId,
};
use eid_store::{Applied, Apply, Change, EntryStore, Memory, Offer, Verdict, ViewRows, Wanted};
use eid_sync::{
    Access, EngineConfig, RefusalCode, SessionReport, SyncEngine, SyncError, TokioRuntime, TreeSummary,
};
use eid_transport::memory::{MemoryNet, MemoryTransport};
use eid_transport::{Address, Transport};

use crate::Instance;

/// An instance that others reach in memory.
pub(super) struct Honest {
    pub(super) node: Instance,
    transport: Arc<MemoryTransport>,
}

impl Honest {
    pub(super) async fn new(net: &MemoryNet, name: &str) -> Self {
        let node = Instance::builder().memory().open().await.expect("an instance can be opened");
        let transport = net.endpoint(name);
        node.sync().add_transport(Arc::<MemoryTransport>::clone(&transport));
        node.sync().accept_connections().await.expect("it can be reached");
        Self { node, transport }
    }

    pub(super) fn address(&self) -> Address {
        self.transport.addresses().remove(0)
    }

    pub(super) fn track(&self, tree: TreeId) {
        self.node.db().track(tree, "shared").expect("there is no other of that name");
    }

    pub(super) fn db(&self, tree: TreeId) -> eid_db::Database {
        self.node.db().database_by_id(tree)
    }

    /// A session on a database with whoever is reached there.
    pub(super) async fn meet(&self, address: &Address, tree: TreeId) -> SessionReport {
        let reports = self.node.sync().sync_with_peer(address, Some(tree)).await;
        reports.expect("a session comes to its end").remove(0)
    }

    pub(super) fn holds(&self, tree: TreeId, id: &EntryId) -> bool {
        let snapshot = self.node.db().store().tree(&tree).expect("memory can be read");
        snapshot.is_some_and(|held| held.find(&[*id]).expect("memory can be read") != [None])
    }
}

/// Lets everybody do everything, and shows nothing.
#[derive(Debug)]
struct Anything(TreeId);

impl Judge for Anything {
    fn knows(&self, _: &TreeId, _: &PublicKey) -> bool {
        true
    }

    fn judge(&self, _: Question<'_>, _: &dyn History) -> Result<Result<(), Refusal>, ReadError> {
        Ok(Ok(()))
    }
}

impl Apply for Anything {
    fn reads(&self, _: &Change<'_>, _: &mut Wanted) {}

    fn apply(&self, _: &Change<'_>, _: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        Ok(Applied::default())
    }
}

impl Access for Anything {
    fn permission(&self, _: &TreeId, _: &[PublicKey]) -> Option<Permission> {
        Some(Permission::Write)
    }

    fn trees(&self) -> Vec<TreeId> {
        vec![self.0]
    }

    fn describe(&self, tree: &TreeId) -> TreeSummary {
        TreeSummary { tree: *tree, title: String::new(), entries: 0, changed_ms: 0 }
    }

    fn redeem(&self, _: &TreeId, _: &[PublicKey], _: &PublicKey, _: &str) -> Result<Permission, RefusalCode> {
        Err(RefusalCode::Unavailable)
    }
}

pub(super) struct Rogue {
    tree: TreeId,
    store: Arc<EntryStore>,
    engine: SyncEngine,
    transport: Arc<MemoryTransport>,
}

impl Rogue {
    /// Somebody who knows of a database and proves this key.
    pub(super) async fn new(net: &MemoryNet, tree: TreeId, key: Arc<SecretKey>) -> Self {
        let anything = Arc::new(Anything(tree));
        let (judge, apply) = (Arc::clone(&anything), Arc::clone(&anything));
        let store = EntryStore::open(Arc::new(Memory::new()), judge, apply, [9; 32]).expect("memory opens");
        let runtime = Arc::new(TokioRuntime::current());
        let engine = SyncEngine::new(Arc::clone(&store), key, anything, runtime, EngineConfig::default());
        let transport = net.endpoint("rogue");
        engine.add_transport(Arc::<MemoryTransport>::clone(&transport));
        engine.accept_connections().await.expect("it can be reached");
        Self { tree, store, engine, transport }
    }

    pub(super) fn address(&self) -> Address {
        self.transport.addresses().remove(0)
    }

    pub(super) async fn meet(&self, address: &Address) -> Result<Vec<SessionReport>, SyncError> {
        self.engine.sync_with_peer(address, Some(self.tree)).await
    }

    /// Keeps entries, to send them.
    pub(super) fn keep(&self, entries: &[Entry]) {
        let offer =
            |entry: &Entry| Offer { block: entry.block().clone(), payloads: entry.payloads().to_vec() };
        let prepared = self.store.prepare(self.tree, entries.iter().map(offer).collect());
        let admission =
            prepared.and_then(|prepared| self.store.admit(prepared)).expect("memory can be written");
        let admitted = |verdict: &Verdict| matches!(verdict, Verdict::Admitted(Seq(_)));
        assert!(admission.verdicts.iter().all(admitted), "{:?}", admission.verdicts);
    }
}

/// A root that these operations begin.
pub(super) fn root(author: &SecretKey, ops: &[SettingsOp]) -> Entry {
    let mut all = vec![SettingsOp::Rules(1)];
    all.extend_from_slice(ops);
    Draft::root(Nonce([3; 16]), Time::from_ms(1_000), &all).seal(author).expect("it is sound")
}

/// The section that sets a key of a document, or the one that changes settings.
pub(super) fn section(ops: Option<&[SettingsOp]>, name: &str) -> SectionDraft {
    if let Some(ops) = ops {
        return SectionDraft::settings(ops, name.as_bytes());
    }
    let mut op = Writer::new();
    op.array(3).uint(0).array(1).text(name).uint(1);
    let payload = Payload::encode("doc", name.as_bytes(), &[&op.into_bytes()]);
    SectionDraft { store: StoreName::new("d").expect("it is a name"), enc: None, payload }
}

/// An entry behind these, at whatever time its author says, as long as a parent is not later.
pub(super) fn sign(
    author: &SecretKey,
    parents: &[&Entry],
    time: Time,
    section: SectionDraft,
) -> Result<Entry, Refusal> {
    let height = parents.iter().map(|parent| parent.header().height.0 + 1).max().unwrap_or(0);
    let earliest = parents.iter().map(|parent| parent.header().time).max().unwrap_or_default();
    let draft = Draft {
        tree: parents.first().map(|parent| parent.tree()),
        parents: parents.iter().map(|parent| parent.id()).collect(),
        height: Height(height),
        time: time.max(earliest),
        sections: vec![section],
        nonce: None,
    };
    draft.seal(author)
}
