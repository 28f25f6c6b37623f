//! What a failed step says: the call, its operands, and the kernel's errno in words.

use std::borrow::Cow;
use std::fmt;
use std::io;

use nix::errno::Errno;

/// A call that failed. `{}` prints the call and its operands, as in `pivot_root /new /old`; the source is the [`Cause`].
#[derive(Debug)]
pub struct StepError {
    call: Cow<'static, str>,
    operands: String,
    cause: Cause,
}

/// Why a call failed, as the kernel put it: `EINVAL: invalid argument`. See errno(3).
#[derive(Debug)]
pub struct Cause(io::Error);

impl StepError {
    /// Names a failure that was met elsewhere than in a [`Step`](crate::Step): one that another process sent, or one read
    /// out of a kernel's answer.
    pub fn new(
        call: impl Into<Cow<'static, str>>,
        operands: impl fmt::Display,
        error: impl Into<io::Error>,
    ) -> Self {
        Self { call: call.into(), operands: operands.to_string(), cause: Cause(error.into()) }
    }

    /// The name of the call that failed, as in section 2 of the manual.
    pub fn call(&self) -> &str {
        &self.call
    }

    /// The operands of the call, as text.
    pub fn operands(&self) -> &str {
        &self.operands
    }

    /// The kernel's error number; none where the failure was found by a library above the kernel.
    pub fn errno(&self) -> Option<Errno> {
        self.cause.0.raw_os_error().map(Errno::from_raw)
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.call)?;
        if self.operands.is_empty() { Ok(()) } else { write!(f, " {}", self.operands) }
    }
}

impl std::error::Error for StepError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.raw_os_error() {
            Some(number) => {
                let errno = Errno::from_raw(number);
                let words = errno.desc();
                // "Invalid argument" reads as the end of a sentence here, but "RPC version wrong" stays as it is.
                let first = words.chars().next().unwrap_or_default();
                let lower = words.chars().nth(1).is_some_and(char::is_lowercase);
                let first = if lower { first.to_lowercase().to_string() } else { first.to_string() };
                write!(f, "{errno:?}: {first}{}", words.chars().skip(1).collect::<String>())
            }
            None => self.0.fmt(f),
        }
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
