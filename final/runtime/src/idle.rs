//! What a process gives back that only waits for a container's end.
//!
//! To start a container takes megabytes of this program. They stay mapped, and are counted as this process's, though nobody needs them
//! before the end. The read-only segments are pages of the file: given back, they are mapped anew when they are used. What was
//! written in the others, by relocation above all, is nowhere else, and stays.
//!
//! See madvise(2), dl_iterate_phdr(3), malloc_trim(3), elf(5).

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::time::Duration;

/// A container that runs so long will run on: one that ends at once should wait for nothing.
pub const MOMENT: Duration = Duration::from_millis(100);

/// The largest page that Linux has: what begins and ends on its bounds does so on those of all others.
const PAGE: u64 = 1 << 16;

/// Gives back the read-only pages of this program, and the heap's free ones.
pub fn give_back() {
    // SAFETY: `this_program` is a function of the type that is wanted here, and does not look at its last argument.
    unsafe { libc::dl_iterate_phdr(Some(this_program), std::ptr::null_mut()) };
    // SAFETY: memory that somebody has allocated is not touched.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Called with the program first, and ends the iteration.
unsafe extern "C" fn this_program(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the C library hands over a valid description, with as many headers as it says, which nobody changes.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        // Whole pages alone: what shares one with another segment may have been written.
        let start = (base + header.p_vaddr).next_multiple_of(PAGE);
        let end = (base + header.p_vaddr + header.p_memsz) / PAGE * PAGE;
        let Ok(length) = usize::try_from(end.saturating_sub(start)) else { continue };
        // SAFETY: a private mapping of a file that never was writable: the kernel reads the same bytes again.
        unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) };
    }
    1
}
