//! The command line's table of contents: arguments in, one file of `cli/` out.
fn main() {}
