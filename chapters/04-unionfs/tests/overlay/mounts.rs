//! What a mounted overlay shows, and by which call it is mounted.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use unionfs::{Overlay, Place as Lies, locate};

use crate::place::{Place, userxattr};
use crate::{Case, Outcome};

pub(crate) const CASES: &[Case] = &[
    ("upper_hides_lower_and_takes_what_is_written", upper_hides_lower),
    ("reading_copies_nothing_up", reading_copies_nothing_up),
    ("deleting_leaves_a_whiteout", deleting_leaves_a_whiteout),
    ("layers_to_the_kernels_limit", layers_to_the_kernels_limit),
    ("odd_names", odd_names),
    ("a_kernel_without_fsopen_gets_one_string", an_old_kernel),
    ("volatile_is_in_the_mount_table", volatile),
];

fn upper_hides_lower(place: &Place) -> Outcome {
    let lower = [place.layer("a", &[("one", "a"), ("two", "a")])?, place.layer("b", &[("two", "b")])?];
    let overlay = place.overlay(&lower)?;
    let mounted = place.mounted(&overlay)?;
    assert!(mounted.line()?.contains(" - overlay sampan "), "{}", mounted.line()?);
    assert_eq!(fs::read_to_string(mounted.0.join("one"))?, "a");
    assert_eq!(fs::read_to_string(mounted.0.join("two"))?, "b");
    fs::write(mounted.0.join("one"), "changed")?;
    assert_eq!(fs::read_to_string(lower[0].join("one"))?, "a");
    assert_eq!(fs::read_to_string(overlay.upper.join("one"))?, "changed");
    Ok(())
}

fn reading_copies_nothing_up(place: &Place) -> Outcome {
    let lower = [place.layer("a", &[("etc/file", "text")])?];
    let overlay = place.overlay(&lower)?;
    let mounted = place.mounted(&overlay)?;
    let file = mounted.0.join("etc/file");
    let lies = || locate(Path::new("etc/file"), &overlay.upper, userxattr(), &lower);
    let mut text = String::new();
    fs::File::open(&file)?.read_to_string(&mut text)?;
    assert_eq!((text.as_str(), lies()?), ("text", Lies::Layer(0)));
    assert_eq!(fs::read_dir(&overlay.upper)?.count(), 0, "reading must write nothing at all");
    drop(OpenOptions::new().write(true).open(&file)?);
    assert_eq!(lies()?, Lies::Upper, "opening for writing copies up before a byte is written");
    Ok(())
}

fn deleting_leaves_a_whiteout(place: &Place) -> Outcome {
    let lower = [place.layer("a", &[("file", "text"), ("folder/file", "text")])?];
    let overlay = place.overlay(&lower)?;
    let mounted = place.mounted(&overlay)?;
    fs::remove_file(mounted.0.join("file"))?;
    let about = fs::symlink_metadata(overlay.upper.join("file"))?;
    assert!(about.file_type().is_char_device());
    assert_eq!(about.rdev(), 0);
    assert_eq!(locate(Path::new("file"), &overlay.upper, userxattr(), &lower)?, Lies::Hidden);
    fs::remove_dir_all(mounted.0.join("folder"))?;
    fs::create_dir(mounted.0.join("folder"))?;
    assert_eq!(locate(Path::new("folder/file"), &overlay.upper, userxattr(), &lower)?, Lies::Nowhere);
    assert_eq!(locate(Path::new("folder"), &overlay.upper, userxattr(), &lower)?, Lies::Upper);
    assert_eq!(locate(Path::new("never"), &overlay.upper, userxattr(), &lower)?, Lies::Nowhere);
    Ok(())
}

fn many(place: &Place, count: usize, prefix: &str) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    (0..count)
        .map(|number| {
            let file = format!("file{number}");
            place.layer(&format!("{prefix}{number}"), &[(&file, &file), ("shared", &file)])
        })
        .collect()
}

fn layers_to_the_kernels_limit(place: &Place) -> Outcome {
    let layers = many(place, 501, "a-layer-with-a-name-as-long-as-those-that-a-store-gives-")?;
    for count in [1, 127, 128, 500] {
        let overlay = place.overlay(&layers[..count])?;
        let mounted = place.mounted(&overlay)?;
        assert_eq!(fs::read_dir(&mounted.0)?.count(), count + 1);
        assert_eq!(fs::read_to_string(mounted.0.join("shared"))?, format!("file{}", count - 1));
    }
    let error = place
        .overlay(&layers)
        .map(|overlay| place.mounted(&overlay))?
        .err()
        .ok_or("501 layers were mounted")?;
    assert!(error.to_string().contains("500"), "{error}");
    Ok(())
}

/// Names that are punctuation in an option string, and one that is longer than fsconfig(2) takes.
fn odd_names(place: &Place) -> Outcome {
    let long = ["x"; 200].concat();
    let odd = ["a:b,c", r"back\slash", "spa ce", r"end\", &format!("{long}/{long}")];
    for (number, name) in odd.into_iter().enumerate() {
        let lower = [place.layer(&format!("lower/{name}"), &[("file", "text")])?];
        let overlay = Overlay {
            upper: place.dir(&format!("upper/{name}"))?,
            work: place.dir(&format!("work/{name}"))?,
            ..place.overlay(&lower)?
        };
        let mounted =
            place.mounted(&overlay).map_err(|error| format!("{name}: {}", crate::chain(error.as_ref())))?;
        fs::write(mounted.0.join("new"), name)?;
        assert_eq!(fs::read_to_string(overlay.upper.join("new"))?, name, "{number}");
        assert_eq!(fs::read_to_string(mounted.0.join("file"))?, "text");
    }
    Ok(())
}

/// The kernel is made to answer as one that is older than 5.2, by a filter in a thread of its own.
fn an_old_kernel(place: &Place) -> Outcome {
    let outcome = std::thread::scope(|scope| {
        let told = |error: Box<dyn std::error::Error>| crate::chain(error.as_ref());
        scope.spawn(move || without_fsopen().and_then(|()| one_string(place)).map_err(told)).join()
    });
    Ok(outcome.map_err(|_| "the thread panicked")??)
}

fn without_fsopen() -> Outcome {
    /// The same on every processor, as all calls since 5.1.
    const FSOPEN: i64 = 430;
    let answer = SeccompAction::Errno(nix::errno::Errno::ENOSYS as u32);
    let rules = BTreeMap::from([(FSOPEN, Vec::new())]);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

fn one_string(place: &Place) -> Outcome {
    odd_names(place)?;
    let before = std::env::current_dir()?;
    // What fits into one page; more needs links, for which a kernel must have fsopen: the tests in a virtual machine of Linux 6.1 do that.
    let overlay = place.overlay(&many(place, 20, "short")?)?;
    let mounted = place.mounted(&overlay)?;
    assert_eq!(fs::read_to_string(mounted.0.join("shared"))?, "file19");
    assert_eq!(fs::read_dir(&mounted.0)?.count(), 21);
    fs::write(mounted.0.join("new"), "text")?;
    assert!(overlay.upper.join("new").exists());
    assert!(mounted.line()?.contains("lowerdir="), "mounted by the option string: {}", mounted.line()?);
    assert_eq!(std::env::current_dir()?, before);
    Ok(())
}

fn volatile(place: &Place) -> Outcome {
    let lower = [place.layer("a", &[("file", "text")])?];
    let overlay = Overlay { volatile: true, ..place.overlay(&lower)? };
    assert!(place.mounted(&overlay)?.line()?.contains("volatile"));
    Ok(())
}
