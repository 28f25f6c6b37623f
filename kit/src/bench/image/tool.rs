//! Who takes part: for each case, what makes its store ready, and the command that is timed.
//!
//! Not all do the same. skopeo carries blobs into a folder and unpacks none; docker's daemon has none of the compressed blobs after it has
//! unpacked them, and compresses anew for a push; podman's archives have their layers uncompressed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::What;
use super::sample::{self, IMAGE, Sample};
use super::servers::Servers;
use crate::host;

/// The plain programs.
pub(crate) const FLOOR: &str = "floor";
/// Our own.
pub(crate) const SAMPAN: &str = "sampan";

/// Each layer into a folder of its own, as whoever wants layers has to.
const UNPACK: &str = r#"
set -e
at=$1
shift
for layer; do
    folder=$at/$(basename "$layer")
    mkdir "$folder"
    pigz -dc "$layer" | tar -xC "$folder" --numeric-owner
done
"#;

/// A program that is measured.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    program: PathBuf,
    folder: PathBuf,
}

/// The floor, ours, and those that are installed and asked for.
pub(crate) fn find(sampan: &Path, work: &Path, servers: &Servers, only: &[String]) -> Vec<Tool> {
    let own = [(FLOOR, Some(PathBuf::from("sh"))), (SAMPAN, Some(sampan.to_owned()))];
    let others = ["podman", "skopeo", "umoci", "docker"].map(|name| (name, host::program(name)));
    let asked = |name: &str| only.is_empty() || only.iter().any(|asked| asked == name);
    own.into_iter()
        .chain(others.into_iter().filter(|(name, _)| asked(name)))
        .filter(|(name, _)| *name != "docker" || servers.has_docker())
        .filter_map(|(name, program)| {
            Some(Tool { name, program: program?, folder: work.join(format!("store-{name}")) })
        })
        .collect()
}

impl Tool {
    /// Makes the store ready, and says the command; none where this program cannot do the case.
    pub(crate) fn prepare(
        &mut self,
        what: What,
        sample: &Sample,
        servers: &mut Servers,
    ) -> Result<Option<Vec<OsString>>> {
        let does = match (self.name, what) {
            ("umoci", what) => what == What::Unpack,
            ("podman" | "skopeo" | "docker", what) => what != What::Unpack,
            _ => true,
        };
        if !does {
            return Ok(None);
        }
        // What a case before left may be there under another name.
        let loaded = self.folder.join("loaded");
        match what {
            What::Load | What::Pull => self.empty(servers)?,
            What::Save | What::Push if !loaded.exists() => {
                self.empty(servers)?;
                self.load(sample)?;
                fs::write(&loaded, "").context("note that the image is there")?;
            }
            What::Unpack => self.blobs_alone(sample, servers)?,
            What::Save | What::Push => {}
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("make {}", self.folder.display()))?;
        if what == What::Push {
            servers.renew()?;
            self.tag(&servers.empty())?;
        }
        let saved = self.folder.join("saved.tar");
        if saved.exists() {
            fs::remove_file(&saved).context("remove the archive of the round before")?;
        }
        Ok(Some(self.command(what, sample, servers)))
    }

    fn command(&self, what: What, sample: &Sample, servers: &Servers) -> Vec<OsString> {
        if self.name == FLOOR {
            return self.floor(what, sample);
        }
        let archive = sample.archive.clone().into_os_string();
        let saved = self.folder.join("saved.tar");
        let words: Vec<OsString> = match (self.name, what) {
            ("skopeo", what) => return self.skopeo(what, sample, servers),
            ("umoci", _) => {
                let layout = format!("{}:latest", self.folder.join("layout").display());
                vec!["unpack".into(), "--image".into(), layout.into(), self.folder.join("bundle").into()]
            }
            (_, What::Load) => vec!["load".into(), "-q".into(), "-i".into(), archive],
            (SAMPAN, What::Unpack) => vec!["pull".into(), "-q".into(), servers.full().into()],
            (_, What::Save) => vec!["save".into(), "-o".into(), saved.into(), IMAGE.into()],
            (_, What::Push) => self.plainly("push", &servers.empty()),
            (_, What::Pull | What::Unpack) => self.plainly("pull", &servers.full()),
        };
        let mut command = self.begin();
        command.extend(words);
        command
    }

    /// Podman does not know by itself that this machine's own registry speaks plain HTTP.
    fn plainly(&self, verb: &str, image: &str) -> Vec<OsString> {
        let mut words = vec![verb.into(), "-q".into()];
        words.extend((self.name == "podman").then(|| "--tls-verify=false".into()));
        words.push(image.into());
        words
    }

    fn begin(&self) -> Vec<OsString> {
        let mut command = vec![self.program.clone().into_os_string()];
        let folder = |name| self.folder.join(name).into_os_string();
        match self.name {
            SAMPAN => command.extend(["--root".into(), folder("root"), "--run-root".into(), folder("run")]),
            "podman" => command.extend([
                "--root".into(),
                folder("root"),
                "--runroot".into(),
                short_folder().into(),
                "--storage-driver=overlay".into(),
                "--storage-opt=overlay.skip_mount_home=true".into(),
            ]),
            "docker" => {
                let socket = self.folder.with_file_name("docker").join("socket");
                command.extend(["-H".into(), format!("unix://{}", socket.display()).into()]);
            }
            _ => {}
        }
        command
    }

    fn floor(&self, what: What, sample: &Sample) -> Vec<OsString> {
        let blobs = sample.blobs.iter().map(|blob| blob.clone().into_os_string());
        let mut command: Vec<OsString> = match what {
            What::Load | What::Pull | What::Unpack => {
                vec!["sh".into(), "-c".into(), UNPACK.into(), "sh".into(), self.folder.clone().into()]
            }
            What::Push => vec!["sha256sum".into()],
            What::Save => {
                return vec![
                    "cp".into(),
                    sample.archive.clone().into(),
                    self.folder.join("saved.tar").into(),
                ];
            }
        };
        command.extend(blobs);
        command
    }

    /// To and from a folder of the OCI layout.
    fn skopeo(&self, what: What, sample: &Sample, servers: &Servers) -> Vec<OsString> {
        let layout = format!("oci:{}:latest", self.folder.join("layout").display());
        let archive = format!("docker-archive:{}", sample.archive.display());
        let saved = format!("docker-archive:{}:{IMAGE}", self.folder.join("saved.tar").display());
        let (from, to) = match what {
            What::Save => (layout, saved),
            What::Push => (layout, format!("docker://{}", servers.empty())),
            What::Pull => (format!("docker://{}", servers.full()), layout),
            What::Load | What::Unpack => (archive, layout),
        };
        let words = ["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to];
        let program = host::program("skopeo").unwrap_or_else(|| "skopeo".into());
        std::iter::once(program.into_os_string()).chain(words.map(OsString::from)).collect()
    }

    /// Loads the image, untimed.
    fn load(&self, sample: &Sample) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("make {}", self.folder.display()))?;
        let mut command = match self.name {
            FLOOR => return Ok(()),
            "skopeo" | "umoci" => self.layout_of(sample),
            _ => self.begin(),
        };
        if !matches!(self.name, "skopeo" | "umoci") {
            command.extend(["load".into(), "-q".into(), "-i".into(), sample.archive.clone().into()]);
        }
        run(&command)
    }

    fn layout_of(&self, sample: &Sample) -> Vec<OsString> {
        let layout = format!("oci:{}:latest", self.folder.join("layout").display());
        let archive = format!("docker-archive:{}", sample.archive.display());
        ["skopeo", "copy", "-q", &archive, &layout].map(OsString::from).to_vec()
    }

    /// A second name, under which it is pushed.
    fn tag(&self, name: &str) -> Result<()> {
        if !matches!(self.name, SAMPAN | "podman" | "docker") {
            return Ok(());
        }
        let mut command = self.begin();
        command.extend(["tag".into(), IMAGE.into(), name.into()]);
        run(&command)
    }

    /// A store that has the blobs and no folder of them.
    fn blobs_alone(&self, sample: &Sample, servers: &Servers) -> Result<()> {
        match self.name {
            SAMPAN => {
                run(&self.command(What::Pull, sample, servers))?;
                remove(&self.folder.join("root/layers"))
            }
            "umoci" => {
                remove(&self.folder.join("bundle"))?;
                if self.folder.join("layout").exists() { Ok(()) } else { self.load(sample) }
            }
            _ => self.empty(servers),
        }
    }

    /// Sends the image to a registry, untimed.
    pub(crate) fn send(&self, sample: &Sample, name: &str) -> Result<()> {
        self.load(sample)?;
        self.tag(name)?;
        let mut command = self.begin();
        command.extend(self.plainly("push", name));
        run(&command)
    }

    fn images(&self) -> Result<Vec<String>> {
        let mut command = self.begin();
        command.extend(["images".into(), "-q".into()]);
        let output = Command::new(&command[0]).args(&command[1..]).output().context("run docker images")?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// Takes everything out of the store.
    pub(crate) fn empty(&self, servers: &Servers) -> Result<()> {
        if self.name == "docker" && servers.has_docker() {
            let images = self.images()?;
            if !images.is_empty() {
                let mut command = self.begin();
                command.extend(["rmi".into(), "-f".into()]);
                command.extend(images.into_iter().map(OsString::from));
                run(&command)?;
            }
        }
        if self.name == "podman" {
            remove(&short_folder())?;
        }
        remove(&self.folder)
    }

    /// The memory that the work took in another process than the command's.
    pub(crate) fn daemon(&self, servers: &Servers) -> Option<u64> {
        if self.name == "docker" { servers.docker_peak() } else { None }
    }
}

/// Podman refuses one whose path is longer than 50 bytes.
fn short_folder() -> PathBuf {
    std::env::temp_dir().join(format!("sampan-{}-bench", std::process::id()))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

fn run(command: &[OsString]) -> Result<()> {
    sample::run(Command::new(&command[0]).args(&command[1..]))
}
