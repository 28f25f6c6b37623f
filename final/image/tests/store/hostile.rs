//! Indexes that somebody else wrote, with whatever may stand there.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sampan_image::{Digest, Error};
use serde_json::{Value, json};

use crate::place::{FILES, Place, never, tar};

/// An index of somebody else's, with whatever may stand there.
fn hostile_index(entries: &[Value]) -> String {
    json!({"schemaVersion": 2, "manifests": entries}).to_string()
}

fn entry(digest: &str, name: &str) -> Value {
    json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 7,
        "annotations": {"org.opencontainers.image.ref.name": name},
    })
}

fn write_index(place: &Place, text: &str) -> PathBuf {
    let path = place.data.path().join("images/index.json");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn an_index_that_contains_itself_or_leads_elsewhere_is_no_image() {
    let place = Place::new();
    let kept = place.import(FILES, "plank");
    let good = entry(kept.manifest.digest().as_ref(), "docker.io/library/plank:latest");
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": kept.manifest.digest().to_string(), "size": 1,
         "platform": {"architecture": "amd64", "os": "linux"}}]});
    let (nested, _) = place.store.blobs().put(index.to_string().as_bytes()).unwrap();
    let mut inner = entry(&nested.to_string(), "nested");
    inner["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    let layer = entry(&kept.layers[0].to_string(), "layer");
    let absent = entry(&Digest::of(b"absent").to_string(), "absent");
    write_index(&place, &hostile_index(&[inner, layer, absent, good]));
    assert_eq!(place.store.list().unwrap().len(), 1);
    assert_eq!(place.store.resolve("plank").unwrap().id, kept.id);
    for name in ["nested", "layer", "absent"] {
        assert!(matches!(place.store.resolve(name), Err(Error::Damaged { .. } | Error::Io { .. })), "{name}");
    }
}

#[test]
fn an_index_that_is_none_is_an_error_that_names_it() {
    let place = Place::new();
    for text in [
        "",
        "{",
        "[]",
        r#"{"schemaVersion":1,"manifests":[]}"#,
        &hostile_index(&[entry("sha256:../../../etc/passwd", "x")]),
    ] {
        write_index(&place, text);
        let error = place.store.list().unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("index.json"));
        assert!(place.store.import(tar(FILES).as_slice(), &"plank".parse().unwrap()).is_err());
        assert_eq!(fs::read_to_string(place.data.path().join("images/index.json")).unwrap(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_index_makes_the_store_leave_its_folder(
        names in proptest::collection::vec("\\PC{0,30}", 0..5),
        digests in proptest::collection::vec("(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}|\\PC{0,40}|sha256:[./a]{64})", 0..5),
        text in "\\PC{0,60}",
    ) {
        let place = Place::new();
        let entries: Vec<_> = names.iter().zip(&digests).map(|(name, digest)| entry(digest, name)).collect();
        for index in [hostile_index(&entries), text] {
            write_index(&place, &index);
            let _ = place.store.list();
            for name in &names {
                let _ = place.store.resolve(name);
                // No more goes than a name.
                let removed = place.store.remove(name, true, &never);
                prop_assert!(removed.is_err() || removed.is_ok_and(|gone| gone.images.is_empty() && gone.layers.is_empty()));
            }
            prop_assert!(outside_is_untouched(place.data.path()));
        }
    }
}

/// Any JSON of the kind that a document of an archive is.
fn documents() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(vec![
        "Config",
        "Layers",
        "RepoTags",
        "manifests",
        "schemaVersion",
        "mediaType",
        "digest",
        "size",
        "config",
        "layers",
        "rootfs",
        "diff_ids",
        "layer.tar",
        "config.json",
        "../../etc/passwd",
        "sha256:",
        "application/vnd.oci.image.index.v1+json",
        "annotations",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "\\PC{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((word.clone(), inner), 0..5).prop_map(|pairs| Value::Object(
                pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_document_of_an_archive_changes_the_store(manifest in documents(), index in documents(), config in documents(), wounds in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let place = Place::new();
        let before = place.index();
        let whole = json!([{"Config": "config.json", "Layers": ["layer.tar"], "RepoTags": null}]).to_string();
        for manifest in [manifest.to_string(), json!([manifest]).to_string(), whole] {
            let layer = String::from_utf8(tar(&[("a", "a")])).unwrap();
            let mut archive = tar(&[("layer.tar", &layer), ("config.json", &config.to_string()), ("manifest.json", &manifest), ("index.json", &index.to_string())]);
            prop_assert!(place.store.load(archive.as_slice()).is_err() || place.store.list().is_ok());
            for (at, byte) in &wounds {
                *at.get_mut(&mut archive) = *byte;
            }
            let _ = place.store.load(archive.as_slice());
        }
        if place.store.list().unwrap().is_empty() {
            prop_assert_eq!(place.index(), before);
        }
        prop_assert!(outside_is_untouched(place.data.path()));
    }
}

fn outside_is_untouched(data: &Path) -> bool {
    let names: std::collections::BTreeSet<_> =
        fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.iter().all(|name| ["images", "layers", "tmp"].contains(&name.to_str().unwrap()))
}
