//! The operator's processes in one environment: one leads and one stands by. A kill hits the first, which is
//! usually the leader. A process that exited because it lost its lease on a busy machine is restarted, as a
//! kubelet does.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use jiff::Timestamp;
use kit::process::Process;
use rustix::process::Signal;
use tokio::sync::{Mutex as AsyncMutex, broadcast};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::harness::TestEnv;
use crate::kill_point::KillPoint;
use crate::script::{Kill, TIMEOUT};

/// How many operators run side by side.
pub const OPERATORS: usize = 2;

/// How often exited processes are restarted.
const RESTART_INTERVAL: Duration = Duration::from_millis(250);

pub struct OperatorProcesses {
    env: Arc<TestEnv>,
    /// The kubeconfig of each operator, if it is not the test environment's.
    kubeconfigs: Vec<PathBuf>,
    running: AsyncMutex<Vec<Operator>>,
    logs: Mutex<Vec<PathBuf>>,
    kills: Mutex<Vec<(Timestamp, KillPoint)>>,
}

/// One of the operators, with the number of its kubeconfig.
struct Operator {
    number: usize,
    process: Process,
}

// === impl OperatorProcesses ===

impl OperatorProcesses {
    pub async fn start(env: Arc<TestEnv>, kubeconfigs: Vec<PathBuf>) -> Arc<Self> {
        let processes = Arc::new(Self {
            env,
            kubeconfigs,
            running: AsyncMutex::default(),
            logs: Mutex::default(),
            kills: Mutex::default(),
        });
        for number in 0..OPERATORS {
            let operator = processes.launch(number).await;
            processes.running.lock().await.push(operator);
        }
        tokio::spawn(restart(Arc::downgrade(&processes)));
        processes
    }

    async fn launch(&self, number: usize) -> Operator {
        let process = self.env.launch_through(self.kubeconfigs.get(number).map(PathBuf::as_path)).await;
        self.logs.lock().unwrap().push(process.log_path().to_owned());
        Operator { number, process }
    }

    /// The number of the operator that has run longest, which is usually the leader, or of the other one.
    pub async fn number(&self, of_leader: bool) -> usize {
        let running = self.running.lock().await;
        running.get(usize::from(!of_leader)).map_or(0, |operator| operator.number)
    }

    /// Carries out the kills of an environment that started at `start`.
    pub async fn execute_kills(
        &self,
        kills: &[Kill],
        kill_points: &broadcast::Sender<KillPoint>,
        start: Instant,
    ) {
        for kill in kills {
            sleep_until(start + Duration::from_millis(kill.from)).await;
            let mut seen = kill_points.subscribe();
            let reached =
                async { while !matches!(seen.recv().await, Ok(kill_point) if kill_point == kill.at) {} };
            let patience = if kill.at == KillPoint::Anytime { Duration::ZERO } else { TIMEOUT };
            let reached = timeout(patience, reached).await;
            if kill.lag > 0 {
                sleep(Duration::from_micros(kill.lag)).await;
            }
            self.kill(if reached.is_ok() { kill.at } else { KillPoint::Anytime }).await;
        }
    }

    /// Kills the first of the operators and starts another.
    async fn kill(&self, at: KillPoint) {
        let mut running = self.running.lock().await;
        let Operator { number, process: first } = running.remove(0);
        if first.is_running() {
            first.signal(Signal::KILL).expect("the operator runs");
            first.wait(Duration::from_secs(10)).await.expect("a killed operator ends");
        }
        self.kills.lock().unwrap().push((Timestamp::now(), at));
        running.push(self.launch(number).await);
    }

    /// Starts another operator for each that has exited.
    async fn restart_exited(&self) {
        let mut running = self.running.lock().await;
        for operator in running.iter_mut().filter(|operator| !operator.process.is_running()) {
            let process = &operator.process;
            assert!(has_lost_its_lease(process), "an operator exited unexpectedly\n{}", process.log());
            *operator = self.launch(operator.number).await;
        }
    }

    /// When operators were killed.
    pub fn times(&self) -> Vec<Timestamp> {
        self.kills.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }

    /// The kill points that were reached by a kill.
    pub fn kill_points(&self) -> Vec<KillPoint> {
        self.kills.lock().unwrap().iter().map(|(_, kill_point)| *kill_point).collect()
    }

    /// Stops the operators, and checks that they exit successfully.
    pub async fn end(&self) {
        for Operator { mut process, .. } in self.running.lock().await.drain(..) {
            let exit = process.stop().await.expect("the operator can be stopped");
            assert!(exit.success() || has_lost_its_lease(&process), "{exit}\n{}", process.log());
        }
        for log in self.logs.lock().unwrap().drain(..) {
            let _ = std::fs::remove_file(log);
        }
    }

    /// The log lines of all operators that contain one of these texts.
    pub fn log_lines(&self, texts: &[&str]) -> String {
        let logs = self.logs.lock().unwrap();
        let logs = logs
            .iter()
            .map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned());
        let has_any = |line: &&str| texts.iter().any(|text| line.contains(text));
        logs.flat_map(|log| log.lines().filter(has_any).map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The last log lines of all operators about one of `names`, and their starts.
    pub fn log_tail(&self, names: &[String]) -> String {
        const LINES: usize = 60;
        let mut lines = Vec::new();
        for (number, path) in self.logs.lock().unwrap().iter().enumerate() {
            lines.push(format!("--- operator {number}"));
            let log = std::fs::read(path).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let is_about = |line: &&str| names.iter().any(|name| line.contains(&format!("{name}\"")));
            lines.extend(log.lines().filter(is_about).map(str::to_owned));
        }
        lines.split_off(lines.len().saturating_sub(LINES)).join("\n")
    }
}

/// Restarts exited operators as long as the environment exists.
async fn restart(processes: Weak<OperatorProcesses>) {
    while let Some(processes) = processes.upgrade() {
        processes.restart_exited().await;
        drop(processes);
        sleep(RESTART_INTERVAL).await;
    }
}

/// Whether the operator exited because it could not renew its lease, as on a machine that is too busy at this
/// pace.
fn has_lost_its_lease(process: &Process) -> bool {
    process.log().contains("leadership is lost")
}
