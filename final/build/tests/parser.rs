//! Dockerfiles as they are parsed, and mistakes as they are told; the snapshots are to be read.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;

use proptest::prelude::*;
use sampan_build::dockerfile::{Dockerfile, parse};

fn shown(text: &str) -> String {
    match parse("Dockerfile", text) {
        Err(mistake) => mistake.to_string(),
        Ok(Dockerfile { instructions, .. }) => instructions.iter().fold(String::new(), |mut all, one| {
            let _ = writeln!(all, "{}\n    {:?}", one.text, one.kind);
            // Places are tested by the mistakes.
            all
        }),
    }
}

/// Without the places, which a small change in a file moves.
fn without_spans(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(", span: Span {") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = &rest[rest.find('}').unwrap() + 1..];
    }
    out + rest
}

#[test]
fn the_notes_first_dockerfile() {
    let text = "\
# a daemon in the foreground
FROM ubuntu:20.04
MAINTAINER  Sun Xu <sun@example.com>

RUN useradd -m guest
RUN echo 'guest:secret' | chpasswd && \\
    # nobody logs in as root
    passwd -l root
EXPOSE 22
expose 80/tcp 8000-8010/udp
CMD [\"/usr/sbin/sshd\", \"-D\"]
";
    insta::assert_snapshot!(without_spans(&shown(text)));
}

#[test]
fn every_instruction() {
    let text = r#"# syntax=docker/dockerfile:1
# escape=\
ARG base=busybox tag
FROM --platform=$BUILDPLATFORM ${base}:${tag:-latest} AS Builder
ARG name
ENV one=1 two="a b" three=a\ b four='$x'
ENV old the old form "kept"
LABEL "com.example.a b"=c d=
USER guest:guest
WORKDIR /a path with blanks
COPY --chown=1:2 --chmod=755 a* b/ /c/
COPY ["with blank", "quote\"d", "/to here/"]
ADD x.tar.gz /
COPY --from=builder /out /in
VOLUME /data /more
VOLUME ["/a b"]
SHELL ["/bin/ash", "-ec"]
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD wget -q localhost || exit 1
HEALTHCHECK NONE
ONBUILD RUN make
ENTRYPOINT exec top -b
RUN [ -f /etc/passwd ] && echo shell form
CMD ["a", 1]
RUN echo $((1<<2)) <<< text
"#;
    insta::assert_snapshot!(without_spans(&shown(text)));
}

#[test]
fn mistakes_have_a_place_and_a_remedy() {
    let texts = [
        "FROM busybox\nRUM echo hi\n",
        "FROM busybox\n\tcoyp a b\n",
        "FROM busybox\n<<EOF\n",
        "",
        "# nothing\n",
        "RUN true\n",
        "ARG a\nCMD x\n",
        "FROM\n",
        "FROM a b\n",
        "FROM a AS 9lives\n",
        "FROM --platform=windows/amd64 a\n",
        "FROM a\nRUN --mount=type=cache x\n",
        "FROM a\nRUN cat <<EOF > /x\nhello\nEOF\n",
        "FROM a\nCOPY a\n",
        "FROM a\nCOPY --chwon=1 a b\n",
        "FROM a\nENV a=\"b\n",
        "FROM a\nENV a\n",
        "FROM a\nENV a=1 b\n",
        "FROM a\nLABEL =x\n",
        "FROM a\nUSER a b\n",
        "FROM a\nARG a-b=1\n",
        "FROM a\nSHELL /bin/sh -c\n",
        "FROM a\nHEALTHCHECK wget\n",
        "FROM a\nHEALTHCHECK --interval=5 CMD x\n",
        "FROM a\nONBUILD FROM b\n",
        "FROM a\nONBUILD RUNN b\n",
        "FROM a\nRUN a \\\n  # comment\n  && b\n\nADD y 'x\n",
        "# escape=x\nFROM a\n",
        "FROM a\nCMD\n",
        "FROM ä\nCÖPY a b\n",
    ];
    let all = texts.iter().fold(String::new(), |mut all, text| {
        let _ = writeln!(all, "{}\n", shown(text));
        all
    });
    // The snapshot is of one kind of machine, and the test runs on each.
    insta::assert_snapshot!(all.replace("it is linux/arm64", "it is linux/amd64"));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(FROM a\n)?((RUN|COPY|ENV|ARG|ONBUILD|HEALTHCHECK|LABEL|FROM|#escape=)?[ =]?(\\PC|[\\\\\n\"'${}\\[\\]#< -]){0,30}\n){0,4}") {
        let _ = shown(&text);
    }
}
