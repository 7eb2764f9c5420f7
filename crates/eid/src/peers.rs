//! The devices that this one knows, remembered in rows that are never synchronised.

use eid_core::PublicKey;
use eid_store::{EntryStore, Local};
use eid_transport::Address;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::limits::{PEER_ADDRESSES_MAX, PEER_ERROR_BYTES_MAX, PEERS_CALLING_MAX};

/// A device that this one has met, or whose address it was told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerInfo {
    /// Its device key; nothing as long as it was never met.
    pub key: Option<PublicKey>,
    /// What it calls itself, as it was told: shown to people, never trusted.
    pub name: Option<String>,
    /// Where it was reached, the last success first.
    pub addresses: Vec<Address>,
    /// When a session with it last came to its end, in milliseconds since 1970.
    pub last_success_ms: Option<u64>,
    /// When one was last tried.
    pub last_attempt_ms: Option<u64>,
    /// What the last attempt failed with; nothing when it succeeded.
    pub last_error: Option<String>,
}

/// The rows in which peers are remembered.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    rows: Local,
}

/// How a peer lies in its row.
#[derive(Serialize, Deserialize)]
struct Row {
    version: u32,
    name: Option<String>,
    addresses: Vec<String>,
    last_success_ms: Option<u64>,
    last_attempt_ms: Option<u64>,
    last_error: Option<String>,
}

const ROW_VERSION: u32 = 1;
/// Begins the rows of peers that were met: their key follows.
const MET: u8 = b'k';
/// Begins the rows of addresses where nobody was met yet: the address follows.
const UNMET: u8 = b'a';

impl Peers {
    pub(crate) fn in_store(store: &EntryStore) -> Self {
        Self { rows: store.local().namespace("peers") }
    }

    pub(crate) fn list(&self) -> Result<Vec<PeerInfo>, Error> {
        let rows = self.rows.scan(&[])?;
        rows.iter().map(|(key, value)| decode(key, value)).collect()
    }

    /// The peer that was last met at this address.
    pub(crate) fn at(&self, address: &Address) -> Result<Option<PeerInfo>, Error> {
        let mut peers = self.list()?;
        peers.retain(|peer| peer.addresses.contains(address));
        peers.sort_by_key(|peer| (peer.key.is_some(), peer.last_success_ms));
        Ok(peers.pop())
    }

    /// Whether this peer is remembered, or an address of it at which nobody was met yet.
    pub(crate) fn is_known(&self, peer: &PublicKey, at: &Address) -> Result<bool, Error> {
        Ok(self.rows.get(&met_key(peer))?.is_some() || self.rows.get(&unmet_key(at))?.is_some())
    }

    /// Remembers an address whose peer is not known yet.
    pub(crate) fn add(&self, address: &Address) -> Result<(), Error> {
        if self.at(address)?.is_none() {
            self.write(
                &unmet_key(address),
                &PeerInfo { addresses: vec![address.clone()], ..PeerInfo::default() },
            )?;
        }
        Ok(())
    }

    /// Forgets a peer, and addresses of it where nobody was met yet.
    pub(crate) fn forget(&self, peer: &PeerInfo) -> Result<(), Error> {
        for address in &peer.addresses {
            self.rows.delete(&unmet_key(address))?;
        }
        match &peer.key {
            Some(key) => Ok(self.rows.delete(&met_key(key))?),
            None => Ok(()),
        }
    }

    /// Remembers who joined a database here. Where it may be reached is not known.
    pub(crate) fn joined(&self, peer: PublicKey, name: &str, now_ms: u64) -> Result<(), Error> {
        let mut info = self.of(&peer)?;
        info.last_attempt_ms = Some(now_ms);
        info.name = Some(name.to_owned()).filter(|name| !name.is_empty()).or(info.name);
        self.write(&met_key(&peer), &info)
    }

    /// Remembers that everything was exchanged with a peer that dialled. Who was never met before is only taken up as
    /// long as there are not many: a database may be open to everyone.
    pub(crate) fn called(&self, peer: PublicKey, now_ms: u64) -> Result<(), Error> {
        let is_known = self.rows.get(&met_key(&peer))?.is_some();
        if !is_known && self.rows.scan(&[MET])?.len() >= PEERS_CALLING_MAX {
            return Ok(());
        }
        self.succeeded(peer, now_ms)
    }

    /// Remembers who proved its key at this address.
    pub(crate) fn met(
        &self,
        peer: PublicKey,
        address: &Address,
        name: Option<&str>,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut info = self.of(&peer)?;
        info.addresses.retain(|known| known != address);
        info.addresses.insert(0, address.clone());
        info.addresses.truncate(PEER_ADDRESSES_MAX);
        info.last_attempt_ms = Some(now_ms);
        info.name = name.map(str::to_owned).or(info.name);
        self.rows.delete(&unmet_key(address))?;
        self.write(&met_key(&peer), &info)
    }

    /// Remembers that everything was exchanged with this peer.
    pub(crate) fn succeeded(&self, peer: PublicKey, now_ms: u64) -> Result<(), Error> {
        let mut info = self.of(&peer)?;
        info.last_success_ms = Some(now_ms);
        info.last_error = None;
        self.write(&met_key(&peer), &info)
    }

    /// What is known of a device.
    pub(crate) fn of(&self, peer: &PublicKey) -> Result<PeerInfo, Error> {
        let key = met_key(peer);
        match self.rows.get(&key)? {
            Some(value) => decode(&key, &value),
            None => Ok(PeerInfo { key: Some(*peer), ..PeerInfo::default() }),
        }
    }

    /// Remembers that nobody answered at this address, or that the session failed.
    pub(crate) fn failed(&self, address: &Address, error: &str, now_ms: u64) -> Result<(), Error> {
        let Some(mut info) = self.at(address)? else { return Ok(()) };
        let end = (0..=PEER_ERROR_BYTES_MAX.min(error.len())).rev().find(|end| error.is_char_boundary(*end));
        info.last_error = Some(error[..end.unwrap_or(0)].to_owned());
        info.last_attempt_ms = Some(now_ms);
        let key = info.key.map_or_else(|| unmet_key(address), |key| met_key(&key));
        self.write(&key, &info)
    }

    fn write(&self, key: &[u8], peer: &PeerInfo) -> Result<(), Error> {
        let row = Row {
            version: ROW_VERSION,
            name: peer.name.clone(),
            addresses: peer.addresses.iter().map(ToString::to_string).collect(),
            last_success_ms: peer.last_success_ms,
            last_attempt_ms: peer.last_attempt_ms,
            last_error: peer.last_error.clone(),
        };
        let value = serde_json::to_vec(&row)
            .map_err(|cause| Error::caused(ErrorKind::Io, "cannot write a peer", cause))?;
        Ok(self.rows.put(key, value)?)
    }
}

fn met_key(key: &PublicKey) -> Vec<u8> {
    [&[MET], &key.0[..]].concat()
}

fn unmet_key(address: &Address) -> Vec<u8> {
    [&[UNMET], address.as_str().as_bytes()].concat()
}

fn decode(key: &[u8], value: &[u8]) -> Result<PeerInfo, Error> {
    let row: Row = serde_json::from_slice(value)
        .map_err(|cause| Error::caused(ErrorKind::Corrupt, "the row of a peer is damaged", cause))?;
    if row.version > ROW_VERSION {
        return Err(Error::new(ErrorKind::NewerFormat, "a peer was remembered by a newer version"));
    }
    let key = match key.split_first() {
        Some((&MET, key)) => key.try_into().ok().map(PublicKey),
        _ => None,
    };
    Ok(PeerInfo {
        key,
        name: row.name,
        // An address that this version cannot read is of no use to it.
        addresses: row.addresses.iter().filter_map(|text| text.parse().ok()).collect(),
        last_success_ms: row.last_success_ms,
        last_attempt_ms: row.last_attempt_ms,
        last_error: row.last_error,
    })
}
