//! What users want of synchronisation, and what that comes to for a device on which there are several.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use eid_core::TreeId;
use eid_core::cbor::{CborError, Reader, Writer};
use event_listener::Event;

use crate::error::DbError;
use crate::limits::{
    PROPERTIES_MAX, PROPERTY_NAME_BYTES_MAX, PROPERTY_VALUE_BYTES_MAX, SYNC_INTERVAL_SECONDS,
};

const VERSION: u64 = 1;

/// How a database is to be synchronised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncSettings {
    /// Whether it is synchronised by itself at all.
    pub sync_enabled: bool,
    /// Whether what is written is sent at once.
    pub sync_on_commit: bool,
    /// After how many seconds it is synchronised again, at least 1; nothing for never by the clock.
    pub interval_seconds: Option<u64>,
    /// What an application keeps with it: names and values.
    pub properties: BTreeMap<String, String>,
}

/// A database that a user tracks, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabasePreferences {
    /// The database.
    pub database: TreeId,
    /// How it is to be synchronised.
    pub sync: SyncSettings,
}

impl Default for SyncSettings {
    /// On, on commit, and every 300 s.
    fn default() -> Self {
        Self {
            sync_enabled: true,
            sync_on_commit: true,
            interval_seconds: Some(SYNC_INTERVAL_SECONDS),
            properties: BTreeMap::new(),
        }
    }
}

impl SyncSettings {
    /// What several users want together: what any of them wants on is on, the shortest interval counts, and properties
    /// are put together; of two values of one name the smaller one counts. In whatever order they come.
    ///
    /// ```
    /// use eid_db::SyncSettings;
    ///
    /// let (ada, ben) = (
    ///     SyncSettings { sync_on_commit: false, interval_seconds: Some(60), ..SyncSettings::default() },
    ///     SyncSettings { sync_on_commit: true, interval_seconds: None, ..SyncSettings::default() },
    /// );
    /// let both = SyncSettings::combined([&ada, &ben]).unwrap();
    /// assert!(both.sync_on_commit && both.interval_seconds == Some(60));
    /// ```
    #[must_use]
    pub fn combined<'s>(all: impl IntoIterator<Item = &'s Self>) -> Option<Self> {
        all.into_iter().cloned().reduce(|mut combined, next| {
            combined.sync_enabled |= next.sync_enabled;
            combined.sync_on_commit |= next.sync_on_commit;
            combined.interval_seconds =
                combined.interval_seconds.into_iter().chain(next.interval_seconds).min();
            for (name, value) in next.properties {
                match combined.properties.get(&name) {
                    Some(held) if *held <= value => {}
                    _ => {
                        combined.properties.insert(name, value);
                    }
                }
            }
            combined
        })
    }

    /// Whether it is within bounds.
    pub(crate) fn check(&self) -> Result<(), DbError> {
        let fits = self.interval_seconds != Some(0)
            && self.properties.len() <= PROPERTIES_MAX
            && self.properties.iter().all(|(name, value)| {
                (1..=PROPERTY_NAME_BYTES_MAX).contains(&name.len()) && value.len() <= PROPERTY_VALUE_BYTES_MAX
            });
        if fits { Ok(()) } else { Err(DbError::Preferences) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(5).uint(VERSION).bool(self.sync_enabled).bool(self.sync_on_commit);
        match self.interval_seconds {
            Some(seconds) => w.uint(seconds),
            None => w.null(),
        };
        w.array(self.properties.len());
        for (name, value) in &self.properties {
            w.array(2).text(name).text(value);
        }
        w.into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        r.array_exact(5)?;
        if r.uint()? != VERSION {
            return Err(CborError::Limit);
        }
        let (sync_enabled, sync_on_commit) = (r.bool()?, r.bool()?);
        let interval_seconds = r.nullable(Reader::uint)?;
        let mut properties = BTreeMap::new();
        for _ in 0..r.array(PROPERTIES_MAX)? {
            r.array_exact(2)?;
            let name = r.text(PROPERTY_NAME_BYTES_MAX)?.to_owned();
            let value = r.text(PROPERTY_VALUE_BYTES_MAX)?.to_owned();
            if properties.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(CborError::NonCanonical);
            }
            properties.insert(name, value);
        }
        r.finish()?;
        let settings = Self { sync_enabled, sync_on_commit, interval_seconds, properties };
        settings.check().map_err(|_| CborError::Limit)?;
        Ok(settings)
    }
}

/// Tells of which databases the preferences have changed. Never more than one mark per database waits in it, so a slow
/// reader loses nothing.
#[derive(Debug)]
pub struct PreferencesChanges(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    changed: Mutex<BTreeSet<TreeId>>,
    marked: Event,
}

/// Everybody who is told.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<Vec<Weak<Marks>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listeners {
    pub(crate) fn add(&self) -> PreferencesChanges {
        let marks = Arc::new(Marks::default());
        lock(&self.0).push(Arc::downgrade(&marks));
        PreferencesChanges(marks)
    }

    pub(crate) fn notify(&self, tree: TreeId) {
        lock(&self.0).retain(|marks| {
            let Some(marks) = marks.upgrade() else { return false };
            lock(&marks.changed).insert(tree);
            marks.marked.notify(usize::MAX);
            true
        });
    }
}

impl PreferencesChanges {
    /// The databases whose preferences have changed since it was asked last; waits for one.
    pub async fn next(&mut self) -> BTreeSet<TreeId> {
        loop {
            let marked = self.0.marked.listen();
            let changed = self.next_ready();
            if !changed.is_empty() {
                return changed;
            }
            marked.await;
        }
    }

    /// The same without waiting; perhaps none.
    pub fn next_ready(&mut self) -> BTreeSet<TreeId> {
        std::mem::take(&mut lock(&self.0.changed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> impl Strategy<Value = SyncSettings> {
        let properties = prop::collection::btree_map("[a-c]{1,2}", "[a-c]{0,2}", 0..4);
        (any::<bool>(), any::<bool>(), prop::option::of(1u64..5), properties).prop_map(
            |(sync_enabled, sync_on_commit, interval_seconds, properties)| SyncSettings {
                sync_enabled,
                sync_on_commit,
                interval_seconds,
                properties,
            },
        )
    }

    fn two(a: &SyncSettings, b: &SyncSettings) -> SyncSettings {
        SyncSettings::combined([a, b]).unwrap()
    }

    proptest! {
        #[test]
        fn combining_is_or_or_min_and_union_in_every_order(a in settings(), b in settings(), c in settings()) {
            let both = two(&a, &b);
            prop_assert_eq!(both.sync_enabled, a.sync_enabled || b.sync_enabled);
            prop_assert_eq!(both.sync_on_commit, a.sync_on_commit || b.sync_on_commit);
            let least = [a.interval_seconds, b.interval_seconds].into_iter().flatten().min();
            prop_assert_eq!(both.interval_seconds, least);
            let names: BTreeSet<_> = a.properties.keys().chain(b.properties.keys()).cloned().collect();
            prop_assert_eq!(both.properties.keys().cloned().collect::<BTreeSet<_>>(), names);
            prop_assert_eq!(&both, &two(&b, &a));
            prop_assert_eq!(two(&a, &a), a.clone());
            prop_assert_eq!(two(&two(&a, &b), &c), two(&a, &two(&b, &c)));
            prop_assert_eq!(SyncSettings::combined([&a, &b, &c]).unwrap(), two(&both, &c));
        }

        #[test]
        fn preferences_have_one_form(a in settings()) {
            let bytes = a.encode();
            prop_assert_eq!(SyncSettings::decode(&bytes), Ok(a));
            for cut in 0..bytes.len() {
                prop_assert!(SyncSettings::decode(&bytes[..cut]).is_err());
            }
            prop_assert!(SyncSettings::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn nobody_wants_nothing() {
        assert_eq!(SyncSettings::combined([]), None);
    }

    #[test]
    fn an_interval_is_at_least_a_second_and_properties_are_bounded() {
        let with = |name: String, value: String| SyncSettings {
            properties: [(name, value)].into(),
            ..SyncSettings::default()
        };
        let zero = SyncSettings { interval_seconds: Some(0), ..SyncSettings::default() };
        let many = (0..=PROPERTIES_MAX).map(|n| (format!("p{n:03}"), String::new())).collect();
        let many = SyncSettings { properties: many, ..SyncSettings::default() };
        let long_name = with("n".repeat(PROPERTY_NAME_BYTES_MAX + 1), String::new());
        let long_value = with("n".into(), "v".repeat(PROPERTY_VALUE_BYTES_MAX + 1));
        let unnamed = with(String::new(), "v".into());
        for bad in [zero, many, long_name, long_value, unnamed] {
            assert!(matches!(bad.check(), Err(DbError::Preferences)));
            assert!(SyncSettings::decode(&bad.encode()).is_err());
        }
        assert!(SyncSettings { interval_seconds: Some(1), ..SyncSettings::default() }.check().is_ok());
    }
}
