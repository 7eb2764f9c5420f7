//! Which way a connection goes at this moment.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;

use futures_core::Stream as _;
use iroh::TransportAddr;
use iroh::endpoint::Connection;

/// The way that packets of a connection take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Straight to this socket.
    Direct(SocketAddr),
    /// Over the relay at this URL.
    Relay(String),
}

pub(crate) fn of(connection: &Connection) -> Option<Route> {
    let paths = connection.paths();
    let taken = paths.iter().find(|path| path.is_selected())?;
    match taken.remote_addr() {
        TransportAddr::Ip(socket) => Some(Route::Direct(*socket)),
        TransportAddr::Relay(url) => Some(Route::Relay(url.to_string())),
        _ => None,
    }
}

/// Waits until the way is another than it was; nothing when the connection ends first.
pub(crate) async fn after(connection: &Connection, seen: Option<&Route>) -> Option<Route> {
    let mut events = connection.path_events();
    loop {
        let now = of(connection);
        if now.is_some() && now.as_ref() != seen {
            return now;
        }
        poll_fn(|context| Pin::new(&mut events).poll_next(context)).await?;
    }
}
