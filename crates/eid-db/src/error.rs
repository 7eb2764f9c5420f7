//! What working with databases can fail with.

use eid_core::{EntryId, Invalid, ReadError, Refusal, TreeId};
use eid_store::{BackupError, StoreError};

use crate::refusal::Refused;
use crate::request::RequestStatus;
use crate::typed::FormError;

fn status_word(status: &RequestStatus) -> &'static str {
    match status {
        RequestStatus::Pending => "pending",
        RequestStatus::Approved(_) => "approved",
        RequestStatus::Rejected => "rejected",
    }
}

/// Why something was not done. Nothing was written, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The store below failed.
    #[error(transparent)]
    Store(StoreError),
    /// Whoever writes has no right to this in the database.
    #[error(transparent)]
    NotPermitted(Box<Refused>),
    /// The database is tracked, and nothing of it is held.
    #[error("nothing of the database is here yet")]
    NotHere,
    /// Several databases have this name, or ids that begin with it.
    #[error("{} databases are called \"{name}\"", ids.len())]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// All that it names.
        ids: Vec<TreeId>,
    },
    /// The name of a database or of this device is empty or too long.
    #[error("a name has 1 to {max} bytes", max = crate::limits::NAME_BYTES_MAX)]
    Name,
    /// The name of a store is empty, too long or reserved.
    #[error("\"{name}\" cannot be the name of a store")]
    StoreName {
        /// The name.
        name: String,
    },
    /// The store holds another kind of data.
    #[error("store \"{store}\" is of kind {found}, not {wanted}")]
    WrongKind {
        /// Its name.
        store: String,
        /// What it is.
        found: String,
        /// What it was opened as.
        wanted: &'static str,
    },
    /// No kind of store is called this.
    #[error("\"{kind}\" is not a kind of store")]
    UnknownKind {
        /// What was asked for.
        kind: String,
    },
    /// A name or field that the registry is to keep is empty or too long.
    #[error("an index or registration needs names that are neither empty nor too long")]
    Unregistrable,
    /// The store is encrypted and was not unlocked.
    #[error("store \"{store}\" is locked")]
    Locked {
        /// Its name.
        store: String,
    },
    /// The password opens nothing of the store.
    #[error("the password does not open store \"{store}\"")]
    WrongPassword {
        /// Its name.
        store: String,
    },
    /// The password opens none of those configs of the store that were tried, and trying more would cost too much at
    /// once. Another call with the same password goes on.
    #[error(
        "none of {tried} passwords of store \"{store}\" is this one; {left} more are to be tried by the next call"
    )]
    UnlockUnfinished {
        /// Its name.
        store: String,
        /// How many were tried so far.
        tried: usize,
        /// How many are left.
        left: usize,
    },
    /// There is no encrypted store of this name here.
    #[error("there is no encrypted store \"{store}\"")]
    NotEncrypted {
        /// The name.
        store: String,
    },
    /// An encrypted store of this name is there.
    #[error("there is an encrypted store \"{store}\" already")]
    AlreadyEncrypted {
        /// Its name.
        store: String,
    },
    /// The registry, which everybody reads, would tell what is in an encrypted store.
    #[error("the fields of the encrypted store \"{store}\" are not for the registry")]
    PlainIndex {
        /// Its name.
        store: String,
    },
    /// A password would cost too much, cannot be worked out at all, or would soon be guessed.
    #[error("the cost of a password is too low, or beyond what every device will pay")]
    PasswordCost,
    /// The name of a user is empty, too long, or has characters that nobody sees.
    #[error("the name of a user has 1 to {max} bytes, no control characters and no space at its ends", max = crate::limits::USER_NAME_BYTES_MAX)]
    UserName,
    /// There is a user of this name.
    #[error("there is a user \"{name}\" already")]
    UserExists {
        /// The name.
        name: String,
    },
    /// There are as many users as can be.
    #[error("a device has at most {max} users", max = crate::limits::USERS_MAX)]
    TooManyUsers,
    /// The user has as many keys as can be.
    #[error("a user has at most {max} keys", max = crate::limits::USER_KEYS_MAX)]
    TooManyKeys,
    /// The name or the password is wrong.
    #[error("no user of this name has this password")]
    Login,
    /// A password to be set is empty or too long.
    #[error("a password has 1 to {max} bytes", max = crate::limits::PASSWORD_BYTES_MAX)]
    Password,
    /// There is no such request for access, or it is about another database.
    #[error("there is no such request for access")]
    NoRequest,
    /// The request was decided before.
    #[error("the request was {} before", status_word(status))]
    RequestDecided {
        /// How.
        status: RequestStatus,
    },
    /// The login that a handle came from has ended.
    #[error("the user is logged out")]
    LoggedOut,
    /// The user who needs no account has the key of the device, and nothing else.
    #[error("the user of the device has the key of the device and no password")]
    DeviceUser,
    /// Preferences that cannot be.
    #[error("an interval is at least a second, and preferences have at most {max} properties of some length", max = crate::limits::PROPERTIES_MAX)]
    Preferences,
    /// The user does not track the database.
    #[error("the user does not track the database")]
    NotTracked,
    /// Two kinds of stores have this name; both are kept.
    #[error("store \"{store}\" is there in {} kinds: {}", kinds.len(), kinds.join(", "))]
    SeveralKinds {
        /// The name.
        store: String,
        /// The kinds, sorted.
        kinds: Vec<String>,
    },
    /// A path is empty, too deep or too long.
    #[error("a path has 1 to {keys} keys of at most {bytes} bytes together", keys = crate::limits::PATH_KEYS_MAX, bytes = crate::limits::PATH_BYTES_MAX)]
    Path,
    /// A text is not a path.
    #[error(transparent)]
    ParsePath(#[from] crate::path::ParsePathError),
    /// A row's key is empty or too long.
    #[error("the key of a row has 1 to {max} bytes", max = crate::limits::ROW_KEY_BYTES_MAX)]
    RowKey,
    /// A row is not an object of named fields, or has too many or too long names.
    #[error("a row is an object of at most {max} named fields, not {found}", max = crate::limits::ROW_FIELDS_MAX)]
    NotARow {
        /// What it is.
        found: &'static str,
    },
    /// There is no such row.
    #[error("there is no row with the key \"{key}\"")]
    NoSuchRow {
        /// The key.
        key: String,
    },
    /// A position lies beyond the end of a text or list.
    #[error("position {position} lies beyond the end, which is {len}")]
    Position {
        /// The position, or the end of the range.
        position: usize,
        /// How many elements there are.
        len: usize,
    },
    /// A cursor into a text was asked of an edit buffer that has not taken over what came from elsewhere.
    #[error("the text has changed, and the edit buffer has not taken that over")]
    TextMoved,
    /// The value at a path has another type.
    #[error("the value is of type {found}, not {wanted}")]
    Type {
        /// What it is.
        found: &'static str,
        /// What was needed.
        wanted: &'static str,
    },
    /// A stored value does not have the form of the Rust type.
    #[error("the stored value does not have the form that was asked for")]
    Decode(#[source] FormError),
    /// A stored row does not have the form of the Rust type.
    #[error("the row \"{key}\" does not have the form that was asked for")]
    DecodeRow {
        /// The key of the row.
        key: String,
        /// The field, and what is wrong with it.
        #[source]
        cause: FormError,
    },
    /// A Rust value cannot be stored.
    #[error("the value cannot be stored")]
    Encode(#[source] FormError),
    /// What is written at once is larger than an entry can be.
    #[error("what is written at once is larger than {max} bytes", max = eid_core::limits::PAYLOAD_BYTES_MAX)]
    TooLarge,
    /// A value has more lists and maps in one another than an operation can.
    #[error("a value has more lists and maps in one another than an operation can")]
    TooDeep,
    /// More stores are written at once than an entry can hold.
    #[error("more than {max} stores are written at once", max = eid_core::limits::SECTIONS_MAX)]
    TooManyStores,
    /// A `write` closure called `write`, or something that uses it, on its own database.
    #[error("a write to the database is already under way on this thread")]
    NestedWrite,
    /// The cursor belongs to another life of this store, such as before a backup was restored.
    #[error("the cursor belongs to another life of the store")]
    ForeignCursor,
    /// The cursor of a page belongs to a query with another order.
    #[error("the cursor belongs to a query with another order")]
    ForeignPage,
    /// A query sorts by too many fields.
    #[error("a query sorts by at most {max} fields", max = crate::limits::ORDER_FIELDS_MAX)]
    OrderFields,
    /// The table has as many indexes as it can.
    #[error("a table has at most {max} indexes", max = crate::limits::INDEXES_MAX)]
    TooManyIndexes,
    /// There are too many open invites.
    #[error("there are {max} open invites of the database already", max = crate::limits::INVITES_MAX)]
    TooManyInvites,
    /// An entry that is not held was named.
    #[error("the entry {id} is not here")]
    UnknownEntry {
        /// The first of those that are not.
        id: EntryId,
    },
    /// An entry that counts was to be let count again.
    #[error("the entry {id} counts already")]
    NotVoid {
        /// The first of those that do.
        id: EntryId,
    },
    /// A settings entry was to be let count again.
    #[error("the entry {id} changes settings: write them anew instead")]
    SettingsEntry {
        /// The first of those that do.
        id: EntryId,
    },
    /// The key that writes has no right of its own.
    #[error("this device has no right of its own that could be passed on")]
    NoRight,
    /// Nobody becomes an admin by an open invite.
    #[error("an open invite gives relay, read or write, never admin")]
    InviteOfAdmin,
    /// What an entry wrote is not here, or cannot be read.
    #[error("what the entry {id} wrote is not here")]
    NoPayload {
        /// The entry.
        id: EntryId,
    },
    /// The entry does not count, so there is nothing to take back.
    #[error("the entry {id} does not count")]
    VoidEntry {
        /// The entry.
        id: EntryId,
    },
    /// The entry was taken back and not done again since.
    #[error("the entry {id} was taken back by {by}")]
    AlreadyUndone {
        /// The entry.
        id: EntryId,
        /// The entry that took it back.
        by: EntryId,
    },
    /// A version is named by one entry or more.
    #[error("no entry was named")]
    NoEntry,
    /// What was written long ago is read, never written.
    #[error("an older version can be read and not written")]
    ReadOnly,
    /// No thread could be started.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
    /// The name of a consumer is empty or too long.
    #[error("the name of a consumer has 1 to {max} bytes", max = crate::limits::CONSUMER_NAME_BYTES_MAX)]
    ConsumerName,
    /// A row that this crate wrote does not decode.
    #[error("a stored row is damaged: {what}")]
    Corrupt {
        /// Which.
        what: &'static str,
    },
    /// A backup could not be made or restored.
    #[error(transparent)]
    Backup(BackupError),
    /// The caller's own reason to give up a transaction.
    #[error(transparent)]
    Aborted(Box<dyn std::error::Error + Send + Sync>),
}

impl DbError {
    /// Whether trying the same again can help without anybody doing something first.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::UnlockUnfinished { .. } => true,
            _ => false,
        }
    }

    /// Gives up a transaction for a reason of the caller's own.
    pub fn abort(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Aborted(reason.into())
    }
}

impl From<StoreError> for DbError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(Refusal::Invalid(Invalid::NotPermitted)) => Refused::Past.into(),
            StoreError::Refused(Refusal::Invalid(Invalid::PayloadTooLarge | Invalid::HeaderTooLarge)) => {
                Self::TooLarge
            }
            StoreError::UnknownTree => Self::NotHere,
            error => Self::Store(error),
        }
    }
}

impl From<Refused> for DbError {
    fn from(refused: Refused) -> Self {
        Self::NotPermitted(Box::new(refused))
    }
}

impl From<ReadError> for DbError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.into())
    }
}

/// Why an invite was not honoured.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// None of the invites was made by this device for this database.
    #[error("the invite is not known here")]
    Unknown,
    /// It is no longer valid.
    #[error("the invite has expired")]
    Expired,
    /// It was used as often as it may be.
    #[error("the invite is used up")]
    UsedUp,
    /// The user who made the invite is not logged in.
    #[error("whoever made the invite is logged out")]
    IssuerAway,
    /// The joiner's key was revoked; an invite does not undo that.
    #[error("the key was revoked")]
    Revoked,
    /// Granting failed.
    #[error(transparent)]
    Db(#[from] DbError),
}
