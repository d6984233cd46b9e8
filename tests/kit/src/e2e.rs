//! Installs the product into a real cluster, the one that `KUBECONFIG` names and never another one: with the
//! real helm, pods on nodes, and the doubles as pods with TLS. It is configured by the environment, see
//! [`Settings`].

mod cluster;
mod fixture;
mod installer;
mod profile;
mod quick_start;
mod report;
mod sandbox;
mod scenario;
mod settings;
mod sidecars;

use std::process::ExitCode;

use self::fixture::{DOUBLES, Fixture};
use self::profile::Profile;
use self::report::Report;
use self::settings::Settings;
use crate::demo::Difference;

/// Runs all scenarios: 0 if every check passed, 1 if one failed, 2 if a setting is missing.
pub async fn run() -> ExitCode {
    let settings = match Settings::read(|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(text) => {
            eprintln!("e2e: {text}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::default();
    let ended = run_profiles(&settings, &mut report).await;
    if let Err(difference) = &ended {
        report.failed(&difference.to_string());
    }
    if let Err(error) = report.save(&settings, ended.is_ok()) {
        eprintln!("e2e: the report cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run_profiles(settings: &Settings, report: &mut Report) -> Result<(), Difference> {
    if settings.only.is_none() {
        quick_start::run(settings, report).await?;
    }
    let fixture = Fixture::start(settings, report).await?;
    sandbox::run(&fixture.cluster, DOUBLES, &settings.image).await?;
    report.step("the image serves the sandbox in a pod, which saves a credential and lists it");
    for profile in Profile::ALL {
        if settings.only.is_none_or(|only| only == profile) {
            report.profile(profile.name());
            scenario::run(&fixture, settings, profile, report).await?;
        }
    }
    fixture.stop().await
}
