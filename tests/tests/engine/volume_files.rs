//! A new volume begins with the image's files, and nothing of the image leads out of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use tests::{Host, Need, Outcome, Test};

use super::{ROOT, Sampan, USER};

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs: &'static [Need], run| Test { name, needs, run };
    vec![
        test("engine::a_new_volume_begins_with_the_images_files", ROOT, root),
        test("engine::an_ordinary_users_volume_begins_with_the_images_files", USER, user),
    ]
}

const DOCKERFILE: &str = "FROM busybox
RUN mkdir -p /data/sub && echo kept > /data/file && ln /data/file /data/sub/same && ln -s /etc/passwd /data/link && chown 7:8 /data/file && chown 3:4 /data && chmod 1750 /data && echo gone > /data/gone
RUN rm /data/gone && ln -s /data /by-link && ln -s ../../../../../../.. /out
VOLUME /data
";

fn root(host: &Host) -> Outcome {
    let sampan = image(host)?;
    let look = "stat -c '%u:%g %a' /data /data/file; cat /data/sub/same; stat -c %h /data/file; readlink /data/link; ls /data";
    let seen = "3:4 1750\n7:8 644\nkept\n2\n/etc/passwd\nfile\nlink\nsub";
    let run = |args: &[&str]| sampan.ok(&[&["run", "--rm", "--network", "none"], args].concat());
    // The image's own VOLUME, without a name; and a name, on first use and not again.
    assert_eq!(run(&["filled", "sh", "-c", look])?, seen);
    assert_eq!(sampan.ok(&["volume", "ls", "-q"])?, "", "it goes with its container");
    assert_eq!(run(&["-v", "data:/data", "filled", "sh", "-c", look])?, seen);
    run(&["-v", "data:/data", "filled", "sh", "-c", "rm /data/link; echo mine > /data/file"])?;
    assert_eq!(
        run(&["-v", "data:/data", "filled", "sh", "-c", "cat /data/file; ls /data"])?,
        "mine\nfile\nsub"
    );
    assert_eq!(run(&["-v", "none:/data:nocopy", "filled", "ls", "/data"])?, "");
    // A link in the image is followed inside the image, and a place that it does not have is empty.
    assert!(
        run(&["-v", "linked:/by-link", "-v", "new:/nowhere", "filled", "ls", "/by-link"])?.contains("sub")
    );
    let host_folder = host.new_dir()?;
    fs::write(host_folder.join("secret"), "x")?;
    let outside = format!("/out{}", host_folder.display());
    run(&["-v", &format!("out:{outside}"), "filled", "true"])?;
    assert_eq!(fs::read_dir(sampan.root.join("volumes/out/_data"))?.count(), 0);
    // A bind mount is the user's folder, and stays as it is; so is what a volume holds.
    run(&["-v", &format!("{}:/data", host_folder.display()), "filled", "true"])?;
    assert_eq!(fs::read_dir(&host_folder)?.count(), 1);
    assert_eq!(fs::metadata(sampan.root.join("volumes/data/_data"))?.uid(), 3);
    Ok(())
}

fn user(host: &Host) -> Outcome {
    let user = host.as_user();
    let sampan = image(&user)?;
    let look = "cat /data/file /data/sub/same; readlink /data/link";
    let args = ["run", "--rm", "--network", "none", "-v", "data:/data", "filled", "sh", "-c", look];
    assert_eq!(sampan.ok(&args)?, "kept\nkept\n/etc/passwd");
    Ok(())
}

/// A store with an image that has files at its VOLUME.
fn image(host: &Host) -> super::Result<Sampan<'_>> {
    let sampan = Sampan::new(host)?;
    let context = host.new_dir()?;
    let is_root = nix::unistd::geteuid().is_root() && host.ids().0 == 0;
    let text = if is_root { DOCKERFILE.to_owned() } else { DOCKERFILE.replace("chown", ": chown") };
    fs::write(context.join("Dockerfile"), text)?;
    // What the build sees of the host is the context alone.
    symlink("/etc/passwd", context.join("unused"))?;
    sampan.ok(&["build", "-t", "filled", "--network", "none", &context.to_string_lossy()])?;
    Ok(sampan)
}
