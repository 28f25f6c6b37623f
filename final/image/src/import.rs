//! A root file system becomes an image: one layer, and a config that says little more.
//!
//! See `docker import`, and config.md of the OCI image specification.

use std::io::Read;

use jiff::Timestamp;
use oci_spec::image::{Arch, Config, History, ImageConfiguration, Os};

use crate::registry::Platform;
use crate::{DockerConfig, Error, Image, NewImage, Reference, Store};

/// What is said of an imported image.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// Stands in the history: `Imported from -`.
    pub comment: Option<String>,
    /// The command, the environment and so on.
    pub config: Config,
    /// For which kind of machine it is; this one's where nothing is said.
    pub platform: Option<Platform>,
}

impl Store {
    /// Makes an image of a root file system's tar archive, plain or compressed by gzip. The stream is read once, to its end.
    ///
    /// # Errors
    /// [`Error::Layer`] for what is no archive, [`Error::Io`], or the step that failed; no image is there then.
    pub fn import(&self, archive: impl Read + Send, reference: &Reference) -> Result<Image, Error> {
        let comment = Some("imported from a root file system".to_owned());
        self.import_with(archive, Some(reference), Import { comment, ..Import::default() })
    }

    /// The same with more to say of it, and perhaps without a name.
    ///
    /// # Errors
    /// As for [`Store::import`].
    pub fn import_with(
        &self,
        archive: impl Read + Send,
        reference: Option<&Reference>,
        import: Import,
    ) -> Result<Image, Error> {
        self.put_image(&self.import_new(archive, import)?, reference)
    }

    /// The same up to the image that is to be put into the store, so that more can be said of it before.
    ///
    /// # Errors
    /// As for [`Store::import`].
    pub fn import_new(&self, archive: impl Read + Send, import: Import) -> Result<NewImage, Error> {
        let layer = self.add_layer(archive)?;
        let now = now();
        let mut history = History::default();
        history.set_created(Some(now.clone()));
        history.set_comment(import.comment);
        let platform = import.platform.unwrap_or_default();
        let mut config = ImageConfiguration::default();
        config
            .set_created(Some(now))
            .set_architecture(Arch::from(platform.architecture()))
            .set_os(Os::from(platform.os()))
            .set_variant(platform.variant().map(str::to_owned))
            .set_config(Some(import.config))
            .set_history(Some(vec![history]));
        Ok(NewImage { config, docker: DockerConfig::default(), layers: vec![layer] })
    }
}

/// The present time as a config has it: RFC 3339, in UTC.
pub fn now() -> String {
    Timestamp::now().to_string()
}
