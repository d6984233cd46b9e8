//! Follows the supervisor on its own thread, so that a [`Process`](super::Process) belongs to no async runtime
//! and tests with different runtimes can share it.

use std::io::{self, BufRead, BufReader};
use std::process::Child;
use std::thread;

use rustix::process::Pid;
use tokio::sync::watch;

use super::Exit;

/// The supervisor's script.
pub(super) const SCRIPT: &str = include_str!("parent_death.sh");

/// The state of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) pid: Option<Pid>,
    pub(super) exit: Option<Exit>,
    /// The supervisor has ended and cleaned up. Without an exit, it was killed before the program ended.
    pub(super) over: bool,
}

/// Follows the supervisor's reports until it ends.
pub(super) fn follow(mut supervisor: Child) -> io::Result<watch::Receiver<State>> {
    let reports = supervisor.stdout.take().ok_or_else(|| io::Error::other("no pipe from the supervisor"))?;
    let (sender, receiver) = watch::channel(State::default());
    thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
        for line in BufReader::new(reports).lines().map_while(Result::ok) {
            sender.send_modify(|state| state.apply(&line));
        }
        // Only reaps it. The supervisor has reported everything, and one that cannot be waited for has ended
        // too.
        let _ = supervisor.wait();
        sender.send_modify(|state| state.over = true);
    })?;
    Ok(receiver)
}

// === impl State ===

impl State {
    pub(super) const fn has_started(&self) -> bool {
        self.pid.is_some() || self.over
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.exit.is_some() || self.over
    }

    fn apply(&mut self, report: &str) {
        let Some((event, value)) = report.split_once(' ') else { return };
        match (event, value.parse()) {
            ("started", Ok(pid)) => self.pid = Pid::from_raw(pid),
            ("ended", Ok(code)) => self.exit = Some(Exit::from_shell(code)),
            _ => {}
        }
    }
}
