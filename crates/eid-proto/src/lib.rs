//! What two peers say: connection, control link and session as state machines.
