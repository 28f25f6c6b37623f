//! A disk that fills in the middle of a command: the command says so, and the images are those that were there.

use std::fs;

use nix::mount::{MsFlags, mount};
use tests::{Host, Need, Outcome, Test};

use super::Result;
use super::fake::{Fake, Reply};
use super::hostile::{MANIFEST, Pieces, Scene};
use super::hostile_layers::Tar;
use super::registries::Client;

const FAKE: &[Need] = &[Need::Root, Need::Rootfs, Need::Binary("sampan")];

pub(super) fn tests() -> Vec<Test> {
    let test = |name, needs, run| Test { name, needs, run };
    vec![test("hostile::a_disk_that_fills_while_an_image_is_pulled_or_loaded", FAKE, pull_and_load)]
}

/// A store on a file system of so many bytes.
fn small(host: &Host, bytes: usize) -> Result<Client<'_>> {
    let client = Client::new(host)?;
    fs::create_dir(&client.store.root)?;
    let size = format!("size={bytes}");
    mount(Some("tmpfs"), &client.store.root, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))?;
    Ok(client)
}

const FULL: &str = "o space left on device";

fn pull_and_load(host: &Host) -> Outcome {
    const LAYER: usize = 3 << 20;
    // Room for the blob, and not for the folder; and for neither.
    for room in [LAYER + LAYER / 2, LAYER / 2] {
        let scene = Scene::on(small(host, room + (1 << 20))?)?;
        let pieces = Pieces::new(host, Tar::new().file("large", vec![b'x'; LAYER]).end())?;
        let (blobs, top) =
            (pieces.blobs.clone(), pieces.entry["digest"].as_str().unwrap_or_default().to_owned());
        let fake = Fake::start("127.0.0.1", move |request| {
            let name = request.path.rsplit('/').next().unwrap_or_default();
            let bytes = blobs.get(if name == "v1" { top.as_str() } else { name });
            bytes.map_or(Reply::new(404, ""), |bytes| {
                Reply::new(200, bytes.clone()).header("content-type", MANIFEST)
            })
        })?;
        let output = scene.client.call(&["pull", &format!("{}/a/b:v1", fake.address)])?;
        scene.refused("pull", &output, &[FULL])?;
        let output = scene.client.input(&["load"], pieces.archive())?;
        scene.refused("load", &output, &[FULL])?;
    }
    Ok(())
}
