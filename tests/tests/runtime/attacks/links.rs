//! A root file system with a link in every place that the configuration names.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::{Value, json};
use tests::{Host, Outcome, Test};

use super::super::{ROOT, bind, script};
use super::listing;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::attacks::links_in_every_path", needs: ROOT, run: links_in_every_path },
        Test { name: "runtime::attacks::the_root_is_a_link", needs: ROOT, run: the_root_is_a_link },
    ]
}

/// Each link leads to the same folder of the host's, in another way; none may be followed there.
fn links_in_every_path(host: &Host) -> Outcome {
    let (outside, volume) = (host.new_dir()?, host.new_dir()?);
    fs::write(outside.join("secret"), "secret of the host")?;
    fs::set_permissions(outside.join("secret"), fs::Permissions::from_mode(0o600))?;
    fs::create_dir(outside.join("folder"))?;
    let rootfs = host.new_rootfs()?;
    let up = "../".repeat(20);
    symlink(&outside, rootfs.join("absolute"))?;
    symlink(format!("{up}{}", outside.display()), rootfs.join("climbing"))?;
    symlink("absolute", rootfs.join("chain"))?;
    symlink("/proc/1/root", rootfs.join("magic"))?;
    let links = ["absolute", "climbing", "chain", "magic"];
    let before = listing(&outside)?;
    type Edit = fn(&mut Value, &str, &std::path::Path);
    let edits: [(&str, Edit); 8] = [
        ("mount", |config, link, volume| bind(config, volume, &format!("/{link}"), &["rbind"])),
        ("mount below", |config, link, volume| bind(config, volume, &format!("/{link}/new/x"), &["rbind"])),
        ("mount of a file", |config, link, volume| {
            bind(config, &volume.join("file"), &format!("/{link}/secret"), &["bind"]);
        }),
        ("tmpfs", |config, link, _| {
            if let Some(mounts) = config["mounts"].as_array_mut() {
                mounts.push(
                    json!({ "destination": format!("/{link}/folder"), "type": "tmpfs", "source": "tmpfs" }),
                );
            }
        }),
        ("cwd", |config, link, _| config["process"]["cwd"] = json!(format!("/{link}/folder"))),
        ("masked", |config, link, _| config["linux"]["maskedPaths"] = json!([format!("/{link}/secret")])),
        ("readonly", |config, link, _| config["linux"]["readonlyPaths"] = json!([format!("/{link}/folder")])),
        ("device", |config, link, _| {
            config["linux"]["devices"] = json!([{ "path": format!("/{link}/secret"), "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 7, "gid": 7 }]);
        }),
    ];
    fs::write(volume.join("file"), "volume")?;
    let text = "cat /absolute/secret /climbing/secret /chain/secret ./secret ../secret 2>/dev/null; ls /absolute/ /climbing/ 2>/dev/null; true";
    for (what, edit) in edits {
        for link in links {
            let output = script(host, text, |config| {
                config["root"]["path"] = json!(rootfs);
                edit(config, link, &volume);
            })?;
            assert!(!output.stdout.contains("secret of the host"), "{what} by {link}: {output:?}");
            assert_eq!(listing(&outside)?, before, "{what} by {link}: {output:?}");
            let about = fs::metadata(outside.join("secret"))?;
            assert_eq!((about.mode() & 0o777, about.uid()), (0o600, 0), "{what} by {link}");
        }
    }
    assert_eq!(fs::read_to_string(outside.join("secret"))?, "secret of the host");
    Ok(())
}

/// The bundle is its owner's to make: a link there is followed, once, and what it leads to is the root.
fn the_root_is_a_link(host: &Host) -> Outcome {
    let rootfs = host.new_rootfs()?;
    fs::write(rootfs.join("mark"), "here")?;
    let folder = host.new_dir()?;
    symlink(&rootfs, folder.join("first"))?;
    symlink("first", folder.join("second"))?;
    let output = script(host, "cat /mark; ls -d /../mark", |config| {
        config["root"]["path"] = json!(folder.join("second"));
    })?;
    assert_eq!(output.success()?.stdout, "here/../mark\n");
    Ok(())
}
