//! The attacks: chapter 2's hogs, and this chapter's own.

use tests::{Host, Need, Outcome, Test, args};

use super::{ROOT, Result};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch03::the_hogs_of_chapter_2_are_held", needs: ROOT, run: hogs },
        Test { name: "ch03::escape_fails_in_a_user_namespace", needs: ROOT, run: safe },
        Test {
            name: "ch03::escape_succeeds_for_the_hosts_root",
            needs: &[Need::Root, Need::Rootfs, Need::CgroupV1("pids")],
            run: risk,
        },
    ]
}

fn attack(host: &Host, options: &[&str], program: &str, code: i32) -> Result<String> {
    let mut args = args!["--pids", "64", "--memory", "64m"].to_vec();
    args.extend(options.iter().map(Into::into));
    args.extend([host.rootfs()?.into_os_string(), program.into()]);
    Ok(host.command("03-cgroups", args)?.expect(code)?.stdout)
}

fn hogs(host: &Host) -> Outcome {
    let said = attack(host, &[], "/kit/02-escape", 0)?;
    assert!(said.lines().last().unwrap_or_default().starts_with("SAFE"), "{said}");
    Ok(())
}

fn safe(host: &Host) -> Outcome {
    let said = attack(host, &[], "/kit/03-escape", 0)?;
    assert!(said.starts_with("SAFE: "), "{said}");
    Ok(())
}

fn risk(host: &Host) -> Outcome {
    let said = attack(host, &["--share", "user"], "/kit/03-escape", 1)?;
    assert!(said.contains("pids.max (was 64)"), "{said}");
    assert!(said.contains("release_agent of "), "{said}");
    Ok(())
}
