//! The first instructions of the program, before the C library has begun.
//!
//! `run`, `create` and `exec` run this program twice: the second time from a mount that cannot be written ([`own_exe`]). What the first time
//! costs is not the two calls for that mount. It is a C library and a program that set themselves up, to be thrown away at once:
//! they ask the processor what it can (cpuid, which a virtual machine's host answers), relocate 12 000 pointers, touch some
//! hundred pages and parse the command line. That is a tenth of a container's start. So the kernel enters the program here, and
//! this makes the mount and the exec with nothing set up: no memory, no stack protector, no function of the C library.
//!
//! It is an attempt. Whatever fails, and any command that makes no container, goes on to `_start`, where a program begins that
//! knows nothing of this; there [`own_exe::protect`] looks, and does the same in plain Rust. Only an argument that reads
//! `run`, `create` or `exec` counts: if it is a container's name, an exec too many is made.
//!
//! ```text
//! rsp -> argc, argv[0], argv[1], ... 0, envp[0], ... 0        what the kernel hands to a new program
//! ```
//!
//! Not covered: other processors, which begin at `_start`.
//!
//! See elf(5), syscall(2) for the registers, and the System V ABI, "Process Initialization".
//!
//! [`own_exe`]: sampan_runtime::own_exe
//! [`own_exe::protect`]: sampan_runtime::own_exe::protect

/// Where `f_flags` is in the kernel's `struct statfs`; libc's has the field without its name.
#[cfg(early_entry)]
const STATFS_FLAGS: usize = 80;

// SAFETY of the whole: nothing but registers and the stack below the kernel's data is written, both are as `_start` wants them
// when it is reached, and what is read are argv, envp and the strings that the kernel has put behind them.
#[cfg(early_entry)]
#[allow(unsafe_code)]
mod entry {
    std::arch::global_asm!(
        ".globl sampan_start",
        ".type sampan_start, @function",
        "sampan_start:",
        // What _start is to find as it was: the stack, and in rdx what it would call at the end.
        "mov r15, rdx",
        "mov rbp, rsp",
        "mov rax, [rsp]",
        "lea r13, [rsp + 8]",            // argv
        "lea r14, [r13 + rax * 8 + 8]",  // envp
        // Is there a word by which a container is made or entered? Eight bytes can be read at any argument: variables, the
        // program's path and eight zeros follow the last.
        "mov rbx, r13",
        "2: add rbx, 8",
        "cmp rbx, r14",
        "jae 9f",
        "mov rax, [rbx]",
        "test rax, rax",
        "jz 9f",
        "mov rax, [rax]",
        "cmp eax, {run}",
        "je 3f",
        "mov rcx, rax",
        "shl rcx, 24",
        "mov rdx, {exec}",
        "cmp rcx, rdx",
        "je 3f",
        "shl rax, 8",
        "mov rdx, {create}",
        "cmp rax, rdx",
        "jne 2b",
        // Where it is read-only already this is the second time.
        "3: sub rsp, {statfs_size}",
        "mov eax, {statfs}",
        "lea rdi, [rip + 7f]",
        "mov rsi, rsp",
        "syscall",
        "test rax, rax",
        "jnz 9f",
        "test byte ptr [rsp + {statfs_flags}], {rdonly}",
        "jnz 9f",
        // A mount of its own of this program's file ...
        "mov eax, {open_tree}",
        "mov edi, {cwd}",
        "lea rsi, [rip + 7f]",
        "mov edx, {clone_cloexec}",
        "syscall",
        "test rax, rax",
        "js 9f",
        "mov ebx, eax",
        // ... read-only ...
        "mov qword ptr [rsp], {attr_rdonly}",
        "mov qword ptr [rsp + 8], 0",
        "mov qword ptr [rsp + 16], 0",
        "mov qword ptr [rsp + 24], 0",
        "mov eax, {mount_setattr}",
        "mov edi, ebx",
        "lea rsi, [rip + 8f]",
        "mov edx, {empty_path}",
        "mov r10, rsp",
        "mov r8d, {attr_size}",
        "syscall",
        "test rax, rax",
        "jnz 4f",
        // ... and from there once more, with the same arguments and variables.
        "mov eax, {execveat}",
        "mov edi, ebx",
        "lea rsi, [rip + 8f]",
        "mov rdx, r13",
        "mov r10, r14",
        "mov r8d, {empty_path}",
        "syscall",
        "4: mov eax, {close}",
        "mov edi, ebx",
        "syscall",
        "9: mov rsp, rbp",
        "mov rdx, r15",
        "xor ebp, ebp",
        "jmp _start",
        "7: .asciz \"/proc/self/exe\"",
        "8: .byte 0",
        ".size sampan_start, . - sampan_start",
        run = const u32::from_le_bytes(*b"run\0"),
        // The bytes before the word are the zeros that were shifted in.
        exec = const u64::from_le_bytes(*b"\0\0\0exec\0"),
        create = const u64::from_le_bytes(*b"\0create\0"),
        statfs = const libc::SYS_statfs,
        statfs_size = const size_of::<libc::statfs>().next_multiple_of(16),
        statfs_flags = const super::STATFS_FLAGS,
        rdonly = const libc::ST_RDONLY,
        open_tree = const libc::SYS_open_tree,
        cwd = const libc::AT_FDCWD,
        clone_cloexec = const libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC,
        attr_rdonly = const libc::MOUNT_ATTR_RDONLY,
        mount_setattr = const libc::SYS_mount_setattr,
        attr_size = const size_of::<libc::mount_attr>(),
        empty_path = const libc::AT_EMPTY_PATH,
        execveat = const libc::SYS_execveat,
        close = const libc::SYS_close,
    );
}
