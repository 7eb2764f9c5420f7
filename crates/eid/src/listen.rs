//! What an instance can listen on.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "http")]
use eid_transport::Address;
use eid_transport::Transport;

/// A transport that is about to be listened on.
#[derive(Clone)]
pub struct Listener {
    pub(crate) transport: Arc<dyn Transport>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.transport.fmt(f)
    }
}

impl From<Arc<dyn Transport>> for Listener {
    fn from(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }
}

/// HTTP: sealed end to end without certificates, also through reverse proxies.
#[cfg(feature = "http")]
#[derive(Debug, Clone)]
pub struct Http {
    listen: String,
    advertise: Vec<Address>,
}

#[cfg(feature = "http")]
impl Http {
    /// Listens on `HOST:PORT`; port 0 picks a free one.
    #[must_use]
    pub fn on(listen: &str) -> Self {
        Self { listen: listen.to_owned(), advertise: Vec::new() }
    }

    /// Names an address under which others reach it, such as that of a reverse proxy, instead of the one it listens
    /// on.
    #[must_use]
    pub fn advertise(mut self, address: Address) -> Self {
        self.advertise.push(address);
        self
    }
}

#[cfg(feature = "http")]
impl From<Http> for Listener {
    fn from(http: Http) -> Self {
        let mut config = eid_http::HttpConfig::listening(&http.listen);
        config.advertise = http.advertise;
        Self { transport: Arc::new(eid_http::HttpTransport::new(config)) }
    }
}
