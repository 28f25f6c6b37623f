//! The instructions that change the config alone.

use sampan_image::Healthcheck;

use crate::Error;
use crate::builder::Builder;
use crate::dockerfile::mistake::Finding;
use crate::dockerfile::{Command, Health, Instruction, Kind, Word};
use crate::stage::Stage;

impl Builder<'_> {
    /// Carries one out; its history entry has no layer.
    pub(crate) fn setting(&mut self, kind: &Kind, instruction: &Instruction) -> Result<(), Error> {
        let said = match kind {
            Kind::Cmd(command) => self.command(command)?,
            Kind::Entrypoint(command) => self.entrypoint(command)?,
            Kind::Env(pairs) => self.pairs("ENV", pairs, Stage::set_env)?,
            Kind::Label(pairs) => self.pairs("LABEL", pairs, Stage::set_label)?,
            Kind::User(user) => {
                let user = self.expand(user)?;
                let said = format!("USER {user}");
                self.stage()?.config.set_user(Some(user));
                said
            }
            Kind::Expose(words) => self.expose(words)?,
            Kind::Volume(words) => self.volume(words)?,
            Kind::Maintainer(name) => {
                self.stage()?.author = Some(name.clone());
                format!("MAINTAINER {name}")
            }
            Kind::Arg(args) => {
                for (name, default) in args {
                    self.argument(name, default.as_ref())?;
                }
                instruction.text.clone()
            }
            Kind::Shell(args) => {
                self.stage()?.docker.shell = Some(args.clone());
                format!("SHELL {}", json(args))
            }
            Kind::StopSignal(signal) => {
                let signal = self.expand(signal)?;
                let said = format!("STOPSIGNAL {signal}");
                self.stage()?.config.set_stop_signal(Some(signal));
                said
            }
            Kind::Healthcheck(health) => self.healthcheck(health)?,
            Kind::OnBuild(text) => {
                self.stage()?.docker.on_build.get_or_insert_default().push(text.clone());
                format!("ONBUILD {text}")
            }
            // The others make layers, and are carried out elsewhere.
            Kind::From { .. } | Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_) => {
                return Ok(());
            }
        };
        let by = self.nop(&said)?;
        self.step(&[&said], by, |_| Ok(None))
    }

    /// CMD: of several the last counts.
    fn command(&mut self, command: &Command) -> Result<String, Error> {
        let stage = self.stage()?;
        let args = stage.args_of(command);
        let said = format!("CMD {}", json(&args));
        stage.config.set_cmd(Some(args));
        stage.has_command = true;
        Ok(said)
    }

    /// ENTRYPOINT: a command that came with the base image was written for the old one, and goes with it.
    fn entrypoint(&mut self, command: &Command) -> Result<String, Error> {
        let stage = self.stage()?;
        let args = stage.args_of(command);
        let said = format!("ENTRYPOINT {}", json(&args));
        stage.config.set_entrypoint(Some(args));
        if !stage.has_command {
            stage.config.set_cmd(None);
        }
        Ok(said)
    }

    /// What Docker's history says of an instruction that runs nothing.
    pub(crate) fn nop(&mut self, said: &str) -> Result<String, Error> {
        Ok(format!("{} #(nop)  {said}", self.stage()?.shell().join(" ")))
    }

    fn pairs(
        &mut self,
        name: &str,
        pairs: &[(Word, Word)],
        set: fn(&mut Stage, &str, &str),
    ) -> Result<String, Error> {
        // All of a line see the variables as they were before it.
        let pairs = pairs
            .iter()
            .map(|(key, value)| Ok((self.expand(key)?, self.expand(value)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut said = name.to_owned();
        for (key, value) in pairs {
            said.push_str(&format!(" {key}={value}"));
            set(self.stage()?, &key, &value);
        }
        Ok(said)
    }

    fn expose(&mut self, words: &[Word]) -> Result<String, Error> {
        let mut ports = Vec::new();
        for word in words {
            for text in self.expand(word)?.split_whitespace() {
                let found = self::ports(text).ok_or_else(|| {
                    self.mistake(Finding::new(
                        word.span,
                        format!("{text:?} is no port"),
                        "write 80, 53/udp or 8000-8010/tcp",
                    ))
                })?;
                ports.extend(found);
            }
        }
        let said = format!("EXPOSE {}", ports.join(" "));
        let config = &mut self.stage()?.config;
        config.set_exposed_ports(Stage::add(config.exposed_ports(), ports));
        Ok(said)
    }

    fn volume(&mut self, words: &[Word]) -> Result<String, Error> {
        let mut volumes = Vec::new();
        for word in words {
            let volume = self.expand(word)?;
            if volume.is_empty() {
                return Err(self.mistake(Finding::new(
                    word.span,
                    "a volume without a path",
                    "write VOLUME /folder",
                )));
            }
            volumes.push(volume);
        }
        let said = format!("VOLUME {}", json(&volumes));
        let config = &mut self.stage()?.config;
        config.set_volumes(Stage::add(config.volumes(), volumes));
        Ok(said)
    }

    fn healthcheck(&mut self, health: &Health) -> Result<String, Error> {
        let test = match &health.command {
            None => vec!["NONE".to_owned()],
            Some(Command::Shell(text)) => vec!["CMD-SHELL".to_owned(), text.clone()],
            Some(Command::Exec(args)) => ["CMD".to_owned()].into_iter().chain(args.iter().cloned()).collect(),
        };
        let said = format!("HEALTHCHECK {}", json(&test));
        self.stage()?.docker.healthcheck = Some(Healthcheck {
            test,
            interval: health.interval,
            timeout: health.timeout,
            start_period: health.start_period,
            start_interval: health.start_interval,
            retries: health.retries,
        });
        Ok(said)
    }
}

fn json(args: &[String]) -> String {
    serde_json::to_string(args).unwrap_or_default()
}

/// `80`, `53/udp`, `8000-8010/tcp` as the config has them, with the protocol.
fn ports(text: &str) -> Option<Vec<String>> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return None;
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (1 <= first && first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}
