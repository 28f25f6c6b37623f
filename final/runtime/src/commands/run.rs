//! `run`: create and start in one, and stay in front of the container until it ends.

use sampan_runtime::Stdio;

use super::create::{self, read_bundle, size, tell, wants_terminal, what};
use super::{foreground, start};
use crate::state::Store;

/// `run [--detach] [create's flags] ID`
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Come back when the container runs
    #[arg(short, long)]
    detach: bool,
    /// Leave the container's state there when it has ended
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    create: create::Args,
}

pub(crate) fn run(store: &Store, args: &Args) -> anyhow::Result<u8> {
    if args.detach {
        create::create(store, &args.create)?;
        return start::start(store, &start::Args::of(&args.create.id));
    }
    let (bundle, spec) = read_bundle(&args.create.bundle)?;
    let stdio = if wants_terminal(&spec) { Stdio::Terminal(terminal_size(&spec)) } else { Stdio::Inherit };
    let id = &args.create.id;
    store.reserve(id)?;
    // From the first moment on they wait for the container, which may tell somebody that it is ready before we attend it.
    // The init process begins with none blocked.
    foreground::block()?;
    let outcome = (|| {
        let container = sampan_runtime::create(what(id, &spec, &bundle, stdio))?;
        if let Err(error) = tell(store, &args.create, &spec, &bundle, &container) {
            container.discard()?;
            return Err(error);
        }
        let mut started = container.start()?;
        let ended = foreground::attend(&mut started, wants_terminal(&spec));
        started.remove()?;
        Ok(ended?.exit_code())
    })();
    if !args.keep || outcome.is_err() {
        store.remove(id)?;
    }
    outcome
}

/// The user's window, where nothing else is said.
pub(super) fn terminal_size(spec: &oci_spec::runtime::Spec) -> sampan_runtime::WindowSize {
    let asked = size(spec);
    match namespaces::terminal::size() {
        Some(window) if asked == sampan_runtime::WindowSize::default() => {
            sampan_runtime::WindowSize { rows: window.ws_row, columns: window.ws_col }
        }
        _ => asked,
    }
}
