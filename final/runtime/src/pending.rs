//! Types of the chapters' crates, as agreed, until those are there.
#![allow(missing_docs)]
use std::net::Ipv4Addr;
use std::path::PathBuf;

#[derive(Debug)]
pub struct Overlay {
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub userxattr: bool,
    pub volatile: bool,
}

#[derive(Debug)]
pub struct Interface {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Ipv4Addr,
}

#[derive(Debug)]
pub struct Cgroup {}
