//! Child processes never outlive their parent, and report how they ended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kit::process::{Error, Process, Signal};
use rustix::process::{Pid, kill_process, kill_process_group, test_kill_process};

/// Set in the copy of this test binary that is the parent.
const PARENT_DIR: &str = "KIT_TEST_PARENT_DIR";
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_exit_code_is_reported() {
    let process = shell("exit 7").spawn().await.unwrap();
    let exit = process.wait(BOUND).await.unwrap();
    assert_eq!((exit.code(), exit.signal(), exit.success()), (7, None, false));
    assert!(matches!(process.signal(Signal::TERM), Err(Error::Ended { .. })));
}

#[tokio::test]
async fn the_exit_of_a_short_program_is_reported() {
    for _ in 0..20 {
        let process = Process::builder("true").spawn().await.unwrap();
        assert!(process.wait(BOUND).await.unwrap().success());
    }
}

#[tokio::test]
async fn output_goes_to_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("new/program.log");
    let process = shell("echo out; echo error >&2; exec sleep 60").log(&log).spawn().await.unwrap();
    process.wait_for_log("error", BOUND).await.unwrap();
    assert_eq!(process.log(), "out\nerror\n");
}

#[tokio::test]
async fn a_wait_for_a_text_ends_with_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let process = shell("echo why").log(dir.path().join("log")).spawn().await.unwrap();
    let error = process.wait_for_log("ready", BOUND).await.unwrap_err();
    assert!(error.to_string().contains("why"), "{error}");
}

#[tokio::test]
async fn arguments_and_environment_arrive_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let process = shell(r#"echo "$1|$2"; echo "$ODD"; env | grep -c '^CARGO'"#)
        .args(["sh", "two  words", "$HOME; 'quoted'"])
        .clear_env()
        .env("ODD", "a b\"c")
        .log(dir.path().join("log"))
        .spawn()
        .await
        .unwrap();
    process.wait(BOUND).await.unwrap();
    assert_eq!(process.log(), "two  words|$HOME; 'quoted'\na b\"c\n0\n");
}

#[tokio::test]
async fn a_signal_is_reported_from_an_exit_code() {
    for (signal, number) in [(Signal::TERM, 15), (Signal::KILL, 9)] {
        let process = Process::builder("sleep").args(["60"]).spawn().await.unwrap();
        process.signal(signal).unwrap();
        assert_eq!(process.wait(BOUND).await.unwrap().signal(), Some(number));
    }
}

/// The supervisor itself ignores or catches these signals, and the program must not inherit that.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_ignores_no_signal_that_its_parent_handles() {
    let ignored = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap()
    };
    let process = Process::builder("sleep").args(["60"]).spawn().await.unwrap();
    // Only the standard signals: glibc uses 33 itself.
    let standard = (1 << 31) - 1;
    assert_eq!(ignored(&process.pid().to_string()) & !ignored("self") & standard, 0);
}

#[tokio::test]
async fn stop_sends_sigterm_first_and_cleans_up() {
    let dir = kept_dir();
    let mut process = shell("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
        .log(dir.with_extension("log"))
        .cleanup_dir(&dir)
        .spawn()
        .await
        .unwrap();
    process.wait_for_log("ready", BOUND).await.unwrap();
    assert_eq!(process.stop().await.unwrap().code(), 3);
    assert!(process.log().ends_with("bye\n"));
    assert!(!dir.exists());
    fs::remove_file(process.log_path()).unwrap();
}

#[tokio::test]
async fn stop_kills_a_program_that_ignores_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = shell("trap '' TERM; echo ready; while :; do sleep 0.1; done")
        .log(dir.path().join("log"))
        .grace(Duration::from_millis(300))
        .spawn()
        .await
        .unwrap();
    process.wait_for_log("ready", BOUND).await.unwrap();
    assert_eq!(process.stop().await.unwrap().signal(), Some(9));
}

#[tokio::test]
async fn a_dropped_program_is_killed_even_if_it_is_stopped() {
    let process = Process::builder("sleep").args(["60"]).spawn().await.unwrap();
    let pid = process.pid();
    process.signal(Signal::STOP).unwrap();
    drop(process);
    assert!(ends_soon(pid));
}

#[tokio::test]
async fn a_missing_program_or_an_unsafe_directory_is_rejected() {
    let missing = Process::builder("/no/such/program").spawn().await.unwrap_err();
    assert!(matches!(missing, Error::NoProgram { .. }), "{missing}");
    for dir in ["/", "/home", "relative/dir", "/tmp/a/../.."] {
        let unsafe_dir = Process::builder("true").cleanup_dir(dir).spawn().await.unwrap_err();
        assert!(matches!(unsafe_dir, Error::UnsafeCleanup { .. }), "{dir}: {unsafe_dir}");
    }
}

#[test]
fn nothing_remains_of_a_killed_parent() {
    let (parent, dir, pid) = start_parent();
    kill_process(Pid::from_child(&parent), Signal::KILL).unwrap();
    assert_nothing_remains(parent, &dir, pid);
}

#[test]
fn nothing_remains_after_ctrl_c() {
    let (parent, dir, pid) = start_parent();
    // The parent leads its own process group, like a foreground job of a terminal. SIGTERM follows in case
    // the tests run in the background, where shells ignore SIGINT.
    for signal in [Signal::INT, Signal::TERM] {
        let _ = kill_process_group(Pid::from_child(&parent), signal);
    }
    assert_nothing_remains(parent, &dir, pid);
}

/// Not a test of its own: the parent in the two tests above.
#[tokio::test]
async fn parent() {
    let Some(dir) = std::env::var_os(PARENT_DIR).map(PathBuf::from) else { return };
    let process = shell("trap '' INT TERM HUP; while :; do date > \"$0/file\"; done")
        .args([dir.as_os_str()])
        .cleanup_dir(&dir)
        .spawn()
        .await
        .unwrap();
    println!("\nchild {}", process.pid());
    std::future::pending::<()>().await;
}

fn shell(script: &str) -> kit::process::Builder {
    Process::builder("sh").args(["-c", script])
}

fn kept_dir() -> PathBuf {
    tempfile::Builder::new().prefix("kit-process-").tempdir().unwrap().keep()
}

fn start_parent() -> (std::process::Child, PathBuf, u32) {
    let dir = kept_dir();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "parent", "--nocapture"])
        .env(PARENT_DIR, &dir)
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines().map_while(Result::ok);
    let pid = lines.find_map(|line| line.strip_prefix("child ").map(str::to_owned)).unwrap();
    (parent, dir, pid.parse().unwrap())
}

fn assert_nothing_remains(mut parent: std::process::Child, dir: &Path, pid: u32) {
    assert!(!parent.wait().unwrap().success());
    assert!(ends_soon(pid), "process {pid} still runs");
    assert!(soon(|| !dir.exists()), "{} is still there", dir.display());
}

fn ends_soon(pid: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    soon(|| test_kill_process(pid).is_err())
}

fn soon(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > BOUND {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}
