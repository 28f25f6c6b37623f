//! Process ids are used again: a number in a file is not a process.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test, wait_until};

use super::super::{BIN, Bundle, ROOT, id};

const SOON: Duration = Duration::from_secs(60);

pub(super) fn tests() -> Vec<Test> {
    const NSPID: &[Need] = &[Need::Root, Need::Rootfs, Need::Program("unshare")];
    vec![
        Test { name: "runtime::attacks::a_forged_state", needs: ROOT, run: a_forged_state },
        Test { name: "runtime::attacks::a_number_used_again", needs: NSPID, run: a_number_used_again },
    ]
}

/// The state of a container that has ended, with the number of an innocent process in it.
fn a_forged_state(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    // A process is known by its number and its start, which the kernel tells in hundredths of a second.
    sleep(Duration::from_millis(30));
    let victim = host.spawn("sleep", ["100"])?;
    let pid = bundle.pid("c")?;
    bundle.call(&["kill", "c", "KILL"])?.success()?;
    wait_until("it has stopped", SOON, || bundle.state("c").is_ok_and(|state| state["status"] == "stopped"))?;
    let path = bundle.state.join(id("c")).join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path)?)?;
    assert!(replace(&mut state, pid, victim.pid()) > 0, "no pid in {state}");
    fs::write(&path, state.to_string())?;
    assert_eq!(bundle.state("c")?["status"], "stopped");
    assert_ne!(bundle.call(&["kill", "c", "KILL"])?.code, 0);
    assert_ne!(bundle.call(&["exec", "c", "/bin/true"])?.code, 0);
    assert_ne!(bundle.call(&["start", "c"])?.code, 0);
    bundle.call(&["delete", "--force", "c"])?.success()?;
    assert_eq!(tests::ask::state(victim.pid()), Some('S'), "the victim was killed");
    Ok(())
}

/// Puts another number wherever this one is; gives how often.
fn replace(value: &mut Value, from: i32, to: i32) -> usize {
    match value {
        Value::Number(_) if *value == json!(from) => {
            *value = json!(to);
            1
        }
        Value::Array(list) => list.iter_mut().map(|value| replace(value, from, to)).sum(),
        Value::Object(map) => map.values_mut().map(|value| replace(value, from, to)).sum(),
        _ => 0,
    }
}

/// For real, in a pid namespace of its own, where the next number can be chosen: the container ends, and its number is given to
/// somebody else.
fn a_number_used_again(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |_| {})?;
    let name = id("c");
    let runtime = format!("{} --root {}", host.bin(BIN).display(), bundle.state.display());
    let text = format!(
        "{runtime} run --detach --bundle {} {name} || exit 9
        pid=$({runtime} state {name} | grep '\"pid\"' | tr -dc 0-9)
        kill -9 $pid; i=0; while kill -0 $pid 2>/dev/null && [ $i -lt 100 ]; do i=$((i+1)); sleep 0.05; done
        echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid; sleep 100 & victim=$!
        [ $victim = $pid ] || {{ echo not the same number: $victim $pid; exit 8; }}
        {runtime} state {name} | grep -o stopped
        {runtime} kill {name} KILL && echo RISK kill; {runtime} exec {name} /bin/true && echo RISK exec
        {runtime} delete --force {name} || echo not deleted
        sleep 0.1; kill -0 $victim && echo alive; kill $victim",
        bundle.folder.display()
    );
    let words = ["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", &text];
    let output = host.command("unshare", words)?;
    assert_eq!(output.stdout, "stopped\nalive\n", "{output}");
    Ok(())
}
