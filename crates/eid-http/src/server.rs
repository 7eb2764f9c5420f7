//! The listener: sockets in, requests to the routes, and an orderly end.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eid_transport::places::{Counts, reachable};
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::limits::{
    HEAD_BYTES_MAX, HEADERS_MAX, HTTP2_STREAMS_MAX, HTTP2_WINDOW_BYTES, KEEP_ALIVE, SHUTDOWN,
};
use crate::routes::{Customer, Routes};
use crate::signal::until;
use crate::stall::Patient;

/// How long to wait when the system has no socket to give, so that the loop does not spin until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener that runs.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(listen: &str, routes: Arc<Routes>) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, routes, stopped));
        Ok(Self { address, stop, task })
    }

    /// Where others reach this server. A listener on every interface names the one that leads outside.
    pub(crate) fn address(&self) -> SocketAddr {
        reachable(self.address)
    }

    /// Begins to stop, and waits for nothing.
    pub(crate) fn stop_soon(&self) {
        self.stop.send_replace(true);
    }

    /// Ends every channel, lets answers under way end for a bounded time, and closes every socket.
    pub(crate) async fn stop(self) {
        self.stop_soon();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the http listener ended badly");
        }
    }
}

async fn serve(listener: TcpListener, routes: Arc<Routes>, stopped: watch::Receiver<bool>) {
    let bounds = routes.bounds.clone();
    let counts = Arc::new(Counts::default());
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(bounds.sweep);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopping = stopped.clone();
    loop {
        tokio::select! {
            () = until(&mut stopping, |stop| *stop) => break,
            _ = sweep.tick() => routes.channels.sweep(Instant::now()),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if connections.len() >= bounds.connections_max {
                        tracing::debug!("turned away a connection: there are as many as may be");
                        continue;
                    }
                    let from = bounds.counted(peer.ip());
                    let most = bounds.connections_per_address_max;
                    let counted = from.map(|from| Counts::enter(&counts, from, most));
                    if matches!(counted, Some(None)) {
                        tracing::debug!("turned away a connection: its address has as many as it may");
                        continue;
                    }
                    let (routes, stopped) = (routes.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection(stream, Customer(from), routes, stopped).await;
                        drop(counted);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    routes.channels.shutdown();
    let ended = tokio::time::timeout(SHUTDOWN, async { while connections.join_next().await.is_some() {} });
    if ended.await.is_err() {
        tracing::debug!(left = connections.len(), "closing connections that did not end in time");
    }
    connections.shutdown().await;
}

/// Serves one socket, HTTP/1.1 or HTTP/2 as it asks for.
async fn connection(
    stream: TcpStream,
    from: Customer,
    routes: Arc<Routes>,
    mut stopped: watch::Receiver<bool>,
) {
    // Small writes that wait for acknowledgements of earlier ones cost 40 ms each.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set nodelay");
    }
    let bounds = routes.bounds.clone();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.next_request)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(bounds.next_request)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buf_size(HTTP2_WINDOW_BYTES as usize);
    let begun = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let begun = begun.clone();
        move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(from);
            begun.store(true, Ordering::Relaxed);
            let routes = routes.clone();
            async move { Ok::<_, std::convert::Infallible>(routes.handle(request).await) }
        }
    });
    let io = TokioIo::new(Patient::new(stream, bounds.write_stall));
    let mut served = pin!(builder.serve_connection(io, service));
    let mut first_byte = pin!(tokio::time::sleep(bounds.first_byte));
    let (mut waited, mut stopping) = (false, false);
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an http connection ended with an error");
                }
                return;
            }
            // The server decides by the first bytes which protocol it speaks and waits for them without a timer.
            () = first_byte.as_mut(), if !waited => {
                waited = true;
                if !begun.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = until(&mut stopped, |stop| *stop), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}
