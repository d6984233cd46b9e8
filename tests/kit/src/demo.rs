//! The demo: the operator at work on this machine, told step by step and checked at every step.

mod http;
mod manifests;
mod sandbox;
mod scene;
mod screen;
mod story;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use self::scene::Scene;
use self::screen::Screen;

/// What the demo can be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The operator's program.
    pub operator: PathBuf,
    /// Whether everything is left running after the story.
    pub keep: bool,
}

/// Something that went another way than the story; a text for people.
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

/// Runs the demo: 0 where all went as told, 1 where anything differs, 130 where it was interrupted.
pub async fn run(options: &Options) -> ExitCode {
    let screen = Screen::new();
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        screen.complain("signals cannot be received");
        return ExitCode::FAILURE;
    };
    tokio::select! {
        ended = play(options, &screen) => ended,
        _ = interrupt.recv() => interrupted(&screen),
        _ = terminate.recv() => interrupted(&screen),
    }
}

async fn play(options: &Options, screen: &Screen) -> ExitCode {
    screen.title("graph-credential-operator: a credential's life on a real API server");
    let scene = match Scene::set(&options.operator, screen).await {
        Ok(scene) => scene,
        Err(difference) => {
            screen.complain(&format!("the scene could not be set: {difference}"));
            return ExitCode::FAILURE;
        }
    };
    let all_well = story::tell(&scene, screen).await;
    if options.keep {
        if let Err(difference) = story::leave(&scene, screen).await {
            screen.complain(&difference.to_string());
        }
        std::future::pending::<()>().await;
    }
    if let Err(difference) = scene.strike().await {
        screen.complain(&difference.to_string());
        return ExitCode::FAILURE;
    }
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What runs ends with this process: see [`crate::process`].
fn interrupted(screen: &Screen) -> ExitCode {
    screen.line("interrupted; everything is removed");
    ExitCode::from(130)
}
