//! What QEMU and Debian call this machine's kind, of which the guest is too: it runs the programs that were built here.

/// One kind of machine.
pub(super) struct Guest {
    /// QEMU's program, and Debian's package with it.
    pub(super) qemu: (&'static str, &'static str),
    /// QEMU's board, and its processor where none lends its own.
    pub(super) machine: &'static str,
    pub(super) processor: &'static str,
    /// For the kernel: the first serial line.
    pub(super) console: &'static str,
    /// Debian's package with the kernel.
    pub(super) kernel: &'static str,
    /// The dynamic linker, and the libraries that it is to find.
    pub(super) linker: &'static str,
    pub(super) libraries: &'static str,
}

/// This machine's.
#[cfg(not(target_arch = "aarch64"))]
pub(super) const GUEST: Guest = Guest {
    qemu: ("qemu-system-x86_64", "qemu-system-x86"),
    machine: "q35",
    processor: "max",
    console: "console=ttyS0",
    kernel: "linux-image-cloud-amd64",
    linker: "usr/lib64/ld-linux-x86-64.so.2",
    libraries: "usr/lib/x86_64-linux-gnu",
};

/// This machine's.
#[cfg(target_arch = "aarch64")]
pub(super) const GUEST: Guest = Guest {
    qemu: ("qemu-system-aarch64", "qemu-system-arm"),
    machine: "virt,gic-version=max",
    // Pointers are signed by a function that costs nothing to emulate, instead of the architecture's own.
    processor: "max,pauth-impdef=on",
    console: "console=ttyAMA0",
    kernel: "linux-image-cloud-arm64",
    linker: "usr/lib/ld-linux-aarch64.so.1",
    libraries: "usr/lib/aarch64-linux-gnu",
};
