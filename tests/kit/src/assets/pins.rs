//! The versions that the go.mod files under `tools/` pin. They are the only place with the versions of
//! outside programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Error, Module, Program};

/// The module of etcd's server.
const ETCD: &str = "go.etcd.io/etcd/server/v3";
/// The module of every Kubernetes program.
const KUBERNETES: &str = "k8s.io/kubernetes";
/// The module of helm.
const HELM: &str = "helm.sh/helm/v4";
/// The module of Prometheus and promtool.
const PROMETHEUS: &str = "github.com/prometheus/prometheus";
/// The module of kstatus. Its version is the version of our program around it.
const CLI_UTILS: &str = "sigs.k8s.io/cli-utils";
/// The module of the registry.
const CONTAINER_REGISTRY: &str = "github.com/google/go-containerregistry";

/// The pinned versions, and the directory of their go.mod.
pub(super) struct Pins {
    tools: PathBuf,
    digest: String,
    go: String,
    versions: BTreeMap<&'static str, String>,
}

impl Module {
    /// Below `tools/`.
    const fn dir(self) -> &'static str {
        match self {
            Self::Cluster => "",
            Self::Helm => "helm",
            Self::Prometheus => "prometheus",
            Self::Gitops => "gitops",
            Self::Image => "image",
        }
    }

    /// The Go modules that its go.mod must pin.
    const fn pinned(self) -> &'static [&'static str] {
        match self {
            Self::Cluster => &[ETCD, KUBERNETES],
            Self::Helm => &[HELM],
            Self::Prometheus => &[PROMETHEUS],
            Self::Gitops => &[CLI_UTILS],
            Self::Image => &[CONTAINER_REGISTRY],
        }
    }
}

impl Pins {
    pub(super) fn read(module: Module) -> Result<Self, Error> {
        let tools = crate::workspace().join("tools").join(module.dir());
        let go_mod = read(&tools.join("go.mod"))?;
        // The sources of our own program are part of the digest.
        let sums = read(&tools.join("go.sum"))? + &sources(&tools)?;
        Self::parse(tools, module, &go_mod, &sums)
    }

    fn parse(tools: PathBuf, module: Module, go_mod: &str, sums: &str) -> Result<Self, Error> {
        let pinned = |module_path: &'static str| {
            version(go_mod, module_path)
                .ok_or_else(|| Error::Unpinned { path: tools.join("go.mod"), module: module_path })
        };
        let digest = Sha256::new().chain_update(go_mod).chain_update(sums).finalize();
        let versions = module.pinned().iter().map(|path| Ok((*path, pinned(path)?)));
        Ok(Self {
            digest: digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
            go: pinned("go")?,
            versions: versions.collect::<Result<_, Error>>()?,
            tools,
        })
    }

    /// The directory of go.mod.
    pub(super) fn tools(&self) -> &Path {
        &self.tools
    }

    /// The first 16 hexadecimal digits of the SHA-256 of go.mod, go.sum and the sources beside them.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// The lowest Go version, such as `1.26.0`.
    pub(super) fn go(&self) -> &str {
        &self.go
    }

    /// A program's version without the `v`, such as `1.37.2`.
    pub(super) fn version(&self, program: Program) -> &str {
        self.pinned(match program {
            Program::Etcd => ETCD,
            Program::KubeApiserver | Program::KubeControllerManager | Program::Kubectl => KUBERNETES,
            Program::Helm => HELM,
            Program::Promtool | Program::Prometheus => PROMETHEUS,
            Program::Gitops => CLI_UTILS,
            Program::Registry => CONTAINER_REGISTRY,
        })
    }

    fn pinned(&self, module: &str) -> &str {
        self.versions.get(module).map(String::as_str).unwrap_or_default()
    }

    /// The Go package of a program's `main`.
    pub(super) fn package(&self, program: Program) -> String {
        match program {
            Program::Etcd => ETCD.to_owned(),
            Program::KubeApiserver | Program::KubeControllerManager | Program::Kubectl => {
                format!("{KUBERNETES}/cmd/{}", program.name())
            }
            Program::Helm => format!("{HELM}/cmd/helm"),
            Program::Promtool | Program::Prometheus => format!("{PROMETHEUS}/cmd/{}", program.name()),
            Program::Gitops => ".".to_owned(),
            Program::Registry => format!("{CONTAINER_REGISTRY}/cmd/registry"),
        }
    }

    /// Go build tags that leave out unneeded code: most of Prometheus is its service discovery for clouds.
    pub(super) fn tags(program: Program) -> Option<&'static str> {
        matches!(program, Program::Promtool | Program::Prometheus).then_some("remove_all_sd")
    }

    /// Linker flags with the version. Without them a Kubernetes program reports v0.0.0, and helm v4.3; etcd
    /// knows its own version.
    pub(super) fn link_flags(&self, program: Program) -> String {
        let version = self.version(program);
        let stamp = match program {
            Program::Etcd | Program::Promtool | Program::Prometheus | Program::Gitops | Program::Registry => {
                String::new()
            }
            Program::Helm => format!(" -X {HELM}/internal/version.version=v{version}"),
            Program::KubeApiserver | Program::KubeControllerManager | Program::Kubectl => {
                kubernetes_stamp(version)
            }
        };
        format!("-s -w{stamp}")
    }
}

fn kubernetes_stamp(version: &str) -> String {
    const STAMP: &str = "-X k8s.io/component-base/version";
    let mut numbers = version.split('.');
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => {
            format!(" {STAMP}.gitVersion=v{version} {STAMP}.gitMajor={major} {STAMP}.gitMinor={minor}")
        }
        _ => String::new(),
    }
}

/// The version that a go.mod specifies for a module (or `go` itself): in a `require` block or on a line of
/// its own.
fn version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word == "require");
        let (name, version) = (words.next()?, words.next()?);
        (name == module).then(|| version.trim_start_matches('v').to_owned())
    })
}

/// The text of all Go sources of a directory, in the order of their names.
fn sources(dir: &Path) -> Result<String, Error> {
    let unread = |source| Error::ReadPins { path: dir.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if path.extension().is_some_and(|extension| extension == "go") {
            files.push(path);
        }
    }
    files.sort();
    files.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::ReadPins { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO_MOD: &str = "module tools\n\ngo 1.26.0\n\nreplace k8s.io/api => k8s.io/api v0.37.2\n\
        tool go.etcd.io/etcd/server/v3\n\nrequire k8s.io/kubernetes v1.37.2 // indirect\n\
        require (\n\tgo.etcd.io/etcd/server/v3 v3.7.3 // indirect\n)\n";

    #[test]
    fn versions_come_from_go_mod() {
        let pins = Pins::parse(PathBuf::from("tools"), Module::Cluster, GO_MOD, "").unwrap();
        assert_eq!(pins.go(), "1.26.0");
        assert_eq!(pins.version(Program::Etcd), "3.7.3");
        assert_eq!(pins.version(Program::Kubectl), "1.37.2");
        assert_eq!(
            pins.link_flags(Program::KubeApiserver),
            "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
             -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
        );
        assert_eq!(pins.link_flags(Program::Etcd), "-s -w");
    }

    #[test]
    fn a_module_without_a_version_is_named() {
        let error = Pins::parse(PathBuf::from("tools"), Module::Cluster, "go 1.26.0\n", "").err().unwrap();
        assert!(error.to_string().contains("does not require go.etcd.io/etcd/server/v3"), "{error}");
    }

    #[test]
    fn another_pin_means_another_cache_directory() {
        let one = Pins::parse(PathBuf::from("tools"), Module::Cluster, GO_MOD, "a").unwrap();
        let two = Pins::parse(PathBuf::from("tools"), Module::Cluster, GO_MOD, "b").unwrap();
        assert_eq!(one.digest().len(), 16);
        assert_ne!(one.digest(), two.digest());
    }

    #[test]
    fn the_pins_of_this_repository_are_complete() {
        assert!(Pins::read(Module::Cluster).unwrap().version(Program::KubeApiserver).starts_with("1."));
        assert!(Pins::read(Module::Helm).unwrap().version(Program::Helm).starts_with("4."));
    }
}
