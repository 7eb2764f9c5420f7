//! Behind a reverse proxy with default settings.
