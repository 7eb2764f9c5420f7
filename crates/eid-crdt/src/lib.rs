//! Values that merge, as stamped operations.
