//! `diff`: what a container changed against its image.

use ::namespaces::{StageError, as_root_of_the_files};
use unionfs::Change;

use super::Container;
use crate::{Engine, Error};

impl Engine {
    /// Tells each change, sorted by path. For an ordinary user it is told by another process, which may read the files: what `tell`
    /// prints is seen, what it keeps is not.
    ///
    /// # Errors
    /// The read that failed.
    pub fn diff(&self, container: &Container, mut tell: impl FnMut(&Change)) -> Result<(), Error> {
        let _pin = self.images.pin()?;
        let image = self.images.resolve(&container.config.image_id)?;
        let layers = self.layer_dirs(&image)?;
        let (upper, userxattr) = (container.folder.join("upper"), self.images.userxattr());
        if !upper.is_dir() {
            // Never started.
            return Ok(());
        }
        as_root_of_the_files(|| {
            let changes = unionfs::changes(&upper, userxattr, &layers);
            changes.map_err(|error| StageError::new("diff", &error, 125))?.iter().for_each(&mut tell);
            Ok(())
        })?;
        Ok(())
    }
}
