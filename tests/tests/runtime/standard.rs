//! What every program finds without having asked for it: its environment, and its standard descriptors.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tests::{Host, Outcome, Output, Test, wait_until};

use super::{Bundle, ROOT, Result, USER, script};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test { name: "runtime::home_is_what_the_image_says", needs: ROOT, run: home },
        Test {
            name: "runtime::user_home_is_what_the_image_says",
            needs: USER,
            run: |host| home_of_root(&host.as_user()),
        },
        Test { name: "runtime::the_last_of_a_variable_counts", needs: ROOT, run: last },
        Test { name: "runtime::a_user_may_open_his_descriptors_again", needs: ROOT, run: again },
        Test { name: "runtime::a_user_may_open_his_terminal_again", needs: ROOT, run: terminal },
    ]
}

fn home_of_root(host: &Host) -> Outcome {
    assert_eq!(script(host, "echo $HOME", |_| {})?.success()?.stdout, "/root\n");
    Ok(())
}

fn home(host: &Host) -> Outcome {
    home_of_root(host)?;
    let rootfs = host.new_rootfs()?;
    let passwd = rootfs.join("etc/passwd");
    fs::write(
        &passwd,
        "root:x:0:0::/root:/bin/sh\nnobody:x:1:1:::\nsomebody:x:1000:1000::/home/some:/bin/sh\n",
    )?;
    let of = |uid: u32, env: &[&str]| -> Result<String> {
        let output = script(host, "echo $HOME", |config| {
            config["root"]["path"] = json!(rootfs);
            config["process"]["user"] = json!({ "uid": uid, "gid": 0 });
            config["process"]["env"] = json!(env);
        })?;
        Ok(output.success()?.stdout)
    };
    for (uid, env, said) in [
        (0, &["PATH=/bin"][..], "/root\n"),
        (1000, &["PATH=/bin"], "/home/some\n"),
        (1000, &["HOME=", "PATH=/bin"], "/home/some\n"),
        (1000, &["HOME=/x", "PATH=/bin"], "/x\n"),
        (1, &["PATH=/bin"], "/\n"),
        (2, &["PATH=/bin"], "/\n"),
    ] {
        assert_eq!(of(uid, env)?, said, "{uid} {env:?}");
    }
    // What is none is neither waited for nor followed out.
    fs::remove_file(&passwd)?;
    assert_eq!(of(0, &["PATH=/bin"])?, "/\n");
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::from_bits_truncate(0o666))?;
    assert_eq!(of(0, &["PATH=/bin"])?, "/\n");
    fs::remove_file(&passwd)?;
    std::os::unix::fs::symlink("/proc/self/environ", &passwd)?;
    assert_eq!(of(0, &["PATH=/bin"])?, "/\n");
    Ok(())
}

fn last(host: &Host) -> Outcome {
    let bundle = Bundle::new(host, &["/bin/sleep", "100"], |config| {
        config["process"]["env"] = json!(["PATH=/bin", "A=1", "A=2"]);
    })?;
    bundle.call(&["run", "--detach", "c"])?.success()?;
    let pid = bundle.pid("c")?;
    wait_until("it runs", Duration::from_secs(60), || {
        tests::ask::command_line(pid).starts_with("/bin/sleep")
    })?;
    let environ = tests::ask::environment(pid);
    let seen = bundle.call(&["exec", "--env", "A=3", "--env", "HOME=/x", "c", "/kit/probe"])?;
    let output = bundle.call(&["exec", "--env", "A=3", "c", "/bin/sh", "-c", "echo $A $HOME"])?;
    bundle.call(&["delete", "--force", "c"])?.success()?;
    assert_eq!(environ, "PATH=/bin\0A=2\0HOME=/root\0");
    assert_eq!(seen.success()?.json()?["environment"], json!(["PATH", "A", "HOME"]));
    assert_eq!(output.success()?.stdout, "3 /root\n");
    Ok(())
}

/// Under a shell that makes pipes of them.
fn piped(bundle: &Bundle<'_>, command: &str) -> Result<Output> {
    let runtime = format!("{} --root {}", bundle.host.bin(super::BIN).display(), bundle.state.display());
    let text = format!("echo in | {{ {runtime} {command} 3>&1 1>&2 2>&3 3>&- | cat; }} 2>&1 | cat");
    bundle.host.cmd("sh", ["-c", &text]).cwd(&bundle.folder).run()
}

/// By the names that the images of servers write their logs to.
fn again(host: &Host) -> Outcome {
    let text =
        "read line < /dev/stdin; echo $line > /dev/stdout; echo err > /dev/stderr; stat -L -c %u /dev/stdout";
    for user in [0, 1000] {
        let bundle = Bundle::new(host, &["/bin/sh", "-c", text], |config| {
            config["process"]["user"] = json!({ "uid": user, "gid": user });
        })?;
        let output = piped(&bundle, &format!("run {}", super::id("c")))?.success()?;
        let mut lines: Vec<_> = output.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, [&*user.to_string(), "err", "in"], "{output}");
        bundle.rewrite(&["/bin/sleep", "100"], |config| {
            config["process"]["user"] = json!({ "uid": user, "gid": user });
        })?;
        bundle.call(&["run", "--detach", "c"])?.success()?;
        let output = piped(&bundle, &format!("exec {} /bin/sh -c '{text}'", super::id("c")))?;
        bundle.call(&["delete", "--force", "c"])?.success()?;
        let mut lines: Vec<_> = output.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, [&*user.to_string(), "err", "in"], "{output}");
    }
    Ok(())
}

fn terminal(host: &Host) -> Outcome {
    let bundle =
        Bundle::new(host, &["/bin/sh", "-c", "echo again > $(tty); stat -c user-%u $(tty)"], |config| {
            config["process"]["terminal"] = json!(true);
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        })?;
    let arguments = tests::args!["--root", &bundle.state, "run", "--bundle", &bundle.folder, super::id("c")];
    let mut terminal = host.terminal(super::BIN, arguments)?;
    terminal.expect("again")?;
    terminal.expect("user-1000")?;
    assert_eq!(terminal.wait()?, 0);
    Ok(())
}
