//! `process.apparmorProfile`, `process.selinuxLabel`, `linux.mountLabel`: what the machine's mandatory access control calls it.
//!
//! AppArmor and SELinux judge each access by who asks and what is asked for, after the ordinary permissions: a second fence
//! that stands when root's powers are misused. The runtime only says which profile or label the program gets; the
//! administrator has written the rules.
//!
//! What the kernel requires: 1. that the security module is switched on, and the profile loaded; 2. that a process writes its
//! own label, `attr/exec`, which counts from the next exec on; 3. for the files of a mount, the label as an option of the new file
//! system, `context=`; mqueue takes none, and its root is labelled; 4. for a keyring, `attr/keycreate` before it is made.
//!
//! The file is opened below the host's `/proc`, by a descriptor from before the clone: a `/proc` that a container's image or
//! mounts bring along could be anything (CVE-2019-16884).
//!
//! See apparmor(7), selinux(8), proc_pid_attr(5); runtime-spec: config.md, "Linux Process", config-linux.md, "Mount Label".

use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use ::namespaces::mounts::{Mount, Source};
use nix::errno::Errno;
use oci_spec::runtime::Process;
use rustix::fs::{Mode, OFlags};
use step::{StepError, step};

use crate::Error;

/// AppArmor's word for "by no profile".
const UNCONFINED: &str = "unconfined";

/// What is written for the next exec.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    apparmor: Option<String>,
    selinux: Option<String>,
    proc: Option<OwnedFd>,
}

impl Labels {
    /// Reads the two fields; where neither is asked for nothing is opened.
    ///
    /// # Errors
    /// [`Error::Config`] for a label whose module this kernel has not, or has not switched on.
    pub(crate) fn new(process: &Process) -> Result<Self, Error> {
        let named = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
        let (apparmor, selinux) = (named(process.apparmor_profile()), named(process.selinux_label()));
        if apparmor.is_none() && selinux.is_none() {
            return Ok(Self::default());
        }
        let apparmor = match apparmor {
            Some(profile) if has_apparmor() => Some(profile),
            // Just what it is without AppArmor.
            Some(profile) if profile == UNCONFINED => None,
            Some(profile) => {
                return Err(Error::config(
                    "process.apparmorProfile",
                    format!(
                        "{profile:?} is asked for, and AppArmor is not enabled on this machine: leave it out"
                    ),
                ));
            }
            None => None,
        };
        if selinux.is_some() && !has_selinux() {
            return Err(Error::config(
                "process.selinuxLabel",
                "a label is asked for, and SELinux is not enabled on this machine: leave it out",
            ));
        }
        Ok(Self { apparmor, selinux, proc: Some(host_proc()?) })
    }

    /// Has the next exec give the program its profile and label. While the process is still root.
    pub(crate) fn apply(&self) -> Result<(), StepError> {
        let Some(proc) = &self.proc else { return Ok(()) };
        if let Some(profile) = &self.apparmor {
            // The second is the older name, which another security module may have taken.
            let paths = ["self/attr/apparmor/exec", "self/attr/exec"];
            let why = "from exec on AppArmor judges the program by this profile";
            label(proc.as_fd(), &paths, &format!("exec {profile}"), why)?;
        }
        if let Some(context) = &self.selinux {
            let why = "from exec on SELinux judges the program by this label";
            label(proc.as_fd(), &["self/attr/exec"], context, why)?;
        }
        Ok(())
    }
}

impl Labels {
    /// Has the keys that are made from here on belong to the program; a second time, with nothing, to nobody in particular.
    pub(crate) fn of_keys(&self, made: bool) -> Result<(), StepError> {
        let (Some(proc), Some(context)) = (&self.proc, &self.selinux) else { return Ok(()) };
        let text = if made { "" } else { context };
        label(proc.as_fd(), &["self/attr/keycreate"], text, "SELinux judges by it who may use a new keyring")
    }
}

fn label(proc: BorrowedFd<'_>, paths: &[&str], text: &str, why: &'static str) -> Result<(), StepError> {
    step("write", format_args!("/proc/{} {text:?}", paths[0]), why).run(|| {
        let mut outcome = Err(Errno::ENOENT.into());
        for path in paths {
            outcome = rustix::fs::openat(proc, *path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(std::io::Error::from)
                .and_then(|file| fs::File::from(file).write_all(text.as_bytes()));
            if !matches!(&outcome, Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32)) {
                break;
            }
        }
        outcome
    })
}

/// Where a label is asked for, and there is nobody to heed it, the container would be less confined than asked.
///
/// # Errors
/// [`Error::Config`].
pub(crate) fn check_mount_label(label: Option<&str>) -> Result<(), Error> {
    let reason = match label.filter(|label| !label.is_empty()) {
        None => return Ok(()),
        Some(label) if label.contains(['"', '\0']) => "a label has no quotes in it",
        Some(_) if has_selinux() => return Ok(()),
        Some(_) => "a label is asked for, and SELinux is not enabled on this machine: leave it out",
    };
    Err(Error::config("linux.mountLabel", reason))
}

/// Gives the label to each new file system that can have one (requirement 3); the kernel has labels of its own for proc, sysfs and
/// cgroups, and what is bound keeps its own.
pub(crate) fn label_mounts(mounts: &mut [Mount], label: &str) {
    for mount in mounts {
        let Source::New { fstype, data, .. } = &mut mount.source else { continue };
        match fstype.as_str() {
            "proc" | "sysfs" | "cgroup2" => {}
            "mqueue" => mount.more.label = Some(label.to_owned()),
            _ if data.split(',').any(|option| option.starts_with("context=")) => {}
            _ => *data = [data.as_str(), &context(label)].join(",").trim_start_matches(',').to_owned(),
        }
    }
}

/// The option of a mount.
fn context(label: &str) -> String {
    format!("context=\"{label}\"")
}

/// The host's `/proc`, for what the process writes of itself when another one is mounted there.
pub(crate) fn host_proc() -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty());
    Ok(proc.map_err(|errno| StepError::new("open", "/proc", errno))?)
}

fn has_apparmor() -> bool {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|text| text.starts_with('Y'))
}

/// Compiled in is not enough: selinuxfs(8) is there when a policy can be.
fn has_selinux() -> bool {
    ["/sys/fs/selinux/enforce", "/selinux/enforce"].iter().any(|path| Path::new(path).exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::namespaces::mounts::{More, MountAttrFlags};

    fn labels(json: &str) -> Result<Labels, Error> {
        Labels::new(
            &serde_json::from_str(&format!(r#"{{"user":{{}},"cwd":"/","args":["a"]{json}}}"#)).unwrap(),
        )
    }

    #[test]
    fn nothing_asked_opens_nothing() {
        assert!(labels("").unwrap().proc.is_none());
        assert!(labels(r#","apparmorProfile":"","selinuxLabel":"""#).unwrap().proc.is_none());
    }

    #[test]
    fn what_the_machine_has_not_is_an_error_by_its_field() {
        if !has_apparmor() {
            let error = labels(r#","apparmorProfile":"docker-default""#).unwrap_err().to_string();
            assert!(error.starts_with("config: process.apparmorProfile: "), "{error}");
            labels(r#","apparmorProfile":"unconfined""#).unwrap();
        }
        if !has_selinux() {
            let error =
                labels(r#","selinuxLabel":"system_u:system_r:container_t:s0""#).unwrap_err().to_string();
            assert!(error.starts_with("config: process.selinuxLabel: "), "{error}");
        }
        assert_eq!(check_mount_label(Some("a_u:b_r:c_t:s0")).is_ok(), has_selinux());
        check_mount_label(Some(r#"a_u:b_r:c_t:s0",suid"#)).unwrap_err();
        check_mount_label(Some("")).unwrap();
    }

    #[test]
    fn what_can_have_a_label_gets_it() {
        let new = |fstype: &str, data: &str| {
            let (fstype, source, data) = (fstype.to_owned(), fstype.to_owned(), data.to_owned());
            let flags = MountAttrFlags::empty();
            let source = Source::New { fstype, source, data };
            Mount { source, target: "/x".into(), flags, why: "", more: More::default() }
        };
        let mut mounts =
            [("tmpfs", "mode=755"), ("devpts", ""), ("tmpfs", "context=own"), ("proc", ""), ("mqueue", "")]
                .map(|(fstype, data)| new(fstype, data));
        label_mounts(&mut mounts, "u:r:t:s0:c1,c2");
        let all = mounts.map(|mount| match mount.source {
            Source::New { data, .. } => (data, mount.more.label),
            _ => panic!(),
        });
        let context = r#"context="u:r:t:s0:c1,c2""#;
        assert_eq!(
            all,
            [
                (format!("mode=755,{context}"), None),
                (context.to_owned(), None),
                ("context=own".to_owned(), None),
                (String::new(), None),
                (String::new(), Some("u:r:t:s0:c1,c2".to_owned())),
            ]
        );
    }
}
