//! Which data keys a password opens: every config is tried, some in each call, however many others have added.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use eid_core::{StoreName, TreeId};
use zeroize::Zeroizing;

use crate::limits::{UNLOCK_SEARCHES_MAX, UNLOCK_WORK_KIB_MAX};
use crate::sealed::config::Config;
use crate::sealed::format::{DataKey, KeyId};
use crate::wrap::PasswordCost;

/// What a password opens: the data keys, and one of the configs that opened.
pub(crate) struct Found {
    pub(crate) keys: BTreeMap<KeyId, DataKey>,
    pub(crate) opened_by: [u8; 32],
}

/// What came of trying a password.
pub(crate) struct Tried {
    pub(crate) found: Option<Found>,
    /// The configs that it does not open, those of earlier calls among them.
    pub(crate) failed: BTreeSet<[u8; 32]>,
    /// How many were not tried, because it would cost too much at once.
    pub(crate) left: usize,
}

/// Tries a password on configs, until that has cost as much as one call may. `hint` was right last time, those in
/// `failed` are known not to be.
pub(crate) fn try_password(
    place: (&TreeId, &StoreName),
    configs: &[([u8; 32], Config)],
    password: &str,
    hint: Option<[u8; 32]>,
    mut failed: BTreeSet<[u8; 32]>,
) -> Tried {
    let claimed: BTreeSet<[u8; 32]> =
        configs.iter().flat_map(|(_, config)| config.replaces.iter().copied()).collect();
    let mut order: Vec<&([u8; 32], Config)> =
        configs.iter().filter(|(hash, _)| !failed.contains(hash)).collect();
    // The cheap ones first: what comes before one's own costs no more than that, and who would keep others out has to
    // add many. That a config is said to be replaced decides only among equally cheap ones: anybody can say so, and
    // whether it is proven shows only with the key.
    order.sort_by_key(|(hash, config)| (Some(*hash) != hint, config.cost.work_kib(), claimed.contains(hash)));
    let mut found: Option<Found> = None;
    let (mut work, mut left) = (0, 0);
    for (hash, config) in order {
        if found.as_ref().is_some_and(|found| found.keys.contains_key(&config.key)) {
            continue;
        }
        if work > 0 && work + config.cost.work_kib() > UNLOCK_WORK_KIB_MAX {
            left += 1;
            continue;
        }
        work += config.cost.work_kib();
        let key = config.unwrap(place, password).filter(|key| {
            let mut others = configs.iter().map(|(_, other)| other);
            config.is_proven_by(key, place)
                && !others.any(|other| other.replaces.contains(hash) && other.is_proven_by(key, place))
        });
        let Some(key) = key else {
            failed.insert(*hash);
            continue;
        };
        let found = found.get_or_insert_with(|| Found { keys: BTreeMap::new(), opened_by: *hash });
        found.keys.insert(key.id(), key);
    }
    Tried { found, failed, left }
}

/// How far passwords were tried on one store, where that is not at its end.
#[derive(Debug)]
pub(crate) struct Searches {
    salt: [u8; 16],
    cost: PasswordCost,
    /// The one that was tried last is the last.
    begun: VecDeque<Search>,
}

struct Search {
    tag: Tag,
    failed: BTreeSet<[u8; 32]>,
}

// What a password can be guessed from is not for logs.
impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("failed", &self.failed.len()).finish_non_exhaustive()
    }
}

/// What Argon2id makes of a password: as costly to guess from as a config.
pub(crate) type Tag = Zeroizing<[u8; 32]>;

impl Searches {
    pub(crate) fn new(salt: [u8; 16], cost: PasswordCost) -> Self {
        Self { salt, cost, begun: VecDeque::new() }
    }

    /// What names a password here.
    pub(crate) fn tag(&self, password: &str) -> Tag {
        self.cost.key(password, &self.salt)
    }

    /// The configs that this password is known not to open. They are given up until [`Self::keep`].
    pub(crate) fn take(&mut self, tag: &Tag) -> BTreeSet<[u8; 32]> {
        let at = self.begun.iter().position(|held| held.tag == *tag);
        at.and_then(|at| self.begun.remove(at)).map(|held| held.failed).unwrap_or_default()
    }

    /// Keeps them, and forgets those of the password that was not tried for longest.
    pub(crate) fn keep(&mut self, tag: Tag, failed: BTreeSet<[u8; 32]>) {
        if self.begun.len() >= UNLOCK_SEARCHES_MAX {
            self.begun.pop_front();
        }
        self.begun.push_back(Search { tag, failed });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }
}
