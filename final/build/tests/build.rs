//! Builds whose RUN is played by the test: what stands in the layers and in the config is looked at.

#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sampan_build::{BuildOptions, Error, Ran, Runner, Task, build};
use sampan_image::{Image, Store};
use tempfile::TempDir;

struct Place {
    folder: TempDir,
    store: Store,
    said: RefCell<Vec<String>>,
    ran: RefCell<Vec<Task>>,
}

/// Each RUN writes its command into a file of the layer; `false` fails, `true` does nothing.
impl Runner for Place {
    fn run(&self, layers: Vec<PathBuf>, task: &Task) -> Result<Ran, Error> {
        assert!(layers.iter().all(|layer| layer.is_dir()));
        self.ran.borrow_mut().push(task.clone());
        let upper = self.folder.path().join(format!("upper{}", self.ran.borrow().len()));
        fs::create_dir(&upper).unwrap();
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).unwrap();
        let command = task.args.last().unwrap();
        if command != "true" {
            fs::write(upper.join("ran"), command).unwrap();
        }
        // What a runtime leaves behind.
        fs::create_dir(upper.join("proc")).unwrap();
        Ok(Ran { exit_code: if command == "false" { 3 } else { 0 }, upper, remove: Box::new(|| Ok(())) })
    }
}

impl Place {
    /// A context with these files; a name that ends in `/` is a folder, a text that begins with `-> ` a link.
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("data")).unwrap();
        let place = Self { folder, store, said: RefCell::default(), ran: RefCell::default() };
        fs::create_dir(place.context()).unwrap();
        files.iter().for_each(|(name, text)| place.write(name, text));
        place
    }

    fn context(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.context().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None if name.ends_with('/') => fs::create_dir_all(path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }

    fn build(&self, dockerfile: &str) -> Result<Image, Error> {
        self.build_with(dockerfile, BuildOptions::default())
    }

    fn build_with(&self, dockerfile: &str, options: BuildOptions) -> Result<Image, Error> {
        let path = self.folder.path().join("Dockerfile");
        fs::write(&path, dockerfile).unwrap();
        self.said.borrow_mut().clear();
        self.ran.borrow_mut().clear();
        let options = BuildOptions { context: self.context(), dockerfile: Some(path), ..options };
        let image =
            build(&self.store, self, &options, &mut |news| self.said.borrow_mut().push(news.to_string()));
        (1..9).for_each(|number| drop(fs::remove_dir_all(self.folder.path().join(format!("upper{number}")))));
        image
    }

    fn mistake(&self, dockerfile: &str) -> String {
        match self.build(dockerfile) {
            Err(error) => error.to_string(),
            Ok(image) => panic!("{image:?}"),
        }
    }

    /// All files of the image's layers: `path=text`, `path/`, `path->target`, each layer after a `|`.
    fn files(&self, image: &Image) -> String {
        let layers = self.store.layer_dirs(image).unwrap();
        layers.iter().map(|layer| listing(layer, layer).join(" ")).collect::<Vec<_>>().join(" | ")
    }
}

fn listing(root: &Path, folder: &Path) -> Vec<String> {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let mut lines = Vec::new();
    for path in entries {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_symlink() {
            lines.push(format!("{name}->{}", fs::read_link(&path).unwrap().display()));
        } else if path.is_dir() {
            let below = listing(root, &path);
            lines.extend(if below.is_empty() { vec![name + "/"] } else { below });
        } else {
            lines.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
        }
    }
    lines
}

fn inner(image: &Image) -> &oci_spec::image::Config {
    image.config.config().as_ref().unwrap()
}

const CONTEXT: &[(&str, &str)] =
    &[("a.txt", "A"), ("b.txt", "B"), ("dir/one", "1"), ("dir/deep/two", "2"), ("dir/link", "-> one")];

#[test]
fn destinations_are_dockers() {
    for (copy, files) in [
        ("a.txt /x", "x=A"),
        ("a.txt /x/", "x/a.txt=A"),
        ("a.txt .", "a.txt=A"),
        ("./a.txt /deep/er/x", "deep/er/x=A"),
        ("a.txt b.txt /x/", "x/a.txt=A x/b.txt=B"),
        ("*.txt /x/", "x/a.txt=A x/b.txt=B"),
        ("?.txt dir /", "a.txt=A b.txt=B deep/two=2 link->one one=1"),
        ("dir /x", "x/deep/two=2 x/link->one x/one=1"),
        ("dir/ /x/", "x/deep/two=2 x/link->one x/one=1"),
        ("dir/link /x", "x=1"),
        ("d*/o* /x", "x=1"),
        ("[\"a.txt\", \"/with blank\"]", "with blank=A"),
        ("/a.txt ../../x", "x=A"),
        (". /", "a.txt=A b.txt=B dir/deep/two=2 dir/link->one dir/one=1"),
    ] {
        let place = Place::new(CONTEXT);
        let image = place.build(&format!("FROM scratch\nCOPY {copy}\n")).unwrap();
        assert_eq!(place.files(&image), files, "{copy}");
    }
}

#[test]
fn what_the_image_has_at_the_destination_decides() {
    let place = Place::new(&[
        ("usr/bin/", ""),
        ("bin", "-> usr/bin"),
        ("etc/motd", "old"),
        ("f", "F"),
        ("d/motd", "new"),
        ("d/bin/tool", "T"),
    ]);
    let base = "FROM scratch\nCOPY . /\n";
    for (copy, layer) in [
        // A folder that is reached by a link stays one, and the link a link.
        ("COPY f /bin", "usr/bin/f=F"),
        ("COPY f /bin/", "usr/bin/f=F"),
        ("COPY f /bin/g", "usr/bin/g=F"),
        ("COPY d /", "etc-less"),
        ("COPY f /etc/motd", "etc/motd=F"),
        ("WORKDIR /bin/new\nCOPY f .", "usr/bin/new/ | usr/bin/new/f=F"),
    ] {
        let image = place.build(&format!("{base}{copy}\n")).unwrap();
        let files = place.files(&image);
        let expected = if layer == "etc-less" { "motd=new usr/bin/tool=T" } else { layer };
        assert_eq!(files.split_once(" | ").unwrap().1, expected, "{copy}");
    }
    assert!(place.mistake(&format!("{base}COPY d /f\n")).contains("is no folder"));
    assert!(
        place
            .mistake(&format!(
                "{base}COPY f /\nCOPY d/motd /d/bin\nCOPY f /d/bin/motd/\nCOPY f d /x/\nWORKDIR /f\n"
            ))
            .contains("is no folder")
    );
}

#[test]
fn a_file_with_two_names_is_copied_once() {
    let place = Place::new(&[("d/one", "1")]);
    fs::hard_link(place.context().join("d/one"), place.context().join("d/two")).unwrap();
    let image = place.build("FROM scratch\nCOPY d /x\n").unwrap();
    let layer = &place.store.layer_dirs(&image).unwrap()[0];
    let inode = |name: &str| fs::metadata(layer.join(name)).unwrap().ino();
    assert_eq!(inode("x/one"), inode("x/two"));
    assert_ne!(inode("x/one"), fs::metadata(place.context().join("d/one")).unwrap().ino());
}

#[test]
fn owners_and_modes() {
    let place = Place::new(&[
        ("f", "F"),
        ("etc/passwd", "root:x:0:0::/:\nguest:x:7:8::/:\n"),
        ("etc/group", "wheel:x:10:\n"),
        ("d/x", ""),
    ]);
    fs::set_permissions(place.context().join("f"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(place.context().join("etc"), fs::Permissions::from_mode(0o711)).unwrap();
    let image = place
        .build("FROM scratch\nCOPY etc /etc\nCOPY f /plain\nCOPY --chown=guest:wheel --chmod=4755 f /etc/new/given\nADD --chown=5 d /d\n")
        .unwrap();
    let layers = place.store.layer_dirs(&image).unwrap();
    let attributes = |layer: usize, name: &str| {
        let metadata = fs::symlink_metadata(layers[layer].join(name)).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    assert_eq!(attributes(1, "plain"), (0, 0, 0o640));
    assert_eq!(attributes(2, "etc/new/given"), (7, 10, 0o4755));
    assert_eq!(attributes(2, "etc/new"), (7, 10, 0o755));
    assert_eq!(attributes(2, "etc"), (0, 0, 0o711));
    assert_eq!(attributes(3, "d/x").0, 5);
    assert!(place.mistake("FROM scratch\nCOPY --chown=nobody f /\n").contains("no user nobody"));
    assert!(place.mistake("FROM scratch\nCOPY --chmod=9 f /\n").contains("no mode"));
}

#[test]
fn nothing_outside_the_context_is_reached() {
    let place = Place::new(&[
        ("up", "-> ../data/images/index.json"),
        ("root", "-> /etc/passwd"),
        ("dir/up", "-> ../../data"),
        ("ok", "-> dir/file"),
        ("dir/file", "F"),
    ]);
    for (copy, what) in [
        ("up /", "no up in"),
        ("root /", "no root in"),
        ("../data /", "no ../data in"),
        ("dir/up/images /", "no dir/up/images in"),
    ] {
        let text = place.mistake(&format!("FROM scratch\nCOPY {copy}\n"));
        assert!(text.contains(what), "{text}");
    }
    let image = place.build("FROM scratch\nCOPY ok /ok\nCOPY dir /d\n").unwrap();
    assert_eq!(place.files(&image), "ok=F | d/file=F d/up->../../data");
}

#[test]
fn what_dockerignore_names_is_not_there() {
    let place = Place::new(CONTEXT);
    place.write(".dockerignore", "*.txt\n!b.txt\ndir\n!dir/deep\n.dockerignore\n");
    let image = place.build("FROM scratch\nCOPY . /\n").unwrap();
    assert_eq!(place.files(&image), "b.txt=B dir/deep/two=2");
    assert!(place.mistake("FROM scratch\nCOPY a.txt /\n").contains("left out by .dockerignore"));
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn add_unpacks_an_archive_and_copy_does_not() {
    let place = Place::new(&[("usr/lib/", ""), ("lib", "-> usr/lib"), ("name.txt", "no archive")]);
    fs::write(place.context().join("plain"), archive(&[("a", "A"), ("lib/b", "B"), ("new/c", "C")])).unwrap();
    let image =
        place.build("FROM scratch\nCOPY usr /usr\nCOPY lib* /x/\nADD plain /sub\nADD name.txt /\n").unwrap();
    assert!(
        place.files(&image).ends_with("| sub/a=A sub/lib/b=B sub/new/c=C | name.txt=no archive"),
        "{}",
        place.files(&image)
    );
    let base = place
        .build_with(
            "FROM scratch\nCOPY . /\n",
            BuildOptions { tags: vec!["base".parse().unwrap()], ..BuildOptions::default() },
        )
        .unwrap();
    assert_eq!(inner(&base).cmd(), &None);
    let image = place.build("FROM base\nADD plain /\n").unwrap();
    let layers = place.store.layer_dirs(&image).unwrap();
    assert_eq!(listing(&layers[1], &layers[1]), ["a=A", "lib->usr/lib", "new/c=C", "usr/lib/b=B"]);
    let image = place.build("FROM base\nCOPY plain /copied\n").unwrap();
    assert!(place.store.layer_dirs(&image).unwrap()[1].join("copied").is_file());
    assert!(place.mistake("FROM base\nADD https://example.com/x /\n").contains("not supported yet"));
}

#[test]
fn the_config_says_what_the_dockerfile_says() {
    let place = Place::new(CONTEXT);
    let text = "\
from scratch
maintainer Sun Xu
copy a.txt /
env A=1 B=${A:-none}
env A=$A/2 \"C\"='$A'
label one=1 two=\"$A b\"
workdir /srv
workdir www
user guest
expose 80 53/udp
expose 8000-8002 80
volume [\"/data\", \"/a b\"]
stopsignal SIGQUIT
healthcheck --interval=2s cmd true
shell [\"/bin/ash\", \"-ec\"]
run useradd x
run [\"/bin/prog\", \"$A\"]
entrypoint [\"/entry\"]
cmd first
cmd echo $A
";
    let image = place.build(text).unwrap();
    let config = inner(&image);
    assert_eq!(config.env().clone().unwrap(), ["A=1/2", "B=none", "C=$A"]);
    assert_eq!(config.labels().as_ref().unwrap()["two"], "1/2 b");
    assert_eq!(config.working_dir().as_deref(), Some("/srv/www"));
    assert_eq!(config.user().as_deref(), Some("guest"));
    assert_eq!(
        config.exposed_ports().clone().unwrap(),
        ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
    );
    assert_eq!(config.volumes().clone().unwrap(), ["/a b", "/data"]);
    assert_eq!(config.stop_signal().as_deref(), Some("SIGQUIT"));
    assert_eq!(config.entrypoint().clone().unwrap(), ["/entry"]);
    assert_eq!(config.cmd().clone().unwrap(), ["/bin/ash", "-ec", "echo $A"]);
    assert_eq!(image.config.author().as_deref(), Some("Sun Xu"));
    assert_eq!(image.docker.healthcheck.as_ref().unwrap().test, ["CMD-SHELL", "true"]);
    let ran = place.ran.borrow();
    assert_eq!(ran[0].args, ["/bin/ash", "-ec", "useradd x"]);
    assert_eq!(ran[1].args, ["/bin/prog", "$A"]);
    assert_eq!((ran[0].working_dir.to_str(), ran[0].user.as_str()), (Some("/srv/www"), "guest"));
    assert!(ran[0].env.iter().any(|entry| entry.starts_with("PATH=/usr/local/sbin")));
    assert_eq!(place.files(&image), "a.txt=A | srv/ | srv/www/ | ran=useradd x | ran=$A");
    let history = image.config.history().as_ref().unwrap();
    let with_layer: Vec<_> = history
        .iter()
        .filter(|entry| entry.empty_layer() != Some(true))
        .filter_map(|entry| entry.created_by().clone())
        .collect();
    assert_eq!(history.len(), 19);
    assert_eq!(with_layer.len(), image.layers.len());
    assert_eq!(with_layer[3], "/bin/ash -ec useradd x");
    assert!(with_layer[0].starts_with("/bin/sh -c #(nop)  COPY file:"), "{}", with_layer[0]);
    assert_eq!(
        history.last().unwrap().created_by().as_deref(),
        Some("/bin/ash -ec #(nop)  CMD [\"/bin/ash\",\"-ec\",\"echo $A\"]")
    );
}

#[test]
fn a_step_is_made_again_only_when_something_changed() {
    let place = Place::new(CONTEXT);
    let text = "FROM scratch\nCOPY a.txt /\nRUN one\nENV a=b\nRUN true\nCOPY b.txt /\n";
    let first = place.build(text).unwrap();
    assert_eq!(place.ran.borrow().len(), 2);
    assert_eq!(first.layers.len(), 3);
    let again = place.build(text).unwrap();
    assert_eq!((again.id.clone(), place.ran.borrow().len()), (first.id.clone(), 0));
    assert_eq!(place.said.borrow().iter().filter(|line| *line == " ---> Using cache").count(), 5);
    assert_eq!(place.said.borrow()[0], "Step 1/6 : FROM scratch");
    assert_eq!(place.said.borrow().last().unwrap(), &format!("Successfully built {}", first.id.short()));
    place.write("b.txt", "changed");
    assert_ne!(place.build(text).unwrap().id, first.id);
    assert_eq!(place.ran.borrow().len(), 0);
    place.write("a.txt", "changed");
    place.build(text).unwrap();
    assert_eq!(place.ran.borrow().len(), 2);
    place.build_with(text, BuildOptions { no_cache: true, ..BuildOptions::default() }).unwrap();
    assert_eq!(place.ran.borrow().len(), 2);
    // Without its layer a record is no hit.
    for image in place.store.list().unwrap() {
        place.store.remove(image.id.hex(), true, &|_| false).unwrap();
    }
    place.build(text).unwrap();
    assert_eq!(place.ran.borrow().len(), 1, "only what changed nothing is remembered without a layer");
}

#[test]
fn arguments_have_their_scope() {
    let place = Place::new(CONTEXT);
    let text = "ARG base=scratch\nARG word=global\nFROM $base\nARG word\nARG other=o$word\nENV E=$other\nRUN one\nENV word=env\nRUN two\n";
    let args = vec![("other".to_owned(), "given".to_owned()), ("unknown".to_owned(), "x".to_owned())];
    let image = place.build_with(text, BuildOptions { args, ..BuildOptions::default() }).unwrap();
    assert_eq!(inner(&image).env().clone().unwrap(), ["E=given", "word=env"]);
    let ran = place.ran.borrow();
    assert!(ran[0].env.contains(&"word=global".to_owned()) && ran[0].env.contains(&"other=given".to_owned()));
    assert!(ran[1].env.contains(&"word=env".to_owned()) && !ran[1].env.contains(&"word=global".to_owned()));
    assert!(place.said.borrow().iter().any(|line| line.contains("unknown")));
    let history = image.config.history().as_ref().unwrap();
    assert_eq!(history[3].created_by().as_deref(), Some("|2 other=given word=global /bin/sh -c one"));
}

#[test]
fn stages_give_files_and_only_the_last_is_the_image() {
    let place = Place::new(CONTEXT);
    let text = "FROM scratch AS Build\nCOPY dir /out\nRUN make\nFROM scratch AS other\nCOPY b.txt /\nFROM other\nCOPY --from=build /out/deep /ran /in/\nCOPY --from=0 /ran /zero\n";
    let image = place.build(text).unwrap();
    assert_eq!(place.files(&image), "b.txt=B | in/ran=make in/two=2 | zero=make");
    let image = place
        .build_with(
            text,
            BuildOptions {
                target: Some("build".to_owned()),
                tags: vec!["build:1".parse().unwrap()],
                ..BuildOptions::default()
            },
        )
        .unwrap();
    assert_eq!(image.references.len(), 1);
    assert_eq!(place.files(&image).split(" | ").count(), 2);
    let image = place.build("FROM scratch\nCOPY --from=build:1 /ran /\n").unwrap();
    assert_eq!(place.files(&image), "ran=make");
    assert!(place.mistake("FROM scratch\nCOPY --from=nowhere /x /\n").contains("no image nowhere"));
    assert!(
        place
            .build_with(text, BuildOptions { target: Some("none".to_owned()), ..BuildOptions::default() })
            .is_err()
    );
}

#[test]
fn a_base_image_can_have_instructions_for_what_is_built_on_it() {
    let place = Place::new(CONTEXT);
    let tags = vec!["base".parse().unwrap()];
    place
        .build_with(
            "FROM scratch\nCMD old\nONBUILD COPY a.txt /\nONBUILD ENV x=y\n",
            BuildOptions { tags, ..BuildOptions::default() },
        )
        .unwrap();
    let image = place.build("FROM base\nENTRYPOINT [\"/e\"]\n").unwrap();
    assert_eq!(place.files(&image), "a.txt=A");
    assert_eq!((inner(&image).env().clone().unwrap(), inner(&image).cmd()), (vec!["x=y".to_owned()], &None));
    assert_eq!(image.docker.on_build, None);
    assert!(place.said.borrow().contains(&"# Executing 2 build triggers".to_owned()));
}

#[test]
fn a_step_that_fails_makes_no_image() {
    let place = Place::new(CONTEXT);
    let error = place
        .build_with(
            "FROM scratch\nRUN false\n",
            BuildOptions { tags: vec!["x".parse().unwrap()], ..BuildOptions::default() },
        )
        .unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert_eq!(error.to_string(), "the command '/bin/sh -c false' returned a non-zero code: 3");
    assert_eq!(place.store.list().unwrap().len(), 0);
    for (text, what) in [
        ("FROM scratch\nCOPY none /\n", "Dockerfile:2:6: no none in the build context"),
        ("FROM nowhere\n", "Dockerfile:1:6: no image nowhere in the store"),
        ("FROM scratch\nCOPY a.txt b.txt /x\n", "Dockerfile:2:18: several sources"),
        ("FROM scratch\nENV a=${b:?say-it}\n", "Dockerfile:2:7: $b: say-it"),
        ("FROM scratch\nEXPOSE http\n", "Dockerfile:2:8: \"http\" is no port"),
        ("FROM Upper\n", "names no image"),
    ] {
        let told = place.mistake(text);
        assert!(told.contains(what), "{told}");
    }
    let options = BuildOptions { context: place.context().join("none"), ..BuildOptions::default() };
    assert!(matches!(build(&place.store, &place, &options, &mut |_| ()), Err(Error::NoContext(_))));
    let options = BuildOptions { context: place.context(), ..BuildOptions::default() };
    assert!(matches!(build(&place.store, &place, &options, &mut |_| ()), Err(Error::NoDockerfile(_))));
}
