//! Builds programs into the cache directory: one checkout at a time, and never a partial binary.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, Pins, Program};

/// How often a waiting process prints that the build still runs.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How many lines of a failed build's output are shown.
const SHOWN_LINES: usize = 30;

/// Builds the programs that `dir` does not contain yet.
pub(super) fn missing(pins: &Pins, dir: &Path, programs: &[Program]) -> Result<(), Error> {
    if programs.iter().all(|program| dir.join(program.name()).is_file()) {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(cache("create", dir))?;
    let _lock = lock(&dir.join(".lock"))?;
    remove_leftovers(dir)?;
    for program in programs {
        // Another checkout may have built it while this one waited for the lock.
        if !dir.join(program.name()).is_file() {
            build(pins, dir, *program)?;
        }
    }
    Ok(())
}

fn build(pins: &Pins, dir: &Path, program: Program) -> Result<(), Error> {
    let (name, version) = (program.name(), pins.version(program));
    require_go(pins, program)?;
    print(&format!(
        "building {name} {version}, once, {} on two cores; kept in {}",
        estimate(program),
        dir.display()
    ));
    let partial = partial(dir, name, "bin");
    let output = partial.with_extension("log");
    let start = Instant::now();
    let mut child = go_build(pins, program, &partial, &output)?;
    let status = wait(&mut child, name).map_err(cache("build", &partial))?;
    if !status.success() {
        let text = fs::read_to_string(&output).unwrap_or_else(|error| error.to_string());
        remove_leftovers(dir)?;
        return Err(Error::Build { program: name, status, output: last_lines(&text) });
    }
    let target = dir.join(name);
    fs::rename(&partial, &target).map_err(cache("put in place", &target))?;
    fs::remove_file(&output).map_err(cache("remove", &output))?;
    print(&format!("built {name} {version} in {}", clock(start.elapsed())));
    Ok(())
}

/// Checks that `go` exists and accepts this go.mod. It runs in its directory, where `go` applies the `go`
/// line (and where `GOTOOLCHAIN` may download a newer version).
fn require_go(pins: &Pins, program: Program) -> Result<(), Error> {
    let (program, wanted) = (program.name(), pins.go().to_owned());
    match go(pins).args(["list", "-m"]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Error::OldGo { program, wanted, detail })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoGo { program, wanted }),
        Err(error) => Err(Error::OldGo { program, wanted, detail: error.to_string() }),
    }
}

fn go_build(pins: &Pins, program: Program, target: &Path, output: &Path) -> Result<Child, Error> {
    let log = File::create(output).map_err(cache("create", output))?;
    let errors = log.try_clone().map_err(cache("open", output))?;
    go(pins)
        .args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"])
        .args(Pins::tags(program).map(|tags| format!("-tags={tags}")))
        .arg(format!("-ldflags={}", pins.link_flags(program)))
        .arg("-o")
        .arg(target)
        .arg(pins.package(program))
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(cache("build", target))
}

/// `go` for this machine, not affected by a workspace or a target that is set for other work.
fn go(pins: &Pins) -> Command {
    let mut go = Command::new("go");
    go.current_dir(pins.tools())
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env_remove("GOOS")
        .env_remove("GOARCH")
        .stdin(Stdio::null());
    go
}

fn wait(child: &mut Child, name: &str) -> io::Result<ExitStatus> {
    let start = Instant::now();
    let mut last_heartbeat = start;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if last_heartbeat.elapsed() >= HEARTBEAT {
            last_heartbeat = Instant::now();
            print(&format!("still building {name}, {} so far", clock(start.elapsed())));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Locks the directory until the returned file is closed. The kernel closes it even if the process is killed.
fn lock(path: &Path) -> Result<File, Error> {
    let file = File::create(path).map_err(cache("create", path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            print(&format!("waiting for another build, which holds {}", path.display()));
        }
        Err(TryLockError::Error(source)) => return Err(cache("lock", path)(source)),
    }
    file.lock().map_err(cache("lock", path))?;
    Ok(file)
}

/// A file name that is never executed, unique to this process.
fn partial(dir: &Path, name: &str, extension: &str) -> PathBuf {
    dir.join(format!(".partial-{name}-{}.{extension}", std::process::id()))
}

/// Removes what a killed build left. Only the holder of the lock may call this.
fn remove_leftovers(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(cache("list", dir))? {
        let entry = entry.map_err(cache("list", dir))?;
        if entry.file_name().to_string_lossy().starts_with(".partial-") {
            fs::remove_file(entry.path()).map_err(cache("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// As measured with an empty Go build cache.
const fn estimate(program: Program) -> &'static str {
    match program {
        Program::Etcd => "about 1 minute",
        Program::KubeApiserver => "about 10 minutes",
        Program::Gitops | Program::Registry => "half a minute",
        Program::KubeControllerManager | Program::Promtool | Program::Prometheus => "about 3 minutes",
        Program::Kubectl | Program::Helm => "about 2 minutes",
    }
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{}m{:02}s", seconds / 60, seconds % 60)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

/// Writes straight to stderr: the test harness hides `eprintln!` of a passing test, and a user who waits for
/// minutes would see nothing. A closed stderr is no reason to stop.
fn print(text: &str) {
    let _ = writeln!(io::stderr(), "kit: {text}");
}

fn cache(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_path_buf();
    move |source| Error::Cache { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_builder_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let first = lock(&path).unwrap();
        let second = thread::spawn({
            let path = path.clone();
            move || lock(&path).map(|_| Instant::now())
        });
        thread::sleep(Duration::from_millis(200));
        let released = Instant::now();
        drop(first);
        assert!(second.join().unwrap().unwrap() >= released);
    }

    #[test]
    fn leftovers_of_a_killed_build_are_removed_and_programs_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (left, kept) = (partial(dir.path(), "etcd", "bin"), dir.path().join("etcd"));
        fs::write(&left, "half").unwrap();
        fs::write(&kept, "whole").unwrap();
        remove_leftovers(dir.path()).unwrap();
        assert!(!left.exists());
        assert!(kept.exists());
    }

    #[test]
    fn the_end_of_a_long_output_is_shown() {
        let text: String = (0..100).map(|line| format!("{line}\n")).collect();
        assert!(last_lines(&text).starts_with("70\n"));
        assert!(last_lines(&text).ends_with("\n99"));
    }
}
