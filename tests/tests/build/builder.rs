//! A store with `busybox` in it, a build context, and what came out on the disk.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::{Host, Output};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A store with `busybox` in it, and a build context.
pub(crate) struct Builder<'a> {
    pub(crate) host: &'a Host,
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) context: PathBuf,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(host: &'a Host, files: &[(&str, &str)]) -> Result<Self> {
        let builder = Self {
            host,
            root: host.new_dir()?.join("data"),
            run: host.new_dir()?.join("sampan"),
            context: host.new_dir()?,
        };
        for (name, text) in files {
            builder.write(name, text)?;
        }
        builder.ok(&["import", &host.tar().to_string_lossy(), "busybox"])?;
        Ok(builder)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.context.join(name);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        Ok(fs::write(path, text)?)
    }

    pub(crate) fn args(&self, args: &[&str]) -> Vec<String> {
        let roots = ["--root", &self.root.to_string_lossy(), "--run-root", &self.run.to_string_lossy()]
            .map(str::to_owned);
        roots.into_iter().chain(args.iter().map(ToString::to_string)).collect()
    }

    pub(crate) fn call(&self, args: &[&str]) -> Result<Output> {
        self.host.command("sampan", self.args(args))
    }

    pub(crate) fn ok(&self, args: &[&str]) -> Result<String> {
        Ok(self.call(args)?.success()?.stdout.trim_end().to_owned())
    }

    pub(crate) fn build(&self, dockerfile: &str) -> Result<Output> {
        self.write("Dockerfile", dockerfile)?;
        self.call(&["build", "-t", "built", "--network", "none", &self.context.to_string_lossy()])
    }

    pub(crate) fn built(&self, dockerfile: &str) -> Result<String> {
        Ok(self.build(dockerfile)?.success()?.stdout)
    }

    /// Runs a command in the image that was built.
    pub(crate) fn inside(&self, command: &[&str]) -> Result<String> {
        self.ok(&[&["run", "--rm", "--network", "none", "built"], command].concat())
    }

    /// A document of the store, by its digest.
    pub(crate) fn blob(&self, digest: &Value) -> Result<Value> {
        let hex = digest.as_str().ok_or("no digest")?.trim_start_matches("sha256:");
        Ok(serde_json::from_slice(&fs::read(self.root.join("images/blobs/sha256").join(hex))?)?)
    }

    /// The config of the image that was built, as it is on the disk.
    pub(crate) fn config(&self) -> Result<Value> {
        let index: Value = serde_json::from_slice(&fs::read(self.root.join("images/index.json"))?)?;
        let named = |entry: &&Value| {
            entry["annotations"]["org.opencontainers.image.ref.name"] == "docker.io/library/built:latest"
        };
        let entry =
            index["manifests"].as_array().into_iter().flatten().find(named).ok_or("no image built")?.clone();
        self.blob(&self.blob(&entry["digest"])?["config"]["digest"])
    }

    /// The names in each layer above the base image's: what the layer's folder on the disk has.
    pub(crate) fn layers(&self) -> Result<Vec<Vec<String>>> {
        let config = self.config()?;
        let ids = config["rootfs"]["diff_ids"].as_array().ok_or("no layers")?.clone();
        let folder = |id: &Value| {
            self.root
                .join("layers/sha256")
                .join(id.as_str().unwrap_or_default().trim_start_matches("sha256:"))
        };
        ids.iter().skip(1).map(|id| files(&folder(id))).collect()
    }

    pub(crate) fn left(&self, folder: &str) -> Result<usize> {
        let folder = self.root.join(folder);
        Ok(if folder.exists() { fs::read_dir(folder)?.count() } else { 0 })
    }
}

pub(crate) fn files(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if fs::symlink_metadata(&path)?.is_dir() {
                left.push(path);
            } else {
                names.push(path.strip_prefix(root)?.display().to_string());
            }
        }
    }
    names.sort();
    Ok(names)
}
