//! `sampan save`.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use sampan_engine::Engine;
use sampan_image::Reference;
use sampan_image::archive::{Form, Saved};
use tempfile::NamedTempFile;

/// Write images into an archive
#[derive(Args)]
#[command(after_help = "Example:\n  sampan save -o busybox.tar busybox:latest")]
pub(crate) struct Save {
    /// The archive; else it goes to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What is in it
    #[arg(long, default_value = "docker-archive")]
    format: Format,
    /// References, ids, or repositories for all of their tags
    #[arg(required = true)]
    images: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// What Docker, Podman and skopeo read
    DockerArchive,
    /// An OCI image layout alone
    OciArchive,
}

impl Save {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        let store = engine.images();
        let mut images = Vec::new();
        for name in &self.images {
            if let Some(repository) = repository(name) {
                let all = store.list()?.into_iter().filter_map(|image| {
                    let of_it =
                        |other: &&Reference| other.familiar_name() == repository && other.tag().is_some();
                    let references: Vec<_> = image.references.iter().filter(of_it).cloned().collect();
                    (!references.is_empty()).then_some(Saved { image, references })
                });
                let before = images.len();
                images.extend(all);
                if images.len() > before {
                    continue;
                }
            }
            let image = store.resolve(name)?;
            let asked = name.parse::<Reference>().ok();
            let references = image
                .references
                .iter()
                .filter(|reference| Some(*reference) == asked.as_ref())
                .cloned()
                .collect();
            images.push(Saved { image, references });
        }
        let form = match self.format {
            Format::DockerArchive => Form::Both,
            Format::OciArchive => Form::Oci,
        };
        match &self.output {
            Some(path) => {
                let (file, path) = beside(path)?;
                let mut out = BufWriter::with_capacity(1 << 17, file);
                store.save(&images, form, &mut out)?;
                out.flush()?;
                let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
            }
            None if io::stdout().is_terminal() => {
                bail!("an archive is nothing for a terminal: use -o, or a pipe")
            }
            None => store.save(&images, form, BufWriter::with_capacity(1 << 17, File::from(stdout()?)))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A name without a tag means all tags, as with Docker.
fn repository(name: &str) -> Option<String> {
    let reference: Reference = name.parse().ok()?;
    (!super::says_tag(name)).then(|| reference.familiar_name())
}

/// A file beside the one that is to be, until it is whole: what was there before is not lost to half an archive. And the path that it
/// takes then: a link stays a link, and whatever is there and no file, as `/dev/null`, must not be replaced by one.
pub(super) fn beside(path: &Path) -> anyhow::Result<(NamedTempFile, PathBuf)> {
    let path = match fs::canonicalize(path) {
        Ok(there) if !there.is_file() => {
            bail!("-o {}: there is something that is no file: use another name, or a pipe", path.display())
        }
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => path.to_owned(),
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .tempfile_in(folder.unwrap_or(".".as_ref()))
        .with_context(|| format!("cannot write {}: no new file can be made in its folder", path.display()))?;
    Ok((file, path))
}

/// Standard output without the line buffer.
pub(super) fn stdout() -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::AsFd as _;
    io::stdout().as_fd().try_clone_to_owned()
}
