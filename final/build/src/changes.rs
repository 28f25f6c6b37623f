//! `--change` of `commit` and `import`: instructions of a Dockerfile on an image that was not built from one.
//!
//! They are carried out as in a build, on a stage that begins with the image as it is; only what changes the config is allowed. The
//! history says nothing of them: the image is one step, and they are part of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sampan_image::{Digest, NewImage, Store};

use crate::BuildOptions;
use crate::builder::Builder;
use crate::cache::Cache;
use crate::dockerfile::mistake::Finding;
use crate::dockerfile::{self, Kind, Mistake};
use crate::pattern::Ignore;
use crate::stage::Stage;
use crate::tree::Tree;
use crate::{Error, Ran, Runner, Task};

/// Nothing is run.
struct Nobody;

impl Runner for Nobody {
    fn run(&self, _: Vec<PathBuf>, task: &Task) -> Result<Ran, Error> {
        Err(Error::Command { command: task.args.join(" "), code: 125 })
    }
}

/// Changes the config of an image by CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or
/// WORKDIR, one a line.
///
/// # Errors
/// [`Error::Dockerfile`] for a line that is none of these.
pub fn change(store: &Store, new: NewImage, lines: &[String]) -> Result<NewImage, Error> {
    let bytes = serde_json::to_vec(&new.config).unwrap_or_default();
    let stage = Stage {
        config: new.config.config().clone().unwrap_or_default(),
        docker: new.docker.clone(),
        layers: new.layers.clone(),
        key: Digest::of(&bytes),
        ..Stage::empty()
    };
    let options = BuildOptions::default();
    let mut builder = Builder {
        store,
        runner: &Nobody,
        options: &options,
        progress: &mut |_| {},
        context: Rc::new(Tree::image(&[], store.userxattr()).map_err(Error::read(Path::new("/")))?),
        ignore: Rc::new(Ignore::default()),
        cache: Cache::new(store, false),
        source: ("--change".to_owned(), String::new()),
        escape: '\\',
        globals: BTreeMap::new(),
        stages: vec![stage],
    };
    for line in lines {
        apply(&mut builder, line)?;
    }
    let stage = builder.stage()?;
    let mut changed = new;
    changed.config.set_config(Some(stage.config.clone()));
    changed.docker = stage.docker.clone();
    Ok(changed)
}

fn apply(builder: &mut Builder<'_>, line: &str) -> Result<(), Error> {
    builder.source.1 = line.to_owned();
    // A trigger is kept as it is written; the parser lets none of a trigger's own in.
    if let Some((first, text)) = line.trim().split_once(' ')
        && first.eq_ignore_ascii_case("onbuild")
    {
        dockerfile::parse::alone("--change", text.trim(), builder.escape)?;
        builder.stage()?.docker.on_build.get_or_insert_default().push(text.trim().to_owned());
        return Ok(());
    }
    let instruction = dockerfile::parse::alone("--change", line, builder.escape)?;
    match &instruction.kind {
        Kind::From { .. }
        | Kind::Run(_)
        | Kind::Copy(_)
        | Kind::Add(_)
        | Kind::Arg(_)
        | Kind::Maintainer(_) => {
            let advice = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR can be";
            let finding = Finding::new(instruction.span, "it cannot be a change".to_owned(), advice);
            Err(Mistake::new("--change", line, finding).into())
        }
        // No folder is made for it: a layer would be one step more.
        Kind::Workdir(word) => {
            let text = builder.expand(word)?;
            let path = builder.absolute(&text)?.to_string_lossy().into_owned();
            builder.stage()?.config.set_working_dir(Some(path));
            Ok(())
        }
        _ => builder.carry_out(&instruction),
    }
}
