//! `rmi` and `image prune`: take away a name; with the last name, the image; with the last image, the layers.
//!
//! What may go is found by reachability: everything that the index leads to stays, all else goes, also what a killed command left.
//! There is no counter that could be wrong. It is done only while nobody else works in the store (see [`crate::lock`]).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use step::step;

use crate::image::{document, is_index};
use crate::layers::remove_tree;
use crate::layout::{digest_of, drop_needless, is_named, reference_of, set_reference};
use crate::lock::IndexLock;
use crate::{DiffId, Digest, Error, Image, ImageId, Pin, Reference, Store};

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// The names that were taken away.
    pub untagged: Vec<Reference>,
    /// The images that are gone with their last names.
    pub images: Vec<ImageId>,
    /// The layers whose folders were removed with it.
    pub layers: Vec<DiffId>,
}

impl Store {
    /// Takes away the name that is given; or, for an ID, the only name. An image without names is removed, unless `user` tells the name
    /// of a container that has its ID: then it is an error, or with `force` the image stays without a name. `user` is asked when no
    /// other image can be taken into use, so it must look anew. What cannot be read is removed by its name.
    ///
    /// # Errors
    /// As for [`Store::resolve`]; [`Error::Kept`]; the step that failed.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        user: &dyn Fn(&ImageId) -> Option<String>,
    ) -> Result<Removed, Error> {
        let alone = Pin::alone(self.blobs.folder())?;
        let mut removed = self.layout.change(|entries| match self.resolve(name) {
            Ok(image) => self.take_away(entries, image, name, force, user),
            Err(error) => take_damaged(entries, name, error),
        })?;
        // Others at work may be about to use what nothing names: the next removal sweeps.
        if alone.is_some() {
            removed.layers = self.sweep()?;
        }
        Ok(removed)
    }

    /// Removes each image that `select` chooses, under all of its names, and then what nothing names: also what killed commands have
    /// left. While others work in the store they are in nobody's way: names go at once, files with the next removal. `select` is asked
    /// as `user` of [`Store::remove`].
    ///
    /// # Errors
    /// The step that failed; the images before it are gone then.
    pub fn prune(&self, select: &dyn Fn(&Image) -> bool) -> Result<Removed, Error> {
        let alone = Pin::alone(self.blobs.folder())?;
        let mut removed = self.layout.change(|entries| {
            let mut removed = Removed::default();
            for image in self.list()?.into_iter().filter(|image| select(image)) {
                removed.untagged.extend(image.references);
                removed.images.push(image.id);
            }
            let id = |entry: &Descriptor| Image::load(&self.blobs, entry).ok().map(|image| image.id);
            let named: BTreeSet<_> = entries.iter().filter(|entry| is_named(entry)).filter_map(id).collect();
            entries.retain(|entry| {
                // An image may be there by two manifests; one that lost its name to the other is of no use.
                let needless = |id| removed.images.contains(&id) || (!is_named(entry) && named.contains(&id));
                !id(entry).is_some_and(needless)
            });
            Ok(removed)
        })?;
        if alone.is_some() {
            removed.layers = self.sweep()?;
        }
        Ok(removed)
    }

    /// Removes what nothing names: blobs, layers, what is unfinished. The caller has the pin alone.
    fn sweep(&self) -> Result<Vec<DiffId>, Error> {
        // Whoever takes a name away writes the index beside what is unfinished, and has no pin.
        let _lock = IndexLock::wait(self.layout.folder())?;
        let kept = self.reachable()?;
        // First: a layer that a killed removal has left here would be in the way of the same layer.
        for name in names(&self.unfinished)? {
            discard(&self.unfinished.join(name), "a killed command left it")?;
        }
        for name in names(self.blobs.folder())? {
            if !kept.blobs.contains(&name) {
                discard(&self.blobs.folder().join(&name), "no manifest leads to the blob")?;
            }
        }
        let mut gone = Vec::new();
        for name in names(self.layers.folder())? {
            if !kept.layers.contains(&name) {
                let (path, away) = (self.layers.folder().join(&name), self.unfinished.join(&name));
                step(
                    "rename",
                    format_args!("{} {}", path.display(), away.display()),
                    "half a layer must not stand under its DiffID",
                )
                .run(|| fs::rename(&path, &away))?;
                remove_tree(&away)?;
                gone.extend(name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok()));
            }
        }
        Ok(gone)
    }

    fn reachable(&self) -> Result<Kept, Error> {
        let mut kept = Kept::default();
        for entry in self.layout.index()?.manifests() {
            self.follow(entry, &mut kept, true);
        }
        Ok(kept)
    }

    // ANCHOR: follow
    /// Keeps what an entry leads to. What cannot be read leads nowhere; of it, the blob itself stays.
    fn follow(&self, entry: &Descriptor, kept: &mut Kept, deeper: bool) {
        kept.blob(entry);
        if is_index(entry.media_type()) {
            if let (true, Ok(index)) = (deeper, document::<ImageIndex>(&self.blobs, entry, "index")) {
                index.manifests().iter().for_each(|entry| self.follow(entry, kept, false));
            }
            return;
        }
        if let Ok(manifest) = document::<ImageManifest>(&self.blobs, entry, "manifest") {
            kept.blob(manifest.config());
            manifest.layers().iter().for_each(|layer| kept.blob(layer));
        }
        if let Ok(image) = Image::load(&self.blobs, entry) {
            kept.layers.extend(image.layers.iter().map(|layer| layer.hex().into()));
        }
    }
    // ANCHOR_END: follow

    fn take_away(
        &self,
        entries: &mut Vec<Descriptor>,
        image: Image,
        name: &str,
        force: bool,
        user: &dyn Fn(&ImageId) -> Option<String>,
    ) -> Result<Removed, Error> {
        // With the names of all entries that lead to it: by another manifest, or by an index.
        let image = self.list()?.into_iter().find(|other| other.id == image.id).unwrap_or(image);
        let by_name = name.parse::<Reference>().ok().filter(|name| image.references.contains(name));
        let untagged = by_name.map_or_else(|| image.references.clone(), |name| vec![name]);
        let last = untagged.len() == image.references.len();
        let kept = |reason: String| Err(Error::Kept { id: image.id.short().to_owned(), reason });
        if untagged.len() > 1 && !force {
            let names: Vec<_> = untagged.iter().map(ToString::to_string).collect();
            return kept(format!(
                "has several names ({}): name the one to remove, or use -f for all of them",
                names.join(", ")
            ));
        }
        let user = if last { user(&image.id) } else { None };
        let used = user.is_some();
        // Where there is no name, force could take nothing away.
        if let Some(user) = user.filter(|_| !force || untagged.is_empty()) {
            let force = if untagged.is_empty() { "" } else { ", or use -f to take away its name alone" };
            return kept(format!(
                "is used by container {user}: remove that first (`sampan rm {user}`){force}"
            ));
        }
        for entry in entries.iter_mut() {
            if reference_of(entry).is_some_and(|reference| untagged.contains(&reference)) {
                set_reference(entry, None);
            }
        }
        if !used {
            let named = if last { |entry: &_| reference_of(entry).is_some() } else { is_named };
            entries.retain(|entry| named(entry) || !self.leads_to(entry, &image));
        }
        drop_needless(entries);
        Ok(Removed {
            untagged,
            images: (last && !used).then(|| image.id.clone()).into_iter().collect(),
            layers: Vec::new(),
        })
    }
}

#[derive(Default)]
struct Kept {
    blobs: BTreeSet<OsString>,
    layers: BTreeSet<OsString>,
}

impl Kept {
    fn blob(&mut self, descriptor: &Descriptor) {
        self.blobs.extend(digest_of(descriptor).as_ref().map(|digest| Digest::hex(digest).into()));
    }
}

/// An image that cannot be read has no ID to ask for, and is of no use to anybody: its name goes, and the entry with it.
fn take_damaged(entries: &mut Vec<Descriptor>, name: &str, error: Error) -> Result<Removed, Error> {
    let gone = match &error {
        Error::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        other => matches!(other, Error::Damaged { .. }),
    };
    let wanted = name.parse::<Reference>().ok().filter(|_| gone);
    let before = entries.len();
    entries.retain(|entry| wanted.is_none() || reference_of(entry) != wanted);
    match wanted.filter(|_| entries.len() < before) {
        Some(name) => Ok(Removed { untagged: vec![name], ..Removed::default() }),
        None => Err(error),
    }
}

fn discard(path: &Path, why: &'static str) -> Result<(), Error> {
    if fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
        return remove_tree(path);
    }
    step("unlink", format_args!("{}", path.display()), why).run(|| fs::remove_file(path))?;
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<OsString>, Error> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect())
            .map_err(Error::io(folder)),
    }
}
