//! The config, the cache, arguments, stages, and steps that fail.

use sampan_build::{BuildOptions, Error, build};

use crate::place::{CONTEXT, Place, inner};

const SETTINGS: &str = "\
from scratch
maintainer Sun Xu
copy a.txt /
env A=1 B=${A:-none}
env A=$A/2 \"C\"='$A'
label one=1 two=\"$A b\"
workdir /srv
workdir www
user guest
expose 80 53/udp
expose 8000-8002 80
volume [\"/data\", \"/a b\"]
stopsignal SIGQUIT
healthcheck --interval=2s cmd true
shell [\"/bin/ash\", \"-ec\"]
run useradd x
run [\"/bin/prog\", \"$A\"]
entrypoint [\"/entry\"]
cmd first
cmd echo $A
";

#[test]
fn the_config_says_what_the_dockerfile_says() {
    let place = Place::new(CONTEXT);
    let image = place.build(SETTINGS).unwrap();
    let config = inner(&image);
    assert_eq!(config.env().clone().unwrap(), ["A=1/2", "B=none", "C=$A"]);
    assert_eq!(config.labels().as_ref().unwrap()["two"], "1/2 b");
    assert_eq!(config.working_dir().as_deref(), Some("/srv/www"));
    assert_eq!(config.user().as_deref(), Some("guest"));
    assert_eq!(
        config.exposed_ports().clone().unwrap(),
        ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
    );
    assert_eq!(config.volumes().clone().unwrap(), ["/a b", "/data"]);
    assert_eq!(config.stop_signal().as_deref(), Some("SIGQUIT"));
    assert_eq!(config.entrypoint().clone().unwrap(), ["/entry"]);
    assert_eq!(config.cmd().clone().unwrap(), ["/bin/ash", "-ec", "echo $A"]);
    assert_eq!(image.config.author().as_deref(), Some("Sun Xu"));
    assert_eq!(image.docker.healthcheck.as_ref().unwrap().test, ["CMD-SHELL", "true"]);
}

#[test]
fn commands_run_as_the_config_says_and_stand_in_the_history() {
    let place = Place::new(CONTEXT);
    let image = place.build(SETTINGS).unwrap();
    let ran = place.ran.borrow();
    assert_eq!(ran[0].args, ["/bin/ash", "-ec", "useradd x"]);
    assert_eq!(ran[1].args, ["/bin/prog", "$A"]);
    assert_eq!((ran[0].working_dir.to_str(), ran[0].user.as_str()), (Some("/srv/www"), "guest"));
    assert!(ran[0].env.iter().any(|entry| entry.starts_with("PATH=/usr/local/sbin")));
    assert_eq!(place.files(&image), "a.txt=A | srv/ | srv/www/ | ran=useradd x | ran=$A");
    let history = image.config.history().as_ref().unwrap();
    let with_layer: Vec<_> = history
        .iter()
        .filter(|entry| entry.empty_layer() != Some(true))
        .filter_map(|entry| entry.created_by().clone())
        .collect();
    assert_eq!(history.len(), 19);
    assert_eq!(with_layer.len(), image.layers.len());
    assert_eq!(with_layer[3], "/bin/ash -ec useradd x");
    assert!(with_layer[0].starts_with("/bin/sh -c #(nop)  COPY file:"), "{}", with_layer[0]);
    assert_eq!(
        history.last().unwrap().created_by().as_deref(),
        Some("/bin/ash -ec #(nop)  CMD [\"/bin/ash\",\"-ec\",\"echo $A\"]")
    );
}

#[test]
fn a_step_is_made_again_only_when_something_changed() {
    let place = Place::new(CONTEXT);
    let text = "FROM scratch\nCOPY a.txt /\nRUN one\nENV a=b\nRUN true\nCOPY b.txt /\n";
    let first = place.build(text).unwrap();
    assert_eq!(place.ran.borrow().len(), 2);
    assert_eq!(first.layers.len(), 3);
    let again = place.build(text).unwrap();
    assert_eq!((again.id.clone(), place.ran.borrow().len()), (first.id.clone(), 0));
    assert_eq!(place.said.borrow().iter().filter(|line| *line == " ---> Using cache").count(), 5);
    assert_eq!(place.said.borrow()[0], "Step 1/6 : FROM scratch");
    assert_eq!(place.said.borrow().last().unwrap(), &format!("Successfully built {}", first.id.short()));
    place.write("b.txt", "changed");
    assert_ne!(place.build(text).unwrap().id, first.id);
    assert_eq!(place.ran.borrow().len(), 0);
    place.write("a.txt", "changed");
    place.build(text).unwrap();
    assert_eq!(place.ran.borrow().len(), 2);
    place.build_with(text, BuildOptions { no_cache: true, ..BuildOptions::default() }).unwrap();
    assert_eq!(place.ran.borrow().len(), 2);
    // Without its layer a record is no hit.
    for image in place.store.list().unwrap() {
        place.store.remove(image.id.hex(), true, &|_| None).unwrap();
    }
    place.build(text).unwrap();
    assert_eq!(place.ran.borrow().len(), 1, "only what changed nothing is remembered without a layer");
}

#[test]
fn arguments_have_their_scope() {
    let place = Place::new(CONTEXT);
    let text = "ARG base=scratch\nARG word=global\nFROM $base\nARG word\nARG other=o$word\nENV E=$other\nRUN one\nENV word=env\nRUN two\n";
    let args = vec![("other".to_owned(), "given".to_owned()), ("unknown".to_owned(), "x".to_owned())];
    let image = place.build_with(text, BuildOptions { args, ..BuildOptions::default() }).unwrap();
    assert_eq!(inner(&image).env().clone().unwrap(), ["E=given", "word=env"]);
    let ran = place.ran.borrow();
    assert!(ran[0].env.contains(&"word=global".to_owned()) && ran[0].env.contains(&"other=given".to_owned()));
    assert!(ran[1].env.contains(&"word=env".to_owned()) && !ran[1].env.contains(&"word=global".to_owned()));
    assert!(place.said.borrow().iter().any(|line| line.contains("unknown")));
    let history = image.config.history().as_ref().unwrap();
    assert_eq!(history[3].created_by().as_deref(), Some("|2 other=given word=global /bin/sh -c one"));
}

#[test]
fn stages_give_files_and_only_the_last_is_the_image() {
    let place = Place::new(CONTEXT);
    let text = "FROM scratch AS Build\nCOPY dir /out\nRUN make\nFROM scratch AS other\nCOPY b.txt /\nFROM other\nCOPY --from=build /out/deep /ran /in/\nCOPY --from=0 /ran /zero\n";
    let image = place.build(text).unwrap();
    assert_eq!(place.files(&image), "b.txt=B | in/ran=make in/two=2 | zero=make");
    let image = place
        .build_with(
            text,
            BuildOptions {
                target: Some("build".to_owned()),
                tags: vec!["build:1".parse().unwrap()],
                ..BuildOptions::default()
            },
        )
        .unwrap();
    assert_eq!(image.references.len(), 1);
    assert_eq!(place.files(&image).split(" | ").count(), 2);
    let image = place.build("FROM scratch\nCOPY --from=build:1 /ran /\n").unwrap();
    assert_eq!(place.files(&image), "ran=make");
    assert!(place.mistake("FROM scratch\nCOPY --from=nowhere /x /\n").contains("no image nowhere"));
    assert!(
        place
            .build_with(text, BuildOptions { target: Some("none".to_owned()), ..BuildOptions::default() })
            .is_err()
    );
}

#[test]
fn a_base_image_can_have_instructions_for_what_is_built_on_it() {
    let place = Place::new(CONTEXT);
    let tags = vec!["base".parse().unwrap()];
    place
        .build_with(
            "FROM scratch\nCMD old\nONBUILD COPY a.txt /\nONBUILD ENV x=y\n",
            BuildOptions { tags, ..BuildOptions::default() },
        )
        .unwrap();
    let image = place.build("FROM base\nENTRYPOINT [\"/e\"]\n").unwrap();
    assert_eq!(place.files(&image), "a.txt=A");
    assert_eq!((inner(&image).env().clone().unwrap(), inner(&image).cmd()), (vec!["x=y".to_owned()], &None));
    assert_eq!(image.docker.on_build, None);
    assert!(place.said.borrow().contains(&"# Executing 2 build triggers".to_owned()));
}

#[test]
fn a_step_that_fails_makes_no_image() {
    let place = Place::new(CONTEXT);
    let error = place
        .build_with(
            "FROM scratch\nRUN false\n",
            BuildOptions { tags: vec!["x".parse().unwrap()], ..BuildOptions::default() },
        )
        .unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert_eq!(error.to_string(), "the command '/bin/sh -c false' returned a non-zero code: 3");
    assert_eq!(place.store.list().unwrap().len(), 0);
    for (text, what) in [
        ("FROM scratch\nCOPY none /\n", "Dockerfile:2:6: no none in the build context"),
        ("FROM nowhere\n", "Dockerfile:1:6: no image nowhere in the store"),
        ("FROM scratch\nCOPY a.txt b.txt /x\n", "Dockerfile:2:18: several sources"),
        ("FROM scratch\nENV a=${b:?say-it}\n", "Dockerfile:2:7: $b: say-it"),
        ("FROM scratch\nEXPOSE http\n", "Dockerfile:2:8: \"http\" is no port"),
        ("FROM Upper\n", "names no image"),
    ] {
        let told = place.mistake(text);
        assert!(told.contains(what), "{told}");
    }
    let options = BuildOptions { context: place.context().join("none"), ..BuildOptions::default() };
    assert!(matches!(build(&place.store, &place, &options, &mut |_| ()), Err(Error::NoContext(_))));
    let options = BuildOptions { context: place.context(), ..BuildOptions::default() };
    assert!(matches!(build(&place.store, &place, &options, &mut |_| ()), Err(Error::NoDockerfile(_))));
}
