//! Requests for access: what somebody without a right has asked for, remembered on this device until an admin decides.
//!
//! They are rows of the device, never entries. Whoever asks learns the same, and costs the same, whether or not there is
//! such a database, nobody may ask there, or there is no room (`docs/adr/0022-joining.md`).

use std::collections::BTreeMap;
use std::sync::PoisonError;

use bytes::Bytes;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::{Permission, PublicKey, SettingsOp, Slot, TreeId};
use eid_store::Local;

use crate::database::Database;
use crate::error::DbError;
use crate::instance::Instance;
use crate::limits::{REQUESTS_MAX, REQUESTS_PER_DATABASE_MAX};
use crate::refusal::Refused;

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestStatus {
    /// Nobody has decided.
    Pending,
    /// The key was granted this.
    Approved(Permission),
    /// It was granted nothing.
    Rejected,
}

/// A request for access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRequest {
    /// Names it: the same for the same key and database.
    pub id: [u8; 16],
    /// The database.
    pub database: TreeId,
    /// Who asks.
    pub key: PublicKey,
    /// What it calls itself: shown to people, never trusted.
    pub name: String,
    /// What it wants.
    pub permission: Permission,
    /// When it asked last, in milliseconds since 1970.
    pub time_ms: u64,
    /// What has become of it.
    pub status: RequestStatus,
    /// What else it says of itself.
    pub metadata: BTreeMap<String, String>,
}

/// What somebody asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The database.
    pub database: TreeId,
    /// Who is to get a right.
    pub key: PublicKey,
    /// Which. [`ANY_LEVEL`] is an admin of whatever level.
    pub permission: Permission,
    /// What people call who asks.
    pub name: &'a str,
    /// What else is said.
    pub metadata: &'a BTreeMap<String, String>,
}

/// Asked for by who wants to be an admin and does not know of which level: it becomes one below who approves.
pub const ANY_LEVEL: Permission = Permission::Admin(u32::MAX);

/// What who asks is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskAnswer {
    /// An admin has approved, and this is what the key has by now.
    Granted(Permission),
    /// Somebody may decide, or nobody ever.
    Pending {
        /// Names the request.
        id: [u8; 16],
        /// Whether it is remembered and differs from what was.
        is_new: bool,
    },
    /// Somebody has decided against it.
    Rejected {
        /// Names the request.
        id: [u8; 16],
    },
}

/// Who may ask for access to a database, beside those whom its settings give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestPolicy {
    /// Anybody; an admin decides.
    #[default]
    Manual,
    /// Nobody. Who asks is told nothing of it.
    Closed,
}

const ROW_VERSION: u64 = 1;
const SECRET: &[u8] = b"secret";
const SCRATCH: &[u8] = b"scratch";

fn write_permission(w: &mut Writer, permission: Permission) {
    w.uint(u64::from(permission.code())).uint(u64::from(permission.level().unwrap_or(0)));
}

fn read_permission(r: &mut Reader<'_>) -> Result<Permission, CborError> {
    match (r.uint()?, r.uint()?) {
        (0, 0) => Ok(Permission::Relay),
        (1, 0) => Ok(Permission::Read),
        (2, 0) => Ok(Permission::Write),
        (3, level) => u32::try_from(level).map(Permission::Admin).map_err(|_| CborError::Limit),
        _ => Err(CborError::Limit),
    }
}

impl AccessRequest {
    fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.array(9).uint(ROW_VERSION).bytes(&self.id).text(&self.name);
        write_permission(&mut w, self.permission);
        w.uint(self.time_ms);
        let (status, granted) = match self.status {
            RequestStatus::Pending => (0, Permission::Relay),
            RequestStatus::Approved(granted) => (1, granted),
            RequestStatus::Rejected => (2, Permission::Relay),
        };
        w.uint(status).array(2);
        write_permission(&mut w, granted);
        w.array(2 * self.metadata.len());
        for (name, text) in &self.metadata {
            w.text(name).text(text);
        }
        Bytes::from(w.into_bytes())
    }

    fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, DbError> {
        Self::read(key, bytes).map_err(|_| DbError::Corrupt { what: "a request for access" })
    }

    fn read(row: &[u8], bytes: &[u8]) -> Result<Self, CborError> {
        let (database, key) = row.split_at_checked(32).ok_or(CborError::Limit)?;
        let fixed = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| CborError::Limit);
        let mut r = Reader::new(bytes);
        r.array_exact(9)?;
        if r.uint()? != ROW_VERSION {
            return Err(CborError::Limit);
        }
        let (id, name) = (r.fixed()?, r.text(usize::MAX)?.to_owned());
        let permission = read_permission(&mut r)?;
        let (time_ms, status) = (r.uint()?, r.uint()?);
        r.array_exact(2)?;
        let granted = read_permission(&mut r)?;
        let status = match status {
            0 => RequestStatus::Pending,
            1 => RequestStatus::Approved(granted),
            2 => RequestStatus::Rejected,
            _ => return Err(CborError::Limit),
        };
        let mut metadata = BTreeMap::new();
        for _ in 0..r.array(usize::MAX)? / 2 {
            metadata.insert(r.text(usize::MAX)?.to_owned(), r.text(usize::MAX)?.to_owned());
        }
        r.finish()?;
        let (database, key) = (TreeId(fixed(database)?), PublicKey(fixed(key)?));
        Ok(Self { id, database, key, name, permission, time_ms, status, metadata })
    }

    /// Whether it says the same as another, whenever they came.
    fn says(&self, other: &Self) -> bool {
        Self { time_ms: other.time_ms, ..self.clone() } == *other
    }
}

fn row_key(tree: &TreeId, key: &PublicKey) -> Vec<u8> {
    [tree.0, key.0].concat()
}

impl Instance {
    fn request_rows(&self) -> Local {
        self.store().local().namespace("requests")
    }

    fn policy_rows(&self) -> Local {
        self.store().local().namespace("request-policies")
    }

    /// What has nothing to do with a database, of all requests.
    fn request_extras(&self) -> Local {
        self.store().local().namespace("requests-all")
    }

    /// The name of a request. Without the secret of this device it tells nothing.
    fn request_id(&self, tree: &TreeId, key: &PublicKey) -> Result<[u8; 16], DbError> {
        let extras = self.request_extras();
        let mut secret = extras.get(SECRET)?;
        if secret.is_none() {
            extras.put_if_absent(SECRET, self.env().random::<32>().to_vec())?;
            secret = extras.get(SECRET)?;
        }
        let secret = secret.and_then(|secret| <[u8; 32]>::try_from(&secret[..]).ok());
        let secret = secret.ok_or(DbError::Corrupt { what: "the secret of requests" })?;
        let hash = blake3::keyed_hash(&secret, &row_key(tree, key));
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        Ok(id)
    }

    /// Takes note of what somebody asks for who has no such right, and says what it is told. For a database that does not
    /// take part, or is not here, as much is looked up and written, and the same is told, as for one in which nobody has
    /// decided; so it is where nobody may ask, and where there is no room.
    pub fn ask(&self, asking: &Asking<'_>, takes_part: bool) -> Result<AskAnswer, DbError> {
        let _one_at_a_time = self.requesting().lock().unwrap_or_else(PoisonError::into_inner);
        let Asking { database, key, permission, .. } = *asking;
        let (rows, row) = (self.request_rows(), row_key(&database, &key));
        let id = self.request_id(&database, &key)?;
        let before = rows.get(&row)?.map(|bytes| AccessRequest::decode(&row, &bytes)).transpose()?;
        let policy = self.request_policy(&database)?;
        let mut request = AccessRequest {
            id,
            database,
            key,
            name: asking.name.to_owned(),
            permission,
            time_ms: self.env().clock.now_ms(),
            status: RequestStatus::Pending,
            metadata: asking.metadata.clone(),
        };
        let mut answer = AskAnswer::Pending { id, is_new: false };
        let mut is_noted = takes_part && policy == RequestPolicy::Manual;
        if let Some(before) = before.as_ref().filter(|_| is_noted) {
            match before.status {
                RequestStatus::Approved(_) => {
                    // To want more than before, or to have lost it again, is a matter for an admin once more.
                    let held = self.handle(database).permission(&[key])?;
                    if let Some(held) = held.filter(|_| permission <= before.permission) {
                        return Ok(AskAnswer::Granted(held));
                    }
                }
                RequestStatus::Rejected => {
                    request.status = RequestStatus::Rejected;
                    answer = AskAnswer::Rejected { id };
                }
                RequestStatus::Pending => {}
            }
        }
        let mut writes = Vec::new();
        let room = self.room_for_request(&database)?;
        if is_noted && before.is_none() {
            match room {
                Room::There => {}
                Room::Instead(decided) => writes.push((decided, None)),
                Room::None => is_noted = false,
            }
        }
        let bytes = request.encode();
        if is_noted {
            if let AskAnswer::Pending { is_new, .. } = &mut answer {
                *is_new = before.is_none_or(|before| !before.says(&request));
            }
            writes.push((row, Some(bytes)));
            rows.write(writes)?;
        } else {
            self.request_extras().write(vec![(SCRATCH.to_vec(), Some(bytes))])?;
        }
        Ok(answer)
    }

    /// Whether there is room for one more request about a database; what was decided longest ago may go.
    fn room_for_request(&self, tree: &TreeId) -> Result<Room, DbError> {
        let all = self.requests()?;
        let here = all.iter().filter(|request| request.database == *tree).count();
        if here < REQUESTS_PER_DATABASE_MAX && all.len() < REQUESTS_MAX {
            return Ok(Room::There);
        }
        let is_full_here = here >= REQUESTS_PER_DATABASE_MAX;
        let decided = all.iter().find(|request| {
            request.status != RequestStatus::Pending && (!is_full_here || request.database == *tree)
        });
        Ok(decided.map_or(Room::None, |request| Room::Instead(row_key(&request.database, &request.key))))
    }

    /// The requests that are remembered, the oldest first.
    pub fn requests(&self) -> Result<Vec<AccessRequest>, DbError> {
        let rows = self.request_rows().scan(&[])?;
        let all: Result<Vec<_>, _> = rows.iter().map(|(key, row)| AccessRequest::decode(key, row)).collect();
        let mut all = all?;
        all.sort_by_key(|request| (request.time_ms, request.id));
        Ok(all)
    }

    /// The request of this name.
    ///
    /// # Errors
    /// [`DbError::NoRequest`].
    pub fn request(&self, id: &[u8; 16]) -> Result<AccessRequest, DbError> {
        self.requests()?.into_iter().find(|request| request.id == *id).ok_or(DbError::NoRequest)
    }

    /// Who may ask for access to a database.
    pub fn request_policy(&self, tree: &TreeId) -> Result<RequestPolicy, DbError> {
        let row = self.policy_rows().get(&tree.0)?;
        Ok(row.map_or(RequestPolicy::Manual, |_| RequestPolicy::Closed))
    }

    /// Changes who may ask for access to a database on this device.
    pub fn set_request_policy(&self, tree: &TreeId, policy: RequestPolicy) -> Result<(), DbError> {
        let row = match policy {
            RequestPolicy::Manual => None,
            RequestPolicy::Closed => Some(Bytes::from_static(b"closed")),
        };
        Ok(self.policy_rows().write(vec![(tree.0.to_vec(), row)])?)
    }

    pub(crate) fn forget_requests(&self, tree: &TreeId) -> Result<(), DbError> {
        self.policy_rows().delete(&tree.0)?;
        let rows = self.request_rows().scan(&tree.0)?;
        Ok(self.request_rows().write(rows.into_iter().map(|(key, _)| (key, None)).collect())?)
    }

    /// Decides a request: `decide` is told of it while nobody else can, and says what has become of it.
    fn decide_request(
        &self,
        tree: &TreeId,
        id: &[u8; 16],
        decide: impl FnOnce(&AccessRequest) -> Result<RequestStatus, DbError>,
    ) -> Result<AccessRequest, DbError> {
        let _one_at_a_time = self.requesting().lock().unwrap_or_else(PoisonError::into_inner);
        let mut request = self.request(id)?;
        if request.database != *tree {
            return Err(DbError::NoRequest);
        }
        if request.status != RequestStatus::Pending {
            return Err(DbError::RequestDecided { status: request.status });
        }
        request.status = decide(&request)?;
        // Lost in a crash, the request is pending again: to approve it another time changes no settings.
        self.request_rows().put(&row_key(tree, &request.key), request.encode())?;
        Ok(request)
    }
}

/// Whether there is room for a request.
enum Room {
    There,
    Instead(Vec<u8>),
    None,
}

impl Database {
    /// Approves a request for access to it: grants exactly its key what it asks for, or what is given here. Who asked to be
    /// an admin of whatever level becomes one below who approves.
    ///
    /// # Errors
    /// [`DbError::NoRequest`], [`DbError::RequestDecided`], [`DbError::NotPermitted`] when whoever this handle acts for is
    /// no admin or gives more than he has. Nothing was changed then.
    pub fn approve_request(
        &self,
        id: &[u8; 16],
        permission: Option<Permission>,
    ) -> Result<AccessRequest, DbError> {
        self.instance().decide_request(&self.id(), id, |request| {
            let own = self.deciding()?;
            let permission = match permission.unwrap_or(request.permission) {
                ANY_LEVEL => below(own.1)?,
                asked => asked,
            };
            if Some(own.1) < Some(permission) {
                return Err(Refused::AboveOneself { key: own.0, has: Some(own.1) }.into());
            }
            let slot = Slot::Key(request.key);
            // What an admin has given meanwhile stays.
            if self.settings()?.slot(&slot).flatten() < Some(permission) {
                self.write_settings(&[SettingsOp::Set { slot, permission }])?;
            }
            Ok(RequestStatus::Approved(permission))
        })
    }

    /// Rejects a request for access to it: nobody is granted anything.
    ///
    /// # Errors
    /// As [`Self::approve_request`].
    pub fn reject_request(&self, id: &[u8; 16]) -> Result<AccessRequest, DbError> {
        self.instance().decide_request(&self.id(), id, |_| {
            self.deciding()?;
            Ok(RequestStatus::Rejected)
        })
    }

    /// Who decides, and what it may do.
    fn deciding(&self) -> Result<(PublicKey, Permission), DbError> {
        let key = self.author_key()?;
        match self.permission(&[key])? {
            Some(own @ Permission::Admin(_)) => Ok((key, own)),
            _ => Err(self.lacking(&key, true)?.into()),
        }
    }
}

/// An admin one below this one.
fn below(own: Permission) -> Result<Permission, DbError> {
    let level = own.level().and_then(|level| level.checked_add(1)).filter(|level| *level < u32::MAX);
    level.map(Permission::Admin).ok_or(DbError::NoRight)
}
