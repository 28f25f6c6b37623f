//! Every console block of the book and the README, run: a page that shows what the programs do not do is a failed test.

use std::fs;
use std::path::Path;

use tests::transcript::{Fence, Transcript, fences, markdown_files};
use tests::{Case, Host, Outcome};

pub(crate) fn cases() -> Vec<Case> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let mut files = vec![repository.join("README.md")];
    files.extend(markdown_files(&repository.join("book/src")));
    files.iter().flat_map(|file| of_file(file)).collect()
}

/// One case a console block: `transcripts::01-chroot.md:12`.
fn of_file(file: &Path) -> Vec<Case> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    fences(&text).iter().filter_map(|fence| case(&name, fence)).collect()
}

fn case(file: &str, fence: &Fence) -> Option<Case> {
    let name = format!("transcripts::{file}:{}", fence.line);
    match Transcript::parse(fence) {
        Ok(None) => None,
        Ok(Some(transcript)) => {
            let needs = transcript.needs.clone();
            Some(Case { name, needs, run: Box::new(move |host: &Host| transcript.run(host)) })
        }
        Err(wrong) => {
            let run = move |_: &Host| -> Outcome { Err(wrong.clone().into()) };
            Some(Case { name, needs: Vec::new(), run: Box::new(run) })
        }
    }
}
