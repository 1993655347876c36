//! What a carrier is given, what it gives, and why it may not: the same whichever protocol carries it.

use super::stream::StreamError;
use crate::http::{RequestEdits, RequestHead};

/// The request that a carrier is given.
#[derive(Clone, Copy)]
pub struct Outgoing<'r> {
    pub head: &'r RequestHead,
    /// The bytes that `head` was read from.
    pub raw: &'r [u8],
    pub edits: RequestEdits<'r>,
}

/// Why a response did not come, or not all of it.
#[derive(Debug)]
pub enum CarrierError {
    /// The server ended the connection in order (`None`), or it failed.
    Ended(Option<StreamError>),
    /// What came is no response.
    Protocol(String),
}

/// The form in which the bytes of a body are handed from one side to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As HTTP/1 has framed them, chunk lines included: another HTTP/1 connection takes them untouched.
    Framed,
    /// The data alone.
    Data,
}
