//! What scripts that were written for Docker rely on: columns, templates, exit statuses, what is removed and what is not.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Host, Need, Outcome, Test, wait_until};

use super::{Result, Store};

const STORE: &[Need] = &[Need::Rootfs, Need::Binary("sampan")];
const RUN: &[Need] = &[Need::Root, Need::Overlay, Need::Rootfs, Need::Binary("sampan")];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![
        test("image::a_prune_takes_no_more_than_its_filters_say", STORE, prune),
        test("image::a_removal_tells_who_has_the_image", RUN, removal),
        test("image::tables_and_templates_are_dockers", STORE, tables),
        test("image::inspect_has_every_field_of_docker", STORE, inspect),
        test("image::what_fails_says_what_and_ends_with_dockers_status", STORE, failures),
        test("image::whoever_reads_may_have_seen_enough", STORE, readers),
        test("image::what_an_image_says_of_itself_moves_no_cursor", STORE, escapes),
    ]
}

fn import(store: &Store<'_>, change: &str, name: &str) -> Result<String> {
    store.ok(&["import", "-c", change, &store.host.tar().to_string_lossy(), name])
}

fn prune(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let names = || store.ok(&["images", "--format", "{{.Repository}}"]);
    let make = || -> Outcome {
        for (change, name) in [("LABEL a=1", "one"), ("LABEL b=1", "two")] {
            import(&store, change, name)?;
        }
        Ok(())
    };
    let prune = |args: &[&str]| store.ok(&[&["image", "prune", "-f"], args].concat());
    for (args, left) in [
        (&["-a", "--filter", "reference=one"][..], "two"),
        (&["-a", "--filter", "label!=b"], "two"),
        (&["-a", "--filter", "label!=b=2", "--filter", "reference=two"], "one"),
        // Docker's other way of saying --all, and its opposite.
        (&["--filter", "dangling=false", "--filter", "label=a"], "two"),
        (&["-a", "--filter", "dangling=true"], "two\none"),
        (&["--filter", "reference=one"], "two\none"),
    ] {
        prune(&["-a"])?;
        make()?;
        prune(args)?;
        assert_eq!(names()?, left, "{args:?}");
    }
    // What is no filter is told before anything is asked.
    let output = store.call(&["image", "prune", "-a", "--filter", "moon=full"])?;
    assert!(output.code == 1 && output.stdout.is_empty(), "{output}");
    Ok(())
}

fn removal(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let id = store.import("busybox")?;
    store.ok(&["create", "--name", "boat", "busybox", "true"])?;
    let output = store.call(&["rmi", "busybox"])?;
    assert!(output.code == 1 && output.stderr.contains("container boat"), "{output}");
    assert_eq!(store.ok(&["rmi", "-f", "busybox"])?, "Untagged: busybox:latest");
    // There is no name left to take away: to do nothing and say nothing would be a lie.
    let output = store.call(&["rmi", "-f", &id])?;
    assert!(output.code == 1 && output.stderr.contains("`sampan rm boat`"), "{output}");
    store.ok(&["rm", "boat"])?;
    assert_eq!(store.ok(&["image", "remove", "--no-prune", &id])?, format!("Deleted: {id}"));
    // With -f it is enough that there is none.
    assert_eq!(store.call(&["rmi", &id])?.code, 1);
    assert!(store.call(&["rmi", "-f", &id, "nothing"])?.success()?.stderr.contains("no such image: nothing"));
    Ok(())
}

fn tables(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let id = import(&store, "LABEL a=1", "busybox:v1")?;
    let table = store.ok(&["images"])?;
    assert!(table.starts_with("REPOSITORY   TAG       IMAGE ID       CREATED"), "{table}");
    assert_eq!(
        table.lines().nth(1).and_then(|line| line.get(..23)),
        Some("busybox      v1        "),
        "{table}"
    );
    // A table tells how long ago something was, which may change between two looks.
    let same = |one: &[&str], other: &[&str]| {
        wait_until(
            "both tell the same",
            Duration::from_secs(60),
            || matches!((store.ok(one), store.ok(other)), (Ok(one), Ok(other)) if one == other),
        )
    };
    same(&["images", "--format", "table"], &["images"])?;
    let short = id.get(7..19).unwrap_or_default();
    assert_eq!(store.ok(&["images", "-q", "--format", "table"])?, short);
    assert_eq!(store.ok(&["images", "-q", "--format", "{{.ID}} {{.Tag}}"])?, format!("{short} v1"));
    let custom = store.ok(&["images", "--format", "table {{.Tag}}\\t{{.Repository}}"])?;
    assert_eq!(custom, "TAG       REPOSITORY\nv1        busybox");
    let at = store.ok(&["images", "--format", "{{.CreatedAt}}"])?;
    assert!(at.len() == 29 && at.ends_with(" +0000 UTC"), "{at}");
    assert_eq!(store.ok(&["images", ""])?.lines().count(), 2);
    import(&store, "LABEL a=2", "other")?;
    for args in [["images", "--tree", "--filter=reference=other", ""], ["images", "--tree", "-a", "other"]] {
        let tree = store.ok(&args)?;
        assert!(tree.contains("other:latest") && !tree.contains("busybox"), "{tree}");
    }
    same(&["history", "--format", "table", "busybox:v1"], &["history", "busybox:v1"])?;
    assert_eq!(store.ok(&["history", "-q", "--format", "{{.ID}}!", "busybox:v1"])?, format!("{short}!"));
    let since = store.ok(&["history", "-H=false", "--format", "{{.CreatedSince}}", "busybox:v1"])?;
    assert!(since.len() == 20 && since.ends_with('Z'), "{since}");
    assert_eq!(store.ok(&["system", "df", "--format", "table"])?, store.ok(&["system", "df"])?);
    let lines = store.ok(&["system", "df", "--format", "json"])?;
    let first: Value = serde_json::from_str(lines.lines().next().unwrap_or_default())?;
    assert_eq!(
        (&first["Type"], &first["TotalCount"], &first["Active"]),
        (&json!("Images"), &json!("2"), &json!("0"))
    );
    Ok(())
}

fn inspect(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let id = import(&store, "EXPOSE 80 53/udp", "busybox")?;
    let cut = format!("{}|sha256|linux|  7", id.get(7..19).unwrap_or_default());
    let shown = |template: &str| store.ok(&["inspect", "-f", template, "busybox"]);
    for (template, text) in [
        ("{{.Id}}", id.as_str()),
        ("{{slice .Id 7 19}}|{{printf \"%.6s|%-4s|%3d\" .Id .Os 7}}", cut.as_str()),
        ("<{{.Config.User}}{{.Config.WorkingDir}}{{.Config.Hostname}}>{{.Config.Tty}}", "<>false"),
        ("{{json .Config.Entrypoint}} {{json .Config.Volumes}} {{json .Config.Env}}", "null null null"),
        ("{{.Config.ExposedPorts}}", "map[53/udp:{} 80/tcp:{}]"),
        (
            "<{{index .Config.Labels \"none\"}}>{{if eq (index .Config.Labels \"none\") \"\"}}none{{end}}",
            "<>none",
        ),
        ("{{range index .Config.Labels \"none\"}}x{{end}}<{{pad .Os 1 2}}>", "< linux  >"),
    ] {
        assert_eq!(shown(template)?, text, "{template}");
    }
    let all: Value = serde_json::from_str(&store.ok(&["inspect", "--type", "image", "busybox"])?)?;
    for name in
        ["Id", "RepoTags", "RepoDigests", "Comment", "Created", "Architecture", "Os", "Size", "RootFS"]
    {
        assert!(!all[0][name].is_null(), "{name}: {all}");
    }
    // A container is none, and its name is said to be one.
    store.ok(&["create", "--name", "boat", "busybox", "true"])?;
    let output = store.call(&["inspect", "boat"])?;
    assert!(output.code == 1 && output.stdout == "[]\n" && output.stderr.contains("container"), "{output}");
    Ok(())
}

fn failures(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    store.import("busybox")?;
    let tar = host.tar();
    let tar = tar.to_string_lossy();
    let digest = format!("busybox@sha256:{}", "0".repeat(64));
    let cases: &[(&[&str], &str)] = &[
        (&["tag", "nothing", "x"], "no such image: nothing"),
        (&["tag", "busybox", &digest], "leave out what begins with @"),
        (&["import", &tar, &digest], "leave out what begins with @"),
        (&["history", "nothing"], "no such image: nothing"),
        (&["save", "nothing"], "no such image: nothing"),
        (&["save", "-o", "/no/such/folder/a.tar", "busybox"], "cannot write /no/such/folder/a.tar"),
        (&["create", "--pull", "never", "nothing"], "no such image: nothing"),
        (&["export", "nothing"], "no such container: nothing"),
        (&["commit", "nothing"], "no such container: nothing"),
        (&["diff", "nothing"], "no such container: nothing"),
        (&["images", "--filter", "dangling=maybe"], "is no filter"),
        (&["images", "--format", "{{.Nope}}"], "Repository"),
        (&["load", "-i", &tar], "`sampan import` takes the archive of a file system"),
        (&["import", "-c", "BOGUS x", &tar], "--change:1:1: unknown instruction BOGUS"),
    ];
    let before = store.ok(&["images", "--no-trunc"])?;
    for (args, said) in cases {
        let output = store.call(args)?;
        assert!(output.code == 1 && output.stdout.is_empty(), "{args:?}: {output}");
        assert!(output.stderr.starts_with("error: ") && output.stderr.contains(said), "{args:?}: {output}");
    }
    assert_eq!(store.ok(&["images", "--no-trunc"])?.lines().count(), before.lines().count());
    // `run` alone keeps 1 for the container's own.
    assert_eq!(store.call(&["run", "--pull", "never", "nothing"])?.code, 125);
    assert_eq!(store.call(&["images", "--no-such-flag"])?.code, 125);
    let help = store.ok(&["create", "--help"])?;
    let heading = help.find("Limits and devices").ok_or("no heading")?;
    assert!(["--network", "--pull", "--label"].iter().all(|flag| help.find(flag) < Some(heading)), "{help}");
    Ok(())
}

fn readers(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    let id = store.import("busybox")?;
    let shell = |script: &str, args: &[&str]| {
        let sampan = host.bin("sampan").to_string_lossy().into_owned();
        let words = [&["-c", script, "sh", &sampan].map(str::to_owned)[..], &store.args(args)].concat();
        host.command("sh", words)
    };
    for args in
        [&["images"][..], &["image", "inspect", "busybox"], &["history", "busybox"], &["system", "df"]]
    {
        let output = shell("{ sleep 0.1; \"$@\"; echo $? >&2; } | true", args)?;
        assert_eq!(output.stderr, "0\n", "{args:?}");
        let output = shell("\"$@\" > /dev/full", args)?;
        assert!(output.code == 1 && output.stderr.contains("cannot write to standard output"), "{output}");
    }
    // What was asked is done all the same.
    store.ok(&["tag", "busybox", "other"])?;
    shell("{ sleep 0.1; \"$@\"; } | true", &["rmi", "busybox", "other"])?;
    assert_eq!(store.call(&["inspect", &id])?.code, 1);
    Ok(())
}

fn escapes(host: &Host) -> Outcome {
    let store = Store::new(host)?;
    store.ok(&["import", "-m", "a\x1b[2Jb\nc", &host.tar().to_string_lossy(), "busybox"])?;
    let history = store.ok(&["history", "busybox"])?;
    assert!(history.lines().count() == 2 && history.ends_with("a [2Jb c"), "{history:?}");
    Ok(())
}
