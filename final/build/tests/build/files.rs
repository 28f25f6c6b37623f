//! COPY, ADD and WORKDIR: which files come where, and whose they are.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use sampan_build::BuildOptions;

use crate::place::{CONTEXT, Place, inner, listing};

#[test]
fn destinations_are_dockers() {
    for (copy, files) in [
        ("a.txt /x", "x=A"),
        ("a.txt /x/", "x/a.txt=A"),
        ("a.txt .", "a.txt=A"),
        ("./a.txt /deep/er/x", "deep/er/x=A"),
        ("a.txt b.txt /x/", "x/a.txt=A x/b.txt=B"),
        ("*.txt /x/", "x/a.txt=A x/b.txt=B"),
        ("?.txt dir /", "a.txt=A b.txt=B deep/two=2 link->one one=1"),
        ("dir /x", "x/deep/two=2 x/link->one x/one=1"),
        ("dir/ /x/", "x/deep/two=2 x/link->one x/one=1"),
        ("dir/link /x", "x=1"),
        ("d*/o* /x", "x=1"),
        ("[\"a.txt\", \"/with blank\"]", "with blank=A"),
        ("/a.txt ../../x", "x=A"),
        (". /", "a.txt=A b.txt=B dir/deep/two=2 dir/link->one dir/one=1"),
    ] {
        let place = Place::new(CONTEXT);
        let image = place.build(&format!("FROM scratch\nCOPY {copy}\n")).unwrap();
        assert_eq!(place.files(&image), files, "{copy}");
    }
}

#[test]
fn what_the_image_has_at_the_destination_decides() {
    let place = Place::new(&[
        ("usr/bin/", ""),
        ("bin", "-> usr/bin"),
        ("etc/motd", "old"),
        ("f", "F"),
        ("d/motd", "new"),
        ("d/bin/tool", "T"),
    ]);
    let base = "FROM scratch\nCOPY . /\n";
    for (copy, layer) in [
        // A folder that is reached by a link stays one, and the link a link.
        ("COPY f /bin", "usr/bin/f=F"),
        ("COPY f /bin/", "usr/bin/f=F"),
        ("COPY f /bin/g", "usr/bin/g=F"),
        ("COPY d /", "etc-less"),
        ("COPY f /etc/motd", "etc/motd=F"),
        ("WORKDIR /bin/new\nCOPY f .", "usr/bin/new/ | usr/bin/new/f=F"),
    ] {
        let image = place.build(&format!("{base}{copy}\n")).unwrap();
        let files = place.files(&image);
        let expected = if layer == "etc-less" { "motd=new usr/bin/tool=T" } else { layer };
        assert_eq!(files.split_once(" | ").unwrap().1, expected, "{copy}");
    }
    assert!(place.mistake(&format!("{base}COPY d /f\n")).contains("is no folder"));
    assert!(
        place
            .mistake(&format!(
                "{base}COPY f /\nCOPY d/motd /d/bin\nCOPY f /d/bin/motd/\nCOPY f d /x/\nWORKDIR /f\n"
            ))
            .contains("is no folder")
    );
}

#[test]
fn a_file_with_two_names_is_copied_once() {
    let place = Place::new(&[("d/one", "1")]);
    fs::hard_link(place.context().join("d/one"), place.context().join("d/two")).unwrap();
    let image = place.build("FROM scratch\nCOPY d /x\n").unwrap();
    let layer = &place.store.layer_dirs(&image).unwrap()[0];
    let inode = |name: &str| fs::metadata(layer.join(name)).unwrap().ino();
    assert_eq!(inode("x/one"), inode("x/two"));
    assert_ne!(inode("x/one"), fs::metadata(place.context().join("d/one")).unwrap().ino());
}

#[test]
fn owners_and_modes() {
    let place = Place::new(&[
        ("f", "F"),
        ("etc/passwd", "root:x:0:0::/:\nguest:x:7:8::/:\n"),
        ("etc/group", "wheel:x:10:\n"),
        ("d/x", ""),
    ]);
    fs::set_permissions(place.context().join("f"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(place.context().join("etc"), fs::Permissions::from_mode(0o711)).unwrap();
    let image = place
        .build("FROM scratch\nCOPY etc /etc\nCOPY f /plain\nCOPY --chown=guest:wheel --chmod=4755 f /etc/new/given\nADD --chown=5 d /d\n")
        .unwrap();
    let layers = place.store.layer_dirs(&image).unwrap();
    let attributes = |layer: usize, name: &str| {
        let metadata = fs::symlink_metadata(layers[layer].join(name)).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    assert_eq!(attributes(1, "plain"), (0, 0, 0o640));
    assert_eq!(attributes(2, "etc/new/given"), (7, 10, 0o4755));
    assert_eq!(attributes(2, "etc/new"), (7, 10, 0o755));
    assert_eq!(attributes(2, "etc"), (0, 0, 0o711));
    assert_eq!(attributes(3, "d/x").0, 5);
    assert!(place.mistake("FROM scratch\nCOPY --chown=nobody f /\n").contains("no user nobody"));
    assert!(place.mistake("FROM scratch\nCOPY --chmod=9 f /\n").contains("no mode"));
}

#[test]
fn nothing_outside_the_context_is_reached() {
    let place = Place::new(&[
        ("up", "-> ../data/images/index.json"),
        ("root", "-> /etc/passwd"),
        ("dir/up", "-> ../../data"),
        ("ok", "-> dir/file"),
        ("dir/file", "F"),
    ]);
    for (copy, what) in [
        ("up /", "no up in"),
        ("root /", "no root in"),
        ("../data /", "no ../data in"),
        ("dir/up/images /", "no dir/up/images in"),
    ] {
        let text = place.mistake(&format!("FROM scratch\nCOPY {copy}\n"));
        assert!(text.contains(what), "{text}");
    }
    let image = place.build("FROM scratch\nCOPY ok /ok\nCOPY dir /d\n").unwrap();
    assert_eq!(place.files(&image), "ok=F | d/file=F d/up->../../data");
}

#[test]
fn what_dockerignore_names_is_not_there() {
    let place = Place::new(CONTEXT);
    place.write(".dockerignore", "*.txt\n!b.txt\ndir\n!dir/deep\n.dockerignore\n");
    let image = place.build("FROM scratch\nCOPY . /\n").unwrap();
    assert_eq!(place.files(&image), "b.txt=B dir/deep/two=2");
    assert!(place.mistake("FROM scratch\nCOPY a.txt /\n").contains("left out by .dockerignore"));
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn add_unpacks_an_archive_and_copy_does_not() {
    let place = Place::new(&[("usr/lib/", ""), ("lib", "-> usr/lib"), ("name.txt", "no archive")]);
    fs::write(place.context().join("plain"), archive(&[("a", "A"), ("lib/b", "B"), ("new/c", "C")])).unwrap();
    let image =
        place.build("FROM scratch\nCOPY usr /usr\nCOPY lib* /x/\nADD plain /sub\nADD name.txt /\n").unwrap();
    assert!(
        place.files(&image).ends_with("| sub/a=A sub/lib/b=B sub/new/c=C | name.txt=no archive"),
        "{}",
        place.files(&image)
    );
    let base = place
        .build_with(
            "FROM scratch\nCOPY . /\n",
            BuildOptions { tags: vec!["base".parse().unwrap()], ..BuildOptions::default() },
        )
        .unwrap();
    assert_eq!(inner(&base).cmd(), &None);
    let image = place.build("FROM base\nADD plain /\n").unwrap();
    let layers = place.store.layer_dirs(&image).unwrap();
    assert_eq!(listing(&layers[1], &layers[1]), ["a=A", "lib->usr/lib", "new/c=C", "usr/lib/b=B"]);
    let image = place.build("FROM base\nCOPY plain /copied\n").unwrap();
    assert!(place.store.layer_dirs(&image).unwrap()[1].join("copied").is_file());
    assert!(place.mistake("FROM base\nADD https://example.com/x /\n").contains("not supported yet"));
}
