//! Where commands of the docs run: a shell on a cluster of its own, with real values for the placeholders.

use std::path::Path;
use std::sync::Arc;

use kit::docs::Command;
use kit::process::Process;
use kit::shell::{CommandOutput, Shell};

use super::{Place, SECTIONS_BY_TEST, all, is_at, is_of_the_repository};
use crate::harness::{TestEnv, eventually};

pub struct Fixture {
    pub env: TestEnv,
    pub shell: Arc<Shell>,
    name: &'static str,
    /// Placeholders, each with its value.
    placeholders: Vec<(String, String)>,
    /// Long-running commands.
    pub running: Vec<Process>,
    done: Vec<Place>,
}

// === impl Fixture ===

impl Fixture {
    /// A shell on the test cluster with these environment variables.
    pub async fn start(name: &'static str, env: TestEnv, variables: &[(&str, String)]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_graph-credential-operator"));
        let kubeconfig = env.cluster.kubeconfig_path();
        let opened = tokio::task::spawn_blocking(move || Shell::open(program, &kubeconfig)).await.unwrap();
        let mut shell = opened.unwrap_or_else(|error| panic!("{}", kit::chain(&error)));
        for (name, value) in variables {
            shell.export(name, value);
        }
        Self {
            env,
            shell: shell.into(),
            name,
            placeholders: Vec::new(),
            running: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Replaces a placeholder with this value from now on.
    pub fn set_placeholder(&mut self, placeholder: &str, value: &str) {
        self.placeholders.retain(|(known, _)| known != placeholder);
        self.placeholders.push((placeholder.to_owned(), value.to_owned()));
    }

    /// Sets an environment variable for the commands from now on.
    pub fn export(&mut self, name: &str, value: &str) {
        Arc::get_mut(&mut self.shell).expect("no command runs").export(name, value);
    }

    /// Runs all commands of a section in order; returns the output of the last one.
    pub async fn section(&mut self, page: &'static str, heading: &'static str) -> CommandOutput {
        let place = (page, heading);
        let commands = all().into_iter().filter(|command| is_at(command, place));
        let mut last = None;
        for command in commands.filter(|command| !is_of_the_repository(command)) {
            last = Some(self.run_documented(command).await);
        }
        self.done.push(place);
        last.unwrap_or_else(|| panic!("nothing is run at {place:?}"))
    }

    /// Checks that all sections of the test were run.
    pub fn end(self) {
        let (_, places) = SECTIONS_BY_TEST.iter().find(|(name, _)| *name == self.name).unwrap();
        let left: Vec<&Place> = places.iter().filter(|place| !self.done.contains(place)).collect();
        assert!(left.is_empty(), "{} does not run {left:?}", self.name);
    }

    async fn run_documented(&mut self, command: Command) -> CommandOutput {
        let text = self
            .placeholders
            .iter()
            .fold(command.text.clone(), |text, (word, with)| text.replace(word, with));
        let at = format!("{}:{}: {text}", command.page, command.line);
        let program = text.split_whitespace().next().unwrap_or_default();
        // Not every machine has curl, and no later command depends on it.
        if program == "curl" && !self.run("command -v curl", "").await.is_success() {
            return CommandOutput { code: Some(0), out: String::new(), error: String::new() };
        }
        let goes_on = program.ends_with("graph-credential-operator")
            && ["run", "serve"].contains(&text.split_whitespace().nth(1).unwrap_or_default());
        if goes_on {
            return self.start_command(&text, &at).await;
        }
        let printed = self.run(&text, "").await;
        // Exit code 3 means findings, which is a valid result.
        let finds = ["operator orphans", "operator status"].iter().any(|command| text.contains(command));
        let is_finding = finds && printed.code == Some(3);
        assert!(
            printed.is_success() || is_finding || only_lacks_a_node(&text, &printed),
            "{at}\n{printed:?}"
        );
        let known: Vec<Vec<String>> = printed.out.lines().map(words).collect();
        for line in command.printed.iter().filter(|line| !line.trim().is_empty()) {
            let is_printed = known.iter().any(|printed| is_like(line, printed));
            assert!(
                is_printed || line.starts_with("waiting for "),
                "{at}\nprints no {line:?}:\n{}",
                printed.out
            );
        }
        printed
    }

    pub async fn run(&self, command: &str, input: &str) -> CommandOutput {
        let (shell, command, input) = (self.shell.clone(), command.to_owned(), input.to_owned());
        tokio::task::spawn_blocking(move || shell.run(&command, &input)).await.unwrap().unwrap()
    }

    /// Starts a long-running command, and waits until it is ready.
    async fn start_command(&mut self, command: &str, at: &str) -> CommandOutput {
        let log = self.env.cluster.dir().join(format!("documented-{}.log", self.running.len()));
        let process = self.shell.start(command, log).await.unwrap();
        eventually(at, || async {
            let log = process.log();
            let is_up = log.contains("serving probes and metrics") && process.is_running();
            if is_up { Ok(()) } else { Err(log) }
        })
        .await;
        self.running.push(process);
        CommandOutput { code: Some(0), out: String::new(), error: String::new() }
    }
}

/// Whether a command needs a pod and fails only because the pod runs on no node. Its log is empty then.
fn only_lacks_a_node(command: &str, printed: &CommandOutput) -> bool {
    let is_of_pods = [" logs ", " exec "].iter().any(|word| command.contains(word));
    let finds_nothing = command.contains("| grep") && printed.code == Some(1) && printed.error.is_empty();
    is_of_pods && (finds_nothing || printed.error.contains("does not have a host assigned"))
}

/// The words of a line. Words with a digit, such as an id or a time, all count as the same word.
fn words(line: &str) -> Vec<String> {
    let parts = line.split(|it: char| !it.is_alphanumeric() && it != '_').filter(|part| !part.is_empty());
    let words = parts.map(|part| if part.contains(|it: char| it.is_ascii_digit()) { "#" } else { part });
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    words.dedup_by(|next, word| next == "#" && word == "#");
    words
}

/// Whether a line of a page matches a printed one. After `…` at its end the printed line may continue.
fn is_like(line: &str, printed: &[String]) -> bool {
    let expected = words(line);
    if line.trim_end().ends_with('…') { printed.starts_with(&expected) } else { *printed == expected }
}

#[test]
fn lines_that_differ_in_ids_numbers_and_times_match() {
    let printed = words("mail/agency  1  2  key 0a1b2c3d is primary");
    assert!(is_like("mail/agency 12 3 key 9f8e7d6c is primary", &printed));
    assert!(is_like("mail/agency 1 …", &printed));
    assert!(!is_like("mail/agency 1 key 9f8e7d6c is added", &printed));
    assert!(!is_like("mail/agency 1", &printed));
}
