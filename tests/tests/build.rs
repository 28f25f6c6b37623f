//! Tests of `sampan build`: the image that comes out is run, and looked at on the disk.

mod builder;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{Host, Need, Outcome, Test, wait_until};

use builder::Builder;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROOT: &[Need] =
    &[Need::Root, Need::Overlay, Need::Rootfs, Need::Bridge, Need::Nftables, Need::Binary("sampan")];
const KILL: &[Need] = &[
    Need::Root,
    Need::Overlay,
    Need::Rootfs,
    Need::Bridge,
    Need::Nftables,
    Need::Binary("sampan"),
    Need::Binary("kit"),
];
const USER: &[Need] = &[Need::UserNamespaces, Need::OverlayUser, Need::Rootfs, Need::Binary("sampan")];

pub(crate) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("build::the_notes_dockerfiles_work", ROOT, notes),
        test("build::a_page_is_served_on_a_published_port", ROOT, page),
        test("build::shell_form_and_exec_form_differ_in_who_is_pid_1", ROOT, forms),
        test("build::only_steps_that_change_files_make_layers", ROOT, layers),
        test("build::deletions_reach_the_next_step_and_the_image", ROOT, deletions),
        test("build::run_sees_user_directory_and_environment", ROOT, run_sees),
        test("build::links_lead_nowhere_out_of_the_context_or_the_image", ROOT, links),
        test("build::a_cached_step_is_not_run_again", ROOT, cached),
        test("build::a_failing_step_leaves_no_image_and_nothing_else", ROOT, failing),
        test("build::a_killed_build_leaves_what_the_next_and_clean_remove", KILL, killed),
        test("build::a_stage_gives_files_to_another", ROOT, stages),
        test(
            "build::skopeo_reads_what_was_built",
            &[
                Need::Root,
                Need::Overlay,
                Need::Rootfs,
                Need::Bridge,
                Need::Nftables,
                Need::Binary("sampan"),
                Need::Program("skopeo"),
            ],
            skopeo,
        ),
        test("build::an_ordinary_user_builds", USER, rootless),
    ]
}

const USERADD: &str =
    "#!/bin/sh\necho \"$2:x:1000:1000::/home/$2:/bin/sh\" >> /etc/passwd\nmkdir -p /home/$2\n";

fn notes(host: &Host) -> Outcome {
    // The distribution's programs that the notes call, in a few lines each.
    let chpasswd = "#!/bin/sh\ncat > /etc/passwords\n";
    let sshd = "#!/bin/sh\necho sshd $1 as $$\n";
    let builder = Builder::new(host, &[("useradd", USERADD), ("chpasswd", chpasswd), ("sshd", sshd)])?;
    let text = "\
# a daemon in the foreground
FROM busybox
MAINTAINER  Sun Xu <sun@example.com>
COPY --chmod=755 useradd chpasswd sshd /usr/sbin/
RUN useradd -m guest
RUN echo 'guest:secret' | chpasswd
EXPOSE 22
EXPOSE 80
CMD [\"/usr/sbin/sshd\", \"-q\"]
CMD [\"/usr/sbin/sshd\", \"-D\"]
";
    let said = builder.built(text)?;
    assert!(said.starts_with("Step 1/9 : FROM busybox\n ---> "), "{said}");
    assert!(said.contains("Successfully tagged built:latest"), "{said}");
    assert_eq!(
        builder.inside(&[])?,
        "sshd -D as 1",
        "of several CMD the last counts, and the program is pid 1"
    );
    assert!(builder.inside(&["cat", "/etc/passwd"])?.contains("guest:x:1000"));
    assert_eq!(builder.inside(&["cat", "/etc/passwords"])?, "guest:secret");
    let config = builder.config()?;
    assert_eq!(config["author"], "Sun Xu <sun@example.com>");
    assert_eq!(config["config"]["ExposedPorts"], serde_json::json!({"22/tcp": {}, "80/tcp": {}}));
    // Small letters, another name, and the same image but for the moment in which it was made.
    let lower =
        text.replace("FROM", "from").replace("RUN", "run").replace("CMD", "Cmd").replace("COPY", "copy");
    builder.write("build.txt", &lower)?;
    builder.ok(&[
        "build",
        "-t",
        "again",
        "-f",
        &builder.context.join("build.txt").to_string_lossy(),
        &builder.context.to_string_lossy(),
    ])?;
    assert_eq!(builder.ok(&["run", "--rm", "--network", "none", "again"])?, "sshd -D as 1");
    Ok(())
}

fn page(host: &Host) -> Outcome {
    let builder = Builder::new(host, &[("html/index.html", "<h1>three planks</h1>\n")])?;
    builder.built("FROM busybox\nRUN mkdir -p /root/web/html\nCOPY html/ /root/web/html/\nEXPOSE 80\nCMD busybox httpd -f -h /root/web/html\n")?;
    let id = builder.ok(&["run", "-d", "-p", "18081:80", "built"])?;
    let state: Value =
        serde_json::from_slice(&fs::read(builder.root.join("containers").join(&id).join("state.json"))?)?;
    let address = state["address"].as_str().ok_or("no address")?.to_owned();
    for target in [format!("{address}:80"), "127.0.0.1:18081".to_owned()] {
        wait_until("the page is served", Duration::from_secs(60), || {
            get(&target).is_ok_and(|text| text.contains("three planks"))
        })?;
    }
    builder.ok(&["rm", "-f", &id])?;
    Ok(())
}

fn get(target: &str) -> Result<String> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn forms(host: &Host) -> Outcome {
    let builder = Builder::new(host, &[])?;
    // A shell that is to do something afterwards cannot become the program.
    for (cmd, name) in
        [("CMD sleep 60; true", "sh"), ("CMD [\"sleep\", \"60\"]", "sleep"), ("CMD exec sleep 60", "sleep")]
    {
        builder.built(&format!("FROM busybox\n{cmd}\n"))?;
        let id = builder.ok(&["run", "-d", "--network", "none", "built"])?;
        let state: Value =
            serde_json::from_slice(&fs::read(builder.root.join("containers").join(&id).join("state.json"))?)?;
        let pid = state["process"]["pid"].as_i64().ok_or("no pid")?;
        let command = |pid: i64| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        wait_until("the command runs", Duration::from_secs(60), || {
            command(pid).split('\0').next().is_some_and(|program| program.ends_with(name))
        })?;
        builder.ok(&["rm", "-f", &id])?;
    }
    Ok(())
}

fn layers(host: &Host) -> Outcome {
    let builder = Builder::new(host, &[("f", "F")])?;
    builder.built("FROM busybox\nENV A=1\nRUN true\nRUN echo x > /x\nCOPY f /f\nWORKDIR /etc\nWORKDIR /new/folder\nLABEL a=b\nRUN rm /x\n")?;
    assert_eq!(builder.layers()?, [vec!["x"], vec!["f"], vec![], vec!["x"]]);
    let config = builder.config()?;
    let history = config["history"].as_array().ok_or("no history")?;
    let made: Vec<_> = history.iter().skip(1).map(|entry| entry["empty_layer"] != true).collect();
    assert_eq!(made, [false, false, true, true, false, true, false, true]);
    assert_eq!(history[3]["created_by"], "/bin/sh -c echo x > /x");
    assert_eq!(history[1]["created_by"], "/bin/sh -c #(nop)  ENV A=1");
    assert_eq!((builder.left("build")?, builder.left("tmp")?), (0, 0));
    Ok(())
}

fn deletions(host: &Host) -> Outcome {
    let builder = Builder::new(host, &[("d/new", "")])?;
    builder.built(
        "FROM busybox\nRUN mkdir /d && touch /d/a /d/b /gone\nRUN rm /gone && rm -r /d && mkdir /d && touch /d/c\nRUN test ! -e /gone && test \"$(ls /d)\" = c\nCOPY d /d\n",
    )?;
    assert_eq!(builder.inside(&["ls", "/d"])?, "c\nnew");
    assert_ne!(builder.call(&["run", "--rm", "--network", "none", "built", "test", "-e", "/gone"])?.code, 0);
    // In the archive that others read, a deletion is a file with a name of its own.
    let config = builder.config()?;
    let blob =
        config["rootfs"]["diff_ids"][2].as_str().ok_or("no layer")?.trim_start_matches("sha256:").to_owned();
    let listed = host
        .command("tar", ["tf", &builder.root.join("images/blobs/sha256").join(blob).to_string_lossy()])?
        .success()?
        .stdout;
    assert!(listed.lines().any(|line| line == ".wh.gone"), "{listed}");
    assert!(listed.lines().any(|line| line == "d/.wh..wh..opq" || line == "d/.wh.a"), "{listed}");
    Ok(())
}

fn run_sees(host: &Host) -> Outcome {
    let builder = Builder::new(host, &[("useradd", USERADD)])?;
    builder.write(
        "Dockerfile",
        "ARG word\nFROM busybox\nARG word=default\nENV E=\"e $word\"\nADD --chmod=755 useradd /bin/\nRUN useradd -m guest\nWORKDIR /home/guest\nRUN chown guest .\nUSER guest\nRUN echo \"$(id -u) $(pwd) $E $word $HOME\" > seen; /kit/probe > probe\n",
    )?;
    builder.ok(&["build", "-t", "built", "--build-arg", "word=given", &builder.context.to_string_lossy()])?;
    assert_eq!(builder.inside(&["cat", "/home/guest/seen"])?, "1000 /home/guest e given given /home/guest");
    let seen: Value = serde_json::from_str(&builder.inside(&["cat", "probe"])?)?;
    assert_eq!(seen["pid"].as_i64().map(|pid| pid < 10), Some(true), "a RUN has a pid namespace of its own");
    assert_eq!(
        builder.inside(&["sh", "-c", "echo $word$E"])?,
        "e given",
        "ARG does not reach the container, ENV does"
    );
    Ok(())
}

fn links(host: &Host) -> Outcome {
    let secret = host.new_dir()?.join("secret");
    fs::write(&secret, "secret")?;
    let builder = Builder::new(host, &[("f", "F")])?;
    symlink(&secret, builder.context.join("out"))?;
    symlink("../../../../../../etc/hostname", builder.context.join("climb"))?;
    for source in ["out", "climb", "../secret"] {
        let output = builder.build(&format!("FROM busybox\nCOPY {source} /x\n"))?;
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.contains("in the build context"), "{output}");
    }
    // A link that a RUN makes means the image's folder, not the host's.
    let victim = host.new_dir()?;
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o777))?;
    let victim = victim.to_string_lossy();
    builder.built(&format!("FROM busybox\nRUN ln -s {victim} /way && ln -s /proc/1/root/{victim} /magic\nCOPY f /way/f\nWORKDIR /way\nCOPY f g\nCOPY f /magic/h\n"))?;
    assert_eq!(fs::read_dir(&*victim)?.count(), 0);
    assert_eq!(builder.inside(&["cat", &format!("{victim}/f"), &format!("{victim}/g")])?, "FF");
    Ok(())
}

fn cached(host: &Host) -> Outcome {
    let builder = Builder::new(host, &[("f", "F")])?;
    let text =
        "FROM busybox\nRUN head -c 8 /dev/urandom | od -x > /random\nCOPY f /f\nRUN cat /f /random > /both\n";
    builder.built(text)?;
    let random = builder.inside(&["cat", "/both"])?;
    let said = builder.built(text)?;
    assert_eq!(said.matches("Using cache").count(), 3, "{said}");
    assert_eq!(builder.inside(&["cat", "/both"])?, random);
    builder.write("f", "changed")?;
    let said = builder.built(text)?;
    assert_eq!(said.matches("Using cache").count(), 1, "{said}");
    assert_eq!(builder.inside(&["cat", "/both"])?, random.replace('F', "changed"));
    builder.ok(&["build", "--no-cache", "-t", "built", &builder.context.to_string_lossy()])?;
    assert_ne!(builder.inside(&["cat", "/random"])?, random.trim_start_matches("changed"));
    Ok(())
}

fn failing(host: &Host) -> Outcome {
    let builder = Builder::new(host, &[])?;
    let output = builder.build("FROM busybox\nRUN echo before; exit 7\n")?;
    assert_eq!(output.code, 7, "{output}");
    assert!(
        output.stdout.contains("\nbefore\n") && output.stderr.contains("returned a non-zero code: 7"),
        "{output}"
    );
    let output = builder.build("FROM busybox\nRUN [\"/no/such\"]\n")?;
    assert_eq!(output.code, 127, "{output}");
    for (text, told) in [
        ("FROM busybox\nRUM echo\n", "Dockerfile:2:1: unknown instruction RUM"),
        ("FROM nowhere\n", "Dockerfile:1:6: no image nowhere"),
        ("FROM busybox\nCOPY none /\n", "Dockerfile:2:6: no none in the build context"),
    ] {
        let output = builder.build(text)?;
        assert_eq!(output.code, 1, "{output}");
        assert!(
            output.stderr.contains(told) && output.stderr.contains("| ") && output.stderr.contains('^'),
            "{output}"
        );
    }
    assert!(!builder.ok(&["images"])?.contains("built"));
    assert_eq!((builder.left("build")?, builder.left("tmp")?, builder.left("layers/sha256")?), (0, 0, 1));
    assert!(!builder.run.exists() || fs::read_dir(&builder.run)?.count() == 0);
    Ok(())
}

fn killed(host: &Host) -> Outcome {
    let builder = Builder::new(host, &[("f", "F")])?;
    builder.write("Dockerfile", "FROM busybox\nCOPY f /f\nRUN echo started; sleep 47123\n")?;
    let child =
        host.spawn("sampan", builder.args(&["build", "-t", "built", &builder.context.to_string_lossy()]))?;
    // Its output does not tell: it begins with the instruction.
    wait_until("the step runs", Duration::from_secs(60), || running("sleep\x0047123\0"))?;
    assert_eq!(builder.left("build")?, 1);
    child.signal(Signal::SIGKILL)?;
    child.wait()?;
    wait_until("the step dies with the build", Duration::from_secs(60), || !running("sleep\x0047123\0"))?;
    assert!(!builder.ok(&["images"])?.contains("built"));
    builder.built("FROM busybox\nRUN echo x > /x\n")?;
    builder.ok(&["rmi", "built"])?;
    assert_eq!((builder.left("build")?, builder.left("tmp")?, builder.left("layers/sha256")?), (0, 0, 1));
    // The bridge of the step that was killed.
    host.command("kit", ["clean"])?.success()?;
    Ok(())
}

/// Whether a process of this command line is there.
fn running(command: &str) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .into_iter()
        .any(|entry| fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line == command))
}

fn stages(host: &Host) -> Outcome {
    let builder = Builder::new(host, &[])?;
    builder.built("FROM busybox AS make\nRUN mkdir /out && echo made > /out/thing\nFROM scratch\nCOPY --from=make /bin /bin\nCOPY --from=make /out/thing /\nCMD [\"/bin/cat\", \"/thing\"]\n")?;
    assert_eq!(builder.inside(&[])?, "made");
    assert_eq!(builder.config()?["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(2));
    Ok(())
}

fn skopeo(host: &Host) -> Outcome {
    let builder = Builder::new(host, &[("f", "F")])?;
    builder.built("FROM busybox\nLABEL k=v\nRUN echo x > /x; rm /etc/passwd\nCOPY f /f\n")?;
    let image = format!("oci:{}:docker.io/library/built:latest", builder.root.join("images").display());
    let inspected: BTreeMap<String, Value> =
        serde_json::from_value(host.command("skopeo", ["inspect", &image])?.success()?.json()?)?;
    assert_eq!(inspected["Labels"]["k"], "v");
    assert_eq!(inspected["Layers"].as_array().map(Vec::len), Some(3));
    host.command(
        "skopeo",
        ["copy", &image, &format!("oci:{}:copy", host.new_dir()?.join("copy").display())],
    )?
    .success()?;
    Ok(())
}

fn rootless(host: &Host) -> Outcome {
    let host = &host.as_user();
    let builder = Builder::new(host, &[("f", "F")])?;
    builder.built("FROM busybox\nRUN echo x > /x; rm /etc/passwd; mkdir /d\nCOPY f /d/f\nWORKDIR /w\nCMD [\"cat\", \"/x\", \"/d/f\"]\n")?;
    assert_eq!(builder.inside(&[])?, "x\nF");
    assert_ne!(
        builder.call(&["run", "--rm", "--network", "none", "built", "test", "-e", "/etc/passwd"])?.code,
        0
    );
    Ok(())
}
