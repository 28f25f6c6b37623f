//! The commands about images, asked as a user asks them; what they tell is compared with the files and with other programs.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test};

use super::{Result, Store};

const STORE: &[Need] = &[Need::Rootfs, Need::Binary("sampan")];
const RUN: &[Need] = &[Need::Root, Need::Overlay, Need::Rootfs, Need::Binary("sampan")];
const OTHERS: &[Need] = &[
    Need::Root,
    Need::Overlay,
    Need::Rootfs,
    Need::Binary("sampan"),
    Need::Program("skopeo"),
    Need::Program("umoci"),
];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("image::a_tag_is_one_more_name_for_the_same_files", STORE, tag),
        test("image::images_are_listed_filtered_and_drawn", STORE, images),
        test("image::history_and_inspect_tell_what_the_config_says", STORE, history),
        test("image::prune_leaves_what_a_container_uses", RUN, prune),
        test("image::room_is_told_as_the_disk_has_it", RUN, room),
        test("image::archives_of_every_form_come_back", STORE, archives),
        test("image::an_old_archive_of_docker_is_read", STORE, old_archive),
        test("image::others_read_what_is_saved_and_are_read", OTHERS, others),
        test("image::an_export_has_all_that_the_container_sees", RUN, export),
        test("image::an_import_takes_settings", STORE, import),
    ]
}

/// The blob of a digest.
fn blob(store: &Store<'_>, digest: &str) -> Result<Value> {
    let path = store.root.join("images/blobs/sha256").join(digest.trim_start_matches("sha256:"));
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).collect()
}

fn tag(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let id = store.import("busybox")?;
    let blobs = store.names("images/blobs/sha256")?;
    for name in ["second:v1", "localhost:5000/third/name", "busybox:other"] {
        assert_eq!(store.ok(&["tag", "busybox", name])?, "");
    }
    store.ok(&["tag", id.get(7..19).ok_or("short")?, "by:id"])?;
    assert_eq!(store.names("images/blobs/sha256")?, blobs, "a name is no file");
    assert_eq!(store.ok(&["images", "-q", "--no-trunc"])?, id, "one image, one id");
    assert_eq!(store.ok(&["images"])?.lines().count(), 6);
    let said = store.ok(&["rmi", "second:v1", "busybox"])?;
    assert_eq!(said, "Untagged: second:v1\nUntagged: busybox:latest");
    assert_eq!(store.names("images/blobs/sha256")?, blobs);
    // A name that is given anew leaves what it had.
    let new = store.ok(&["import", "-m", "new", &host.tar().to_string_lossy(), "by:id"])?;
    assert_eq!(store.ok(&["images", "-q", "--no-trunc", "by:id"])?, new);
    assert_ne!(store.call(&["tag", "nothing", "x"])?.code, 0);
    assert_ne!(store.call(&["tag", "busybox:other", "Capitals"])?.code, 0);
    // By its ID it goes only with all names.
    let output = store.call(&["rmi", &id])?;
    assert!(output.code == 1 && output.stderr.contains("several names"), "{output}");
    assert!(store.ok(&["rmi", "-f", &id])?.ends_with(&format!("Deleted: {id}")));
    Ok(())
}

fn images(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let tar = host.tar();
    let tar = tar.to_string_lossy();
    let old = store.ok(&["import", "-c", "LABEL a=1", &tar, "me/old:v1"])?;
    let new = store.ok(&["import", "-c", "LABEL a=2", &tar, "me/new:v1"])?;
    let lost = store.ok(&["import", "-m", "lost", &tar, "me/lost"])?;
    store.ok(&["import", "-m", "found", &tar, "me/lost"])?;
    let table = store.ok(&["images"])?;
    let columns: Vec<_> = table.lines().next().unwrap_or_default().split("  ").map(str::trim).collect();
    let columns: Vec<_> = columns.into_iter().filter(|name| !name.is_empty()).collect();
    assert_eq!(columns, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    assert!(store.ok(&["images", "--digests"])?.contains("DIGEST"));
    let listed = |filters: &[&str]| -> Result<Vec<String>> {
        let mut args = vec!["images", "-q", "--no-trunc"];
        filters.iter().for_each(|filter| args.extend(["--filter", filter]));
        Ok(store.ok(&args)?.lines().map(str::to_owned).collect())
    };
    assert_eq!(listed(&["dangling=true"])?, std::slice::from_ref(&lost));
    assert!(!listed(&["dangling=false"])?.contains(&lost));
    assert_eq!(listed(&["label=a=1"])?, std::slice::from_ref(&old));
    assert_eq!(listed(&["label=a"])?.len(), 2);
    assert_eq!(listed(&["label=b"])?, [""; 0]);
    assert_eq!(listed(&["reference=me/n*:v1"])?, std::slice::from_ref(&new));
    assert_eq!(listed(&["reference=*"])?, [""; 0], "a star stops at a slash");
    assert_eq!(listed(&["before=me/new:v1"])?, std::slice::from_ref(&old));
    assert!(!listed(&["since=me/old:v1"])?.contains(&old));
    assert_eq!(listed(&["since=me/old:v1", "label=a=2"])?, std::slice::from_ref(&new));
    assert_ne!(store.call(&["images", "--filter", "moon=full"])?.code, 0);
    assert_eq!(store.ok(&["images", "-q", "me/old"])?, old.get(7..19).unwrap_or_default());
    let format =
        store.ok(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "--no-trunc", "me/new"])?;
    assert_eq!(format, format!("me/new:v1 {new}"));
    let line: Value = serde_json::from_str(&store.ok(&["images", "--format", "json", "me/old"])?)?;
    assert_eq!((&line["Repository"], &line["Tag"]), (&json!("me/old"), &json!("v1")));
    // All on one layer.
    let layer = store.names("layers/sha256")?;
    let tree = store.ok(&["images", "--tree"])?;
    assert_eq!(lines(&tree).len(), 5, "{tree}");
    assert!(tree.starts_with(&layer[0][..12]) && tree.contains("─ me/old:v1"), "{tree}");
    assert!(tree.contains(&format!("<none> {}", &lost[7..19])), "{tree}");
    Ok(())
}

fn history(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let tar = host.tar();
    let change = ["-c", "ENV A=b", "-c", r#"CMD ["sh", "-l"]"#, "-m", "from the kit"];
    let id = store.ok(&[&["import"], &change[..], &[&tar.to_string_lossy(), "busybox"]].concat())?;
    let config = blob(&store, &id)?;
    let inspected: Value = serde_json::from_str(&store.ok(&["image", "inspect", "busybox"])?)?;
    assert_eq!(inspected[0]["Id"], id);
    assert_eq!(inspected[0]["RootFS"]["Layers"], config["rootfs"]["diff_ids"]);
    for (name, value) in config["config"].as_object().ok_or("no config")? {
        assert_eq!(inspected[0]["Config"][name], *value, "{name}");
    }
    assert_eq!(inspected[0]["Config"]["Cmd"], json!(["sh", "-l"]));
    assert_eq!(inspected[0]["RepoTags"], json!(["busybox:latest"]));
    assert_eq!(inspected[0]["Size"], fs::metadata(&tar)?.len());
    let lower = inspected[0]["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap_or_default();
    assert!(Path::new(lower).join("bin/busybox").exists(), "{lower}");
    let one = store.ok(&["image", "inspect", "-f", "{{.Architecture}} {{json .Config.Cmd}}", "busybox"])?;
    assert_eq!(one, format!("{} [\"sh\",\"-l\"]", config["architecture"].as_str().unwrap_or_default()));
    let output = store.call(&["image", "inspect", "nothing", "busybox"])?;
    assert!(output.code == 1 && output.json()?[0]["Id"] == id.as_str(), "{output}");
    let steps = store.ok(&["history", "--no-trunc", "--format", "{{.ID}} {{.Comment}}", "busybox"])?;
    let steps = lines(&steps);
    let recorded = config["history"].as_array().map(Vec::len).unwrap_or_default();
    assert_eq!(steps.len(), recorded, "a line a step: {steps:?}");
    assert!(steps[0].starts_with(&id) && steps[recorded - 1].ends_with("from the kit"), "{steps:?}");
    let at = store.ok(&["history", "--format", "{{.CreatedAt}}", "busybox"])?;
    let stored = config["history"][recorded - 1]["created"].as_str().unwrap_or_default();
    assert_eq!(at.lines().next(), Some(format!("{}Z", stored.get(..19).unwrap_or_default()).as_str()));
    let sizes = store.ok(&["history", "-H=false", "--format", "{{.Size}}", "busybox"])?;
    let sum: u64 = sizes.lines().map(|line| line.parse().unwrap_or(0)).sum();
    assert_eq!(sum, fs::metadata(&tar)?.len());
    Ok(())
}

fn prune(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let tar = host.tar();
    let tar = tar.to_string_lossy();
    let lost = store.ok(&["import", "-m", "1", &tar, "busybox"])?;
    let used = store.import("busybox")?;
    store.ok(&["import", "-c", "LABEL keep=yes", &tar, "kept"])?;
    store.ok(&["import", "-m", "2", &tar, "other"])?;
    store.ok(&["create", "--name", "one", "busybox", "true"])?;
    // Nobody has said yes.
    let asked = store.ok(&["image", "prune", "-a"])?;
    assert!(asked.contains("Are you sure") && store.ok(&["images"])?.lines().count() == 5, "{asked}");
    assert_eq!(store.ok(&["image", "prune", "-f", "--filter", "until=1h"])?, "Total reclaimed space: 0B");
    let said = store.ok(&["image", "prune", "-f"])?;
    assert!(said.contains(&format!("deleted: {lost}")) && !said.contains("untagged"), "{said}");
    let said = store.ok(&["image", "prune", "-a", "-f", "--filter", "label=keep"])?;
    assert!(said.contains("untagged: kept:latest"), "{said}");
    let said = store.ok(&["image", "prune", "-a", "-f"])?;
    assert!(said.contains("untagged: other:latest"), "{said}");
    assert_eq!(store.ok(&["images", "-q", "--no-trunc"])?, used);
    assert_eq!(store.names("images/blobs/sha256")?.len(), 3);
    store.ok(&["rm", "one"])?;
    store.ok(&["image", "prune", "-a", "-f"])?;
    for folder in ["images/blobs/sha256", "layers/sha256", "tmp"] {
        assert_eq!(store.names(folder)?, [""; 0], "{folder}");
    }
    Ok(())
}

fn room(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    store.import("busybox")?;
    store.ok(&["run", "--name", "one", "--network", "none", "busybox", "sh", "-c", "echo x > /x"])?;
    store.ok(&["commit", "one", "more"])?;
    let table = store.ok(&["system", "df"])?;
    let row = |kind: &str| table.lines().find(|line| line.starts_with(kind)).map(str::to_owned);
    let images = row("Images").ok_or("no images")?;
    assert_eq!(images.split_whitespace().take(3).collect::<Vec<_>>(), ["Images", "2", "1"]);
    let containers = row("Containers").ok_or("no containers")?;
    assert_eq!(containers.split_whitespace().take(3).collect::<Vec<_>>(), ["Containers", "1", "0"]);
    store.ok(&["create", "-v", "data:/data", "busybox", "true"])?;
    fs::write(store.root.join("volumes/data/_data/full"), vec![1; 100_000])?;
    let types = store.ok(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}"])?;
    assert!(lines(&types).get(2).is_some_and(|line| line.starts_with("Local Volumes 1 1 10")), "{types}");
    let each = store.ok(&["system", "df", "-v"])?;
    for line in ["Images space usage:", "Containers space usage:", "Local Volumes space usage:"] {
        assert!(lines(&each).contains(&line), "{each}");
    }
    assert!(each.lines().any(|line| line.starts_with("data ") && line.ends_with("kB")), "{each}");
    let base = each.lines().find(|line| line.starts_with("busybox")).ok_or("no busybox")?;
    let words: Vec<_> = base.split_whitespace().collect();
    assert_eq!((words[words.len() - 2], words[words.len() - 1]), ("0B", "2"), "all of it is shared: {base}");
    assert_eq!(words[words.len() - 3], words[words.len() - 4], "{base}");
    Ok(())
}

fn archives(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let id = store.import("busybox:a")?;
    store.ok(&["tag", "busybox:a", "busybox:b"])?;
    let folder = host.new_dir()?;
    // Neither a pipe nor a link is replaced by a file; a link leads to it.
    let (fifo, link) = (folder.join("fifo"), folder.join("link"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
    let output = store.call(&["save", "-o", &fifo.to_string_lossy(), "busybox:a"])?;
    assert!(output.code != 0 && output.stderr.contains("no file"), "{output}");
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::symlink_metadata(&fifo)?.file_type()));
    fs::write(folder.join("real"), "old")?;
    std::os::unix::fs::symlink(folder.join("real"), &link)?;
    store.ok(&["save", "-o", &link.to_string_lossy(), "busybox:a"])?;
    assert!(link.is_symlink() && fs::metadata(folder.join("real"))?.len() > 1000);
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("one", &["busybox:a"], &["Loaded image: busybox:a"]),
        ("all", &["busybox"], &["Loaded image: busybox:a", "Loaded image: busybox:b"]),
        ("id", &[&id], &["Loaded image ID: "]),
        ("oci", &["--format", "oci-archive", "busybox:b"], &["Loaded image: busybox:b"]),
    ];
    for (name, args, said) in cases {
        let path = folder.join(name).to_string_lossy().into_owned();
        store.ok(&[&["save", "-o", &path], *args].concat())?;
        let listed = host.command("tar", ["-tf", &path])?.success()?.stdout;
        assert_eq!(listed.contains("manifest.json"), *name != "oci", "{listed}");
        let other = Store::new(host)?;
        let told = other.ok(&["load", "-i", &path])?;
        assert!(said.iter().all(|line| told.contains(line)), "{name}: {told}");
        assert_eq!(other.ok(&["images", "-aq", "--no-trunc"])?, id, "{name}");
        assert_eq!(other.names("images/blobs/sha256")?, store.names("images/blobs/sha256")?);
        // Through a pipe, packed, and quietly.
        let third = Store::new(host)?;
        let packed = host.cmd("gzip", ["-1", "-c", &path]).inner().output()?.stdout;
        let output = host.cmd("sampan", third.args(&["load", "-q"])).input(packed).run()?.success()?;
        assert!(said.iter().all(|line| output.stdout.contains(line)), "{output}");
        assert_eq!(third.ok(&["images", "-aq", "--no-trunc"])?, id);
    }
    Ok(())
}

/// A folder a layer, the same layer once as a link, names beside: what Docker wrote before it knew blobs.
fn old_archive(host: &Host) -> Outcome {
    let (store, folder) = (Store::new(host)?, host.new_dir()?);
    let script = r#"
        mkdir -p root/d a b && echo old > root/d/file && tar -C root -cf a/layer.tar . && ln -s ../a/layer.tar b/layer.tar
        echo 1.0 > a/VERSION; echo 1.0 > b/VERSION; echo '{"id":"a"}' > a/json; echo '{"id":"b","parent":"a"}' > b/json
        sum=$(sha256sum a/layer.tar | cut -d' ' -f1)
        printf '{"architecture":"amd64","os":"linux","config":{"Cmd":["x"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]}}' $sum $sum > config
        config=$(sha256sum config | cut -d' ' -f1); mv config $config.json
        printf '[{"Config":"%s.json","RepoTags":["old:v1"],"Layers":["a/layer.tar","b/layer.tar"]}]' $config > manifest.json
        echo '{"old":{"v1":"b"}}' > repositories
        tar -cf old.tar $config.json a b manifest.json repositories && echo -n sha256:$config"#;
    let id = host.cmd("sh", ["-ec", script]).cwd(&folder).run()?.success()?.stdout;
    assert_eq!(store.ok(&["load", "-i", &folder.join("old.tar").to_string_lossy()])?, "Loaded image: old:v1");
    assert_eq!(store.ok(&["images", "-q", "--no-trunc"])?, id);
    let layers = store.names("layers/sha256")?;
    assert_eq!(layers.len(), 1, "one folder for two equal layers");
    let file = store.root.join("layers/sha256").join(&layers[0]).join("d/file");
    assert_eq!(fs::read_to_string(file)?, "old\n");
    Ok(())
}

fn others(host: &Host) -> Outcome {
    let (store, folder) = (Store::new(host)?, host.new_dir()?);
    let id = store.import("busybox:v1")?;
    let path = folder.join("saved.tar").to_string_lossy().into_owned();
    store.ok(&["save", "-o", &path, "busybox:v1"])?;
    for form in ["docker-archive", "oci-archive"] {
        let config =
            host.command("skopeo", ["inspect", "--config", &format!("{form}:{path}")])?.success()?.json()?;
        assert_eq!(config["rootfs"], blob(&store, &id)?["rootfs"], "{form}");
        let back = folder.join(form).to_string_lossy().into_owned();
        let target = format!("{form}:{back}:back:v2");
        host.command("skopeo", ["copy", &format!("{form}:{path}"), &target])?.success()?;
        let other = Store::new(host)?;
        other.ok(&["load", "-i", &back])?;
        let layers = store.names("layers/sha256")?;
        assert_eq!(other.names("layers/sha256")?, layers, "{form}");
    }
    // umoci takes the archive's folder as the layout that it is.
    let layout = folder.join("layout");
    fs::create_dir(&layout)?;
    host.command("tar", ["-xf", &path, "-C", &layout.to_string_lossy()])?.success()?;
    let image = format!("{}:docker.io/library/busybox:v1", layout.display());
    let stat = host.command("umoci", ["stat", "--json", "--image", &image])?.success()?.json()?;
    assert_eq!(stat["history"].as_array().map(Vec::len), Some(1), "{stat}");
    Ok(())
}

fn export(host: &Host) -> Outcome {
    let (store, folder) = (Store::new(host)?, host.new_dir()?);
    store.import("busybox")?;
    let path = folder.join("export.tar").to_string_lossy().into_owned();
    let listed = |name: &str| -> Result<String> {
        store.ok(&["export", "-o", &path, name])?;
        Ok(host.command("tar", ["-tvf", &path])?.success()?.stdout)
    };
    // Never started: the image's files and no more.
    store.ok(&["create", "--name", "new", "busybox", "true"])?;
    let count = |text: &str| text.lines().count();
    let image = count(&host.command("tar", ["-tf", &host.tar().to_string_lossy()])?.success()?.stdout);
    assert_eq!(count(&listed("new")?), image);
    let script = "mkdir /d; echo x > /d/a; ln /d/a /d/b; chown 7:8 /d/a; chmod 4755 /d/a; mknod /d/null c 1 3; ln -s a /d/l; rm /etc/passwd; sleep 60";
    store.ok(&["run", "-d", "--name", "one", "--network", "none", "busybox", "sh", "-c", script])?;
    let gone = || -> Result<bool> { Ok(store.ok(&["diff", "one"])?.contains("D /etc/passwd")) };
    tests::wait_until("the container has done it", std::time::Duration::from_secs(60), || {
        gone().unwrap_or(false)
    })?;
    let diff = store.ok(&["diff", "one"])?;
    for line in ["A /d", "A /d/a", "A /d/null", "C /etc", "D /etc/passwd"] {
        assert!(diff.lines().any(|own| own == line), "{line}: {diff}");
    }
    let all = listed("one")?;
    let line = |end: &str| all.lines().find(|line| line.ends_with(end)).unwrap_or_default();
    assert!(line(" d/a").starts_with("-rwsr-xr-x 7/8"), "{all}");
    assert!(line(" d/b link to d/a").starts_with('h'), "{all}");
    assert!(line(" d/null").starts_with('c') && line(" d/null").contains("1,3"), "{all}");
    assert!(line(" d/l -> a").starts_with('l'), "{all}");
    assert!(!all.contains("etc/passwd") && !all.contains(".wh."), "{all}");
    // What it has in common with its image and what it wrote is an image again.
    store.ok(&["commit", "-a", "me", "-m", "more", "-c", "EXPOSE 80", "one", "two:v1"])?;
    let said = store.ok(&[
        "image",
        "inspect",
        "-f",
        "{{.Author}} {{.Comment}} {{json .Config.ExposedPorts}}",
        "two:v1",
    ])?;
    assert_eq!(said, r#"me more {"80/tcp":{}}"#);
    assert_eq!(
        store.ok(&["run", "--rm", "--network", "none", "two:v1", "stat", "-c", "%a %u:%g %h", "/d/b"])?,
        "4755 7:8 2"
    );
    store.ok(&["rm", "-f", "one", "new"])?;
    Ok(())
}

fn import(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let tar = host.tar();
    let args = [
        "import",
        "--platform",
        "linux/arm64/v8",
        "-c",
        "WORKDIR /w",
        "-c",
        "USER 5",
        &tar.to_string_lossy(),
        "arm",
    ]
    .map(str::to_owned);
    let id = store.ok(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
    let config = blob(&store, &id)?;
    assert_eq!((&config["architecture"], &config["variant"]), (&json!("arm64"), &json!("v8")));
    assert_eq!((&config["config"]["WorkingDir"], &config["config"]["User"]), (&json!("/w"), &json!("5")));
    assert_eq!(config["history"][0]["comment"], format!("Imported from {}", tar.display()));
    let before = store.names("images/blobs/sha256")?;
    // RUN changes files; only settings can be said here.
    for wrong in [["-c", "RUN x"], ["-c", "NONSENSE x"], ["--platform", "lynx"]] {
        let output = store.call(&[&["import"], &wrong[..], &[&tar.to_string_lossy(), "x"]].concat())?;
        assert_ne!(output.code, 0, "{output}");
    }
    assert_eq!(store.ok(&["images", "-q", "--no-trunc"])?, id);
    assert!(before.iter().all(|name| store.names("images/blobs/sha256").is_ok_and(|now| now.contains(name))));
    // Without a name it has an id alone.
    let nameless = store.ok(&["import", "-m", "none", &tar.to_string_lossy()])?;
    assert_eq!(store.ok(&["images", "-q", "--no-trunc", "-f", "dangling=true"])?, nameless);
    Ok(())
}
