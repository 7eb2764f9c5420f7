//! The HTTP transport keeps the contract of transports, with a proxy in between that can cut.

use crate::common::run;
use crate::network::pair;

eid_transport::transport_conformance!(run, pair);
