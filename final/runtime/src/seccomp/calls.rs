//! The numbers of the system calls: each architecture has its own, and a filter sees numbers only.
//!
//! The tables in `calls/` are data, one a file: a line is the number of its first call and the names from there on. They know
//! the calls up to Linux 6.18 (`file_setattr`, 469). The kernel's own lists are `arch/x86/entry/syscalls/*.tbl` and
//! `scripts/syscall.tbl`; see syscalls(2).

/// A calling convention, as `seccomp_data.arch` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abi {
    /// `AUDIT_ARCH_*` of `linux/audit.h`: the ELF machine, with bits for 64-bit and little-endian.
    pub audit: u32,
    table: &'static str,
}

/// 64-bit PCs.
pub const X86_64: Abi = Abi { audit: 0xc000_003e, table: include_str!("calls/x86_64.txt") };
/// 32-bit PCs; a 64-bit kernel runs their programs too, with numbers of their own: a filter that does not know them is none.
pub const I386: Abi = Abi { audit: 0x4000_0003, table: include_str!("calls/i386.txt") };
/// 64-bit PCs with 32-bit addresses: by `audit` no other than [`X86_64`], but each number has [`X32_BIT`] set, which the table leaves
/// out. Some calls have a number of their own there.
pub const X32: Abi = Abi { audit: 0xc000_003e, table: include_str!("calls/x32.txt") };
/// What tells a call of [`X32`] from one of [`X86_64`].
pub const X32_BIT: u32 = 0x4000_0000;
/// 32-bit ARM, whose programs many 64-bit machines run.
pub const ARM: Abi = Abi { audit: 0x4000_0028, table: include_str!("calls/arm.txt") };
/// 64-bit ARM.
pub const AARCH64: Abi = Abi { audit: 0xc000_00b7, table: include_str!("calls/aarch64.txt") };

/// What programs of this machine are compiled for.
#[cfg(target_arch = "x86_64")]
pub const NATIVE: Abi = X86_64;
/// What programs of this machine are compiled for.
#[cfg(target_arch = "aarch64")]
pub const NATIVE: Abi = AARCH64;

/// All conventions by which this machine's programs call the kernel, the native one first.
#[cfg(target_arch = "x86_64")]
pub const ALL: &[Abi] = &[X86_64, I386];
/// All conventions by which this machine's programs call the kernel, the native one first.
#[cfg(target_arch = "aarch64")]
pub const ALL: &[Abi] = &[AARCH64, ARM];

/// ARM's private calls (`set_tls` and its like) lie far above all others.
const PRIVATE: u32 = 0xf_0000;

impl Abi {
    /// The highest number that was in use when the table was written, but for ARM's private ones.
    pub(crate) fn newest(self) -> u32 {
        self.calls().map(|(_, number)| number).filter(|number| *number < PRIVATE).max().unwrap_or(0)
    }

    /// Every call that it has, with its number, in the numbers' order.
    pub fn calls(self) -> impl Iterator<Item = (&'static str, u32)> {
        self.table.lines().flat_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let first = words.next().and_then(|number| number.parse().ok()).unwrap_or(0);
            words.zip(first..)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(abi: Abi, name: &str) -> Option<u32> {
        abi.calls().find(|&(call, _)| call == name).map(|(_, number)| number)
    }

    #[test]
    fn the_tables_agree_with_the_c_librarys_headers() {
        assert_eq!(number(NATIVE, "read").map(i64::from), Some(libc::SYS_read));
        assert_eq!(number(NATIVE, "close_range").map(i64::from), Some(libc::SYS_close_range));
        assert_eq!(number(NATIVE, "mseal").map(i64::from), Some(libc::SYS_mseal));
        assert_eq!(
            (number(X86_64, "keyctl"), number(I386, "keyctl"), number(AARCH64, "keyctl")),
            (Some(250), Some(288), Some(219))
        );
    }

    /// From here on a new call has one number everywhere.
    #[test]
    fn pidfd_send_signal_and_what_came_after_it_have_one_number() {
        for abi in [I386, AARCH64, ARM] {
            for (name, here) in abi.calls().filter(|(_, number)| (424..PRIVATE).contains(number)) {
                assert_eq!(number(X86_64, name), Some(here), "{name}");
            }
        }
    }

    /// The kernel's headers are the source, for a machine that mostly is another one.
    #[test]
    fn arms_numbers_are_its_own() {
        for (name, arm64, arm) in [
            ("mount", Some(40), Some(21)),
            ("openat", Some(56), Some(322)),
            ("clone", Some(220), Some(120)),
            ("execve", Some(221), Some(11)),
            ("seccomp", Some(277), Some(383)),
            ("io_pgetevents", Some(292), Some(399)),
            ("migrate_pages", Some(238), Some(400)),
            ("set_tls", None, Some(PRIVATE + 5)),
        ] {
            assert_eq!((number(AARCH64, name), number(ARM, name)), (arm64, arm), "{name}");
        }
        // Of two calls that do the same, arm64 has the one that can do more.
        for name in ["open", "mkdir", "chown", "pipe", "dup2", "poll", "fork", "arch_prctl", "iopl"] {
            assert_eq!(number(AARCH64, name), None, "{name}");
        }
    }

    #[test]
    fn each_table_is_in_order_and_ends_with_the_newest_call() {
        for abi in [X86_64, X32, I386, AARCH64, ARM] {
            let numbers: Vec<_> = abi.calls().map(|(_, number)| number).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b));
            assert!(abi.calls().any(|call| call == ("file_setattr", 469)));
            assert_eq!(abi.newest(), if abi == X32 { 547 } else { 469 });
        }
    }
}
