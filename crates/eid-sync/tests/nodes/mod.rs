//! Engines over stores in memory, connected by links in memory.
#![expect(unreachable_pub, reason = "a harness of one test file")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eid_core::dag::{Replica, Seq, tips_hash};
use eid_core::{
    Draft, Entry, History, Judge, Nonce, Payload, Permission, PublicKey, Question, ReadError, Refusal,
    SecretKey, SectionDraft, SettingsOp, Slot, StoreName, TreeId,
};
use eid_store::{
    Applied, Apply, Backend, Change, Durability, EntryStore, LocalCommit, Memory, Parents, ViewRows, Wanted,
};
use eid_sync::{
    Access, Answer, Ask, EngineConfig, Noted, RefusalCode, RequestId, Runtime, SyncEngine, TokioRuntime,
    TreeSummary,
};
use eid_transport::memory::{MemoryNet, MemoryTransport};
use eid_transport::{Address, BoxFuture, Transport};

/// Lets everybody write: rights of authors are tested elsewhere.
#[derive(Debug)]
struct Anybody;

impl Judge for Anybody {
    fn knows(&self, _: &TreeId, _: &PublicKey) -> bool {
        true
    }

    fn judge(&self, _: Question<'_>, _: &dyn History) -> Result<Result<(), Refusal>, ReadError> {
        Ok(Ok(()))
    }
}

#[derive(Debug)]
struct NoView;

impl Apply for NoView {
    fn reads(&self, _: &Change<'_>, _: &mut Wanted) {}

    fn apply(&self, _: &Change<'_>, _: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        Ok(Applied::default())
    }
}

/// What everybody may do, as if all settings had been read by all.
#[derive(Debug, Default)]
pub struct World {
    pub rights: BTreeMap<(TreeId, PublicKey), Permission>,
    /// Invites: what they promise, and how often.
    pub invites: BTreeMap<PublicKey, (Permission, u32)>,
    pub expired: BTreeSet<PublicKey>,
    /// What was asked for in databases that take part.
    pub asks: Vec<Ask>,
    /// What an admin has decided.
    pub decided: BTreeMap<(TreeId, PublicKey), Option<Permission>>,
}

#[derive(Debug)]
pub struct Rights {
    pub world: Arc<Mutex<World>>,
    pub trees: Mutex<BTreeSet<TreeId>>,
    /// How often they were listed.
    pub listed: AtomicUsize,
    /// How often a right was looked up.
    pub asked: AtomicUsize,
    /// Rights end when they were looked up so often.
    pub asked_max: AtomicUsize,
    /// How often an invite was looked up.
    pub redeemed: AtomicUsize,
    /// Whether it is said that rights change by entries alone.
    pub by_entries: AtomicBool,
    /// How often something was asked for.
    pub noted: AtomicUsize,
    /// Keys of users who are logged in.
    pub users: Mutex<Vec<Arc<SecretKey>>>,
}

impl Access for Rights {
    fn permission(&self, tree: &TreeId, keys: &[PublicKey]) -> Option<Permission> {
        if self.asked.fetch_add(1, Ordering::SeqCst) >= self.asked_max.load(Ordering::SeqCst) {
            return None;
        }
        let world = self.world.lock().unwrap();
        keys.iter().filter_map(|key| world.rights.get(&(*tree, *key)).copied()).max()
    }

    fn changes_by_entries_alone(&self) -> bool {
        self.by_entries.load(Ordering::SeqCst)
    }

    fn trees(&self) -> Vec<TreeId> {
        self.listed.fetch_add(1, Ordering::SeqCst);
        self.trees.lock().unwrap().iter().copied().collect()
    }

    fn keys_to_prove(&self, _: Option<&TreeId>) -> Vec<Arc<SecretKey>> {
        self.users.lock().unwrap().clone()
    }

    fn describe(&self, tree: &TreeId) -> TreeSummary {
        TreeSummary { tree: *tree, title: format!("title of {}", tree.short()), entries: 7, changed_ms: 8 }
    }

    fn redeem(
        &self,
        tree: &TreeId,
        invites: &[PublicKey],
        joiner: &PublicKey,
        _: &str,
    ) -> Result<Permission, RefusalCode> {
        self.redeemed.fetch_add(1, Ordering::SeqCst);
        let mut world = self.world.lock().unwrap();
        if invites.iter().any(|invite| world.expired.contains(invite)) {
            return Err(RefusalCode::InviteExpired);
        }
        let known = invites.iter().find(|invite| world.invites.contains_key(invite));
        let promised = known.and_then(|invite| world.invites.get_mut(invite));
        let Some((permission, uses)) = promised else { return Err(RefusalCode::Unavailable) };
        if *uses == 0 {
            return Err(RefusalCode::InviteUsed);
        }
        *uses -= 1;
        let permission = *permission;
        world.rights.insert((*tree, *joiner), permission);
        Ok(permission)
    }

    fn ask(&self, ask: &Ask, takes_part: bool) -> Result<Noted, RefusalCode> {
        self.noted.fetch_add(1, Ordering::SeqCst);
        let id = RequestId(std::array::from_fn(|i| ask.tree.0[i] ^ ask.key.0[i]));
        let mut world = self.world.lock().unwrap();
        if !takes_part {
            return Ok(Noted { answer: Answer::Pending(id), is_new: false });
        }
        let is_new = !world.asks.contains(ask);
        world.asks.push(ask.clone());
        let answer = match world.decided.get(&(ask.tree, ask.key)).copied() {
            None => Answer::Pending(id),
            Some(None) => Answer::Rejected(id),
            Some(Some(permission)) => {
                world.rights.insert((ask.tree, ask.key), permission);
                Answer::Granted(permission)
            }
        };
        Ok(Noted { answer, is_new })
    }
}

/// The runtime of programs, with a clock that can be paused.
#[derive(Debug)]
struct Virtual {
    tokio: TokioRuntime,
    began: tokio::time::Instant,
    clocks: Arc<AtomicUsize>,
}

impl Runtime for Virtual {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }
    fn monotonic_ms(&self) -> u64 {
        self.now_ms()
    }
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        self.clocks.fetch_add(1, Ordering::SeqCst);
        self.tokio.sleep(ms)
    }
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tokio.spawn(task);
    }
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.tokio.blocking(work)
    }
    fn random(&self) -> [u8; 32] {
        self.tokio.random()
    }
}

/// An entry of one key that a tree knows, on top of another.
pub fn written(parent: &Entry, n: u64) -> Entry {
    let payload = Payload::encode("doc", &n.to_le_bytes(), &Vec::<Bytes>::new());
    let draft = Draft {
        tree: Some(parent.tree()),
        parents: vec![parent.id()],
        height: parent.header().height.child().unwrap(),
        time: parent.header().time,
        sections: vec![SectionDraft { store: StoreName::new("s").unwrap(), enc: None, payload }],
        nonce: None,
    };
    draft.seal(&SecretKey::from_seed([1; 32])).unwrap()
}

/// The entry that came to a node at this place.
pub fn entry(node: &Node, tree: TreeId, seq: u64) -> Entry {
    let logged = node.store.tree(&tree).unwrap().unwrap().log(Seq(seq)..Seq(seq + 1), 1).unwrap().remove(0);
    Entry::parse(logged.block, logged.payloads).unwrap()
}

pub struct Node {
    pub store: Arc<EntryStore>,
    pub key: Arc<SecretKey>,
    pub rights: Arc<Rights>,
    pub engine: SyncEngine,
    pub transport: Arc<MemoryTransport>,
    /// How often the engine has set itself a clock.
    pub clocks: Arc<AtomicUsize>,
}

/// Several nodes on one network, with one view of rights.
pub struct Nodes {
    pub net: MemoryNet,
    pub world: Arc<Mutex<World>>,
}

impl Nodes {
    pub fn new() -> Self {
        Self { net: MemoryNet::new(), world: Arc::default() }
    }

    /// A node that listens.
    pub async fn node(&self, n: u8) -> Node {
        let config = EngineConfig { name: format!("node {n}"), ..EngineConfig::default() };
        self.node_over(n, Arc::new(Memory::new()), config).await
    }

    /// The same over this backend.
    pub async fn node_over(&self, n: u8, backend: Arc<dyn Backend>, config: EngineConfig) -> Node {
        let key = Arc::new(SecretKey::from_seed([n; 32]));
        let store = EntryStore::open(backend, Arc::new(Anybody), Arc::new(NoView), [n; 32]).unwrap();
        let rights = Arc::new(Rights {
            world: self.world.clone(),
            trees: Mutex::default(),
            listed: AtomicUsize::default(),
            asked: AtomicUsize::default(),
            asked_max: AtomicUsize::new(usize::MAX),
            redeemed: AtomicUsize::default(),
            by_entries: AtomicBool::default(),
            noted: AtomicUsize::default(),
            users: Mutex::default(),
        });
        let clocks = Arc::<AtomicUsize>::default();
        let runtime = Virtual {
            tokio: TokioRuntime::current(),
            began: tokio::time::Instant::now(),
            clocks: clocks.clone(),
        };
        let engine = SyncEngine::new(store.clone(), key.clone(), rights.clone(), Arc::new(runtime), config);
        let transport = self.net.endpoint(&format!("n{n}"));
        engine.add_transport(transport.clone());
        assert!(engine.accept_connections().await.unwrap().is_empty());
        Node { store, key, rights, engine, transport, clocks }
    }

    pub fn allow(&self, tree: TreeId, node: &Node, permission: Permission) {
        self.world.lock().unwrap().rights.insert((tree, node.key.public()), permission);
    }

    pub fn forbid(&self, tree: TreeId, node: &Node) {
        self.world.lock().unwrap().rights.remove(&(tree, node.key.public()));
    }
}

impl Node {
    pub fn address(&self) -> Address {
        self.transport.addresses().remove(0)
    }

    /// Makes a database and lets it take part.
    pub fn create(&self, nonce: u16) -> TreeId {
        let ops = [
            SettingsOp::Rules(1),
            SettingsOp::Set { slot: Slot::Key(self.key.public()), permission: Permission::Admin(0) },
        ];
        let section = SectionDraft::settings(&ops, &[]);
        let tree = self.commit(
            None,
            vec![section],
            Some(Nonce(std::array::from_fn(|i| nonce.to_be_bytes()[i % 2]))),
        );
        self.track(tree);
        self.rights.world.lock().unwrap().rights.insert((tree, self.key.public()), Permission::Admin(0));
        tree
    }

    pub fn track(&self, tree: TreeId) {
        self.rights.trees.lock().unwrap().insert(tree);
    }

    pub fn write(&self, tree: TreeId, count: usize) {
        self.write_large(tree, count, 0);
    }

    /// Writes entries with an operation of so many hundred bytes and a few.
    pub fn write_large(&self, tree: TreeId, count: usize, hundreds: u8) {
        // An array of a code and so many byte strings of a hundred bytes.
        let mut op = vec![0x98, hundreds + 24, 0x00];
        op.extend([0x00; 23]);
        for _ in 0..hundreds {
            op.extend([0x58, 100]);
            op.extend([7; 100]);
        }
        for i in 0..count {
            let payload = Payload::encode("doc", format!("{i}").as_bytes(), &[&op]);
            let store = StoreName::new("s").unwrap();
            self.commit(Some(tree), vec![SectionDraft { store, enc: None, payload }], None);
        }
    }

    fn commit(&self, tree: Option<TreeId>, sections: Vec<SectionDraft>, nonce: Option<Nonce>) -> TreeId {
        let local = LocalCommit {
            tree,
            author: self.key.clone(),
            now_ms: 1_000,
            parents: Parents::AtSeal,
            sections,
            nonce,
            durability: Durability::Durable,
        };
        self.store.commit(local).unwrap().tree
    }

    pub fn count(&self, tree: TreeId) -> u64 {
        self.store.tree(&tree).unwrap().map_or(0, |tree| tree.count())
    }

    /// Names everything that is held.
    pub fn state(&self, tree: TreeId) -> Option<[u8; 32]> {
        let snapshot = self.store.tree(&tree).unwrap()?;
        let tips = snapshot.tips().unwrap();
        Some(tips_hash(tips.iter().map(|(id, _)| id)))
    }
}
