//! The commands: one file each, with its arguments and a `run` that returns the exit code.

pub mod init;
