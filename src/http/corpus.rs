//! Requests and responses that other proxies were fooled by.
