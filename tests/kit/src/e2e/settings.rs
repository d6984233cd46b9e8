//! What the run is told, by the environment.

use std::env;
use std::path::PathBuf;

/// The settings of a run.
#[derive(Debug)]
pub(super) struct Settings {
    /// `KUBECONFIG`: the cluster. It must be set: nothing is ever installed into a default one.
    pub(super) kubeconfig: PathBuf,
    /// `E2E_IMAGE`: the operator's image, as a node knows it.
    pub(super) image: String,
    /// `E2E_NEXT_IMAGE`: the same of the version that is upgraded to.
    pub(super) next_image: String,
    /// `E2E_DOUBLES_IMAGE`: the image of the doubles.
    pub(super) doubles_image: String,
    /// `E2E_NODE_EXEC`: words before a command that runs it on the node; without it no process is frozen.
    pub(super) node_exec: Option<Vec<String>>,
    /// `E2E_ONLY`: one profile.
    pub(super) only: Option<String>,
    /// `E2E_REPORT`: file for the result.
    pub(super) report: Option<PathBuf>,
}

impl Settings {
    pub(super) fn read() -> Result<Self, String> {
        let optional = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let required = |name: &str, what: &str| optional(name).ok_or(format!("set {name} to {what}"));
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        Ok(Self {
            kubeconfig: required(
                "KUBECONFIG",
                "the kubeconfig of a cluster that everything may be installed into and removed from",
            )?
            .into(),
            image: required(
                "E2E_IMAGE",
                "the operator's image, such as localhost/graph-credential-operator:0.1.0",
            )?,
            next_image: required("E2E_NEXT_IMAGE", "the operator's image of another version")?,
            doubles_image: required("E2E_DOUBLES_IMAGE", "the image of the doubles")?,
            node_exec: optional("E2E_NODE_EXEC").map(words),
            only: optional("E2E_ONLY"),
            report: optional("E2E_REPORT").map(PathBuf::from),
        })
    }
}
