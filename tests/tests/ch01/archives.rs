//! Archives that mean harm, and those that are only damaged. Each is unpacked by the binary; then the disk is looked at.

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};
use tests::{Host, Need, Outcome, Output, Test, args};

use super::{ROOT, USER};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test { name: "ch01::archive_is_unpacked", needs: ROOT, run: is_unpacked },
        Test {
            name: "ch01::user_archive_is_unpacked",
            needs: USER,
            run: |host| is_unpacked(&host.as_user()),
        },
        Test { name: "ch01::archive_cannot_climb", needs: &[Need::Root], run: cannot_climb },
        Test {
            name: "ch01::archive_cannot_write_through_links",
            needs: &[Need::Root],
            run: cannot_write_through_links,
        },
        Test {
            name: "ch01::archive_cannot_hard_link_outside",
            needs: &[Need::Root],
            run: cannot_hard_link_outside,
        },
        Test {
            name: "ch01::archive_absolute_names_stay_inside",
            needs: &[Need::Root],
            run: absolute_names_stay_inside,
        },
        Test { name: "ch01::archive_later_entry_counts", needs: &[Need::Root], run: later_entry_counts },
        Test { name: "ch01::archive_keeps_owners_and_set_user_id", needs: &[Need::Root], run: keeps_owners },
        Test {
            name: "ch01::archive_devices_for_root_alone",
            needs: &[Need::Root, Need::UserNamespaces],
            run: devices_for_root_alone,
        },
        Test { name: "ch01::archive_cut_short_leaves_nothing", needs: ROOT, run: cut_short_leaves_nothing },
        Test { name: "ch01::archive_is_not_unpacked_over_files", needs: ROOT, run: not_over_files },
    ]
}

/// An archive in the making.
struct Hostile(Builder<Vec<u8>>);

impl Hostile {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Adds an entry; name and target go in as they are, unlike by the crate's own methods, which refuse what we test.
    fn entry(self, kind: EntryType, name: &str, target: &str, content: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(u64::from(nix::unistd::geteuid().as_raw()));
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.finish(header, content)
    }

    fn finish(mut self, mut header: Header, content: &str) -> Self {
        header.set_cksum();
        // Into memory: cannot fail.
        self.0.append(&header, content.as_bytes()).expect("memory");
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", content)
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, "")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, "")
    }
}

/// A folder with `archive.tar` in it, and `outside/secret`, which must stay as it is.
struct Scene {
    folder: PathBuf,
}

impl Scene {
    fn new(host: &Host) -> Result<Self, Box<dyn Error>> {
        let folder = host.new_dir()?;
        fs::create_dir(folder.join("outside"))?;
        fs::write(folder.join("outside/secret"), "secret")?;
        Ok(Self { folder })
    }

    fn outside(&self, name: &str) -> String {
        self.folder.join("outside").join(name).to_string_lossy().into_owned()
    }

    fn rootfs(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// Unpacks the archive. It holds no command, so 127 is the best that can come.
    fn unpack(&self, host: &Host, archive: Hostile) -> Result<Output, Box<dyn Error>> {
        fs::write(self.folder.join("archive.tar"), archive.0.into_inner()?)?;
        let output = host
            .command("01-chroot", args!["--tar", self.folder.join("archive.tar"), self.rootfs(), "/none"])?;
        assert_eq!(fs::read_to_string(self.outside("secret"))?, "secret", "written outside: {output}");
        assert_eq!(fs::read_dir(self.outside(""))?.count(), 1, "made outside: {output}");
        Ok(output)
    }

    /// Fails where a rootfs, or a half one under another name, was left.
    fn nothing_left(&self) {
        let mut left: Vec<_> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["archive.tar", "outside"]);
    }
}

fn is_unpacked(host: &Host) -> Outcome {
    let rootfs = host.new_dir()?.join("rootfs");
    let output = host.command("01-chroot", args!["--tar", host.tar(), &rootfs, "/bin/ls", "/"])?.success()?;
    assert!(output.stdout.contains("bin\n"), "{output}");
    assert_eq!(fs::metadata(&rootfs)?.uid(), host.ids().0);
    // What is unpacked is used again without the archive.
    host.command("01-chroot", args![&rootfs, "/bin/true"])?.success()?;
    Ok(())
}

fn cannot_climb(host: &Host) -> Outcome {
    for name in ["../outside/evil", "a/../../outside/evil", "/../outside/evil", "a/.."] {
        let scene = Scene::new(host)?;
        let output = scene.unpack(host, Hostile::new().file(name, "evil"))?.expect(125)?;
        assert!(output.stderr.contains("climbs out of the root"), "{name}: {output}");
        scene.nothing_left();
    }
    Ok(())
}

fn cannot_write_through_links(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let archives = [
        Hostile::new().symlink("door", &scene.outside("")).file("door/evil", "evil"),
        Hostile::new().symlink("door", "../outside").file("door/evil", "evil"),
        Hostile::new()
            .symlink("a/door", "../../../../../..")
            .file(&format!("a/door{}", scene.outside("evil")), "evil"),
        Hostile::new().symlink("secret", &scene.outside("secret")).file("secret", "evil"),
        Hostile::new().symlink("l", &scene.outside("secret")).hard_link("h", "l").file("h", "evil"),
        Hostile::new().symlink("one", "two").symlink("two", &scene.outside("")).file("one/evil", "evil"),
        // A magic link of /proc is one that the kernel jumps through without a look-up.
        Hostile::new()
            .symlink("door", "/proc/self/root")
            .file(&format!("door{}", scene.outside("evil")), "evil"),
    ];
    for archive in archives {
        let scene = Scene { folder: scene.folder.clone() };
        scene.unpack(host, archive)?;
        // Over the links that the last one left nothing may be unpacked: begin anew.
        let _ = fs::remove_dir_all(scene.rootfs());
    }
    Ok(())
}

fn cannot_hard_link_outside(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let secret = scene.outside("secret");
    for target in [secret.as_str(), "../outside/secret"] {
        let output = scene.unpack(host, Hostile::new().hard_link("stolen", target))?.expect(125)?;
        assert_eq!(fs::metadata(&secret)?.nlink(), 1, "{output}");
        scene.nothing_left();
    }
    // By way of a link to the folder: it is looked up inside.
    let archive = Hostile::new().symlink("door", &scene.outside("")).hard_link("stolen", "door/secret");
    scene.unpack(host, archive)?;
    assert_eq!(fs::metadata(&secret)?.nlink(), 1);
    Ok(())
}

fn absolute_names_stay_inside(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    scene.unpack(host, Hostile::new().file(&scene.outside("evil"), "evil"))?.expect(127)?;
    let inside = scene.outside("evil");
    assert_eq!(fs::read_to_string(scene.rootfs().join(inside.trim_start_matches('/')))?, "evil");
    Ok(())
}

fn later_entry_counts(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let archive = Hostile::new()
        .file("same", "first")
        .file("same", "second")
        .symlink("changed", "nowhere")
        .file("changed", "a file");
    scene.unpack(host, archive)?.expect(127)?;
    assert_eq!(fs::read_to_string(scene.rootfs().join("same"))?, "second");
    assert!(fs::symlink_metadata(scene.rootfs().join("changed"))?.is_file());
    Ok(())
}

fn keeps_owners(host: &Host) -> Outcome {
    let scene = Scene::new(host)?;
    let mut header = Header::new_gnu();
    header.set_path("su")?;
    header.set_mode(0o4755);
    header.set_uid(1000);
    header.set_gid(1001);
    header.set_mtime(86400);
    header.set_size(2);
    scene.unpack(host, Hostile::new().finish(header, "su"))?.expect(127)?;
    let about = fs::metadata(scene.rootfs().join("su"))?;
    assert_eq!((about.uid(), about.gid(), about.mtime()), (1000, 1001, 86400));
    assert_eq!(
        about.permissions().mode() & 0o7777,
        0o4755,
        "chown(2) clears set-user-id: it must come first"
    );
    Ok(())
}

fn devices_for_root_alone(host: &Host) -> Outcome {
    let archive = || {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Char);
        header.set_mode(0o666);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let set = header.set_path("dev/null").and_then(|()| header.set_device_major(1));
        set.and_then(|()| header.set_device_minor(3)).expect("fits");
        Hostile::new().finish(header, "").file("after", "it")
    };
    for (host, made) in [(host.as_user(), false), (Host::new(host.place().clone()), true)] {
        let scene = Scene::new(&host)?;
        scene.unpack(&host, archive())?.expect(127)?;
        let device = fs::symlink_metadata(scene.rootfs().join("dev/null"));
        assert_eq!(device.is_ok_and(|about| about.file_type().is_char_device()), made);
        assert!(scene.rootfs().join("after").exists());
    }
    Ok(())
}

fn cut_short_leaves_nothing(host: &Host) -> Outcome {
    let whole = fs::read(host.tar())?;
    for length in [700, whole.len() / 2] {
        let scene = Scene::new(host)?;
        let archive = scene.folder.join("archive.tar");
        fs::write(&archive, &whole[..length])?;
        let output = host.command("01-chroot", args!["--tar", &archive, scene.rootfs(), "/bin/true"])?;
        let output = output.expect(125)?;
        assert!(output.stderr.starts_with("error: cannot read the archive"), "{output}");
        scene.nothing_left();
    }
    let scene = Scene::new(host)?;
    fs::write(scene.folder.join("archive.tar"), [b'x'; 2048])?;
    let no_tar =
        host.command("01-chroot", args!["--tar", scene.folder.join("archive.tar"), scene.rootfs()])?;
    no_tar.expect(125)?;
    scene.nothing_left();
    Ok(())
}

fn not_over_files(host: &Host) -> Outcome {
    let rootfs = host.new_dir()?.join("rootfs");
    fs::create_dir(&rootfs)?;
    File::create(Path::new(&rootfs).join("precious"))?;
    let output = host.command("01-chroot", args!["--tar", host.tar(), &rootfs, "/bin/true"])?.expect(125)?;
    assert!(output.stderr.contains("is not empty"), "{output}");
    assert_eq!(fs::read_dir(&rootfs)?.count(), 1);
    Ok(())
}
