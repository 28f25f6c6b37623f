//! COPY, ADD and WORKDIR: the instructions by which the builder itself writes files.
//!
//! Docker's rules for the destination: 1. it is a folder if it ends with `/`, or if the image has a folder there, else the file's new
//! name; 2. several sources need a folder; 3. of a source that is a folder, what is in it is copied, not the folder itself; 4. a
//! relative destination begins at WORKDIR; 5. what is copied belongs to root, unless `--chown` says otherwise.

use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use chroot::Unpack;
use sampan_image::Layer as Stored;

use crate::Error;
use crate::add::{is_archive, is_other_archive, unpack};
use crate::builder::{Builder, fresh};
use crate::dockerfile::mistake::Finding;
use crate::dockerfile::{Transfer, Word};
use crate::layer::Layer;
use crate::owner;
use crate::pattern::Ignore;
use crate::sources::{Origin, Source};
use crate::tree::Tree;

/// What a COPY or ADD comes down to, with all variables and names resolved.
struct Plan {
    sources: Vec<Source>,
    /// The destination from the root, as it is written.
    to: PathBuf,
    /// Whether files go into it, or get its name.
    into: bool,
    owner: (u32, u32),
    mode: Option<u32>,
    unpacks: bool,
}

impl Builder<'_> {
    /// Carries out a COPY, or with `unpacks` an ADD.
    pub(crate) fn copy(&mut self, transfer: &Transfer, unpacks: bool) -> Result<(), Error> {
        let image = self.tree()?;
        let (tree, ignore) = match &transfer.from {
            Some(from) => (Rc::new(self.other(from)?), Rc::new(Ignore::default())),
            None => (Rc::clone(&self.context), Rc::clone(&self.ignore)),
        };
        let origin = Origin { tree: &tree, ignore: &ignore };
        let plan = self.plan(transfer, &origin, &image, unpacks)?;
        let digest = origin.digest(&plan.sources).map_err(Error::read(&plan.to))?;
        let name = if unpacks { "ADD" } else { "COPY" };
        let kind = match plan.sources.as_slice() {
            [source] if source.is_folder => "dir",
            [_] => "file",
            _ => "multi",
        };
        let end = if plan.into { "/" } else { "" };
        let said = format!("{name} {kind}:{} in {}{end} ", digest.hex(), plan.to.display());
        let attributes = format!("{:?} {:?}", plan.owner, plan.mode);
        let by = self.nop(&said)?;
        let (key, made) = self.begin(&[&said, &attributes])?;
        let made = match made {
            Some(made) => made,
            None => fresh(Some(self.write(&plan, &origin, &image)?)),
        };
        self.end(key, made, by)
    }

    /// Finds what is to be copied, and where to; all that can be said against it is said here.
    fn plan(
        &mut self,
        transfer: &Transfer,
        origin: &Origin<'_>,
        image: &Tree,
        unpacks: bool,
    ) -> Result<Plan, Error> {
        let mut sources = Vec::new();
        for word in &transfer.sources {
            sources.extend(self.find(word, origin, unpacks)?);
        }
        let text = self.expand(&transfer.destination)?;
        let to = self.absolute(&text)?;
        let named_folder = matches!(text.rsplit('/').next(), Some("" | "." | ".."));
        if sources.len() > 1 && !named_folder {
            let what = format!("several sources are copied, and the destination {text} does not end with /");
            return Err(self.mistake(Finding::new(
                transfer.destination.span,
                what,
                format!("write {text}/"),
            )));
        }
        let found = image.resolve(&to).map_err(Error::read(&to))?.found;
        let into = named_folder || found.is_some_and(|found| found.is_dir());
        let owner = match &transfer.chown {
            Some(word) => self.owner(word, image)?,
            None => (0, 0),
        };
        let mode = match &transfer.chmod {
            Some(word) => Some(self.mode(word)?),
            None => None,
        };
        Ok(Plan { sources, to, into, owner, mode, unpacks })
    }

    fn find(&self, word: &Word, origin: &Origin<'_>, unpacks: bool) -> Result<Vec<Source>, Error> {
        let text = self.expand(word)?;
        let wrong = |what: String, remedy: &str| self.mistake(Finding::new(word.span, what, remedy));
        if unpacks && (text.contains("://") || text.starts_with("git@")) {
            let remedy = "download it in a RUN, or put it into the build context";
            return Err(wrong("ADD from the network is not supported yet".to_owned(), remedy));
        }
        if unpacks && is_other_archive(Path::new(&text)) {
            let remedy = "ADD unpacks plain tar and gzip; COPY takes the archive as it is";
            return Err(wrong(format!("the compression of {text} is not supported yet"), remedy));
        }
        let found = origin.find(&text).map_err(Error::read(Path::new(&text)))?;
        if found.is_empty() {
            let resolved = origin.tree.resolve(Path::new(&text)).ok().and_then(|resolved| resolved.found);
            return Err(match resolved {
                Some(_) => wrong(
                    format!("{text} is left out by .dockerignore"),
                    "add a line to it that begins with ! and names it",
                ),
                None => wrong(
                    format!("no {text} in the build context"),
                    "sources are looked up in the folder that is given to build, and nothing outside of it is reached",
                ),
            });
        }
        Ok(found)
    }

    /// The tree of another stage, or of an image, for `--from`.
    fn other(&self, from: &Word) -> Result<Tree, Error> {
        let name = self.expand(from)?;
        let (_, earlier) = self.stages.split_last().unzip();
        let mut earlier = earlier.into_iter().flatten().enumerate();
        let wanted = name.to_ascii_lowercase();
        let stage =
            earlier.find(|(index, stage)| stage.name.as_ref() == Some(&wanted) || index.to_string() == name);
        let folders = match stage {
            Some((_, stage)) => self.store.dirs_of(&stage.layers)?,
            None => self.store.layer_dirs(&self.image(from, &name)?)?,
        };
        Tree::image(&folders, self.store.userxattr()).map_err(Error::read(Path::new(&name)))
    }

    fn owner(&self, word: &Word, image: &Tree) -> Result<(u32, u32), Error> {
        let text = self.expand(word)?;
        let wrong = |what: String, remedy: &str| self.mistake(Finding::new(word.span, what, remedy));
        let found = owner::resolve(image, &text).map_err(Error::read(Path::new("/etc/passwd")))?;
        let owner = found.map_err(|what| wrong(what, "a RUN above can add it; numbers need no name"))?;
        if !Unpack::default().as_root && owner != (0, 0) {
            return Err(wrong(
                "an ordinary user with one id cannot give files away".to_owned(),
                "have root give this user more in /etc/subuid and /etc/subgid, build as root, or leave --chown out",
            ));
        }
        Ok(owner)
    }

    fn mode(&self, word: &Word) -> Result<u32, Error> {
        let text = self.expand(word)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
        mode.ok_or_else(|| {
            self.mistake(Finding::new(
                word.span,
                format!("{text:?} is no mode"),
                "write it in octal: --chmod=755",
            ))
        })
    }

    fn write(&self, plan: &Plan, origin: &Origin<'_>, image: &Tree) -> Result<Stored, Error> {
        let folder = self.store.scratch()?;
        let mut layer = Layer::new(image, folder.path())?;
        for source in &plan.sources {
            if let (true, [item]) = (plan.unpacks && !source.is_folder, source.items.as_slice()) {
                let mut file = origin.tree.open(&item.from, &item.found).map_err(Error::read(&item.from))?;
                if is_archive(&mut file).map_err(Error::read(&item.from))? {
                    let to = image.resolve(&plan.to).map_err(Error::read(&plan.to))?.path;
                    layer.folder(&to, plan.owner)?;
                    unpack(&mut layer, folder.path(), &to, file, &item.from)?;
                    continue;
                }
            }
            let to = match source.is_folder {
                false if plan.into => plan.to.join(&source.name),
                _ => plan.to.clone(),
            };
            for item in &source.items {
                // Joined with an empty path, a file's name would end with a slash.
                let to = if item.to.as_os_str().is_empty() { to.clone() } else { to.join(&item.to) };
                layer.copy(origin, item, &to, plan.owner, plan.mode)?;
            }
        }
        layer.finish()?;
        Ok(self.store.adopt_layer(folder.path())?)
    }

    /// WORKDIR: the config, and where the image has no such folder, a layer with it.
    pub(crate) fn workdir(&mut self, word: &Word) -> Result<(), Error> {
        let text = self.expand(word)?;
        let path = self.absolute(&text)?;
        let image = self.tree()?;
        let resolved = image.resolve(&path).map_err(Error::read(&path))?;
        if resolved.found.as_ref().is_some_and(|found| !found.is_dir()) {
            return Err(Error::NotFolder(path));
        }
        let said = format!("WORKDIR {}", path.display());
        self.stage()?.config.set_working_dir(Some(path.to_string_lossy().into_owned()));
        let by = self.nop(&said)?;
        self.step(&[&said], by, |builder| {
            if resolved.found.is_some() {
                return Ok(None);
            }
            let folder = builder.store.scratch()?;
            let mut layer = Layer::new(&image, folder.path())?;
            layer.folder(&resolved.path, (0, 0))?;
            layer.finish()?;
            Ok(Some(builder.store.adopt_layer(folder.path())?))
        })
    }

    /// The image as it is now.
    fn tree(&mut self) -> Result<Tree, Error> {
        let layers = self.stage()?.layers.clone();
        let folders = self.store.dirs_of(&layers)?;
        Tree::image(&folders, self.store.userxattr()).map_err(Error::read(Path::new("/")))
    }

    /// A path of the image from the root, without `.` and `..`; a relative one begins at the working directory.
    pub(crate) fn absolute(&mut self, text: &str) -> Result<PathBuf, Error> {
        let before = self.stage()?.config.working_dir().clone().unwrap_or_default();
        let mut path = PathBuf::from("/");
        for part in Path::new("/").join(before).join(text).components() {
            match part {
                Component::ParentDir => drop(path.pop()),
                Component::Normal(name) => path.push(name),
                _ => {}
            }
        }
        Ok(path)
    }
}
