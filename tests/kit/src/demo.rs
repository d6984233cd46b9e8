//! The demo: runs the operator on this machine, step by step, and checks each step.

mod fixture;
mod http;
mod manifests;
mod scenario;
mod screen;
mod woodpecker;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use self::fixture::Fixture;
use self::screen::Screen;

/// The options of the demo.
#[derive(Clone, Debug)]
pub struct Options {
    /// The operator's executable.
    pub operator: PathBuf,
    /// Whether everything keeps running after the last step.
    pub keep: bool,
}

/// A difference from the expected result; a text for people.
#[derive(Debug)]
pub struct Difference(String);

impl Difference {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Difference {
    fn from(error: E) -> Self {
        Self(crate::chain(&error))
    }
}

/// Runs the demo: 0 if every check passed, 1 if one failed, 130 if it was interrupted.
pub async fn run(options: &Options) -> ExitCode {
    let screen = Screen::new();
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        screen.error("signals cannot be received");
        return ExitCode::FAILURE;
    };
    tokio::select! {
        ended = run_steps(options, &screen) => ended,
        _ = interrupt.recv() => interrupted(&screen),
        _ = terminate.recv() => interrupted(&screen),
    }
}

async fn run_steps(options: &Options, screen: &Screen) -> ExitCode {
    screen.title("graph-credential-operator: a credential from create to delete on a real API server");
    let fixture = match Fixture::start(&options.operator, screen).await {
        Ok(fixture) => fixture,
        Err(difference) => {
            screen.error(&format!("the demo could not be started: {difference}"));
            return ExitCode::FAILURE;
        }
    };
    let all_passed = scenario::run(&fixture, screen).await;
    if options.keep {
        if let Err(difference) = scenario::prepare_for_experiments(&fixture, screen).await {
            screen.error(&difference.to_string());
        }
        std::future::pending::<()>().await;
    }
    if let Err(difference) = fixture.stop().await {
        screen.error(&difference.to_string());
        return ExitCode::FAILURE;
    }
    if all_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Child processes end with this process: see [`crate::process`].
fn interrupted(screen: &Screen) -> ExitCode {
    screen.line("interrupted; everything is removed");
    ExitCode::from(130)
}
