//! The transports of an engine, by name, and what each of them does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eid_transport::{Address, ListenError, Transport};

use crate::engine::chain;

/// Whether others reach this device over a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportState {
    /// It dials, and does not listen.
    Off,
    /// It listens.
    Listening,
    /// It could not listen, for this reason. It dials all the same.
    Failed(String),
}

/// A transport in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportInfo {
    /// Its name.
    pub name: String,
    /// The scheme of the addresses that it serves.
    pub scheme: String,
    /// What it does.
    pub state: TransportState,
    /// Where others reach it; empty while it does not listen.
    pub addresses: Vec<Address>,
}

#[derive(Debug)]
struct Registered {
    name: String,
    transport: Arc<dyn Transport>,
    state: TransportState,
}

/// The transports, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Vec<Registered>>);

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Vec<Registered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one. Gives the one that had its name, which is none of them any more.
    pub(crate) fn put(&self, name: &str, transport: Arc<dyn Transport>) -> Option<Arc<dyn Transport>> {
        let mut all = self.lock();
        let added = Registered { name: name.to_owned(), transport, state: TransportState::Off };
        match all.iter_mut().find(|registered| registered.name == name) {
            Some(registered) => Some(std::mem::replace(registered, added).transport),
            None => {
                all.push(added);
                None
            }
        }
    }

    /// Adds one under its scheme, with a number where that is taken.
    pub(crate) fn add(&self, transport: Arc<dyn Transport>) -> String {
        let mut all = self.lock();
        let scheme = transport.scheme();
        let numbered = (2..).map(|number: u64| format!("{scheme}-{number}"));
        let mut names = std::iter::once(scheme.to_owned()).chain(numbered);
        let name = names.find(|name| all.iter().all(|registered| registered.name != *name));
        let name = name.expect("there are more numbers than transports");
        all.push(Registered { name: name.clone(), transport, state: TransportState::Off });
        name
    }

    /// Takes one away.
    pub(crate) fn remove(&self, name: &str) -> Option<Arc<dyn Transport>> {
        let mut all = self.lock();
        let at = all.iter().position(|registered| registered.name == name)?;
        Some(all.remove(at).transport)
    }

    /// Takes away all of a scheme.
    pub(crate) fn remove_scheme(&self, scheme: &str) -> Vec<Arc<dyn Transport>> {
        let mut all = self.lock();
        let removed = all.extract_if(.., |registered| registered.transport.scheme() == scheme);
        removed.map(|registered| registered.transport).collect()
    }

    /// Takes away all.
    pub(crate) fn clear(&self) -> Vec<Arc<dyn Transport>> {
        std::mem::take(&mut *self.lock()).into_iter().map(|registered| registered.transport).collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<dyn Transport>> {
        self.lock().iter().map(|registered| Arc::clone(&registered.transport)).collect()
    }

    pub(crate) fn of_scheme(&self, scheme: &str) -> Vec<Arc<dyn Transport>> {
        self.all().into_iter().filter(|transport| transport.scheme() == scheme).collect()
    }

    /// Notes that one listens; gives whether it did not before, and is still one of them.
    pub(crate) fn listens(&self, transport: &Arc<dyn Transport>) -> bool {
        self.note(transport, TransportState::Listening)
    }

    pub(crate) fn failed(&self, transport: &Arc<dyn Transport>, error: &ListenError) {
        let state = match error {
            // Made to dial only.
            ListenError::NoAddress => TransportState::Off,
            error => TransportState::Failed(chain(error)),
        };
        self.note(transport, state);
    }

    pub(crate) fn stopped(&self, transport: &Arc<dyn Transport>) {
        self.note(transport, TransportState::Off);
    }

    fn note(&self, transport: &Arc<dyn Transport>, state: TransportState) -> bool {
        let mut all = self.lock();
        let found = all.iter_mut().find(|registered| Arc::ptr_eq(&registered.transport, transport));
        found.is_some_and(|registered| {
            let is_changed = registered.state != state;
            registered.state = state;
            is_changed
        })
    }

    pub(crate) fn list(&self) -> Vec<TransportInfo> {
        let info = |registered: &Registered| TransportInfo {
            name: registered.name.clone(),
            scheme: registered.transport.scheme().to_owned(),
            state: registered.state.clone(),
            addresses: registered.transport.addresses(),
        };
        self.lock().iter().map(info).collect()
    }
}
