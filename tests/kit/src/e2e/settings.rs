//! The settings of the run, from the environment.

use std::path::PathBuf;

use super::profile::Profile;

/// The settings of a run.
#[derive(Debug)]
pub(super) struct Settings {
    /// `KUBECONFIG`: the cluster. It must be set: nothing is ever installed into a default cluster.
    pub(super) kubeconfig: PathBuf,
    /// `E2E_IMAGE`: the operator's image, as a node knows it.
    pub(super) image: Image,
    /// `E2E_NEXT_IMAGE`: the image of the version to upgrade to.
    pub(super) next_image: Image,
    /// `E2E_CHART`: the folder of the first version's chart, if it is not the one of this source.
    pub(super) chart: Option<PathBuf>,
    /// `E2E_DOUBLES_IMAGE`: the image of the doubles.
    pub(super) doubles_image: String,
    /// `E2E_NODE_EXEC`: the prefix that runs a command on the node; without it no process is frozen.
    pub(super) node_exec: Option<Vec<String>>,
    /// `E2E_ONLY`: a single profile.
    pub(super) only: Option<Profile>,
    /// `E2E_REPORT`: file for the result of a complete run.
    pub(super) report: Option<PathBuf>,
}

/// An image whose tag is the version that its program reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) repository: String,
    pub(super) version: String,
}

// === impl Settings ===

impl Settings {
    /// Reads the settings with `variable`, which returns a variable's value; an empty value counts as none.
    ///
    /// # Errors
    ///
    /// A sentence with what is missing, cannot be read or conflicts.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let optional = |name: &str| variable(name).filter(|value| !value.is_empty());
        let required = |name: &str, what: &str| optional(name).ok_or(format!("set {name} to {what}"));
        let image = |name: &str, what: &str| Image::read(name, &required(name, what)?);
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        let settings = Self {
            kubeconfig: required(
                "KUBECONFIG",
                "the kubeconfig of a cluster in which everything may be installed and removed",
            )?
            .into(),
            image: image(
                "E2E_IMAGE",
                "the operator's image, such as localhost/graph-credential-operator:0.1.0",
            )?,
            next_image: image("E2E_NEXT_IMAGE", "the operator's image of another version")?,
            chart: optional("E2E_CHART").map(PathBuf::from),
            doubles_image: required("E2E_DOUBLES_IMAGE", "the image of the doubles")?,
            node_exec: optional("E2E_NODE_EXEC").map(words),
            only: optional("E2E_ONLY").map(|name| profile(&name)).transpose()?,
            report: optional("E2E_REPORT").map(PathBuf::from),
        };
        if settings.image.version == settings.next_image.version {
            return Err(
                "E2E_IMAGE and E2E_NEXT_IMAGE have the same version: nothing would be upgraded".into()
            );
        }
        if settings.only.is_some() && settings.report.is_some() {
            return Err("E2E_REPORT keeps the result of a full run, but E2E_ONLY runs one profile only: \
                set one of them"
                .into());
        }
        Ok(settings)
    }
}

fn profile(name: &str) -> Result<Profile, String> {
    let known = Profile::ALL.map(Profile::name);
    let found = Profile::ALL.into_iter().find(|profile| profile.name() == name);
    found.ok_or_else(|| format!("E2E_ONLY is {name:?}, but must be one of {}", known.join(", ")))
}

// === impl Image ===

impl Image {
    fn read(variable: &str, reference: &str) -> Result<Self, String> {
        match reference.rsplit_once(':') {
            // The part after the colon of a port is not a tag.
            Some((repository, version)) if !version.contains('/') && !repository.contains('@') => {
                Ok(Self { repository: repository.to_owned(), version: version.to_owned() })
            }
            _ => Err(format!("{variable} must end in a tag that is the image's version: {reference:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: [(&str, &str); 4] = [
        ("KUBECONFIG", "/tmp/kubeconfig"),
        ("E2E_IMAGE", "localhost:5000/operator:0.1.0"),
        ("E2E_NEXT_IMAGE", "localhost:5000/operator:0.1.1"),
        ("E2E_DOUBLES_IMAGE", "localhost/kit:0.1.0"),
    ];

    /// The settings with these variables added; the last value of a name counts.
    fn read(more: &[(&str, &str)]) -> Result<Settings, String> {
        let all: Vec<_> = ENOUGH.iter().chain(more).collect();
        Settings::read(|name| {
            all.iter().rev().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_image_s_tag_is_its_version() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.image.repository, "localhost:5000/operator");
        assert_eq!(settings.image.version, "0.1.0");
        assert_eq!(settings.next_image.version, "0.1.1");
    }

    #[test]
    fn a_missing_setting_is_named() {
        for (name, _) in ENOUGH {
            let error = read(&[(name, "")]).unwrap_err();
            assert!(error.starts_with(&format!("set {name} to")), "{error}");
        }
    }

    #[test]
    fn a_run_of_one_profile_writes_no_report() {
        let error = read(&[("E2E_ONLY", "named"), ("E2E_REPORT", "docs/evidence/e2e.md")]).unwrap_err();
        assert!(error.contains("E2E_REPORT") && error.contains("E2E_ONLY"), "{error}");
        assert!(read(&[("E2E_ONLY", "named")]).is_ok());
        assert!(read(&[("E2E_REPORT", "docs/evidence/e2e.md")]).is_ok());
    }

    #[test]
    fn an_unknown_profile_is_rejected() {
        let error = read(&[("E2E_ONLY", "nmaed")]).unwrap_err();
        assert!(error.contains("nmaed") && error.contains("named"), "{error}");
    }

    #[test]
    fn two_images_of_one_version_are_rejected() {
        let error = read(&[("E2E_NEXT_IMAGE", "elsewhere/operator:0.1.0")]).unwrap_err();
        assert!(error.contains("same version"), "{error}");
    }

    #[test]
    fn an_image_without_a_version_is_rejected() {
        for reference in ["operator", "localhost:5000/operator", "operator@sha256:0123"] {
            let error = read(&[("E2E_IMAGE", reference)]).unwrap_err();
            assert!(error.contains(reference), "{error}");
        }
    }
}
