//! The QUIC transport keeps the contract of transports, with a relay of datagrams in between that can fall silent.

use crate::network::{pair, run};

eid_transport::transport_conformance!(run, pair);
