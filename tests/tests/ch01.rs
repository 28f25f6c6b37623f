//! Tests of chapter 1, chroot.

use tests::{Host, Need, Outcome, Test, args};

pub(crate) fn tests() -> Vec<Test> {
    vec![Test { name: "ch01::ls_lists_the_new_root", needs: &[Need::Root, Need::Rootfs], run: ls }]
}

fn ls(host: &Host) -> Outcome {
    let output = host.command("01-chroot", args![host.rootfs()?, "/bin/ls", "/"])?.success()?;
    assert!(output.stdout.contains("kit"), "{output}");
    Ok(())
}
