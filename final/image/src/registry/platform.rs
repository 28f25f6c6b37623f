//! What kind of machine an image is for.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Descriptor, ImageConfiguration};

/// What an image is for: `linux/amd64`, `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Default for Platform {
    /// This machine's.
    fn default() -> Self {
        let architecture = oci_spec::image::Arch::default().to_string();
        Self { os: "linux".to_owned(), architecture, variant: None }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no platform: OS/ARCHITECTURE[/VARIANT], as linux/arm64");
        // An operating system alone means this machine's kind of it.
        if text == "linux" {
            return Ok(Self::default());
        }
        let mut parts = text.split('/');
        let mut part = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
        let (os, architecture, variant) = (part().ok_or_else(wrong)?, part().ok_or_else(wrong)?, part());
        if parts.next().is_some() || text.ends_with('/') {
            return Err(wrong());
        }
        // What other programs call them.
        let architecture = match architecture.as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            _ => architecture,
        };
        Ok(Self { os, architecture, variant })
    }
}

impl Platform {
    /// `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// `v8`, where the architecture has variants.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Whether an entry of an index is for it.
    pub(crate) fn fits(&self, entry: &Descriptor) -> bool {
        self.distance(entry).is_some()
    }

    /// How far an entry of an index is from it; none where it is for another kind of machine. A processor runs what was made for
    /// those before it; where no variant is asked for, any is better than none.
    pub(crate) fn distance(&self, entry: &Descriptor) -> Option<u32> {
        let other = Self::of_entry(entry)?;
        if (&other.os, &other.architecture) != (&self.os, &self.architecture) {
            return None;
        }
        let (own, its) = (self.usual_variant(), other.usual_variant());
        let number = |variant: &str| variant.strip_prefix('v').unwrap_or(variant).parse::<u32>().ok();
        match number(own).zip(number(its)) {
            _ if own == its => Some(0),
            Some((own, its)) if its <= own => Some(own - its),
            _ => self.variant.is_none().then_some(u32::MAX),
        }
    }

    /// The variant, or what is meant where none is told.
    fn usual_variant(&self) -> &str {
        match (self.architecture.as_str(), self.variant.as_deref().unwrap_or_default()) {
            ("arm64", "") => "v8",
            ("arm", "") => "v7",
            ("amd64", "") => "v1",
            (_, variant) => variant,
        }
    }

    /// Whether an image's config says that it is for it; a variant that the config leaves open fits.
    pub(crate) fn fits_config(&self, config: &ImageConfiguration) -> bool {
        let variant = |wanted: &String| config.variant().as_ref().is_none_or(|variant| variant == wanted);
        config.os().to_string() == self.os
            && config.architecture().to_string() == self.architecture
            && self.variant.as_ref().is_none_or(variant)
    }

    /// What an image's config says that it is for.
    pub(crate) fn of_config(config: &ImageConfiguration) -> Self {
        Self {
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone(),
        }
    }

    /// What an entry of an index is for, if that is a machine: what holds a signature or the like is for nobody's.
    pub(crate) fn of_entry(entry: &Descriptor) -> Option<Self> {
        let platform = entry.platform().as_ref()?;
        let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
        (os != "unknown").then(|| Self { os, architecture, variant: platform.variant().clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_linux_or_two_or_three_words() {
        for (text, shown) in [("linux/amd64", "linux/amd64"), ("linux/aarch64/v8", "linux/arm64/v8")] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        assert_eq!("linux".parse::<Platform>(), Ok(Platform::default()));
        for text in ["", "lynx", "linux/", "linux/arm64/v8/x", "/amd64", "linux/arm64/"] {
            text.parse::<Platform>().unwrap_err();
        }
    }

    #[test]
    fn of_several_variants_the_best_that_runs_is_taken() {
        let entry = |text: &str| -> Descriptor {
            let mut parts = text.split('/');
            let (architecture, variant) = (parts.next(), parts.next());
            let mut platform = serde_json::json!({"os": "linux", "architecture": architecture});
            if let Some(variant) = variant {
                platform["variant"] = variant.into();
            }
            let digest = format!("sha256:{}", "0".repeat(64));
            serde_json::from_value(serde_json::json!({
                "mediaType": "x/y", "digest": digest, "size": 1, "platform": platform,
            }))
            .unwrap()
        };
        for (wanted, entries, expected) in [
            ("linux/amd64", &["amd64/v3", "amd64"][..], Some("amd64")),
            ("linux/amd64/v3", &["amd64", "amd64/v2", "amd64/v4"], Some("amd64/v2")),
            ("linux/arm64", &["arm/v7", "arm64/v8"], Some("arm64/v8")),
            ("linux/arm64/v8", &["amd64", "arm64"], Some("arm64")),
            ("linux/arm/v7", &["arm/v5", "arm/v6", "arm64/v8"], Some("arm/v6")),
            ("linux/arm", &["arm/v6", "arm/v7"], Some("arm/v7")),
            ("linux/arm/v6", &["arm/v7"], None),
            ("linux/amd64", &["amd64/v3"], Some("amd64/v3")),
            ("linux/mips64le/r6", &["mips64le"], None),
        ] {
            let platform: Platform = wanted.parse().unwrap();
            let entries: Vec<_> = entries.iter().map(|text| (entry(text), *text)).collect();
            let found = entries.iter().filter_map(|(entry, text)| Some((platform.distance(entry)?, *text)));
            assert_eq!(
                found.min_by_key(|(distance, _)| *distance).map(|(_, text)| text),
                expected,
                "{wanted}"
            );
        }
    }
}
