//! `sampan-runtime`: an OCI runtime in runc's form.

fn main() {}
