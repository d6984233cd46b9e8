//! `kit`: the command line of the test kit.
//!
//! `kit assets` ensures that etcd and kube-apiserver are available and prints their directory. `kit demo`
//! runs the operator step by step. `kit e2e` installs the product into a cluster with nodes, where `kit
//! doubles` runs as a pod.

// A command line prints to its terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use kit::assets::{Assets, Program};
use kit::demo::{self, Options};

const USAGE: &str = "\
usage: kit assets [etcd | kube-apiserver | kube-controller-manager | kubectl | helm
                   | promtool | prometheus | gitops | registry]...
       kit demo --operator PROGRAM [--keep]
       kit doubles CERTIFICATE KEY ISSUER SUBJECT
       kit wait
       kit e2e";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((command, programs)) if command == "assets" => assets(programs),
        Some((command, flags)) if command == "demo" => demo(flags),
        Some((command, [certificate, key, issuer, subject])) if command == "doubles" => {
            block_on(kit::doubles::serve(certificate.as_ref(), key.as_ref(), issuer, subject))
        }
        // A sidecar: it runs until it gets a signal to end.
        Some((command, [])) if command == "wait" => block_on(wait()),
        Some((command, [])) if command == "e2e" => block_on(kit::e2e::run()),
        _ => usage(),
    }
}

fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let ended = runtime.block_on(work);
            runtime.shutdown_background();
            ended
        }
        Err(error) => {
            eprintln!("kit: failed to start the runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn wait() -> ExitCode {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kit: cannot wait for SIGTERM: {error}");
            ExitCode::FAILURE
        }
    }
}

fn assets(names: &[String]) -> ExitCode {
    let programs: Option<Vec<Program>> = names.iter().map(|name| Program::named(name)).collect();
    let Some(mut programs) = programs else {
        return usage();
    };
    if programs.is_empty() {
        programs.extend(Program::CONTROL_PLANE);
    }
    match Assets::locate(&programs) {
        Ok(assets) => {
            println!("{}", assets.dir().display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kit: {}", kit::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn demo(flags: &[String]) -> ExitCode {
    let (mut operator, mut keep) = (None, false);
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match flag.as_str() {
            "--operator" => operator = flags.next().map(PathBuf::from),
            "--keep" => keep = true,
            _ => return usage(),
        }
    }
    let Some(operator) = operator else { return usage() };
    block_on(async { demo::run(&Options { operator, keep }).await })
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
