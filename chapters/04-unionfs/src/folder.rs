//! Read a layer's directory by descriptors.
//!
//! A running container may swap a directory for a link at any moment. A path that is walked as text from the host's side would
//! then lead out of the layer; a chain of openat(2) with `O_NOFOLLOW` cannot. Everything here only reads.
