//! The command line: one file a command.
pub mod explain;
mod explain_words;
