//! An error of the init process, as bytes and back.
//!
//! What fails in the init process is told by the runtime process, and must read as if it had failed there: with the call, its
//! operands, the errno and every cause, so that the hint is found. So an error travels as the chain that it is: a list of
//! texts, at whose end may stand a failed step with its parts.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;

use step::StepError;

/// Longer texts are cut: a message must fit into a datagram.
const LONGEST: usize = 8192;

/// An error of the init process, whole: it happened in another process, and reads as if it had happened in this one.
#[derive(Debug)]
pub struct StageError {
    stage: Cow<'static, str>,
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    exit_code: u8,
}

impl StageError {
    /// Carries any error with all its causes, and the exit status that it means: 126 and 127 for a command that cannot be run
    /// or is not there, 125 for everything else.
    pub fn new(stage: &'static str, error: &(dyn Error + 'static), exit_code: u8) -> Self {
        Self::from_links(Cow::Borrowed(stage), exit_code, links(error))
    }

    /// Names the stage in which a step failed: `.map_err(StageError::at("mounts"))`.
    pub fn at(stage: &'static str) -> impl Fn(StepError) -> Self {
        move |error| Self::new(stage, &error, 125)
    }

    /// In which part of its work the init process was: `"mounts"`, `"pivot_root"`.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// The exit status that the error means.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// As the bytes of a message.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.exit_code);
        put(bytes, &self.stage);
        for link in links(self) {
            match link {
                Link::Text(text) => {
                    bytes.push(0);
                    put(bytes, &text);
                }
                Link::Step { call, operands, errno, said } => {
                    bytes.push(1);
                    put(bytes, &call);
                    put(bytes, &operands);
                    bytes.extend(errno.to_le_bytes());
                    put(bytes, &said);
                }
            }
        }
    }

    /// Back from the bytes; none where they are no error.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let exit_code = take::<1>(rest)?[0];
        let stage = text(rest)?;
        let mut links = Vec::new();
        while !rest.is_empty() {
            links.push(match take::<1>(rest)?[0] {
                0 => Link::Text(text(rest)?),
                1 => Link::Step {
                    call: text(rest)?,
                    operands: text(rest)?,
                    errno: i32::from_le_bytes(take(rest)?),
                    said: text(rest)?,
                },
                _ => return None,
            });
        }
        Some(Self::from_links(Cow::Owned(stage), exit_code, links))
    }

    fn from_links(stage: Cow<'static, str>, exit_code: u8, links: Vec<Link>) -> Self {
        let first = links.first().map(Link::text).unwrap_or_default();
        let mut source: Option<Box<dyn Error + Send + Sync>> = None;
        for (position, link) in links.into_iter().enumerate().rev() {
            source = match link {
                Link::Step { call, operands, errno, said } => {
                    let cause = match errno {
                        0 => io::Error::other(said),
                        errno => io::Error::from_raw_os_error(errno),
                    };
                    Some(Box::new(StepError::new(call, operands, cause)))
                }
                // The first text is the error's own.
                Link::Text(_) if position == 0 => source,
                Link::Text(text) => Some(Box::new(Cause { text, source })),
            };
        }
        Self { stage, text: first, source, exit_code }
    }
}

impl From<StepError> for StageError {
    fn from(error: StepError) -> Self {
        let stage = Cow::Owned(error.call().to_owned());
        Self::from_links(stage, 125, links(&error))
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for StageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A cause that was no step: its text is what is left of it.
#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// One error of a chain.
enum Link {
    Text(String),
    /// `errno` is 0 where a library above the kernel failed, and `said` is what it said.
    Step {
        call: String,
        operands: String,
        errno: i32,
        said: String,
    },
}

impl Link {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Step { call, operands, .. } => format!("{call} {operands}").trim_end().to_owned(),
        }
    }
}

/// The chain from `error` down, as far as its first failed step.
fn links(error: &(dyn Error + 'static)) -> Vec<Link> {
    let mut links = Vec::new();
    let mut next = Some(error);
    while let Some(link) = next {
        if let Some(step) = link.downcast_ref::<StepError>() {
            links.push(Link::Step {
                call: step.call().to_owned(),
                operands: step.operands().to_owned(),
                errno: step.errno().map_or(0, |errno| errno as i32),
                said: step.source().map(ToString::to_string).unwrap_or_default(),
            });
            break;
        }
        links.push(Link::Text(link.to_string()));
        next = link.source();
    }
    links
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.floor_char_boundary(LONGEST)];
    bytes.extend(u32::try_from(text.len()).unwrap_or_default().to_le_bytes());
    bytes.extend(text);
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(u32::from_le_bytes(take(bytes)?)).ok()?;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(String::from_utf8_lossy(head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot mount the layers")]
    struct Outer(#[source] StepError);

    fn there_and_back(error: &StageError) -> StageError {
        let mut bytes = Vec::new();
        error.encode(&mut bytes);
        StageError::decode(&bytes).unwrap()
    }

    fn chain(error: &StageError) -> Vec<String> {
        let mut texts = Vec::new();
        let mut next: Option<&dyn Error> = Some(error);
        while let Some(link) = next {
            texts.push(link.to_string());
            next = link.source();
        }
        texts
    }

    #[test]
    fn an_error_arrives_with_its_stage_causes_and_errno() {
        let step = StepError::new("mount", "overlay on /merged", Errno::EINVAL);
        let error = there_and_back(&StageError::new("overlay", &Outer(step), 126));
        assert_eq!((error.stage(), error.exit_code()), ("overlay", 126));
        assert_eq!(
            chain(&error),
            ["cannot mount the layers", "mount overlay on /merged", "EINVAL: invalid argument"]
        );
        let step = error.source().unwrap().downcast_ref::<StepError>().unwrap();
        assert_eq!(step.errno(), Some(Errno::EINVAL));
    }

    #[test]
    fn a_bare_step_stays_a_step_for_the_sake_of_its_hint() {
        let error = there_and_back(&StepError::new("pivot_root", ". .", Errno::EBUSY).into());
        assert_eq!(error.to_string(), "pivot_root . .");
        assert!(error.source().unwrap().is::<StepError>());
    }

    #[test]
    fn damaged_bytes_are_no_error_and_no_panic() {
        let mut bytes = Vec::new();
        StageError::at("x")(StepError::new("a", "b", Errno::EIO)).encode(&mut bytes);
        for length in 0..bytes.len() {
            let _ = StageError::decode(&bytes[..length]);
        }
        assert!(StageError::decode(&[125, 255, 255, 255, 255]).is_none());
    }
}
