//! Instances that meet over iroh: one endpoint each, for dialling and for listening.

use std::time::Duration;

use eid::{Access, ErrorKind, Instance, Iroh, Relay};

const SOON: Duration = Duration::from_secs(20);

fn here() -> Iroh {
    Iroh::over(Relay::Off).on(([127, 0, 0, 1], 0).into())
}

async fn instance() -> Instance {
    Instance::builder().memory().open().await.expect("memory is there")
}

#[tokio::test]
async fn an_instance_joins_by_a_ticket_over_iroh() {
    let (a, b) = (instance().await, instance().await);
    let address = a.listen(here()).await.unwrap().remove(0);
    assert!(address.as_str().starts_with(&format!("iroh:{}?ip=", a.device())), "{address}");
    let notes = a.create_database("notes").await.unwrap();
    notes.doc("main").set("x", 1).await.unwrap();
    let ticket = notes.share(Access::write()).await.unwrap();
    assert_eq!(ticket.addresses, [address]);
    let joined = b.join(&ticket).within(SOON).await.unwrap();
    assert_eq!(joined.state_hash().unwrap(), notes.state_hash().unwrap());
    a.close().await.unwrap();
    b.close().await.unwrap();
}

#[tokio::test]
async fn listening_over_another_transport_does_not_open_an_iroh_endpoint_to_others() {
    let a = instance().await;
    a.listen(eid::Http::on("127.0.0.1:0")).await.unwrap();
    let notes = a.create_database("notes").await.unwrap();
    let ticket = notes.share(Access::write()).await.unwrap();
    assert!(ticket.addresses.iter().all(|address| address.scheme() == "http"), "{:?}", ticket.addresses);
    a.close().await.unwrap();
}

#[tokio::test]
async fn listening_again_takes_the_place_of_the_endpoint_before() {
    let (a, b) = (instance().await, instance().await);
    let first = a.listen(here()).await.unwrap().remove(0);
    let second = a.listen(here()).await.unwrap().remove(0);
    assert_ne!(first, second);
    let notes = a.create_database("notes").await.unwrap();
    let ticket = notes.share(Access::write()).await.unwrap();
    assert_eq!(ticket.addresses, std::slice::from_ref(&second));
    // The socket is free again.
    let socket = first.as_str().split("ip=").nth(1).unwrap().parse::<std::net::SocketAddr>().unwrap();
    drop(std::net::UdpSocket::bind(socket).unwrap());
    b.sync_with(&second, None, SOON).await.unwrap();
    a.close().await.unwrap();
    b.close().await.unwrap();
}

#[tokio::test]
async fn another_device_at_the_socket_of_an_address_is_not_met() {
    let (a, b) = (instance().await, instance().await);
    let address = a.listen(here()).await.unwrap().remove(0).to_string();
    let nobody = eid::SecretKey::from_seed([9; 32]).public();
    let wrong = address.replace(&a.device().to_string(), &nobody.to_string()).parse().unwrap();
    let error = b.sync_with(&wrong, None, SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    a.close().await.unwrap();
    b.close().await.unwrap();
}
