//! Finds or builds etcd, kube-apiserver and the other programs that the tests run.
//!
//! `KUBEBUILDER_ASSETS`, if set, names a directory that contains them. Otherwise they are built once from the
//! Go modules pinned in `tools/` and its subdirectories, into a cache directory that all checkouts with the
//! same pins share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, io};

mod build;
mod pins;

use self::pins::Pins;

/// The environment variable that names a directory of ready-made programs.
pub const KUBEBUILDER_ASSETS: &str = "KUBEBUILDER_ASSETS";

/// A program that the kit can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// The API server's store.
    Etcd,
    /// The Kubernetes API.
    KubeApiserver,
    /// Garbage collection and namespace deletion.
    KubeControllerManager,
    /// The Kubernetes command line.
    Kubectl,
    /// Renders and installs the chart.
    Helm,
    /// Checks and tests alert rules.
    Promtool,
    /// Scrapes metrics and answers queries.
    Prometheus,
    /// Evaluates objects as GitOps tools do.
    Gitops,
    /// A registry of images and charts, in memory.
    Registry,
}

/// A directory with its own go.mod. Programs with incompatible dependencies are pinned separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Module {
    /// `tools/`.
    Cluster,
    /// `tools/helm/`.
    Helm,
    /// `tools/prometheus/`.
    Prometheus,
    /// `tools/gitops/`.
    Gitops,
    /// `tools/image/`.
    Image,
}

/// The requested programs, each with the path of its executable.
#[derive(Clone, Debug)]
pub struct Assets {
    dir: PathBuf,
    paths: BTreeMap<Program, PathBuf>,
}

/// Why a program is not available.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `KUBEBUILDER_ASSETS` names a directory without a required program.
    #[error(
        "{KUBEBUILDER_ASSETS} is set to {dir:?}, which holds no {program}; \
         point it at a directory with etcd and kube-apiserver, or unset it to have them built"
    )]
    NotInAssets {
        /// The value of the variable.
        dir: PathBuf,
        /// The program that is missing.
        program: &'static str,
    },
    /// There is no directory for the built programs.
    #[error(
        "there is no directory for the built programs; set HOME or XDG_CACHE_HOME, or {KUBEBUILDER_ASSETS}"
    )]
    NoCacheDir,
    /// A pin file cannot be read.
    #[error("cannot read {path:?}")]
    ReadPins {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The pin file has no version for a module.
    #[error("{path:?} does not require {module}; run `go get -tool` for it in tools/")]
    Unpinned {
        /// The file.
        path: PathBuf,
        /// The Go module.
        module: &'static str,
    },
    /// There is no Go.
    #[error(
        "building {program} needs Go {wanted} or newer, and there is no `go` in PATH; \
         install it from https://go.dev/dl, or set {KUBEBUILDER_ASSETS} to a directory with etcd and kube-apiserver"
    )]
    NoGo {
        /// The program to build.
        program: &'static str,
        /// The Go version that `tools/go.mod` requires.
        wanted: String,
    },
    /// Go cannot build modules that require this version.
    #[error(
        "building {program} needs Go {wanted} or newer ({detail}); \
         install it from https://go.dev/dl, or set {KUBEBUILDER_ASSETS} to a directory with etcd and kube-apiserver"
    )]
    OldGo {
        /// The program to build.
        program: &'static str,
        /// The Go version that `tools/go.mod` requires.
        wanted: String,
        /// The output of `go`.
        detail: String,
    },
    /// `go build` failed.
    #[error("`go build` of {program} failed ({status}):\n{output}")]
    Build {
        /// The program to build.
        program: &'static str,
        /// The exit status of `go`.
        status: std::process::ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// The cache directory cannot be used.
    #[error("cannot {action} {path:?}")]
    Cache {
        /// The action that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

// === impl Program ===

impl Program {
    /// The two programs that every cluster needs.
    pub const CONTROL_PLANE: [Self; 2] = [Self::Etcd, Self::KubeApiserver];

    /// The program's file name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::Promtool => "promtool",
            Self::Prometheus => "prometheus",
            Self::Gitops => "gitops",
            Self::Registry => "registry",
        }
    }

    /// The program with this file name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Etcd,
            Self::KubeApiserver,
            Self::KubeControllerManager,
            Self::Kubectl,
            Self::Helm,
            Self::Promtool,
            Self::Prometheus,
            Self::Gitops,
            Self::Registry,
        ];
        all.into_iter().find(|program| program.name() == name)
    }

    const fn module(self) -> Module {
        match self {
            Self::Etcd | Self::KubeApiserver | Self::KubeControllerManager | Self::Kubectl => Module::Cluster,
            Self::Helm => Module::Helm,
            Self::Promtool | Self::Prometheus => Module::Prometheus,
            Self::Gitops => Module::Gitops,
            Self::Registry => Module::Image,
        }
    }
}

// === impl Assets ===

impl Assets {
    /// Finds the programs and builds missing ones; blocks until then (minutes, the first time).
    ///
    /// # Errors
    ///
    /// `KUBEBUILDER_ASSETS` lacks a required program, or the programs cannot be built.
    pub fn locate(programs: &[Program]) -> Result<Self, Error> {
        match env::var_os(KUBEBUILDER_ASSETS).filter(|dir| !dir.is_empty()) {
            Some(dir) => Self::ready_made(Path::new(&dir), programs),
            None => Self::built(programs),
        }
    }

    /// The directory of the first requested program.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a program, if it was requested.
    pub fn path(&self, program: Program) -> Option<&Path> {
        self.paths.get(&program).map(PathBuf::as_path)
    }

    fn ready_made(dir: &Path, programs: &[Program]) -> Result<Self, Error> {
        if let Some(missing) =
            Program::CONTROL_PLANE.into_iter().find(|program| !dir.join(program.name()).is_file())
        {
            return Err(Error::NotInAssets { dir: dir.to_path_buf(), program: missing.name() });
        }
        // Such a directory, made for envtest, often has no kube-controller-manager. In this case only that is
        // built.
        let (present, absent): (Vec<_>, Vec<_>) =
            programs.iter().copied().partition(|program| dir.join(program.name()).is_file());
        let mut paths = paths(dir, &present);
        if !absent.is_empty() {
            paths.extend(Self::built(&absent)?.paths);
        }
        Ok(Self::at(dir, programs, paths))
    }

    fn built(programs: &[Program]) -> Result<Self, Error> {
        let cache = cache_dir()?;
        let mut found = BTreeMap::new();
        for module in [Module::Cluster, Module::Helm, Module::Prometheus, Module::Gitops, Module::Image] {
            let of_module: Vec<Program> =
                programs.iter().copied().filter(|program| program.module() == module).collect();
            if of_module.is_empty() {
                continue;
            }
            let pins = Pins::read(module)?;
            let dir = cache.join(pins.digest());
            build::missing(&pins, &dir, &of_module)?;
            found.extend(paths(&dir, &of_module));
        }
        Ok(Self::at(&cache, programs, found))
    }

    /// `default` is the directory if no program was requested.
    fn at(default: &Path, programs: &[Program], paths: BTreeMap<Program, PathBuf>) -> Self {
        let first = programs.first().and_then(|program| paths.get(program)).and_then(|path| path.parent());
        Self { dir: first.unwrap_or(default).to_path_buf(), paths }
    }
}

fn paths(dir: &Path, programs: &[Program]) -> BTreeMap<Program, PathBuf> {
    programs.iter().map(|program| (*program, dir.join(program.name()))).collect()
}

/// `$XDG_CACHE_HOME`, ignored unless absolute, as its specification requires; otherwise `$HOME/.cache`.
fn cache_dir() -> Result<PathBuf, Error> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("graph-credential-operator").join("tools"))
        .ok_or(Error::NoCacheDir)
}
