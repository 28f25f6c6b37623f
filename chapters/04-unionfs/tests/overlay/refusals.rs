//! Each way in which the kernel refuses an overlay, provoked: the errno is the kernel's, and the words must fit it.

use std::fs;

use nix::errno::Errno;
use rustix::mount::{MountFlags, mount};
use step::StepError;
use unionfs::{Error, HINTS, Overlay};

use crate::place::{Place, userxattr};
use crate::{Case, Outcome};

pub(crate) const CASES: &[Case] = &[
    ("refused_without_layers", without_layers),
    ("refused_upper_and_work_on_two_mounts", two_mounts),
    ("refused_work_inside_upper", work_inside_upper),
    ("refused_one_directory_twice", one_directory_twice),
    ("refused_upper_on_an_overlay", upper_on_an_overlay),
    ("refused_three_overlays_deep", three_deep),
    ("refused_volatile_upper_again", volatile_again),
    ("refused_missing_layer", missing_layer),
    ("refused_layer_that_is_a_file", layer_is_a_file),
    ("refused_501_layers", too_many),
    ("refused_upper_of_other_layers", stale),
    ("refused_upper_in_use", busy),
    ("a_foreign_file_in_work_is_no_refusal", work_not_empty),
];

/// Mounts it, and holds the refusal against what is expected of it.
fn refused(place: &Place, overlay: &Overlay, errno: Errno, words: &str) -> Outcome {
    let target = place.dir("refused")?;
    let Err(error) = overlay.mount(&target) else {
        unionfs::unmount(&target)?;
        return Err("the kernel took it".into());
    };
    let report = step::report(&error, &[HINTS]);
    let mut link: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let failed = loop {
        let at = link.ok_or_else(|| format!("no step in {report}"))?;
        match at.downcast_ref::<StepError>() {
            Some(step) => break step,
            None => link = at.source(),
        }
    };
    assert_eq!(failed.errno(), Some(errno), "{report}");
    assert!(report.contains(words), "{report:?} does not say {words:?}");
    assert!(report.contains("hint: "), "no hint: {report}");
    Ok(())
}

fn without_layers(place: &Place) -> Outcome {
    let overlay = place.overlay(&[])?;
    assert!(matches!(overlay.mount(&place.root), Err(Error::NoLayers)));
    Ok(())
}

fn two_mounts(place: &Place) -> Outcome {
    let other = place.dir("other")?;
    mount("sampan-test", &other, "tmpfs", MountFlags::empty(), None)?;
    let overlay = Overlay { work: place.dir("other/work")?, ..place.overlay(&[place.dir("a")?])? };
    refused(place, &overlay, Errno::EINVAL, "one mount")
}

fn work_inside_upper(place: &Place) -> Outcome {
    let mut overlay = place.overlay(&[place.dir("a")?])?;
    overlay.work = overlay.upper.join("work");
    fs::create_dir(&overlay.work)?;
    refused(place, &overlay, Errno::EINVAL, "one inside the other")
}

fn one_directory_twice(place: &Place) -> Outcome {
    // As text these are two directories.
    let lower = [place.dir("a")?, place.root.join("../overlay/a")];
    refused(place, &place.overlay(&lower)?, Errno::ELOOP, "twice")
}

fn upper_on_an_overlay(place: &Place) -> Outcome {
    let first = place.mounted(&place.overlay(&[place.dir("a")?])?)?;
    let (upper, work) = (first.0.join("upper"), first.0.join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let overlay = Overlay { upper, work, ..place.overlay(&[place.dir("b")?])? };
    refused(place, &overlay, Errno::EINVAL, "overlay")
}

fn three_deep(place: &Place) -> Outcome {
    let first = place.mounted(&place.overlay(&[place.dir("a")?])?)?;
    let second = place.mounted(&place.overlay(std::slice::from_ref(&first.0))?)?;
    refused(place, &place.overlay(std::slice::from_ref(&second.0))?, Errno::EINVAL, "two, not three")
}

fn volatile_again(place: &Place) -> Outcome {
    let overlay = Overlay { volatile: true, ..place.overlay(&[place.dir("a")?])? };
    drop(place.mounted(&overlay)?);
    refused(place, &Overlay { volatile: false, ..overlay }, Errno::EINVAL, "volatile")
}

fn missing_layer(place: &Place) -> Outcome {
    refused(place, &place.overlay(&[place.root.join("missing")])?, Errno::ENOENT, "missing")
}

fn layer_is_a_file(place: &Place) -> Outcome {
    let file = place.layer("a", &[("file", "")])?.join("file");
    refused(place, &place.overlay(&[file])?, Errno::EINVAL, "not a directory")
}

fn too_many(place: &Place) -> Outcome {
    let layers =
        (0..501).map(|number| place.dir(&format!("layer{number}"))).collect::<Result<Vec<_>, _>>()?;
    refused(place, &place.overlay(&layers)?, Errno::EINVAL, "500")
}

/// Only the index remembers; without it the kernel takes any upper directory.
fn stale(place: &Place) -> Outcome {
    if userxattr() {
        return Ok(());
    }
    let first = Overlay { index: true, ..place.overlay(&[place.dir("a")?])? };
    drop(place.mounted(&first)?);
    let other = Overlay { lower: vec![place.dir("b")?], ..first };
    refused(place, &other, Errno::ESTALE, "other layers")?;
    drop(place.mounted(&Overlay { index: false, ..other })?);
    Ok(())
}

fn busy(place: &Place) -> Outcome {
    if userxattr() {
        return Ok(());
    }
    let overlay = Overlay { index: true, ..place.overlay(&[place.dir("a")?])? };
    let _first = place.mounted(&overlay)?;
    refused(place, &overlay, Errno::EBUSY, "in use")
}

/// The manual asks for an empty work directory; the kernel needs only `work/work`, which it empties itself.
fn work_not_empty(place: &Place) -> Outcome {
    let overlay = place.overlay(&[place.dir("a")?])?;
    fs::write(overlay.work.join("file"), "text")?;
    drop(place.mounted(&overlay)?);
    assert_eq!(fs::read_to_string(overlay.work.join("file"))?, "text");
    Ok(())
}
