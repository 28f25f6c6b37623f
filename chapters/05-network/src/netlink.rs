//! Talk to the kernel's network code through a netlink socket.
//!
//! The network has no files to write: links, addresses, routes and packet filters are made by *messages* on a socket. A message
//! is a header (length, type, flags, sequence number), a fixed part, and attributes, each with a length and a type. `ip` and
//! `nft` are programs that write such messages; here they are written without them, which saves a process each.
//!
//! What the kernel requires: 1. `NLM_F_REQUEST` on each message; 2. each message and attribute padded to 4 bytes; 3.
//! `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
//!
//! What it gives: 4. several messages in one `sendto` are carried out one after another *before that call returns*, so that their
//! answers are already in the socket; 5. with `NLM_F_ACK` each is answered by an errno, 0 for done, and (`NETLINK_EXT_ACK`) by a
//! sentence that says what was wrong; 6. a route message that fails does not stop those behind it, while a
//! [batch for nftables](crate::nftables) is carried out as a whole or not at all.
//!
//! See netlink(7), rtnetlink(7).

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols};
use nix::errno::Errno;
use step::{StepError, step};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Flag of an answer whose attributes follow the header of the message that it answers.
const ACK_TLVS: u16 = 0x200;
const ATTRIBUTE_MESSAGE: u16 = 1;

/// One message, with what a reader wants to know of it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The message's type, as in the manual: `RTM_NEWLINK`.
    pub call: &'static str,
    /// What it acts on, as `ip` or `nft` would be told.
    pub operands: String,
    /// Why it is sent.
    pub why: &'static str,
    /// The whole message; the sequence number in its header is written when it is sent.
    pub bytes: Vec<u8>,
}

impl Request {
    /// A request that changes links, addresses or routes. `flags` are added to `NLM_F_REQUEST` and `NLM_F_ACK`.
    pub fn route(
        call: &'static str,
        operands: String,
        why: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Self {
        Self { call, operands, why, bytes: serialize(message, NLM_F_REQUEST | NLM_F_ACK | flags) }
    }
}

/// The bytes of a route message with its header.
pub(crate) fn serialize(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// A netlink socket with its count of messages.
#[derive(Debug)]
pub struct Channel {
    socket: Socket,
    sequence: u32,
}

impl Channel {
    /// A socket for links, addresses and routes.
    ///
    /// # Errors
    /// The step, as for all functions here.
    pub fn route() -> Result<Self, StepError> {
        Self::open(protocols::NETLINK_ROUTE, "NETLINK_ROUTE")
    }

    /// A socket for nftables.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` where the kernel has no nfnetlink.
    pub fn netfilter() -> Result<Self, StepError> {
        Self::open(protocols::NETLINK_NETFILTER, "NETLINK_NETFILTER")
    }

    // A socket is opened also just to look, so it is no step of the story.
    fn open(protocol: isize, name: &'static str) -> Result<Self, StepError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_ext_ack(true)?;
            // An answer without the message that it answers is short, and its attributes stand at a known place.
            socket.set_cap_ack(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|error| StepError::new("socket AF_NETLINK", name, error))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends the requests in one call, and tells each as a step. The first line's time is that of the whole batch.
    ///
    /// # Errors
    /// The first request that the kernel refused, with its errno and its words.
    // ANCHOR: batch
    pub fn batch(&mut self, requests: &[Request]) -> Result<(), StepError> {
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        for request in requests {
            self.sequence += 1;
            bytes.extend_from_slice(&numbered(&request.bytes, self.sequence));
        }
        let mut answers = None;
        for (sequence, request) in (first..).zip(requests) {
            let mut words = String::new();
            let sent = step(request.call, format_args!("{}", request.operands), request.why).run(|| {
                if answers.is_none() {
                    self.socket.send(&bytes, 0)?;
                    answers = Some(self.answers()?);
                }
                match answers.iter().flatten().find(|answer| answer.sequence == sequence && answer.errno != 0)
                {
                    Some(refusal) => {
                        words.clone_from(&refusal.words);
                        Err(io::Error::from_raw_os_error(refusal.errno))
                    }
                    None => Ok(()),
                }
            });
            sent.map_err(|error| match (words.as_str(), error.errno()) {
                ("", _) | (_, None) => error,
                (words, Some(errno)) => {
                    StepError::new(request.call, format_args!("{} ({words})", request.operands), errno)
                }
            })?;
        }
        Ok(())
    }
    // ANCHOR_END: batch

    /// All answers that wait in the socket. Nothing more comes: the kernel has worked through the batch before `send` returned.
    fn answers(&self) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        loop {
            match receive(&self.socket, libc::MSG_DONTWAIT) {
                Ok(bytes) => answers.extend(messages(&bytes).filter_map(Answer::parse)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(answers),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a question and collects the messages that answer it. A read: no step.
    ///
    /// # Errors
    /// What the kernel answered instead.
    pub fn ask(&mut self, what: &'static str, request: &[u8]) -> Result<Vec<Vec<u8>>, StepError> {
        self.sequence += 1;
        let ask = || -> io::Result<Vec<Vec<u8>>> {
            self.socket.send(&numbered(request, self.sequence), 0)?;
            let dump = flags(request) & NLM_F_DUMP == NLM_F_DUMP;
            let mut found = Vec::new();
            loop {
                let bytes = receive(&self.socket, 0)?;
                for message in messages(&bytes) {
                    match (kind(message), Answer::parse(message)) {
                        (NLMSG_DONE, _) => return Ok(found),
                        (_, Some(answer)) if answer.errno != 0 => {
                            return Err(io::Error::from_raw_os_error(answer.errno));
                        }
                        (NLMSG_ERROR, _) => return Ok(found),
                        _ => found.push(message.to_vec()),
                    }
                }
                if !dump {
                    return Ok(found);
                }
            }
        };
        ask().map_err(|error| StepError::new(what, "", error))
    }

    /// Asks a question of links, addresses or routes.
    ///
    /// # Errors
    /// What the kernel answered instead.
    pub fn ask_route(
        &mut self,
        what: &'static str,
        question: RouteNetlinkMessage,
        dump: bool,
    ) -> Result<Vec<RouteNetlinkMessage>, StepError> {
        let flags = NLM_F_REQUEST | if dump { NLM_F_DUMP } else { 0 };
        let found = self.ask(what, &serialize(question, flags))?;
        // A message that this library does not understand is of a kind that nobody asked for.
        let parsed = found.iter().filter_map(|bytes| NetlinkMessage::deserialize(bytes).ok());
        Ok(parsed
            .filter_map(|message| match message.payload {
                NetlinkPayload::InnerMessage(inner) => Some(inner),
                _ => None,
            })
            .collect())
    }
}

/// What the kernel said of one message.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    sequence: u32,
    errno: i32,
    words: String,
}

impl Answer {
    fn parse(message: &[u8]) -> Option<Self> {
        if kind(message) != NLMSG_ERROR {
            return None;
        }
        let errno = -i32::from_ne_bytes(message.get(HEADER..HEADER + 4)?.try_into().ok()?);
        let mut answer = Self { sequence: number(message.get(8..12)?), errno, words: String::new() };
        if flags(message) & ACK_TLVS != 0 {
            let attributes = message.get(HEADER + 4 + HEADER..)?;
            if let Some((_, text)) =
                pieces(attributes, 4).find(|(piece, _)| half(piece, 2) == ATTRIBUTE_MESSAGE)
            {
                answer.words = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
            }
        }
        Some(answer)
    }
}

fn receive(socket: &Socket, how: i32) -> io::Result<Vec<u8>> {
    loop {
        // With MSG_TRUNC the kernel says how long the message is, however small the buffer.
        let mut buffer = Vec::with_capacity(32 * 1024);
        match socket.recv(&mut buffer, how | libc::MSG_TRUNC) {
            Ok(length) if length > buffer.len() => return Err(Errno::EMSGSIZE.into()),
            Ok(_) => return Ok(buffer),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn numbered(message: &[u8], sequence: u32) -> Vec<u8> {
    let mut message = message.to_vec();
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

fn messages(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::try_from(number(rest.get(..4)?)).ok()?;
        let message = rest.get(..length.max(HEADER))?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes: each with its whole bytes and its payload, which begins after `header` bytes.
pub(crate) fn pieces(bytes: &[u8], header: usize) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(half(rest.get(..4)?, 0)).max(header);
        let piece = rest.get(..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((piece, &piece[header..]))
    })
}

pub(crate) fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_ne_bytes([two[0], two[1]]))
}

fn number(four: &[u8]) -> u32 {
    four.try_into().map_or(0, u32::from_ne_bytes)
}

fn kind(message: &[u8]) -> u16 {
    half(message, 4)
}

fn flags(message: &[u8]) -> u16 {
    half(message, 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_errno_and_the_kernels_words() {
        let words = b"Device does not exist\0";
        let mut bytes = Vec::new();
        bytes.extend(u32::to_ne_bytes(36 + 4 + u32::try_from(words.len()).unwrap()));
        bytes.extend(NLMSG_ERROR.to_ne_bytes());
        bytes.extend(ACK_TLVS.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend((-19i32).to_ne_bytes());
        bytes.extend([0; HEADER]);
        bytes.extend(u16::to_ne_bytes(4 + u16::try_from(words.len()).unwrap()));
        bytes.extend(ATTRIBUTE_MESSAGE.to_ne_bytes());
        bytes.extend(words);
        let answer = Answer::parse(&bytes).unwrap();
        assert_eq!(answer, Answer { sequence: 7, errno: 19, words: "Device does not exist".into() });
    }

    #[test]
    fn what_is_cut_short_ends_the_list_and_does_not_panic() {
        assert_eq!(messages(&[20, 0, 0, 0, 1]).count(), 0);
        assert_eq!(pieces(&[9, 0, 1, 0, 5], 4).count(), 0);
        assert_eq!(pieces(&[5, 0, 1, 0, 5], 4).count(), 1);
    }
}
