//! The few calls that the harness needs and that no safe crate has.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Sets the loopback interface up, without which 127.0.0.1 of a fresh network namespace does not answer. See netdevice(7).
pub(crate) fn loopback_up() -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = named("lo");
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).map_err(|_| Errno::EINVAL)?;
    interface_ioctl(&socket, libc::SIOCSIFFLAGS, &request)
}

/// Whether this network namespace can have a bridge: makes one and removes it.
pub(crate) fn bridge_works() -> nix::Result<()> {
    const SIOCBRADDBR: libc::Ioctl = 0x89a0;
    const SIOCBRDELBR: libc::Ioctl = 0x89a1;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let bridge = named("kit-try");
    interface_ioctl(&socket, SIOCBRADDBR, &bridge)?;
    interface_ioctl(&socket, SIOCBRDELBR, &bridge)
}

#[allow(unsafe_code)]
fn interface_ioctl(socket: &OwnedFd, request: libc::Ioctl, argument: &libc::ifreq) -> nix::Result<()> {
    // SAFETY: the callers pass requests that only read a struct ifreq, or the name with which one begins; it outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), request, argument) }).map(drop)
}

#[allow(unsafe_code)]
fn named(name: &str) -> libc::ifreq {
    // SAFETY: struct ifreq is made of numbers and arrays of numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request
}

/// Makes the command's standard input its controlling terminal, in a session of its own: without one there is no job control
/// and no SIGWINCH. See tty_ioctl(4).
#[allow(unsafe_code)]
pub(crate) fn with_controlling_terminal(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec; it makes two system calls and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            Ok(())
        });
    }
}

/// Sets the size of a terminal, at which the kernel sends SIGWINCH to its foreground process group.
#[allow(unsafe_code)]
pub(crate) fn resize(terminal: &OwnedFd, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call reads one struct winsize, which outlives it.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) }).map(drop)
}

/// How many bytes wait to be read: see FIONREAD in tty_ioctl(2).
#[allow(unsafe_code)]
pub(crate) fn unread(file: &impl AsRawFd) -> nix::Result<libc::c_int> {
    let mut count = 0;
    // SAFETY: the call writes one int, which outlives it.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(count)
}

/// Whether the kernel has nf_tables: asks for the list of tables of this network namespace.
#[allow(unsafe_code)]
pub(crate) fn nftables_works() -> nix::Result<()> {
    const NFT_MSG_GETTABLE: u8 = 1;
    const NFNL_SUBSYS_NFTABLES: u8 = 10;
    const NLM_F_REQUEST_DUMP: u16 = 0x301;
    // SAFETY: socket(2) takes no pointer; the descriptor that it returns is ours alone.
    let socket = unsafe {
        let fd: RawFd = Errno::result(libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_NETFILTER,
        ))?;
        OwnedFd::from_raw_fd(fd)
    };
    let mut message = Vec::from(20u32.to_ne_bytes());
    message.extend([NFT_MSG_GETTABLE, NFNL_SUBSYS_NFTABLES]);
    message.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    nix::sys::socket::send(socket.as_raw_fd(), &message, nix::sys::socket::MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length =
        nix::sys::socket::recv(socket.as_raw_fd(), &mut answer, nix::sys::socket::MsgFlags::MSG_DONTWAIT)?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if length >= 20 && i32::from(kind) == libc::NLMSG_ERROR && error != 0 {
        return Err(Errno::from_raw(-error));
    }
    Ok(())
}
