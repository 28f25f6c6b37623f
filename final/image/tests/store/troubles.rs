//! What goes wrong without anybody's ill will: others at work, killed commands, failing disks, streams that come in pieces.

use std::cell::Cell;
use std::fs;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use sampan_image::{Digest, Error, Image, Store};
use serde_json::{Value, json};

use crate::place::{FILES, Place, gzip, never, tar};

fn folders(place: &Place) -> [usize; 3] {
    ["images/blobs/sha256", "layers/sha256", "tmp"].map(|folder| place.count(folder))
}

/// Adds an entry to the index as another program would.
fn add(place: &Place, entry: Value) {
    let mut index = place.index();
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(place.data.path().join("images/index.json"), index.to_string()).unwrap();
}

fn named(media_type: &str, digest: &str, size: usize, name: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size,
        "annotations": {"org.opencontainers.image.ref.name": name}})
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What `skopeo copy --all` writes: an index with a manifest for each platform, of which this store has one.
fn platforms(place: &Place, image: &Image, name: &str) {
    let architecture = oci_spec::image::Arch::default().to_string();
    let other = Digest::of(b"of another machine").to_string();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": other, "size": 1, "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": MANIFEST, "digest": image.manifest.digest().to_string(), "size": image.manifest.size(),
         "platform": {"os": "linux", "architecture": architecture}}]})
    .to_string();
    let (digest, size) = place.store.blobs().put(index.as_bytes()).unwrap();
    add(place, named(INDEX, &digest.to_string(), usize::try_from(size).unwrap(), name));
}

#[test]
fn an_image_that_an_index_leads_to_is_removed_with_it() {
    let place = Place::new();
    for prune in [false, true] {
        let image = place.import(FILES, "plank");
        platforms(&place, &image, "docker.io/library/many:latest");
        let removed = place.store.remove("plank", false, &never).unwrap();
        assert_eq!(removed.images, [], "it has another name");
        let found = place.store.resolve("many").unwrap();
        assert_eq!(found.id, image.id);
        let removed = match prune {
            true => place.store.prune(&|image| image.id == found.id).unwrap(),
            false => place.store.remove("many", false, &never).unwrap(),
        };
        assert_eq!((removed.images, removed.untagged.len()), (vec![image.id], 1));
        assert_eq!(place.index()["manifests"], json!([]));
        assert_eq!(folders(&place), [0; 3]);
    }
}

#[test]
fn an_image_of_two_manifests_is_one_image() {
    let place = Place::new();
    let image = place.import(FILES, "plain");
    // The same config, and the same layer compressed.
    let mut manifest: Value = serde_json::from_slice(
        &place.store.blobs().read(&image.manifest.digest().to_string().parse().unwrap()).unwrap(),
    )
    .unwrap();
    let (layer, size) = place.store.blobs().put(&gzip(&tar(FILES))).unwrap();
    manifest["layers"][0] = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": layer.to_string(), "size": size});
    let text = manifest.to_string();
    let (digest, _) = place.store.blobs().put(text.as_bytes()).unwrap();
    add(&place, named(MANIFEST, &digest.to_string(), text.len(), "docker.io/library/packed:latest"));
    assert_eq!(place.store.remove("plain", false, &never).unwrap().images, []);
    assert_eq!(place.store.remove("packed", false, &never).unwrap().images, [image.id]);
    assert_eq!(folders(&place), [0; 3]);
}

#[test]
fn a_damaged_image_goes_by_its_name_and_comes_again() {
    let place = Place::new();
    let image = place.import(FILES, "plank");
    let kept = place.import(&[("kept", "")], "kept");
    fs::write(place.store.blobs().path(&image.id), "{").unwrap();
    assert!(matches!(place.store.resolve("plank"), Err(Error::Damaged { .. })));
    let removed = place.store.remove("plank", false, &never).unwrap();
    assert_eq!(removed.untagged, ["plank".parse().unwrap()]);
    assert!(matches!(place.store.remove("plank", false, &never), Err(Error::NoImage(_))));
    assert_eq!(folders(&place), [3, 1, 0]);
    place.import(FILES, "plank");
    place.store.resolve("plank").unwrap();
    // Its manifest is not there at all.
    fs::remove_file(place.store.blobs().path(&kept.manifest.digest().to_string().parse().unwrap())).unwrap();
    place.store.remove("kept", false, &never).unwrap();
    assert_eq!(place.store.list().unwrap().len(), 1);
}

#[test]
fn what_a_killed_removal_left_is_in_nobodys_way() {
    let place = Place::new();
    let image = place.import(FILES, "plank");
    // It was killed between the two steps, and then the layer came again.
    let left = place.data.path().join("tmp").join(image.layers[0].hex());
    fs::create_dir_all(left.join("etc")).unwrap();
    place.store.remove("plank", false, &never).unwrap();
    assert_eq!(folders(&place), [0; 3]);
}

#[test]
fn an_image_that_loses_its_name_while_it_is_taken_into_use_stays() {
    let place = Place::new();
    let pin = place.store.pin().unwrap();
    let image = place.store.resolve(&place.import(FILES, "plank").id.to_string()).unwrap();
    // Somebody else, who sees no container yet.
    let removed = place.store.remove("plank", false, &never).unwrap();
    assert_eq!(removed.images.len(), 1);
    // The container is written down.
    place.store.keep(&image).unwrap();
    place.store.keep(&image).unwrap();
    assert_eq!(place.index()["manifests"].as_array().unwrap().len(), 1);
    drop(pin);
    place.store.prune(&|_| false).unwrap();
    let found = place.store.resolve(image.id.hex()).unwrap();
    assert!(place.store.layer_dirs(&found).unwrap()[0].join("etc/os-release").exists());
    // And one that an index leads to needs no more.
    platforms(&place, &image, "docker.io/library/many:latest");
    place.store.keep(&place.store.resolve("many").unwrap()).unwrap();
    assert_eq!(place.index()["manifests"].as_array().unwrap().len(), 2);
}

#[test]
fn whether_it_is_in_use_is_asked_when_nobody_can_take_it_into_use() {
    let place = Place::new();
    let image = place.import(FILES, "plank");
    let asked = Cell::new(0);
    // A lock that is not to be had tells that nobody is between finding the image and writing down that it is used.
    let others = |_: &Digest| {
        asked.set(asked.get() + 1);
        let blobs = fs::File::open(place.data.path().join("images/blobs/sha256")).unwrap();
        assert!(blobs.try_lock_shared().is_err());
        Some("boat".to_owned())
    };
    assert!(place.store.remove("plank", false, &others).is_err());
    place.store.prune(&|image| others(&image.id).is_none()).unwrap();
    assert_eq!(asked.get(), 2);
    place.store.resolve(image.id.hex()).unwrap();
}

#[test]
fn no_name_is_given_to_what_is_gone() {
    let place = Place::new();
    let image = place.import(FILES, "plank");
    place.store.remove("plank", false, &never).unwrap();
    assert!(matches!(place.store.tag(&image, &"new".parse().unwrap()), Err(Error::NoImage(_))));
    assert_eq!(place.index()["manifests"], json!([]));
}

#[test]
fn names_come_and_go_while_others_sweep() {
    let place = Place::new();
    let image = place.import(FILES, "plank");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sweeping = || {
            let store = Store::open(place.data.path()).unwrap();
            while !done.load(Ordering::Relaxed) {
                store.prune(&|_| false).unwrap();
            }
        };
        let pinning = || {
            let store = Store::open(place.data.path()).unwrap();
            while !done.load(Ordering::Relaxed) {
                drop(store.pin().unwrap());
            }
        };
        scope.spawn(sweeping);
        scope.spawn(pinning);
        let ended = scope.spawn(|| {
            for round in 0..100 {
                let name = format!("name:{round}");
                place.store.tag(&image, &name.parse().unwrap())?;
                place.store.remove(&name, false, &never)?;
            }
            Ok::<_, Error>(())
        });
        let ended = ended.join();
        done.store(true, Ordering::Relaxed);
        ended.unwrap().unwrap();
    });
    assert_eq!(place.store.resolve("plank").unwrap().references.len(), 1);
}

/// A pipe whose writer writes a byte at a time.
struct ByteByByte<'a>(&'a [u8]);

impl Read for ByteByByte<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let some = self.0.len().min(buffer.len()).min(1);
        self.0.read(&mut buffer[..some])
    }
}

#[test]
fn a_stream_that_comes_byte_by_byte_is_understood() {
    let place = Place::new();
    let zstd = |bytes: &[u8]| zstd::stream::encode_all(bytes, 3).unwrap();
    let layer = tar(FILES);
    for packed in [layer.clone(), gzip(&layer), zstd(&layer)] {
        let image = place.store.import(ByteByByte(&packed), &"plank".parse().unwrap()).unwrap();
        assert_eq!(image.layers, [Digest::of(&layer)]);
    }
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]}})
    .to_string();
    let manifest = json!([{"Config": "c.json", "Layers": ["l.tar"], "RepoTags": ["loaded:v1"]}]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in
        [("l.tar", gzip(&layer)), ("c.json", config.into_bytes()), ("manifest.json", manifest.into_bytes())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let archive = archive.into_inner().unwrap();
    for packed in [archive.clone(), gzip(&archive), zstd(&archive)] {
        let loaded = place.store.load(ByteByByte(&packed)).unwrap();
        assert_eq!(loaded[0].image.layers, [Digest::of(&layer)]);
    }
}

/// An archive of two forms, of which one names what the other has not.
#[test]
fn a_manifest_that_does_not_fit_the_layers_is_made_anew() {
    let place = Place::new();
    let layer = String::from_utf8(tar(FILES)).unwrap();
    let (layer_digest, blob) =
        (Digest::of(layer.as_bytes()), |digest: &Digest| format!("blobs/sha256/{}", digest.hex()));
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest.to_string()]}})
    .to_string();
    let config_digest = Digest::of(config.as_bytes());
    let absent = Digest::of(b"absent");
    for (named, size) in [(&absent, layer.len()), (&layer_digest, 7), (&layer_digest, layer.len())] {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest.to_string(), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": named.to_string(), "size": size}]})
        .to_string();
        let digest = Digest::of(manifest.as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": MANIFEST, "digest": digest.to_string(), "size": manifest.len()}]})
        .to_string();
        let docker =
            json!([{"Config": blob(&config_digest), "Layers": [blob(&layer_digest)], "RepoTags": ["plank"]}])
                .to_string();
        let archive = tar(&[
            (&blob(&layer_digest), layer.as_str()),
            (&blob(&config_digest), &config),
            (&blob(&digest), &manifest),
            ("index.json", &index),
            ("manifest.json", &docker),
        ]);
        let image = place.store.load(archive.as_slice()).unwrap().remove(0).image;
        assert_eq!(image.descriptors[0].digest().to_string(), layer_digest.to_string());
        assert_eq!(image.size, layer.len() as u64);
        assert!(place.store.blobs().has(&layer_digest));
        let honest = named == &layer_digest && size == layer.len();
        assert_eq!(
            image.manifest.digest().to_string() == digest.to_string(),
            honest,
            "an honest one is kept byte for byte"
        );
        place.store.remove("plank", true, &never).unwrap();
    }
}

#[test]
fn folders_deeper_than_there_are_open_files_are_measured() {
    let place = Place::new();
    let deep = format!("{}file", "d/".repeat(1500));
    let mut header = tar::Header::new_gnu();
    header.set_size(5000);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, &deep, vec![b'x'; 5000].as_slice()).unwrap();
    let image =
        place.store.import(archive.into_inner().unwrap().as_slice(), &"deep".parse().unwrap()).unwrap();
    let usage = place.store.usage(std::slice::from_ref(&image)).unwrap();
    assert!(usage.of(&image) > 10_000);
    place.store.remove("deep", false, &never).unwrap();
}
