//! The instructions' names: which there are, how each is written, and which one was meant.

use super::Word;
use super::mistake::Finding;

pub(crate) const KNOWN: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

pub(crate) fn unknown(name: &Word) -> Finding {
    let upper = name.text.to_ascii_uppercase();
    let nearest = KNOWN.into_iter().map(|known| (distance(&upper, known), known)).min();
    let remedy = match nearest {
        Some((0..=2, known)) => format!("did you mean {known}?"),
        _ if name.text.starts_with('<') => "here-documents are not supported yet".to_owned(),
        _ => format!("known are {}", KNOWN.join(" ")),
    };
    Finding::new(name.span, format!("unknown instruction {}", name.text), remedy)
}

/// How many letters must be changed, added or left out, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swap = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(swap)
            };
        }
    }
    rows[a.len()][b.len()]
}

/// How the instruction is written.
pub(crate) fn usage(name: &str) -> &'static str {
    match name {
        "FROM" => "write FROM image, or FROM image AS stage",
        "RUN" => r#"write RUN command, or RUN ["program", "argument"]"#,
        "CMD" => r#"write CMD command, or CMD ["program", "argument"]"#,
        "ENTRYPOINT" => r#"write ENTRYPOINT ["program", "argument"]"#,
        "COPY" => "write COPY source destination",
        "ADD" => "write ADD source destination",
        "ENV" => "write ENV name=value",
        "LABEL" => "write LABEL name=value",
        "WORKDIR" => "write WORKDIR /folder",
        "USER" => "write USER name, or USER name:group",
        "EXPOSE" => "write EXPOSE 80, or EXPOSE 53/udp",
        "VOLUME" => "write VOLUME /folder",
        "MAINTAINER" => "write MAINTAINER name",
        "ARG" => "write ARG name, or ARG name=default",
        "SHELL" => r#"write SHELL ["program", "-c"]"#,
        "STOPSIGNAL" => "write STOPSIGNAL SIGTERM",
        "HEALTHCHECK" => "write HEALTHCHECK CMD command, or HEALTHCHECK NONE",
        _ => "write ONBUILD instruction",
    }
}
