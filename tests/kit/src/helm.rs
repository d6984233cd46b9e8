//! The real helm, pinned in `tools/helm`, with a home of its own beside it: it sees neither the user's kubeconfig nor
//! their repositories.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::assets::{self, Assets, Program};

/// helm, ready to run.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    home: PathBuf,
}

/// Why helm did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not there.
    #[error(transparent)]
    Assets(#[from] assets::Error),
    /// It cannot be run.
    #[error("cannot run helm")]
    Run(#[from] io::Error),
    /// It failed.
    #[error("helm {command} failed ({status}):\n{text}")]
    Failed {
        /// What it was told.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote to standard error.
        text: String,
    },
    /// What it printed is no YAML.
    #[error("helm printed what cannot be read as YAML: {0}")]
    Yaml(String),
}

// === impl Helm ===

impl Helm {
    /// Finds or builds the program; blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// It cannot be built.
    pub fn locate() -> Result<Self, Error> {
        let assets = Assets::locate(&[Program::Helm])?;
        let program = assets.path(Program::Helm).map_or_else(|| PathBuf::from("helm"), Path::to_path_buf);
        Ok(Self { program, home: assets.dir().join("home") })
    }

    /// What `helm template` prints for these values.
    ///
    /// # Errors
    ///
    /// The chart cannot be rendered, or its schema refuses the values.
    pub fn template(
        &self,
        chart: &Path,
        namespace: &str,
        values: &Value,
        more: &[&str],
    ) -> Result<String, Error> {
        let chart = chart.display().to_string();
        let args = ["template", "graph-credential-operator", &chart, "--namespace", namespace];
        self.run(Path::new("/dev/null"), &[&args[..], more].concat(), values)
    }

    /// The same as objects.
    ///
    /// # Errors
    ///
    /// As [`Helm::template`], or the output is no YAML.
    pub fn objects(&self, chart: &Path, namespace: &str, values: &Value) -> Result<Vec<Value>, Error> {
        parse(&self.template(chart, namespace, values, &[])?)
    }

    /// Runs helm against the cluster of that kubeconfig, with the values on its standard input; returns what it prints.
    ///
    /// # Errors
    ///
    /// helm fails; what it wrote to standard error is told.
    pub fn run(&self, kubeconfig: &Path, args: &[&str], values: &Value) -> Result<String, Error> {
        let mut child = Command::new(&self.program)
            .args(args)
            .args(["--values", "-"])
            .env_clear()
            .env("HOME", &self.home)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may end without reading them, for another reason than these.
            let _ = stdin.write_all(values.to_string().as_bytes());
        }
        answer(args, child.wait_with_output()?)
    }

    /// As [`Helm::run`], for commands that take no values.
    ///
    /// # Errors
    ///
    /// helm fails; what it wrote to standard error is told.
    pub fn plain(&self, kubeconfig: &Path, args: &[&str]) -> Result<String, Error> {
        let output = Command::new(&self.program)
            .args(args)
            .env_clear()
            .env("HOME", &self.home)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .output()?;
        answer(args, output)
    }
}

fn answer(args: &[&str], output: Output) -> Result<String, Error> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed { command: args.join(" "), status: output.status, text })
}

/// The objects of a manifest, without empty documents.
///
/// # Errors
///
/// The text is no YAML.
pub fn parse(text: &str) -> Result<Vec<Value>, Error> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let objects: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Error::Yaml(error.to_string()))?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}
