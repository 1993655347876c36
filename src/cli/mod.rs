//! One file a command.
pub mod check;
pub mod explain;
mod explain_words;
pub mod init;
