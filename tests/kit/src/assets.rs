//! Where etcd, kube-apiserver and their companions come from.
//!
//! `KUBEBUILDER_ASSETS`, if set, names a directory that holds them. Otherwise they are built once from the Go modules
//! pinned in `tools/` and its subdirectories, into a cache directory that every checkout with the same pins shares.

use std::{
    collections::BTreeMap,
    env, io,
    path::{Path, PathBuf},
};

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
    /// The command line, to look at a cluster as a user does.
    Kubectl,
    /// Renders and installs the chart.
    Helm,
    /// Checks and tries alert rules.
    Promtool,
    /// Scrapes metrics and answers queries.
    Prometheus,
    /// What GitOps tools make of an object.
    Gitops,
    /// A registry of images and charts, in memory.
    Registry,
}

/// A directory with a go.mod of its own: programs whose dependencies do not go together are pinned apart.
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

/// The programs asked for, each at a path where it can be run.
#[derive(Clone, Debug)]
pub struct Assets {
    dir: PathBuf,
    paths: BTreeMap<Program, PathBuf>,
}

/// Why a program is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `KUBEBUILDER_ASSETS` names a directory without a program that it must hold.
    #[error(
        "{KUBEBUILDER_ASSETS} is set to {dir:?}, which holds no {program}; \
         point it at a directory with etcd and kube-apiserver, or unset it to have them built"
    )]
    NotInAssets {
        /// What the variable holds.
        dir: PathBuf,
        /// The program that is missing.
        program: &'static str,
    },
    /// No home for the built programs.
    #[error(
        "there is no directory for the built programs; set HOME or XDG_CACHE_HOME, or {KUBEBUILDER_ASSETS}"
    )]
    NoCacheDir,
    /// A pin file cannot be read.
    #[error("cannot read {path:?}")]
    ReadPins {
        /// The file.
        path: PathBuf,
        /// Why not.
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
        /// The Go version that `tools/go.mod` asks for.
        wanted: String,
    },
    /// Go cannot build modules that ask for this version.
    #[error(
        "building {program} needs Go {wanted} or newer ({detail}); \
         install it from https://go.dev/dl, or set {KUBEBUILDER_ASSETS} to a directory with etcd and kube-apiserver"
    )]
    OldGo {
        /// The program to build.
        program: &'static str,
        /// The Go version that `tools/go.mod` asks for.
        wanted: String,
        /// What `go` said.
        detail: String,
    },
    /// `go build` failed.
    #[error("`go build` of {program} failed ({status}):\n{output}")]
    Build {
        /// The program to build.
        program: &'static str,
        /// How `go` ended.
        status: std::process::ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
    /// The cache directory cannot be used.
    #[error("cannot {action} {path:?}")]
    Cache {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

// === impl Program ===

impl Program {
    /// The two programs without which there is no cluster.
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
    /// Finds the programs, building those that are missing; blocks for as long as that takes (minutes, the first time).
    ///
    /// # Errors
    ///
    /// `KUBEBUILDER_ASSETS` does not hold what it must, or the programs cannot be built.
    pub fn locate(programs: &[Program]) -> Result<Self, Error> {
        match env::var_os(KUBEBUILDER_ASSETS).filter(|dir| !dir.is_empty()) {
            Some(dir) => Self::ready_made(Path::new(&dir), programs),
            None => Self::built(programs),
        }
    }

    /// The directory of the first program asked for.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a program is, if it was among those asked for.
    pub fn path(&self, program: Program) -> Option<&Path> {
        self.paths.get(&program).map(PathBuf::as_path)
    }

    fn ready_made(dir: &Path, programs: &[Program]) -> Result<Self, Error> {
        if let Some(missing) =
            Program::CONTROL_PLANE.into_iter().find(|program| !dir.join(program.name()).is_file())
        {
            return Err(Error::NotInAssets { dir: dir.to_path_buf(), program: missing.name() });
        }
        // Such a directory, made for envtest, often has no kube-controller-manager: only that is built then.
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
            let of_it: Vec<Program> =
                programs.iter().copied().filter(|program| program.module() == module).collect();
            if of_it.is_empty() {
                continue;
            }
            let pins = Pins::read(module)?;
            let dir = cache.join(pins.digest());
            build::missing(&pins, &dir, &of_it)?;
            found.extend(paths(&dir, &of_it));
        }
        Ok(Self::at(&cache, programs, found))
    }

    /// `otherwise` is the directory where no program was asked for.
    fn at(otherwise: &Path, programs: &[Program], paths: BTreeMap<Program, PathBuf>) -> Self {
        let first = programs.first().and_then(|program| paths.get(program)).and_then(|path| path.parent());
        Self { dir: first.unwrap_or(otherwise).to_path_buf(), paths }
    }
}

fn paths(dir: &Path, programs: &[Program]) -> BTreeMap<Program, PathBuf> {
    programs.iter().map(|program| (*program, dir.join(program.name()))).collect()
}

/// `$XDG_CACHE_HOME`, ignored unless absolute, as its specification asks; else `$HOME/.cache`.
fn cache_dir() -> Result<PathBuf, Error> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("graph-credential-operator").join("tools"))
        .ok_or(Error::NoCacheDir)
}
