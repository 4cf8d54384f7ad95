//! The `hoptrace` command.
fn main() {}
