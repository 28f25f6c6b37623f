//! Names of cgroups, without a kernel.

use super::*;

#[test]
fn a_name_cannot_leave_the_folder() {
    for name in ["", ".", "..", "a/b", "../x", ".hidden", "a b"] {
        assert!(ours(name).is_err(), "{name:?}");
    }
    assert_eq!(ours("03-cgroups-4711").unwrap(), Path::new("sampan/03-cgroups-4711"));
}

#[test]
fn a_process_is_found_by_its_cgroup() {
    let proc = tempfile::tempdir().unwrap();
    fs::create_dir(proc.path().join("7")).unwrap();
    let file = proc.path().join("7/cgroup");
    fs::write(&file, "4:memory:/user/sampan/03-cgroups-6/inner\n0::/x\n").unwrap();
    assert_eq!(name_of(proc.path(), Pid::from_raw(7)).unwrap(), "03-cgroups-6");
    fs::write(&file, "0::/user.slice\n").unwrap();
    assert!(matches!(name_of(proc.path(), Pid::from_raw(7)), Err(Error::NoSuchCgroup(_))));
}
