//! Standard output, whose reader may go away or whose disk may be full.
//!
//! The `print!` and `println!` of the standard library panic then. These two, which stand for them in the whole of this program, do not:
//! of what nobody reads any more (`| head`) nothing is said, and the command goes on with what it was asked to do; any other failure is
//! told once, and is the command's.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

static FAILED: AtomicBool = AtomicBool::new(false);

macro_rules! print {
    ($($text:tt)*) => { $crate::out::write(format_args!($($text)*)) };
}

macro_rules! println {
    () => { $crate::out::write(format_args!("\n")) };
    ($($text:tt)*) => { $crate::out::write(format_args!("{}\n", format_args!($($text)*))) };
}

pub(crate) fn write(text: Arguments<'_>) {
    if let Err(error) = io::stdout().lock().write_fmt(text)
        && error.kind() != ErrorKind::BrokenPipe
        && !FAILED.swap(true, Ordering::Relaxed)
    {
        eprintln!("error: cannot write to standard output\ncaused by: {error}");
    }
}

/// Whether something could not be written.
pub(crate) fn failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}
