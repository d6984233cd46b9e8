//! A shell for the commands of the docs: in a copy of the repository's manifests, with the real helm and
//! kubectl, the program, and one cluster. Of the user's environment it has only the system's programs.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

use tempfile::TempDir;

use crate::assets::{self, Assets, Program};
use crate::process::{self, Process};
use crate::workspace;

/// Folders that the docs name by a path from the repository's root.
const MANIFESTS: [&str; 3] = ["crds", "deploy", "examples"];

/// A folder, and the environment of commands.
#[derive(Debug)]
pub struct Shell {
    folder: TempDir,
    env: Vec<(String, String)>,
}

/// Output and exit code of a command.
#[derive(Clone, Debug)]
pub struct CommandOutput {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub error: String,
}

/// Why the shell or a command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not available.
    #[error(transparent)]
    Assets(#[from] assets::Error),
    /// Its folder cannot be set up, or a command cannot be run.
    #[error("cannot set up or use the shell")]
    Run(#[from] io::Error),
    /// A long-running program cannot be started.
    #[error(transparent)]
    Start(#[from] process::Error),
}

// === impl Shell ===

impl Shell {
    /// A shell with this build of the program and a copy of that kubeconfig. Blocks, because helm and kubectl
    /// may have to be built first.
    ///
    /// # Errors
    ///
    /// helm or kubectl cannot be built, or the folder cannot be created.
    pub fn open(program: &Path, kubeconfig: &Path) -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("kit-shell-").tempdir()?;
        let root = folder.path();
        for dir in ["bin", "target/release"] {
            fs::create_dir_all(root.join(dir))?;
        }
        for tool in [Program::Helm, Program::Kubectl] {
            let assets = Assets::locate(&[tool])?;
            if let Some(path) = assets.path(tool) {
                symlink(path, root.join("bin").join(tool.name()))?;
            }
        }
        if let Some(name) = program.file_name() {
            symlink(program, root.join("bin").join(name))?;
            symlink(program, root.join("target/release").join(name))?;
        }
        for manifests in MANIFESTS {
            copy(&workspace().join(manifests), &root.join(manifests))?;
        }
        fs::copy(kubeconfig, root.join("kubeconfig"))?;
        let path = format!("{}:{}", root.join("bin").display(), env::var("PATH").unwrap_or_default());
        let own = |name: &str| root.join(name).display().to_string();
        let env = vec![
            ("PATH".to_owned(), path),
            ("HOME".to_owned(), own("")),
            ("KUBECONFIG".to_owned(), own("kubeconfig")),
        ];
        Ok(Self { folder, env })
    }

    /// The working directory of the commands.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sets an environment variable, like `export`.
    pub fn export(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Runs a command to its end, with this standard input; blocks.
    ///
    /// # Errors
    ///
    /// There is no shell.
    pub fn run(&self, command: &str, input: &str) -> Result<CommandOutput, Error> {
        let file = self.folder().join("input");
        fs::write(&file, input)?;
        let output = Command::new("sh")
            .args(["-c", command])
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder())
            .stdin(Stdio::from(fs::File::open(file)?))
            .output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(CommandOutput { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) })
    }

    /// Starts a long-running command.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub async fn start(&self, command: &str, log: PathBuf) -> Result<Process, Error> {
        let builder = Process::builder("sh").args(["-c", &format!("exec {command}")]).clear_env();
        let builder = self.env.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        Ok(builder.current_dir(self.folder()).log(log).spawn().await?)
    }
}

// === impl CommandOutput ===

impl CommandOutput {
    /// Whether the exit code is 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
