//! Where this device listens: at the same place as the last time, so that others find it again.

use std::net::SocketAddr;
use std::path::Path;

use eid::{Error, Http, Instance, Iroh, Quic, Relay};

use crate::{Args, Transport};

/// Listens on the port of the last time, or on any when that is taken or there is none.
pub(crate) async fn listen(node: &Instance, data: &Path, args: &Args) -> Result<(), Error> {
    let noted = data.join(match args.transport {
        Transport::Http => "chat-port-http",
        Transport::Quic => "chat-port-quic",
        Transport::Iroh => "chat-port-iroh",
    });
    let port = std::fs::read_to_string(&noted).ok().and_then(|port| port.trim().parse().ok()).unwrap_or(0);
    let addresses = match listen_on(node, args, port).await {
        Err(_) if port != 0 => listen_on(node, args, 0).await?,
        listening => listening?,
    };
    if let Some(port) = addresses.iter().find_map(|address| port_of(address.as_str())) {
        // Without it the next start takes another port, and others have to be told.
        let written = std::fs::write(&noted, port.to_string());
        written.unwrap_or_else(|error| crate::note(&format!("the port is not noted: {error}")));
    }
    Ok(())
}

async fn listen_on(node: &Instance, args: &Args, port: u16) -> Result<Vec<eid::Address>, Error> {
    let socket = SocketAddr::new(args.host, port);
    match args.transport {
        Transport::Http => node.listen(Http::on(&socket.to_string())).await,
        Transport::Quic => node.listen(Quic::on(&socket.to_string())).await,
        Transport::Iroh => {
            let relay = if args.no_relay { Relay::Off } else { Relay::Public };
            node.listen(Iroh::over(relay).on(socket)).await
        }
    }
}

fn port_of(address: &str) -> Option<u16> {
    let digits = address.rsplit(':').next()?;
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::port_of;

    #[test]
    fn the_port_stands_last_in_an_address_of_each_transport() {
        assert_eq!(port_of("http://127.0.0.1:7070"), Some(7070));
        assert_eq!(port_of("quic:[::1]:99"), Some(99));
        assert_eq!(port_of("iroh:abc?ip=127.0.0.1:4000"), Some(4000));
        assert_eq!(port_of("iroh:abc"), None);
    }
}
