//! The real helm, pinned in `tools/helm`, with a home directory of its own. It does not read the user's
//! kubeconfig or repositories.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::assets::{self, Assets, Program};

/// helm, ready to run.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    home: PathBuf,
}

/// Why helm failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not available.
    #[error(transparent)]
    Assets(#[from] assets::Error),
    /// It cannot be run.
    #[error("cannot run helm")]
    Run(#[from] io::Error),
    /// It failed.
    #[error("helm {command} failed ({status}):\n{text}")]
    Failed {
        /// Its arguments.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// Its standard error.
        text: String,
    },
    /// Its output is not YAML.
    #[error("the output of helm is not YAML: {0}")]
    Yaml(String),
}

// === impl Helm ===

impl Helm {
    /// Finds or builds the program; blocks until then.
    ///
    /// # Errors
    ///
    /// It cannot be built.
    pub fn locate() -> Result<Self, Error> {
        let assets = Assets::locate(&[Program::Helm])?;
        let program = assets.path(Program::Helm).map_or_else(|| PathBuf::from("helm"), Path::to_path_buf);
        Ok(Self { program, home: assets.dir().join("home") })
    }

    /// The output of `helm template` for these values.
    ///
    /// # Errors
    ///
    /// The chart cannot be rendered, or its schema rejects the values.
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
    /// As [`Helm::template`], or the output is not YAML.
    pub fn objects(&self, chart: &Path, namespace: &str, values: &Value) -> Result<Vec<Value>, Error> {
        parse(&self.template(chart, namespace, values, &[])?)
    }

    /// Runs helm with that kubeconfig and the values on its standard input; returns its output.
    ///
    /// # Errors
    ///
    /// helm fails; the error contains its standard error.
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
            // It may exit without reading them, for another reason.
            let _ = stdin.write_all(values.to_string().as_bytes());
        }
        response(args, child.wait_with_output()?)
    }

    /// As [`Helm::run`], for commands without values.
    ///
    /// # Errors
    ///
    /// helm fails; the error contains its standard error.
    pub fn plain(&self, kubeconfig: &Path, args: &[&str]) -> Result<String, Error> {
        let output = Command::new(&self.program)
            .args(args)
            .env_clear()
            .env("HOME", &self.home)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .output()?;
        response(args, output)
    }
}

fn response(args: &[&str], output: Output) -> Result<String, Error> {
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
/// The text is not YAML.
pub fn parse(text: &str) -> Result<Vec<Value>, Error> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let objects: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Error::Yaml(error.to_string()))?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}
