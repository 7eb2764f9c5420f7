//! Databases, transactions and typed stores on one device.
