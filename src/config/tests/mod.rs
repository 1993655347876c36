//! The configuration as its users meet it: mistakes and their messages, examples, folders, arbitrary bytes.

mod arbitrary;
mod differential;
mod examples;
mod folders;
mod limits;
mod mistakes;
mod settings;
