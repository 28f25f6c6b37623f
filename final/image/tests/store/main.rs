//! The store as others use it: what is on the disk is looked at beside what the calls return.

#![allow(clippy::unwrap_used, missing_docs)]

mod hostile;
mod place;
mod troubles;

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::sync::Barrier;

use oci_spec::image::{Config, ImageConfiguration};
use sampan_image::{Digest, DockerConfig, Error, Healthcheck, NewImage, Reference, Store};
use serde_json::{Value, json};

use place::{FILES, Place, gzip, never, tar};

#[test]
fn an_imported_archive_is_an_image_with_one_layer_unpacked() {
    let place = Place::new();
    let image = place.import(FILES, "plank");
    assert_eq!(image.references, ["plank:latest".parse().unwrap()]);
    assert_eq!(image.layers, [Digest::of(&tar(FILES))]);
    let dirs = place.store.layer_dirs(&image).unwrap();
    assert_eq!(dirs, [place.data.path().join("layers/sha256").join(image.layers[0].hex())]);
    assert_eq!(fs::read_to_string(dirs[0].join("etc/os-release")).unwrap(), "NAME=plank\n");
    assert_eq!(place.count("images/blobs/sha256"), 3);
    assert_eq!(place.count("tmp"), 0);
    let layout = fs::read_to_string(place.data.path().join("images/oci-layout")).unwrap();
    assert_eq!(layout.trim(), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let entry = &place.index()["manifests"][0];
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "docker.io/library/plank:latest");
    assert_eq!(entry["mediaType"], "application/vnd.oci.image.manifest.v1+json");
}

#[test]
fn the_same_archive_compressed_is_another_blob_of_the_same_layer() {
    let place = Place::new();
    let plain = place.import(FILES, "plain");
    let packed = place.store.import(gzip(&tar(FILES)).as_slice(), &"packed".parse().unwrap()).unwrap();
    assert_eq!(plain.layers, packed.layers);
    assert_ne!(plain.descriptors[0].digest(), packed.descriptors[0].digest());
    assert_eq!(place.count("layers/sha256"), 1);
    let folder = &place.store.layer_dirs(&packed).unwrap()[0];
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(
        place.store.layer_dirs(&packed).unwrap()[0].join("etc/os-release").metadata().unwrap().len(),
        11
    );
}

#[test]
fn whiteouts_of_the_archive_become_those_of_overlay() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let place = Place::new();
    let image = place.import(&[("etc/", ""), ("etc/.wh.motd", ""), ("etc/hosts", "")], "plank");
    let folder = &place.store.layer_dirs(&image).unwrap()[0];
    let hidden = folder.join("etc/motd").symlink_metadata().unwrap();
    assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
    assert!(!folder.join("etc/.wh.motd").exists());
}

#[test]
fn what_is_no_archive_leaves_the_store_as_it_was() {
    let place = Place::new();
    let packed = gzip(&tar(&[("a", &"plank ".repeat(40_000))]));
    let climbing = {
        let mut bytes = tar(&[("aa/b", "x")]);
        bytes[..2].copy_from_slice(b"..");
        let sum: u32 = bytes[..512]
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    };
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0, 0];
    for bytes in [&packed[..packed.len() / 2], b"not an archive at all".as_slice(), &climbing, &zstd] {
        let error = place.store.import(bytes, &"plank".parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Layer(_)), "{error:?}");
        for folder in ["images/blobs/sha256", "layers/sha256", "tmp"] {
            assert_eq!(place.count(folder), 0, "{folder} after {error:?}");
        }
        assert_eq!(place.index()["manifests"], json!([]));
    }
}

#[test]
fn an_image_is_found_by_name_by_id_and_by_the_beginning_of_it() {
    let place = Place::new();
    let image = place.import(FILES, "user/plank:v1");
    let other = place.import(&[("b", "")], "b");
    let id = image.id.to_string();
    let manifest = format!("user/plank@{}", image.manifest.digest());
    for name in ["user/plank:v1", "docker.io/user/plank:v1", &id, &id[7..], &id[7..19], &id[..20], &manifest]
    {
        assert_eq!(place.store.resolve(name).unwrap().id, image.id, "{name}");
    }
    for name in ["user/plank", "plank:v1", &other.id.hex().replace(|_| true, "0"), "user/plank:v2", "sha256:"]
    {
        assert!(matches!(place.store.resolve(name), Err(Error::NoImage(_))), "{name}");
    }
    assert!(matches!(place.store.resolve("No Name"), Err(Error::Reference { .. })));
}

#[test]
fn a_name_that_goes_to_a_new_image_leaves_the_old_one_without() {
    let place = Place::new();
    let old = place.import(&[("old", "")], "plank");
    let new = place.import(&[("new", "")], "plank");
    assert_eq!(place.store.resolve("plank").unwrap().id, new.id);
    assert_eq!(place.store.resolve(old.id.short()).unwrap().references, []);
    assert_eq!(place.store.list().unwrap().len(), 2);
    place.store.tag(&old, &"old:1".parse().unwrap()).unwrap();
    place.store.tag(&old, &"old:2".parse().unwrap()).unwrap();
    let names: Vec<String> =
        place.store.resolve("old:1").unwrap().references.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["old:1", "old:2"]);
    assert_eq!(place.index()["manifests"].as_array().unwrap().len(), 3);
}

#[test]
fn the_last_name_takes_the_image_and_what_only_it_had() {
    let place = Place::new();
    let one = place.import(&[("one", "")], "one");
    let two = place.import(&[("two", "")], "two");
    place.store.tag(&one, &"uno".parse().unwrap()).unwrap();
    assert!(matches!(place.store.remove(one.id.short(), false, &never), Err(Error::Kept { .. })));
    let removed = place.store.remove("uno", false, &never).unwrap();
    assert_eq!((removed.untagged.len(), removed.images), (1, Vec::new()));
    // What a killed command left is swept with it.
    fs::write(place.data.path().join("tmp/blob-x"), "half").unwrap();
    fs::create_dir_all(place.data.path().join("tmp/layer-x/etc")).unwrap();
    let removed = place.store.remove("one", false, &never).unwrap();
    assert_eq!(removed.images, std::slice::from_ref(&one.id));
    assert_eq!(removed.layers, one.layers);
    assert_eq!(
        (place.count("images/blobs/sha256"), place.count("layers/sha256"), place.count("tmp")),
        (3, 1, 0)
    );
    assert_eq!(place.store.list().unwrap()[0].id, two.id);
    assert!(matches!(place.store.remove("one", false, &never), Err(Error::NoImage(_))));
}

#[test]
fn an_image_that_a_container_has_stays() {
    let place = Place::new();
    let image = place.import(FILES, "plank");
    let user = |id: &Digest| (*id == image.id).then(|| "boat".to_owned());
    assert!(matches!(place.store.remove("plank", false, &user), Err(Error::Kept { .. })));
    let removed = place.store.remove("plank", true, &user).unwrap();
    assert_eq!((removed.untagged.len(), removed.images), (1, Vec::new()));
    assert!(matches!(place.store.remove(image.id.hex(), true, &user), Err(Error::Kept { .. })));
    assert!(place.store.layer_dirs(&place.store.resolve(image.id.short()).unwrap()).unwrap()[0].exists());
}

#[test]
fn what_somebody_is_about_to_use_is_not_swept() {
    let place = Place::new();
    place.import(FILES, "plank");
    let layer = place.store.add_layer(tar(&[("new", "")]).as_slice()).unwrap();
    place.store.remove("plank", false, &never).unwrap();
    let config = ImageConfiguration::default();
    let new = NewImage { config, docker: DockerConfig::default(), layers: vec![layer] };
    let image = place.store.put_image(&new, None).unwrap();
    assert!(place.store.layer_dirs(&image).unwrap()[0].join("new").exists());
    drop(new);
    // With the layer let go, the next removal sweeps what the first one left.
    place.store.remove(image.id.hex(), false, &never).unwrap();
    assert_eq!((place.count("images/blobs/sha256"), place.count("layers/sha256")), (0, 0));
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_not_unpacked() {
    let place = Place::new();
    let image = place.import(FILES, "plank");
    fs::remove_dir_all(&place.store.layer_dirs(&image).unwrap()[0]).unwrap();
    let blob = place.store.blobs().path(&image.layers[0]);
    fs::write(blob, tar(&[("other", "")])).unwrap();
    assert!(matches!(place.store.layer_dirs(&image), Err(Error::Mismatch { .. })));
    assert_eq!((place.count("layers/sha256"), place.count("tmp")), (0, 0));
}

#[test]
fn equal_configs_have_equal_ids_and_keep_what_docker_adds() {
    let place = Place::new();
    let image = || {
        let labels: HashMap<_, _> = (0..9).map(|number| (format!("k{number}"), "v".to_owned())).collect();
        let mut inner = Config::default();
        inner.set_labels(Some(labels)).set_exposed_ports(Some(vec![
            "80/tcp".into(),
            "53/udp".into(),
            "22/tcp".into(),
        ]));
        let mut config = ImageConfiguration::default();
        config.set_config(Some(inner));
        let check = Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() };
        let docker =
            DockerConfig { healthcheck: Some(check), on_build: None, shell: Some(vec!["/bin/ash".into()]) };
        place.store.put_image(&NewImage { config, docker, layers: Vec::new() }, None).unwrap()
    };
    let first = image();
    for _ in 0..5 {
        assert_eq!(image().id, first.id);
    }
    assert_eq!(first.docker.shell, Some(vec!["/bin/ash".to_owned()]));
    assert_eq!(
        first.config.config().as_ref().unwrap().exposed_ports().as_ref().unwrap(),
        &["22/tcp", "53/udp", "80/tcp"]
    );
    let raw: Value = serde_json::from_slice(&place.store.blobs().read(&first.id).unwrap()).unwrap();
    assert_eq!(raw["config"]["Healthcheck"], json!({"Test": ["NONE"]}));
}

#[test]
fn commands_at_once_do_not_lose_each_others_work() {
    let place = Place::new();
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (place, barrier) = (&place, &barrier);
            scope.spawn(move || {
                let store = Store::open(place.data.path()).unwrap();
                barrier.wait();
                for round in 0..4 {
                    let text = if round % 2 == 0 { "shared".to_owned() } else { number.to_string() };
                    let name: Reference = format!("n{number}:r{round}").parse().unwrap();
                    let image = store.import(tar(&[("file", &text)]).as_slice(), &name).unwrap();
                    assert_eq!(
                        fs::read_to_string(store.layer_dirs(&image).unwrap()[0].join("file")).unwrap(),
                        text
                    );
                    if round == 1 {
                        store.remove(&name.full(), false, &never).unwrap();
                    }
                }
            });
        }
    });
    let images = place.store.list().unwrap();
    assert_eq!(images.iter().map(|image| image.references.len()).sum::<usize>(), 24);
    for image in &images {
        assert!(place.store.layer_dirs(image).unwrap()[0].join("file").exists());
    }
}

#[test]
fn a_reader_that_fails_leaves_nothing() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("the line was cut"));
            }
            self.0 -= 1;
            buffer.fill(0);
            buffer[..512].copy_from_slice(&tar(&[("a", &"x".repeat(4096))])[..512]);
            Ok(512)
        }
    }
    let place = Place::new();
    let error = place.store.import(Failing(3), &"plank".parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Layer(_)), "{error:?}");
    assert_eq!((place.count("images/blobs/sha256"), place.count("tmp")), (0, 0));
}
