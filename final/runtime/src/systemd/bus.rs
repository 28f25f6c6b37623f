//! A connection to the message bus: one call, one answer, and the signals that come in between.
//!
//! The system's bus for root, the user's own for an ordinary user, also for one who is root in a user namespace of the own. Who is
//! calling the bus asks the kernel: the credentials of the socket.
//!
//! Order: connect -> `AUTH EXTERNAL` in lines of text -> `BEGIN`, from here on messages -> `Hello`, and we have a name.
//!
//! See the D-Bus specification, "Authentication Protocol" and "Server Addresses"; unix(7), `SO_PEERCRED`.

use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use nix::unistd::geteuid;

use super::wire::{Kind, Message, Value};
use crate::Error;

/// How long systemd may take for one job.
const PATIENCE: Duration = Duration::from_secs(30);
const BUS: &str = "org.freedesktop.DBus";

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
    signals: Vec<Message>,
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
}

/// Whether systemd's manager for users is the one to ask.
pub(super) fn is_user() -> bool {
    let whole = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    !geteuid().is_root() || !fs::read_to_string("/proc/self/uid_map").is_ok_and(whole)
}

impl Connection {
    pub(super) fn open() -> Result<Self, Error> {
        let user = is_user();
        let (variable, default) = if user {
            let folder = env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| "/run/user/0".to_owned());
            ("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={folder}/bus"))
        } else {
            ("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/dbus/system_bus_socket".to_owned())
        };
        let address = env::var(variable).unwrap_or(default);
        Self::connect(&address).map_err(|error| {
            let whose = if user { "the user's" } else { "the system's" };
            Error::Systemd(format!(
                "cannot reach {whose} message bus at {address}: {error}; without systemd leave out --systemd-cgroup"
            ))
        })
    }

    fn connect(address: &str) -> io::Result<Self> {
        let mut outcome = Err(io::Error::new(io::ErrorKind::InvalidInput, "no address of a UNIX socket"));
        for one in address.split(';').filter_map(|one| one.strip_prefix("unix:")) {
            for (key, value) in one.split(',').filter_map(|pair| pair.split_once('=')) {
                let stream = match key {
                    "path" => UnixStream::connect(value),
                    "abstract" => {
                        SocketAddr::from_abstract_name(value).and_then(|it| UnixStream::connect_addr(&it))
                    }
                    _ => continue,
                };
                outcome = stream.and_then(Self::greet);
                if outcome.is_ok() {
                    return outcome;
                }
            }
        }
        outcome
    }

    fn greet(mut stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        // Without a name: the bus takes the one that the kernel says, which is right in a user namespace too.
        stream.write_all(b"\0AUTH EXTERNAL\r\n")?;
        if line(&mut stream)?.starts_with("DATA") {
            stream.write_all(b"DATA\r\n")?;
            let answer = line(&mut stream)?;
            if !answer.starts_with("OK ") {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("it answers {answer:?}"),
                ));
            }
        }
        stream.write_all(b"BEGIN\r\n")?;
        let mut connection = Self { stream, serial: 0, signals: Vec::new() };
        let bus = Object { destination: BUS, path: "/org/freedesktop/DBus", interface: BUS };
        connection.exchange(&bus, "Hello", Vec::new())?.map_err(|(_, text)| io::Error::other(text))?;
        Ok(connection)
    }

    /// Calls a method; the answer's values, or the error's name and text.
    pub(super) fn call(
        &mut self,
        object: &Object<'_>,
        method: &str,
        body: Vec<Value>,
    ) -> Result<Result<Vec<Value>, (String, String)>, Error> {
        self.exchange(object, method, body).map_err(|error| Error::Systemd(format!("{method}: {error}")))
    }

    /// Asks the bus to pass on the signals that fit.
    pub(super) fn listen(&mut self, rule: &str) -> Result<(), Error> {
        let bus = Object { destination: BUS, path: "/org/freedesktop/DBus", interface: BUS };
        let answer = self.call(&bus, "AddMatch", vec![Value::Text(rule.to_owned())])?;
        answer.map(drop).map_err(|(_, text)| Error::Systemd(format!("AddMatch: {text}")))
    }

    /// Waits for a signal of this name for which `fits` gives something.
    pub(super) fn signal<T>(&mut self, name: &str, fits: impl Fn(&[Value]) -> Option<T>) -> Result<T, Error> {
        loop {
            let signals = std::mem::take(&mut self.signals);
            let found =
                signals.iter().filter(|it| it.member.as_deref() == Some(name)).find_map(|it| fits(&it.body));
            if let Some(found) = found {
                return Ok(found);
            }
            let message =
                self.receive().map_err(|error| Error::Systemd(format!("no {name} from systemd: {error}")))?;
            self.signals.push(message);
        }
    }

    #[allow(
        clippy::type_complexity,
        reason = "an answer, or the error's name and text; or the socket's failure"
    )]
    fn exchange(
        &mut self,
        object: &Object<'_>,
        method: &str,
        body: Vec<Value>,
    ) -> io::Result<Result<Vec<Value>, (String, String)>> {
        self.serial += 1;
        let message = Message {
            kind: Kind::Call,
            serial: self.serial,
            reply_to: None,
            path: Some(object.path.to_owned()),
            interface: Some(object.interface.to_owned()),
            member: Some(method.to_owned()),
            error: None,
            destination: Some(object.destination.to_owned()),
            body,
        };
        self.stream.write_all(&message.encode())?;
        loop {
            let answer = self.receive()?;
            if answer.reply_to != Some(self.serial) {
                self.signals.push(answer);
                continue;
            }
            let text = || answer.body.first().and_then(Value::text).unwrap_or_default().to_owned();
            return Ok(match &answer.error {
                Some(name) => Err((name.clone(), text())),
                None => Ok(answer.body),
            });
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut start = [0; 16];
        self.stream.read_exact(&mut start)?;
        let mut bytes = start.to_vec();
        bytes.resize(Message::length(&start)?, 0);
        self.stream.read_exact(&mut bytes[16..])?;
        Message::decode(&bytes)
    }
}

/// A line of the authentication, byte by byte: what comes after it is no text any more.
fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < 1000 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}
