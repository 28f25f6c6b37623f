//! `sampan volume`.

use std::process::ExitCode;

use clap::Subcommand;
use sampan_engine::Engine;

use crate::format;

/// Volumes
#[derive(Subcommand)]
#[command(
    after_help = "Example:\n  sampan volume create data\n  sampan run --rm -v data:/srv busybox touch /srv/kept"
)]
pub(crate) enum Volume {
    /// Make a volume
    Create {
        /// Its name; a made one where none is given
        name: Option<String>,
    },
    /// List the volumes
    Ls {
        /// Names only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Remove volumes
    Rm {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

impl Volume {
    pub(crate) fn run(self, engine: &Engine) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create { name } => println!("{}", engine.create_volume(name.as_deref())?.name),
            Self::Ls { quiet } => {
                let volumes = engine.volumes()?;
                if quiet {
                    volumes.iter().for_each(|volume| println!("{}", volume.name));
                } else {
                    let rows = volumes.into_iter().map(|volume| vec!["local".to_owned(), volume.name]);
                    println!("{}", format::table(&["DRIVER", "VOLUME NAME"], rows.collect()));
                }
            }
            Self::Rm { names } => {
                return Ok(super::each(&names, |name| engine.remove_volume(name).map(|()| true)));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
