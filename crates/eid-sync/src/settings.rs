//! What was chosen of an engine, by name, remembered in rows of this device.

use eid_store::{EntryStore, Local};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::SyncError;
use crate::limits::{SETTING_BYTES_MAX, SETTING_NAME_BYTES_MAX, SETTINGS_MAX};

/// How a transport of one kind is made, as it is remembered.
pub trait TransportConfig: Serialize + DeserializeOwned {
    /// The scheme of the addresses that it serves.
    const SCHEME: &'static str;
    /// Another number for every form of which this one cannot read what was written.
    const VERSION: u32;
}

/// Why something that was chosen is not remembered, or not read.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The name is empty or too long.
    #[error("a name has 1 to {SETTING_NAME_BYTES_MAX} bytes")]
    Name,
    /// The value is too long.
    #[error("a value has at most {SETTING_BYTES_MAX} bytes")]
    TooLong,
    /// There are as many as there may be.
    #[error("there are {SETTINGS_MAX} already")]
    TooMany,
    /// What is remembered under the name is of another kind of transport, or of another form.
    #[error(
        "\"{name}\" is a transport of {found}, version {found_version}, not of {wanted}, version {wanted_version}"
    )]
    OtherTransport {
        /// The name.
        name: String,
        /// The scheme that is remembered.
        found: String,
        /// Its version.
        found_version: u32,
        /// The scheme that was asked for.
        wanted: &'static str,
        /// Its version.
        wanted_version: u32,
    },
    /// What is remembered cannot be read.
    #[error("what is remembered under \"{name}\" cannot be read")]
    Damaged {
        /// The name.
        name: String,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// The config has no form in which it can be remembered.
    #[error("the config cannot be written")]
    Unwritable(#[source] serde_json::Error),
}

/// The rows of one store.
#[derive(Debug)]
pub(crate) struct Settings {
    settings: Local,
    transports: Local,
}

#[derive(Serialize)]
struct Kept<'a, T> {
    scheme: &'a str,
    version: u32,
    config: &'a T,
}

#[derive(Deserialize)]
struct Found {
    scheme: String,
    version: u32,
    config: serde_json::Value,
}

fn check(name: &str) -> Result<(), SettingError> {
    if (1..=SETTING_NAME_BYTES_MAX).contains(&name.len()) { Ok(()) } else { Err(SettingError::Name) }
}

/// Writes a row, if there is room.
fn put(rows: &Local, name: &str, value: Vec<u8>) -> Result<(), SyncError> {
    check(name)?;
    if value.len() > SETTING_BYTES_MAX {
        return Err(SettingError::TooLong.into());
    }
    if rows.get(name.as_bytes())?.is_none() && rows.scan(&[])?.len() >= SETTINGS_MAX {
        return Err(SettingError::TooMany.into());
    }
    Ok(rows.put(name.as_bytes(), value)?)
}

impl Settings {
    pub(crate) fn in_store(store: &EntryStore) -> Self {
        let of = |namespace| store.local().namespace(namespace);
        Self { settings: of("sync settings"), transports: of("transports") }
    }

    pub(crate) fn set(&self, name: &str, value: Option<&str>) -> Result<(), SyncError> {
        match value {
            Some(value) => put(&self.settings, name, value.as_bytes().to_vec()),
            None => Ok(self.settings.delete(name.as_bytes())?),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Result<Option<String>, SyncError> {
        let row = self.settings.get(name.as_bytes())?;
        Ok(row.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    pub(crate) fn save_transport<T: TransportConfig>(&self, name: &str, config: &T) -> Result<(), SyncError> {
        let kept = Kept { scheme: T::SCHEME, version: T::VERSION, config };
        let row = serde_json::to_vec(&kept).map_err(SettingError::Unwritable)?;
        put(&self.transports, name, row)
    }

    pub(crate) fn load_transport<T: TransportConfig>(&self, name: &str) -> Result<Option<T>, SyncError> {
        let Some(row) = self.transports.get(name.as_bytes())? else { return Ok(None) };
        let damaged = |cause| SettingError::Damaged { name: name.to_owned(), cause };
        let Found { scheme, version, config } = serde_json::from_slice(&row).map_err(damaged)?;
        if scheme != T::SCHEME || version != T::VERSION {
            let other = SettingError::OtherTransport {
                name: name.to_owned(),
                found: scheme,
                found_version: version,
                wanted: T::SCHEME,
                wanted_version: T::VERSION,
            };
            return Err(other.into());
        }
        Ok(Some(serde_json::from_value(config).map_err(damaged)?))
    }

    pub(crate) fn forget_transport(&self, name: &str) -> Result<(), SyncError> {
        Ok(self.transports.delete(name.as_bytes())?)
    }

    /// The names of transports that are remembered, each with its scheme.
    pub(crate) fn transports(&self) -> Result<Vec<(String, String)>, SyncError> {
        let row = |(key, row): (Vec<u8>, bytes::Bytes)| {
            let name = String::from_utf8_lossy(&key).into_owned();
            match serde_json::from_slice::<Found>(&row) {
                Ok(found) => Ok((name, found.scheme)),
                Err(cause) => Err(SettingError::Damaged { name, cause }.into()),
            }
        };
        self.transports.scan(&[])?.into_iter().map(row).collect()
    }
}
