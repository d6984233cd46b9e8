//! How GitOps tools evaluate an object: kstatus by its own code, and Argo CD's scripts executed as Argo CD
//! does. See `tools/gitops`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::assets::{self, Assets, Program};

/// The program that evaluates objects.
#[derive(Debug)]
pub struct GitOps {
    program: PathBuf,
}

/// The result for one object.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Evaluation {
    /// kstatus: `Current`, `InProgress`, `Failed`, `Terminating`.
    pub kstatus: String,
    /// kstatus' message.
    pub message: String,
    /// What the health script returned: `status` and `message`.
    #[serde(default)]
    pub health: Value,
    /// The object after the action.
    #[serde(default)]
    pub changed: Value,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not available.
    #[error(transparent)]
    Assets(#[from] assets::Error),
    /// It cannot be run.
    #[error("cannot run the program in tools/gitops")]
    Run(#[from] io::Error),
    /// It failed.
    #[error("{0}")]
    Failed(String),
    /// Its output is not JSON.
    #[error("the output of the program in tools/gitops cannot be parsed")]
    Output(#[from] serde_json::Error),
}

// === impl GitOps ===

impl GitOps {
    /// Finds or builds the program; blocks until then.
    ///
    /// # Errors
    ///
    /// It cannot be built.
    pub fn locate() -> Result<Self, Error> {
        let assets = Assets::locate(&[Program::Gitops])?;
        let program = assets.path(Program::Gitops).map_or_else(|| PathBuf::from("gitops"), Path::to_path_buf);
        Ok(Self { program })
    }

    /// The result of these scripts for each object; an empty script is not run.
    ///
    /// # Errors
    ///
    /// A script fails, or an object is invalid.
    pub fn evaluate(&self, objects: &[Value], health: &str, action: &str) -> Result<Vec<Evaluation>, Error> {
        let requests: String = objects
            .iter()
            .map(|object| format!("{}\n", json!({"object": object, "health": health, "action": action})))
            .collect();
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let writing = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(requests.as_bytes())));
        let output = child.wait_with_output()?;
        // It fails if the program ended early, which reports the reason itself.
        let _ = writing.join();
        if !output.status.success() {
            return Err(Error::Failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let evaluations = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        evaluations.map(|evaluation| evaluation.map_err(Error::from)).collect()
    }
}
