//! The iroh transport keeps the contract of transports, over a relay that can go away.

use crate::network::{relayed, run};

eid_transport::transport_conformance!(run, relayed);
