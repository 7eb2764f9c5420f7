//! How frames travel: addresses, transports, connections, links.
