//! Each failure that chapter 1 has a hint for, provoked.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sched::{CloneFlags, unshare};
use tests::{Host, Need, Outcome, Output, Test, args};

use super::{ROOT, USER};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "ch01::hint_without_cap_sys_chroot",
            needs: &[Need::Root, Need::Rootfs, Need::Program("setpriv")],
            run: without_cap_sys_chroot,
        },
        Test {
            name: "ch01::hint_no_user_namespace_in_a_chroot",
            needs: &[Need::Root, Need::Rootfs, Need::Program("chroot")],
            run: no_user_namespace_in_a_chroot,
        },
        Test {
            name: "ch01::hint_user_namespaces_are_used_up",
            needs: &[Need::Root, Need::Rootfs],
            run: user_namespaces_are_used_up,
        },
        Test {
            name: "ch01::hint_user_namespace_without_rights",
            needs: &[Need::UserNamespaces, Need::Rootfs, Need::Program("strace")],
            run: user_namespace_without_rights,
        },
        Test { name: "ch01::hint_another_processor", needs: ROOT, run: another_processor },
        Test { name: "ch01::hint_no_x_bit", needs: USER, run: no_x_bit },
        Test { name: "ch01::a_missing_loader_is_told_from_a_missing_file", needs: ROOT, run: missing_loader },
    ]
}

/// The three lines of a failure: what, why, what to do.
fn told(output: &Output, step: &str, errno: &str, advice: &str) {
    assert!(output.stderr.contains(&format!("error: {step}")), "no {step:?}: {output}");
    assert!(output.stderr.contains(&format!("caused by: {errno}: ")), "no {errno}: {output}");
    let hint = output.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_default();
    assert!(hint.contains(advice), "no {advice:?}: {output}");
    assert!(hint.contains("see the book, 01-chroot.html#"), "{output}");
}

fn without_cap_sys_chroot(host: &Host) -> Outcome {
    let program = host.bin("01-chroot");
    let output = host
        .command("setpriv", args!["--bounding-set", "-sys_chroot", program, host.rootfs()?, "/bin/true"])?;
    told(&output.expect(125)?, "chroot ", "EPERM", "CAP_SYS_CHROOT");
    Ok(())
}

fn no_user_namespace_in_a_chroot(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    fs::copy(host.bin("01-chroot"), rootfs.join("kit/01-chroot"))?;
    let output = host.command(
        "/usr/sbin/chroot",
        args!["--userspec=12345:12345", &rootfs, "/kit/01-chroot", "/", "/bin/true"],
    )?;
    told(&output.expect(125)?, "unshare CLONE_NEWUSER", "EPERM", "in a chroot");
    Ok(())
}

fn user_namespaces_are_used_up(host: &Host) -> Outcome {
    // The limit counts below the namespace in which it is set, so this changes nothing for the host.
    // Only a process that stays outside may write a map with all ids.
    let maps =
        "read go || true; for map in uid_map gid_map; do echo 0 0 65536 > /proc/$PPID/$map || exit 1; done";
    let mut outside = host.cmd("sh", ["-c", maps]).input_pipe().spawn()?;
    unshare(CloneFlags::CLONE_NEWUSER)?;
    drop(outside.stdin.take());
    outside.wait()?.success()?;
    fs::write("/proc/sys/user/max_user_namespaces", "0")?;
    let user = host.as_user();
    let output = user.command("01-chroot", args![host.rootfs()?, "/bin/true"])?;
    told(&output.expect(125)?, "unshare CLONE_NEWUSER", "ENOSPC", "max_user_namespaces");
    Ok(())
}

fn user_namespace_without_rights(host: &Host) -> Outcome {
    // Ubuntu's AppArmor rule cannot be made elsewhere: strace gives the answer that it gives.
    let user = host.as_user();
    let inject = ["-qq", "-o", "/dev/null", "-P", "/proc/self/uid_map", "-e", "inject=openat:error=EPERM"];
    let command = args![user.bin("01-chroot"), user.rootfs()?, "/bin/true"];
    let output = user.command("strace", inject.map(Into::into).into_iter().chain(command))?;
    told(&output.expect(125)?, "write /proc/self/uid_map", "EPERM", "apparmor_restrict_unprivileged_userns");
    Ok(())
}

fn another_processor(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    fs::write(rootfs.join("foreign"), b"\x7fELF of another world")?;
    fs::set_permissions(rootfs.join("foreign"), fs::Permissions::from_mode(0o755))?;
    let output = host.command("01-chroot", args![&rootfs, "/foreign"])?.expect(126)?;
    told(&output, "execve /foreign", "ENOEXEC", "another processor");
    Ok(())
}

fn no_x_bit(host: &Host) -> Outcome {
    let user = host.as_user();
    let rootfs = user.rootfs()?;
    fs::write(rootfs.join("text"), "#!/bin/sh\n")?;
    fs::set_permissions(rootfs.join("text"), fs::Permissions::from_mode(0o644))?;
    let output = user.command("01-chroot", args![&rootfs, "/text"])?.expect(126)?;
    told(&output, "execve /text", "EACCES", "no x bit");
    Ok(())
}

fn missing_loader(host: &Host) -> Outcome {
    let rootfs = host.rootfs()?;
    fs::write(rootfs.join("script"), "#!/no/such/shell\n")?;
    fs::set_permissions(rootfs.join("script"), fs::Permissions::from_mode(0o755))?;
    let output = host.command("01-chroot", args![&rootfs, "/script"])?.expect(126)?;
    assert!(output.stderr.contains("the interpreter or loader that it names is not"), "{output}");
    Ok(())
}
