//! An image that something needs: from the store, or else from its registry.
//!
//! What `run`, `create` and `build` do before anything else. The settings and the logins are read only where a registry is asked: an
//! image that is there costs nothing more than to find it.

use std::str::FromStr;

use super::{Error, Platform, Progress, Pull, Registries};
use crate::{Image, Reference, Store};

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Each time: perhaps it has a newer one.
    Always,
    /// Where the store has it not.
    #[default]
    Missing,
    /// Not at all.
    Never,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "missing" => Ok(Self::Missing),
            "never" => Ok(Self::Never),
            _ => Err(format!("{text:?} is not one of always, missing, never")),
        }
    }
}

/// What is needed.
#[derive(Debug)]
pub struct Ensure<'a> {
    /// A reference, or an ID.
    pub name: &'a str,
    /// When to ask a registry.
    pub policy: Policy,
    /// For which machine; where none is said, what is in the store is taken as it is.
    pub platform: Option<&'a Platform>,
}

impl Store {
    /// Finds an image in the store, or pulls it. `missing` hears of one that is not there before a registry is asked. Hold a
    /// [`crate::Pin`], as for [`Store::resolve`].
    ///
    /// # Errors
    /// As for [`Store::resolve`] and [`Store::pull`]; what is an ID and not a name is nowhere but in the store.
    pub fn ensure(
        &self,
        wanted: &Ensure<'_>,
        registries: impl FnOnce() -> Result<Registries, Error>,
        progress: &dyn Progress,
        missing: impl FnOnce(&Reference),
    ) -> Result<Image, Error> {
        let found = match self.resolve(wanted.name) {
            Ok(image) => Some(image),
            Err(crate::Error::NoImage(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let reference = wanted.name.parse::<Reference>().ok().filter(|_| wanted.policy != Policy::Never);
        let fits = |image: &Image| wanted.platform.is_none_or(|platform| platform.fits_config(&image.config));
        let reference = match (found, reference) {
            (Some(image), _) if wanted.policy != Policy::Always && fits(&image) => return Ok(image),
            (Some(image), reference) => match reference.filter(|_| !is_id(&image, wanted.name)) {
                Some(reference) => reference,
                None if fits(&image) => return Ok(image),
                None => {
                    return Err(Error::Platform {
                        image: wanted.name.to_owned(),
                        platform: wanted.platform.map(ToString::to_string).unwrap_or_default(),
                        has: Platform::of_config(&image.config).to_string(),
                    });
                }
            },
            (None, Some(reference)) => {
                missing(&reference);
                reference
            }
            (None, None) => return Err(crate::Error::NoImage(wanted.name.to_owned()).into()),
        };
        let pull = Pull { reference: &reference, platform: wanted.platform };
        Ok(self.pull(&registries()?, &pull, progress)?.image)
    }
}

/// An ID names what is in the store, whatever a registry has.
fn is_id(image: &Image, name: &str) -> bool {
    image.id.hex().starts_with(name.strip_prefix("sha256:").unwrap_or(name))
}
