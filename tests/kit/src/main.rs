//! `kit`: the test kit from the command line.
//!
//! `kit assets` makes sure that etcd and kube-apiserver are there and prints their directory.

use std::process::ExitCode;

use kit::assets::{Assets, Program};

const USAGE: &str = "usage: kit assets [etcd | kube-apiserver | kube-controller-manager | kubectl]...";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((command, programs)) if command == "assets" => assets(programs),
        _ => usage(),
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

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
