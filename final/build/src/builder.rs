//! One instruction after another.
//!
//! A step is looked up in the build cache, made where it is not there, and written into the stage's history, all in
//! `Builder::step`; what an instruction means is in `settings` (the config), `copy` (COPY, ADD, WORKDIR) and here (FROM, RUN).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci_spec::image::History;
use sampan_image::{Digest, Image, Layer, Store, registry};

use crate::cache::{Cache, Made, key};
use crate::dockerfile::mistake::Finding;
use crate::dockerfile::{self, Command, Dockerfile, Instruction, Kind, Mistake, Word, expand};
use crate::options::BuildOptions;
use crate::pattern::Ignore;
use crate::stage::Stage;
use crate::tidy::tidy;
use crate::tree::Tree;
use crate::{Error, Progress, Runner, Task};

/// Builds an image and puts it into the store.
///
/// # Errors
/// The first step that failed; the store has no new image then.
pub fn build(
    store: &Store,
    runner: &dyn Runner,
    options: &BuildOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Image, Error> {
    // Layers that no image has yet must stay.
    let _pin = store.pin()?;
    if !options.context.is_dir() {
        return Err(Error::NoContext(options.context.clone()));
    }
    let path = options.dockerfile.clone().unwrap_or_else(|| options.context.join("Dockerfile"));
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoDockerfile(path)),
        other => String::from_utf8_lossy(&other.map_err(Error::read(&path))?).into_owned(),
    };
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let Dockerfile { escape, instructions } = dockerfile::parse(&name, &text)?;
    let mut builder = Builder {
        store,
        runner,
        options,
        progress,
        context: Rc::new(Tree::folder(&options.context).map_err(Error::read(&options.context))?),
        ignore: Rc::new(ignore(&options.context, &path)?),
        cache: Cache::new(store, !options.no_cache),
        source: (name, text),
        escape,
        globals: BTreeMap::new(),
        stages: Vec::new(),
    };
    builder.run(&instructions)?;
    builder.finish()
}

/// `Dockerfile.dockerignore` beside the Dockerfile, else `.dockerignore` in the context.
fn ignore(context: &Path, dockerfile: &Path) -> Result<Ignore, Error> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => {
                let text = other.map_err(Error::read(&path))?;
                return Ok(Ignore::parse(&String::from_utf8_lossy(&text)));
            }
        }
    }
    Ok(Ignore::default())
}

/// A build that goes on.
pub(crate) struct Builder<'a> {
    pub(crate) store: &'a Store,
    pub(crate) runner: &'a dyn Runner,
    pub(crate) options: &'a BuildOptions,
    pub(crate) progress: &'a mut dyn FnMut(Progress<'_>),
    pub(crate) context: Rc<Tree>,
    pub(crate) ignore: Rc<Ignore>,
    pub(crate) cache: Cache<'a>,
    /// What messages point into: the Dockerfile's name and text, or a trigger's.
    pub(crate) source: (String, String),
    pub(crate) escape: char,
    /// What ARG set above the first FROM.
    pub(crate) globals: BTreeMap<String, Option<String>>,
    pub(crate) stages: Vec<Stage>,
}

impl Builder<'_> {
    fn run(&mut self, instructions: &[Instruction]) -> Result<(), Error> {
        let last = self.last(instructions)?;
        let instructions = &instructions[..last];
        for (index, instruction) in instructions.iter().enumerate() {
            let (number, total) = (index + 1, instructions.len());
            (self.progress)(Progress::Step { number, total, text: &instruction.text });
            self.carry_out(instruction)?;
        }
        Ok(())
    }

    /// How many instructions there are to the end of the target stage.
    fn last(&self, instructions: &[Instruction]) -> Result<usize, Error> {
        let Some(target) = &self.options.target else { return Ok(instructions.len()) };
        let wanted = target.to_ascii_lowercase();
        let mut from = None;
        let mut stages = 0_usize;
        for (index, instruction) in instructions.iter().enumerate() {
            if let Kind::From { name, .. } = &instruction.kind {
                if from.is_some() {
                    return Ok(index);
                }
                if name.as_ref() == Some(&wanted) || wanted == stages.to_string() {
                    from = Some(index);
                }
                stages += 1;
            }
        }
        let what = format!("no build stage {target}");
        let first = instructions.first().map(|first| first.span).unwrap_or_default();
        from.map(|_| instructions.len())
            .ok_or_else(|| self.mistake(Finding::new(first, what, "FROM image AS name begins one")))
    }

    pub(crate) fn carry_out(&mut self, instruction: &Instruction) -> Result<(), Error> {
        match &instruction.kind {
            Kind::From { image, name } => self.from(image, name.clone()),
            Kind::Arg(args) if self.stages.is_empty() => self.global(args),
            Kind::Run(command) => self.run_command(command),
            Kind::Copy(transfer) => self.copy(transfer, false),
            Kind::Add(transfer) => self.copy(transfer, true),
            Kind::Workdir(folder) => self.workdir(folder),
            other => self.setting(other, instruction),
        }
    }

    fn from(&mut self, image: &Word, name: Option<String>) -> Result<(), Error> {
        let globals = self.globals.clone();
        let wanted = expand::expand(image, self.escape, &|name| globals.get(name).cloned().flatten())
            .map_err(|finding| self.mistake(finding))?;
        let earlier =
            self.stages.iter().find(|stage| stage.name.as_ref() == Some(&wanted.to_ascii_lowercase()));
        let mut stage = match earlier {
            Some(stage) => Stage::after(stage),
            None if wanted == "scratch" => Stage::empty(),
            None => {
                let image = self.image(image, &wanted)?;
                Stage::of(&image, self.store.layers_of(&image)?)
            }
        };
        stage.name = name;
        let triggers = stage.docker.on_build.take().unwrap_or_default();
        self.stages.push(stage);
        self.show()?;
        if !triggers.is_empty() {
            (self.progress)(Progress::Triggers(triggers.len()));
        }
        for text in triggers {
            // What goes wrong in a trigger is shown in the trigger's own text.
            let source = "ONBUILD of the base image".to_owned();
            let instruction = dockerfile::parse::alone(&source, &text, '\\')?;
            let before = std::mem::replace(&mut self.source, (source, text));
            self.carry_out(&instruction)?;
            self.source = before;
        }
        Ok(())
    }

    /// An image that an instruction names.
    pub(crate) fn image(&self, word: &Word, name: &str) -> Result<Image, Error> {
        self.runner.image(self.store, name).map_err(|error| match error {
            registry::Error::Store(sampan_image::Error::NoImage(_)) => self.mistake(Finding::new(
                word.span,
                format!("no image {name} in the store"),
                "sampan images lists them; sampan import ARCHIVE NAME makes one of a root file system",
            )),
            registry::Error::Store(sampan_image::Error::Reference { reason, .. }) => {
                self.mistake(Finding::new(
                    word.span,
                    format!("{name:?} names no image: {reason}"),
                    "write NAME or NAME:TAG",
                ))
            }
            registry::Error::Store(other) => other.into(),
            other => self.mistake(Finding::new(
                word.span,
                format!("no image {name} in the store, and none from a registry"),
                other.to_string(),
            )),
        })
    }

    fn global(&mut self, args: &[(String, Option<Word>)]) -> Result<(), Error> {
        for (name, default) in args {
            let globals = &self.globals;
            let default = default.as_ref().map(|word| {
                expand::expand(word, self.escape, &|name| globals.get(name).cloned().flatten())
                    .map_err(|finding| self.mistake(finding))
            });
            let value = self.given(name).or(default.transpose()?);
            self.globals.insert(name.clone(), value);
        }
        Ok(())
    }

    /// What `--build-arg` says of a variable.
    fn given(&self, name: &str) -> Option<String> {
        self.options.args.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    /// ARG within a stage.
    pub(crate) fn argument(&mut self, name: &str, default: Option<&Word>) -> Result<(), Error> {
        let default = default.map(|word| self.expand(word)).transpose()?;
        let value = self.given(name).or(default).or_else(|| self.globals.get(name).cloned().flatten());
        self.stage()?.args.insert(name.to_owned(), value);
        Ok(())
    }

    fn run_command(&mut self, command: &Command) -> Result<(), Error> {
        let network = self.options.network.clone();
        let stage = self.stage()?;
        let mut env = stage.config.env().clone().unwrap_or_default();
        let arguments = stage.arguments();
        env.extend(arguments.iter().cloned());
        if !env.iter().any(|entry| entry.starts_with("PATH=")) {
            env.push(format!("PATH={}", chroot::command::PATH));
        }
        let task = Task {
            args: stage.args_of(command),
            env,
            working_dir: stage
                .config
                .working_dir()
                .clone()
                .filter(|folder| !folder.is_empty())
                .unwrap_or_else(|| "/".to_owned())
                .into(),
            user: stage.config.user().clone().unwrap_or_default(),
            network,
        };
        let said = task.args.join(" ");
        let by = if arguments.is_empty() {
            said.clone()
        } else {
            format!("|{} {} {said}", arguments.len(), arguments.join(" "))
        };
        let parts: Vec<&str> = ["RUN"]
            .into_iter()
            .chain(task.args.iter().map(String::as_str))
            .chain(arguments.iter().map(String::as_str))
            .collect();
        self.step(&parts, by, |builder| builder.run_task(&task, &said))
    }

    fn run_task(&mut self, task: &Task, said: &str) -> Result<Option<Layer>, Error> {
        let layers = self.stage()?.layers.clone();
        let folders = self.store.dirs_of(&layers)?;
        (self.progress)(Progress::Running);
        let ran = self.runner.run(folders.clone(), task)?;
        let outcome = if ran.exit_code == 0 {
            self.keep(&ran.upper, &folders)
        } else {
            Err(Error::Command { command: said.to_owned(), code: ran.exit_code })
        };
        // Of two errors the first is the one to tell.
        let removed = (ran.remove)();
        outcome.and_then(|layer| removed.map(|()| layer))
    }

    /// Makes a layer of what a command changed, if it changed anything.
    fn keep(&self, upper: &Path, folders: &[PathBuf]) -> Result<Option<Layer>, Error> {
        let userxattr = self.store.userxattr();
        let image = Tree::image(folders, userxattr).map_err(Error::read(upper))?;
        tidy(upper, &image)?;
        if unionfs::changes(upper, userxattr, folders)?.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.store.adopt_layer(upper)?))
    }

    /// One step: from the cache, or made by `make`; `by` is what the history says of it.
    pub(crate) fn step(
        &mut self,
        parts: &[&str],
        by: String,
        make: impl FnOnce(&mut Self) -> Result<Option<Layer>, Error>,
    ) -> Result<(), Error> {
        let (key, made) = self.begin(parts)?;
        let made = match made {
            Some(made) => made,
            None => fresh(make(self)?),
        };
        self.end(key, made, by)
    }

    /// The step's key in the build cache, and what is found there.
    pub(crate) fn begin(&mut self, parts: &[&str]) -> Result<(Digest, Option<Made>), Error> {
        let own = key(&self.stage()?.key, parts);
        let made = self.cache.get(&own);
        if made.is_some() {
            (self.progress)(Progress::Cached);
        }
        Ok((own, made))
    }

    /// Writes a step into the cache and the stage's history.
    pub(crate) fn end(&mut self, own: Digest, made: Made, by: String) -> Result<(), Error> {
        if !made.known {
            self.cache.put(&own, &made);
        }
        let mut history = History::default();
        history.set_created(Some(made.created)).set_created_by(Some(by));
        let stage = self.stage()?;
        match made.layer {
            Some(layer) => {
                // A command may do something else the next time: what follows depends on what it did, too.
                stage.key = key(&own, &[layer.diff_id.hex()]);
                stage.layers.push(layer);
            }
            None => {
                history.set_empty_layer(Some(true));
                stage.key = own;
            }
        }
        history.set_author(stage.author.clone());
        stage.history.push(history);
        self.show()
    }

    fn show(&mut self) -> Result<(), Error> {
        let id = self.stage()?.image().id()?;
        (self.progress)(Progress::Image(&id));
        Ok(())
    }

    /// The stage that is being built.
    pub(crate) fn stage(&mut self) -> Result<&mut Stage, Error> {
        let none = Mistake::new(
            &self.source.0,
            &self.source.1,
            Finding::new(dockerfile::Span::default(), "there is no FROM", ""),
        );
        self.stages.last_mut().ok_or_else(|| none.into())
    }

    /// A word with its variables.
    pub(crate) fn expand(&self, word: &Word) -> Result<String, Error> {
        let variable = |name: &str| self.stages.last().and_then(|stage| stage.variable(name));
        expand::expand(word, self.escape, &variable).map_err(|finding| self.mistake(finding))
    }

    pub(crate) fn mistake(&self, finding: Finding) -> Error {
        Mistake::new(&self.source.0, &self.source.1, finding).into()
    }

    fn finish(mut self) -> Result<Image, Error> {
        let known = |name: &str| {
            self.globals.contains_key(name) || self.stages.iter().any(|stage| stage.args.contains_key(name))
        };
        let unused: Vec<_> =
            self.options.args.iter().map(|(name, _)| name.as_str()).filter(|name| !known(name)).collect();
        if !unused.is_empty() {
            let text = format!("no ARG takes the build arguments {}", unused.join(" "));
            (self.progress)(Progress::Warning(&text));
        }
        let new = self.stage()?.image();
        let mut image = self.store.put_image(&new, self.options.tags.first())?;
        (self.progress)(Progress::Built(&image.id));
        for tag in self.options.tags.iter().skip(1) {
            self.store.tag(&image, tag)?;
            image.references.push(tag.clone());
        }
        self.options.tags.iter().for_each(|tag| (self.progress)(Progress::Tagged(tag)));
        Ok(image)
    }
}

/// What a step made just now.
pub(crate) fn fresh(layer: Option<Layer>) -> Made {
    Made { layer, created: sampan_image::import::now(), known: false }
}
