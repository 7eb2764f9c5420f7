//! The devices that this one knows, remembered in rows that are never synchronised, and with whom of them it has nothing
//! to do.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use bytes::Bytes;
use eid_core::PublicKey;
use eid_store::{EntryStore, Local};
use eid_transport::Address;
use serde::{Deserialize, Serialize};

use crate::error::SyncError;
use crate::limits::{PEER_ADDRESSES_MAX, PEER_ERROR_BYTES_MAX, PEERS_CALLING_MAX};
use crate::signal::Signal;

/// What this device has to do with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerStatus {
    /// It is dialled, and served when it dials.
    #[default]
    Active,
    /// It is served when it dials, and dialled only when somebody asks for that.
    Inactive,
    /// Nothing: it is not dialled, and hung up on when it dials. Its rights and what it wrote stay.
    Blocked,
}

/// A device that this one has met, or whose address it was told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerInfo {
    /// Its device key; nothing as long as it was never met.
    pub key: Option<PublicKey>,
    /// What it calls itself, as it was told: shown to people, never trusted.
    pub name: Option<String>,
    /// What this device has to do with it.
    pub status: PeerStatus,
    /// Where it was reached, the last success first.
    pub addresses: Vec<Address>,
    /// When a session with it last came to its end, in milliseconds since 1970.
    pub last_success_ms: Option<u64>,
    /// When one was last tried.
    pub last_attempt_ms: Option<u64>,
    /// What the last attempt failed with; nothing when it succeeded.
    pub last_error: Option<String>,
    /// How each address that was tried has worked.
    pub tried: Vec<TriedAddress>,
}

/// How an address has worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriedAddress {
    /// Which.
    pub address: Address,
    /// When the peer was last reached there, in milliseconds since 1970.
    pub last_success_ms: Option<u64>,
    /// When it was last tried in vain.
    pub last_failure_ms: Option<u64>,
    /// What that failed with.
    pub last_error: Option<String>,
}

impl PeerInfo {
    /// How an address has worked, to be changed.
    fn tried(&mut self, address: &Address) -> &mut TriedAddress {
        let at = self.tried.iter().position(|tried| tried.address == *address).unwrap_or_else(|| {
            let tried = TriedAddress {
                address: address.clone(),
                last_success_ms: None,
                last_failure_ms: None,
                last_error: None,
            };
            self.tried.push(tried);
            self.tried.len() - 1
        });
        &mut self.tried[at]
    }
}

/// The rows in which peers are remembered. Cheap to clone: all clones are one book.
#[derive(Debug, Clone)]
pub struct Peers {
    rows: Local,
    /// Held by who changes a row that it has read.
    changing: Arc<Mutex<()>>,
    /// Asked with every frame, so it is not read from rows.
    blocked: Arc<RwLock<BTreeSet<PublicKey>>>,
    /// Whom this device dials, and where, may have changed.
    changed: Arc<Signal>,
}

/// How a peer lies in its row.
#[derive(Serialize, Deserialize)]
struct Row {
    version: u32,
    #[serde(default)]
    status: PeerStatus,
    name: Option<String>,
    addresses: Vec<String>,
    #[serde(default)]
    tried: Vec<TriedRow>,
    last_success_ms: Option<u64>,
    last_attempt_ms: Option<u64>,
    last_error: Option<String>,
}

/// How an address that was tried lies in the row of its peer.
#[derive(Serialize, Deserialize)]
struct TriedRow {
    address: String,
    last_success_ms: Option<u64>,
    last_failure_ms: Option<u64>,
    last_error: Option<String>,
}

impl TriedRow {
    fn of(tried: &TriedAddress) -> Self {
        Self {
            address: tried.address.to_string(),
            last_success_ms: tried.last_success_ms,
            last_failure_ms: tried.last_failure_ms,
            last_error: tried.last_error.clone(),
        }
    }

    fn read(self) -> Option<TriedAddress> {
        Some(TriedAddress {
            address: self.address.parse().ok()?,
            last_success_ms: self.last_success_ms,
            last_failure_ms: self.last_failure_ms,
            last_error: self.last_error,
        })
    }
}

const ROW_VERSION: u32 = 2;
/// Of rows whose status is the default one: who knows of no other may read them.
const ROW_VERSION_ACTIVE: u32 = 1;
/// Begins the rows of peers that were met: their key follows.
const MET: u8 = b'k';
/// Begins the rows of addresses where nobody was met yet: the address follows.
const UNMET: u8 = b'a';

impl Peers {
    pub(crate) fn in_store(store: &EntryStore) -> Self {
        let rows = store.local().namespace("peers");
        let blocked = match rows.scan(&[MET]) {
            Ok(rows) => rows.iter().filter_map(|(key, row)| blocked_by(key, row)).collect(),
            Err(error) => {
                tracing::error!(%error, "the peers cannot be read: none of them is blocked");
                BTreeSet::new()
            }
        };
        let blocked = Arc::new(RwLock::new(blocked));
        Self { rows, changing: Arc::default(), blocked, changed: Arc::default() }
    }

    /// Is raised when whom this device dials, and where, may have changed.
    pub(crate) fn changed(&self) -> &Signal {
        &self.changed
    }

    fn blocked_mut(&self) -> RwLockWriteGuard<'_, BTreeSet<PublicKey>> {
        self.blocked.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this device has nothing to do with a peer.
    #[must_use]
    pub fn is_blocked(&self, peer: &PublicKey) -> bool {
        self.blocked.read().unwrap_or_else(PoisonError::into_inner).contains(peer)
    }

    /// Remembers what this device has to do with a peer. Says whether that is another status than before.
    pub(crate) fn set_status(&self, peer: &PublicKey, status: PeerStatus) -> Result<bool, SyncError> {
        let _changing = self.change();
        let mut info = self.of(peer)?;
        let is_changed = info.status != status;
        info.status = status;
        self.write(&met_key(peer), &info)?;
        match status {
            PeerStatus::Blocked => self.blocked_mut().insert(*peer),
            PeerStatus::Active | PeerStatus::Inactive => self.blocked_mut().remove(peer),
        };
        self.changed.raise();
        Ok(is_changed)
    }

    /// Every one.
    pub fn list(&self) -> Result<Vec<PeerInfo>, SyncError> {
        let rows = self.rows.scan(&[])?;
        let readable = |(key, value): &(Vec<u8>, Bytes)| {
            decode(key, value)
                .inspect_err(|error| tracing::warn!(%error, "what is known of a peer cannot be read"))
                .ok()
        };
        Ok(rows.iter().filter_map(readable).collect())
    }

    /// The peer that was last met at this address.
    pub fn at(&self, address: &Address) -> Result<Option<PeerInfo>, SyncError> {
        let mut peers = self.list()?;
        peers.retain(|peer| peer.addresses.contains(address));
        peers.sort_by_key(|peer| (peer.key.is_some(), peer.last_success_ms));
        Ok(peers.pop())
    }

    /// Whether this peer is remembered, or an address of it at which nobody was met yet.
    pub fn is_known(&self, peer: &PublicKey, at: &Address) -> Result<bool, SyncError> {
        Ok(self.rows.get(&met_key(peer))?.is_some() || self.rows.get(&unmet_key(at))?.is_some())
    }

    /// Remembers an address whose peer is not known yet.
    pub fn add(&self, address: &Address) -> Result<(), SyncError> {
        let _changing = self.change();
        if self.at(address)?.is_none() {
            self.write(
                &unmet_key(address),
                &PeerInfo { addresses: vec![address.clone()], ..PeerInfo::default() },
            )?;
            self.changed.raise();
        }
        Ok(())
    }

    /// Remembers a peer that was not met, under the name that somebody here gives it.
    pub(crate) fn register(
        &self,
        peer: PublicKey,
        name: &str,
        addresses: &[Address],
    ) -> Result<(), SyncError> {
        let _changing = self.change();
        let mut info = self.of(&peer)?;
        info.name = Some(name.to_owned()).filter(|name| !name.is_empty()).or(info.name);
        addresses.iter().for_each(|address| add_last(&mut info.addresses, address));
        self.write(&met_key(&peer), &info)?;
        self.changed.raise();
        Ok(())
    }

    /// Remembers a further address of a peer.
    pub(crate) fn add_address(&self, peer: &PublicKey, address: &Address) -> Result<(), SyncError> {
        let _changing = self.change();
        let mut info = self.of(peer)?;
        add_last(&mut info.addresses, address);
        self.write(&met_key(peer), &info)?;
        self.changed.raise();
        Ok(())
    }

    /// Forgets a peer, and addresses of it where nobody was met yet: also that it was blocked.
    pub fn forget(&self, peer: &PeerInfo) -> Result<(), SyncError> {
        let _changing = self.change();
        for address in &peer.addresses {
            self.rows.delete(&unmet_key(address))?;
        }
        if let Some(key) = &peer.key {
            self.rows.delete(&met_key(key))?;
            self.blocked_mut().remove(key);
        }
        self.changed.raise();
        Ok(())
    }

    /// Remembers who joined a database here. Where it may be reached is not known.
    pub fn joined(&self, peer: PublicKey, name: &str, now_ms: u64) -> Result<(), SyncError> {
        let _changing = self.change();
        let mut info = self.of(&peer)?;
        info.last_attempt_ms = Some(now_ms);
        info.name = Some(name.to_owned()).filter(|name| !name.is_empty()).or(info.name);
        self.write(&met_key(&peer), &info)
    }

    /// Remembers that everything was exchanged with a peer that dialled. Who was never met before is only taken up as
    /// long as there are not many: a database may be open to everyone.
    pub fn called(&self, peer: PublicKey, now_ms: u64) -> Result<(), SyncError> {
        if self.has_place(&peer, now_ms)? { self.succeeded(peer, now_ms) } else { Ok(()) }
    }

    /// Whether what there was with a peer that has dialled is remembered: of so many at most, since keys cost nothing. Who
    /// is not in the book yet comes to be in it, as long as there is room.
    pub(crate) fn has_place(&self, peer: &PublicKey, now_ms: u64) -> Result<bool, SyncError> {
        let key = met_key(peer);
        if self.rows.get(&key)?.is_some() {
            return Ok(true);
        }
        let _changing = self.change();
        let has_room = self.rows.scan(&[MET])?.len() < PEERS_CALLING_MAX;
        if has_room {
            self.write_relaxed(&key, &PeerInfo { last_attempt_ms: Some(now_ms), ..self.of(peer)? })?;
        }
        Ok(has_room)
    }

    /// Remembers who proved its key at this address.
    pub fn met(
        &self,
        peer: PublicKey,
        address: &Address,
        name: Option<&str>,
        now_ms: u64,
    ) -> Result<(), SyncError> {
        let _changing = self.change();
        let mut info = self.of(&peer)?;
        let is_known = info.addresses.contains(address);
        info.addresses.retain(|known| known != address);
        info.addresses.insert(0, address.clone());
        info.addresses.truncate(PEER_ADDRESSES_MAX);
        info.last_attempt_ms = Some(now_ms);
        info.name = name.map(str::to_owned).or(info.name);
        info.tried(address).last_success_ms = Some(now_ms);
        if is_known {
            return self.write_relaxed(&met_key(&peer), &info);
        }
        self.rows.delete(&unmet_key(address))?;
        self.write(&met_key(&peer), &info)?;
        self.changed.raise();
        Ok(())
    }

    /// Remembers that everything was exchanged with this peer.
    pub fn succeeded(&self, peer: PublicKey, now_ms: u64) -> Result<(), SyncError> {
        let _changing = self.change();
        let mut info = self.of(&peer)?;
        info.last_success_ms = Some(now_ms);
        info.last_error = None;
        self.write_relaxed(&met_key(&peer), &info)
    }

    /// What is known of a device.
    pub fn of(&self, peer: &PublicKey) -> Result<PeerInfo, SyncError> {
        let key = met_key(peer);
        match self.rows.get(&key)? {
            Some(value) => decode(&key, &value),
            None => Ok(PeerInfo { key: Some(*peer), ..PeerInfo::default() }),
        }
    }

    /// Remembers that nobody answered at this address, or that the session failed.
    pub fn failed(&self, address: &Address, error: &str, now_ms: u64) -> Result<(), SyncError> {
        let _changing = self.change();
        let Some(mut info) = self.at(address)? else { return Ok(()) };
        let end = (0..=PEER_ERROR_BYTES_MAX.min(error.len())).rev().find(|end| error.is_char_boundary(*end));
        let error = error[..end.unwrap_or(0)].to_owned();
        let tried = info.tried(address);
        (tried.last_failure_ms, tried.last_error) = (Some(now_ms), Some(error.clone()));
        info.last_error = Some(error);
        info.last_attempt_ms = Some(now_ms);
        let key = info.key.map_or_else(|| unmet_key(address), |key| met_key(&key));
        self.write_relaxed(&key, &info)
    }

    fn write_relaxed(&self, key: &[u8], peer: &PeerInfo) -> Result<(), SyncError> {
        Ok(self.rows.put_relaxed(key, encode(peer)?)?)
    }

    fn write(&self, key: &[u8], peer: &PeerInfo) -> Result<(), SyncError> {
        Ok(self.rows.put(key, encode(peer)?)?)
    }
}

fn encode(peer: &PeerInfo) -> Result<Vec<u8>, SyncError> {
    let is_active = peer.status == PeerStatus::Active;
    let row = Row {
        version: if is_active { ROW_VERSION_ACTIVE } else { ROW_VERSION },
        status: peer.status,
        name: peer.name.clone(),
        addresses: peer.addresses.iter().map(ToString::to_string).collect(),
        tried: peer
            .tried
            .iter()
            .filter(|tried| peer.addresses.contains(&tried.address))
            .map(TriedRow::of)
            .collect(),
        last_success_ms: peer.last_success_ms,
        last_attempt_ms: peer.last_attempt_ms,
        last_error: peer.last_error.clone(),
    };
    serde_json::to_vec(&row).map_err(SyncError::Row)
}

/// Those where it was reached come first; when there are too many, the last of those makes room.
fn add_last(addresses: &mut Vec<Address>, address: &Address) {
    if !addresses.contains(address) {
        addresses.truncate(PEER_ADDRESSES_MAX - 1);
        addresses.push(address.clone());
    }
}

/// The peer of a row, when this device has nothing to do with it. What a row says that does not read may be that.
fn blocked_by(key: &[u8], row: &[u8]) -> Option<PublicKey> {
    let peer = key.get(1..)?.try_into().ok().map(PublicKey)?;
    match decode(key, row) {
        Ok(info) => (info.status == PeerStatus::Blocked).then_some(peer),
        Err(error) => {
            tracing::error!(%peer, %error, "what is known of a peer cannot be read: it counts as blocked");
            Some(peer)
        }
    }
}

fn met_key(key: &PublicKey) -> Vec<u8> {
    [&[MET], &key.0[..]].concat()
}

fn unmet_key(address: &Address) -> Vec<u8> {
    [&[UNMET], address.as_str().as_bytes()].concat()
}

fn decode(key: &[u8], value: &[u8]) -> Result<PeerInfo, SyncError> {
    let row: Row = serde_json::from_slice(value).map_err(SyncError::Row)?;
    if row.version > ROW_VERSION {
        return Err(SyncError::NewerRow(row.version));
    }
    let key = match key.split_first() {
        Some((&MET, key)) => key.try_into().ok().map(PublicKey),
        _ => None,
    };
    Ok(PeerInfo {
        key,
        name: row.name,
        status: row.status,
        // An address that this version cannot read is of no use to it.
        addresses: row.addresses.iter().filter_map(|text| text.parse().ok()).collect(),
        last_success_ms: row.last_success_ms,
        last_attempt_ms: row.last_attempt_ms,
        last_error: row.last_error,
        tried: row.tried.into_iter().filter_map(TriedRow::read).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_before_there_was_a_status_are_read_and_what_does_not_read_counts_as_blocked() {
        let peer = PublicKey([7; 32]);
        let key = met_key(&peer);
        let row = |status: &str| {
            format!(
                r#"{{"version":1,{status}"name":null,"addresses":[],"last_success_ms":null,"last_attempt_ms":null,"last_error":null}}"#
            )
        };
        let old = decode(&key, row("").as_bytes()).expect("it is well formed");
        assert_eq!((old.key, old.status), (Some(peer), PeerStatus::Active));
        assert_eq!(blocked_by(&key, row("").as_bytes()), None);
        assert_eq!(blocked_by(&key, row(r#""status":"inactive","#).as_bytes()), None);
        assert_eq!(blocked_by(&key, row(r#""status":"blocked","#).as_bytes()), Some(peer));
        assert_eq!(blocked_by(&key, row(r#""status":"unheard of","#).as_bytes()), Some(peer));
        assert_eq!(blocked_by(&key, b"{"), Some(peer));
    }

    #[test]
    fn of_many_addresses_those_where_it_was_reached_stay() {
        let address = |n: usize| format!("memory:{n}").parse::<Address>().expect("an address");
        let mut known: Vec<Address> = (0..PEER_ADDRESSES_MAX).map(address).collect();
        add_last(&mut known, &address(3));
        assert_eq!(known.len(), PEER_ADDRESSES_MAX);
        add_last(&mut known, &address(99));
        assert_eq!((known.len(), &known[0]), (PEER_ADDRESSES_MAX, &address(0)));
        assert_eq!(known.last(), Some(&address(99)));
    }
}
