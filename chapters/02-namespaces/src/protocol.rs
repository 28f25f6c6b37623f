//! What the runtime process and the init process say to each other.
//!
//! Between clone3 and execve two processes work on one container, and each waits for something that the other alone can do.
//! They talk over a socketpair, one message a datagram:
//!
//! ```text
//! runtime process                         init process
//!       |---------------- clone3 -------------->|
//!  uid_map, gid_map                          (waits)
//!       |----------- ToInit::IdsMapped -------->|   only with a user namespace of its own
//!  network, cgroup v1                        mounts, pivot_root, host name
//!       |<------ FromInit::Terminal + fd -------|   only with a terminal
//!       |<---------- FromInit::Ready -----------|   only where the runtime process waits for it
//!       |------------ ToInit::Proceed --------->|
//!       |                                    execve
//!       |<------------ end of file -------------|   the descriptor is close-on-exec: no message is needed
//!       |<-------- FromInit::Failed ------------|   or this, at any time before
//! ```
//!
//! The end of file works the other way too: where the runtime process dies, the init process reads it and exits.
//!
//! See socketpair(2), unix(7): `SOCK_SEQPACKET` keeps messages apart, and `SCM_RIGHTS` carries a descriptor.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, sendmsg,
    socketpair,
};

use crate::StageError;

// ANCHOR: protocol
/// What the runtime process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToInit {
    /// The id maps are written: you may become root inside.
    IdsMapped,
    /// All that you need from outside is done: run the command.
    Proceed,
}

/// What the init process says.
#[derive(Debug)]
pub(crate) enum FromInit {
    /// From a process that only enters namespaces, on a socketpair of its own: the init process that it made in them has this
    /// pid, as the runtime process sees it.
    Joined(i32),
    /// The master side of the container's terminal.
    Terminal(OwnedFd),
    /// All is set up; I wait for [`ToInit::Proceed`].
    Ready,
    /// I failed, and exit.
    Failed(StageError),
}
// ANCHOR_END: protocol

/// More than the longest chain of causes.
const LONGEST: usize = 1 << 16;

impl ToInit {
    fn encode(self) -> u8 {
        match self {
            Self::IdsMapped => b'm',
            Self::Proceed => b'p',
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            b"m" => Some(Self::IdsMapped),
            b"p" => Some(Self::Proceed),
            _ => None,
        }
    }
}

impl FromInit {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Joined(pid) => [b"j".as_slice(), &pid.to_le_bytes()].concat(),
            Self::Terminal(_) => vec![b't'],
            Self::Ready => vec![b'r'],
            Self::Failed(error) => {
                let mut bytes = vec![b'f'];
                error.encode(&mut bytes);
                bytes
            }
        }
    }

    fn decode(bytes: &[u8], descriptor: Option<OwnedFd>) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            b'j' => rest.try_into().ok().map(|pid| Self::Joined(i32::from_le_bytes(pid))),
            b't' => descriptor.map(Self::Terminal),
            b'r' => Some(Self::Ready),
            b'f' => StageError::decode(rest).map(Self::Failed),
            _ => None,
        }
    }
}

/// The runtime process's end.
#[derive(Debug)]
pub(crate) struct RuntimeSocket(OwnedFd);

/// The init process's end.
#[derive(Debug)]
pub(crate) struct InitSocket(OwnedFd);

/// Both ends. Each process drops the other's: an end of file comes when the last copy is closed.
pub(crate) fn sockets() -> Result<(RuntimeSocket, InitSocket), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok((RuntimeSocket(ours), InitSocket(theirs)))
}

impl RuntimeSocket {
    pub(crate) fn send(&self, message: ToInit) -> Result<(), Errno> {
        send(&self.0, &[message.encode()], None)
    }

    /// The next message; none at the end of file.
    pub(crate) fn receive(&self) -> Result<Option<FromInit>, Errno> {
        let mut bytes = vec![0; LONGEST];
        let mut space = cmsg_space!(i32);
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(self.0.as_raw_fd(), &mut pieces, Some(&mut space), flags) {
            Err(Errno::EINTR) => return self.receive(),
            other => other?,
        };
        let length = message.bytes;
        let descriptor = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied().map(adopt),
            _ => None,
        });
        match length {
            0 => Ok(None),
            length => FromInit::decode(&bytes[..length], descriptor).map(Some).ok_or(Errno::EBADMSG),
        }
    }
}

impl InitSocket {
    pub(crate) fn send(&self, message: &FromInit) -> Result<(), Errno> {
        let descriptor = match message {
            FromInit::Terminal(master) => Some(master),
            _ => None,
        };
        send(&self.0, &message.encode(), descriptor)
    }

    /// The next message; none where the runtime process is gone.
    pub(crate) fn receive(&self) -> Result<Option<ToInit>, Errno> {
        let mut byte = [0; 2];
        match retry(|| recv(self.0.as_raw_fd(), &mut byte, MsgFlags::empty()))? {
            0 => Ok(None),
            length => ToInit::decode(&byte[..length]).map(Some).ok_or(Errno::EBADMSG),
        }
    }

    /// Whether the runtime process is still there.
    pub(crate) fn is_alive(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        !matches!(recv(self.0.as_raw_fd(), &mut [0; 2], flags), Ok(0))
    }
}

fn send(socket: &OwnedFd, bytes: &[u8], descriptor: Option<&OwnedFd>) -> Result<(), Errno> {
    let descriptors: Vec<_> = descriptor.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    retry(|| sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)).map(drop)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

#[allow(unsafe_code)]
fn adopt(descriptor: i32) -> OwnedFd {
    // SAFETY: recvmsg has just made this descriptor for us, and it is taken out of the message once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn each_message_arrives_as_it_was_sent() {
        let (runtime, init) = sockets().unwrap();
        runtime.send(ToInit::IdsMapped).unwrap();
        runtime.send(ToInit::Proceed).unwrap();
        assert_eq!(init.receive().unwrap(), Some(ToInit::IdsMapped));
        assert!(init.is_alive());
        assert_eq!(init.receive().unwrap(), Some(ToInit::Proceed));

        init.send(&FromInit::Joined(4711)).unwrap();
        init.send(&FromInit::Ready).unwrap();
        assert!(matches!(runtime.receive().unwrap(), Some(FromInit::Joined(4711))));
        assert!(matches!(runtime.receive().unwrap(), Some(FromInit::Ready)));
    }

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let (runtime, init) = sockets().unwrap();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let inode = nix::sys::stat::fstat(&file).unwrap().st_ino;
        init.send(&FromInit::Terminal(file.into())).unwrap();
        let Some(FromInit::Terminal(received)) = runtime.receive().unwrap() else { panic!("no descriptor") };
        assert_eq!(nix::sys::stat::fstat(received.as_fd()).unwrap().st_ino, inode);
    }

    #[test]
    fn the_end_of_one_side_is_an_end_of_file_at_the_other() {
        let (runtime, init) = sockets().unwrap();
        drop(runtime);
        assert!(!init.is_alive());
        assert_eq!(init.receive().unwrap(), None);
        let (runtime, init) = sockets().unwrap();
        drop(init);
        assert!(runtime.receive().unwrap().is_none());
    }
}
