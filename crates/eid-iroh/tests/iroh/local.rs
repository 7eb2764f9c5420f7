//! Devices that know nothing of each other but a key find each other on the local network.
//!
//! Asked for with `EID_TEST_MDNS=1`, as it needs an interface that passes multicast on.

use eid_iroh::{IrohConfig, IrohTransport, Relay, Route, Search};
use eid_transport::Transport;

use crate::network::{device, key, link, run, to_and_fro};

#[test]
fn devices_on_one_network_meet_by_their_keys() {
    if std::env::var_os("EID_TEST_MDNS").is_none() {
        return;
    }
    run(async {
        let on_the_network =
            |seed| IrohConfig { bind: None, search: Search::Local, ..device(seed, &Relay::Off) };
        let server = IrohTransport::new(on_the_network(2));
        server.listen().await.expect("it can listen");
        let client = IrohTransport::new(on_the_network(1));
        let only_a_key = format!("iroh:{}", key(2)).parse().expect("an address");
        let mut linked = link(&client, &server, &only_a_key).await;
        to_and_fro(&mut linked, "hello").await;
        assert!(matches!(client.route(&key(2)), Some(Route::Direct(_))));
    });
}
