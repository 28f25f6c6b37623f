//! A store, a build context, and a RUN that the test plays.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sampan_build::{BuildOptions, Error, Ran, Runner, Task, build};
use sampan_image::{Image, Store};
use tempfile::TempDir;

pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) said: RefCell<Vec<String>>,
    pub(crate) ran: RefCell<Vec<Task>>,
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
            // The same command makes the same layer, also a second later.
            fs::File::open(upper.join("ran")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        // What a runtime leaves behind.
        fs::create_dir(upper.join("proc")).unwrap();
        Ok(Ran { exit_code: if command == "false" { 3 } else { 0 }, upper, remove: Box::new(|| Ok(())) })
    }
}

impl Place {
    /// A context with these files; a name that ends in `/` is a folder, a text that begins with `-> ` a link.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("data")).unwrap();
        let place = Self { folder, store, said: RefCell::default(), ran: RefCell::default() };
        fs::create_dir(place.context()).unwrap();
        files.iter().for_each(|(name, text)| place.write(name, text));
        place
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.context().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None if name.ends_with('/') => fs::create_dir_all(path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }

    pub(crate) fn build(&self, dockerfile: &str) -> Result<Image, Error> {
        self.build_with(dockerfile, BuildOptions::default())
    }

    pub(crate) fn build_with(&self, dockerfile: &str, options: BuildOptions) -> Result<Image, Error> {
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

    pub(crate) fn mistake(&self, dockerfile: &str) -> String {
        match self.build(dockerfile) {
            Err(error) => error.to_string(),
            Ok(image) => panic!("{image:?}"),
        }
    }

    /// All files of the image's layers: `path=text`, `path/`, `path->target`, each layer after a `|`.
    pub(crate) fn files(&self, image: &Image) -> String {
        let layers = self.store.layer_dirs(image).unwrap();
        layers.iter().map(|layer| listing(layer, layer).join(" ")).collect::<Vec<_>>().join(" | ")
    }
}

pub(crate) fn listing(root: &Path, folder: &Path) -> Vec<String> {
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

pub(crate) fn inner(image: &Image) -> &oci_spec::image::Config {
    image.config.config().as_ref().unwrap()
}

pub(crate) const CONTEXT: &[(&str, &str)] =
    &[("a.txt", "A"), ("b.txt", "B"), ("dir/one", "1"), ("dir/deep/two", "2"), ("dir/link", "-> one")];
