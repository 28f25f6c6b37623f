//! `run`: create and start in one, and stay in front of the container until it ends.

use super::create::{self, Prepared};
use super::{Global, delete, foreground, start};
use crate::log::Log;
use crate::state::Store;

/// `run [--detach] [create's flags] ID`
#[derive(clap::Args)]
#[group(skip)]
#[command(after_help = "Example:\n  sampan-runtime run --bundle bundle first; echo $?")]
pub(crate) struct Args {
    /// Come back when the container runs
    #[arg(short, long)]
    detach: bool,
    /// Leave the container's state there when it has ended
    #[arg(long)]
    keep: bool,
    /// Accepted for runc's sake: this command is never a subreaper
    #[arg(long)]
    no_subreaper: bool,
    #[command(flatten)]
    create: create::Args,
}

pub(crate) fn run(store: &Store, log: &Log, global: Global, args: &Args) -> anyhow::Result<u8> {
    if args.detach {
        create::create(store, log, global, &args.create)?;
        return start::start(store, &start::Args::of(&args.create.id));
    }
    let id = &args.create.id;
    let prepared = Prepared::new(store, log, global, &args.create, false)?;
    let terminal = prepared.terminal;
    // From the first moment on they wait for the container, which may tell somebody that it is ready before we attend it.
    // The init process begins with none blocked.
    foreground::block(terminal)?;
    let started = (|| {
        let (mut container, record) = prepared.make(store, &args.create, None)?;
        let told = prepared.tell(&args.create, &mut container);
        match told.and_then(|()| prepared.listen(store, &args.create)) {
            Ok(relay) => Ok((container.start()?, record, relay)),
            Err(error) => {
                container.discard()?;
                Err(error)
            }
        }
    })();
    let (mut started, record, relay) = match started {
        Ok(started) => started,
        Err(error) => return prepared.finish(store, log, &args.create, Err(error)),
    };
    prepared.finish(store, log, &args.create, Ok(()))?;
    let hooks = start::started(store, &record);
    let relay = relay.map(|relay| relay.spawn(started.pidfd()));
    let ended = foreground::attend(&mut started, terminal);
    let told = relay.map(|relay| relay.and_then(|relay| relay.join().unwrap_or(Ok(()))));
    if let Some(Err(error)) = told {
        log.warn(&format!("cannot tell that the container is ready: {error:#}"));
    }
    let removed = started.remove();
    if !args.keep {
        delete::forget(store, log, Some(&record), id)?;
    }
    removed?;
    hooks?;
    Ok(ended?.exit_code())
}
