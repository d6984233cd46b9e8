//! The quick start on kind: its commands for helm and kubectl, as a reader types them, on nodes that have the image from
//! its archive. The commands of kind itself are not run.

use std::path::PathBuf;

use tokio::task::spawn_blocking;

use super::report::Report;
use super::settings::Settings;
use crate::demo::Difference;
use crate::docs::commands;
use crate::shell::Shell;

const PAGE: &str = "docs/tutorials/quick-start-kind.md";
const SECTION: &str = "Install the operator";

/// The image as the page calls it.
const IMAGE: &str = "localhost/graph-credential-operator";

/// What is true afterwards: the number of ready pods.
const CHECK: &str = "kubectl get deployment graph-credential-operator --namespace graph-credentials \
                     --output jsonpath={.status.readyReplicas}";

/// Removes everything, so that the cluster is empty again.
const CLEAN_UP: [&str; 4] = [
    "helm uninstall graph-credential-operator --namespace graph-credentials --wait --timeout 120s",
    "kubectl delete namespace graph-credentials --timeout 120s",
    "kubectl delete --filename crds --ignore-not-found --timeout 120s",
    "kubectl delete clusterrole,validatingadmissionpolicy,validatingadmissionpolicybinding \
     --selector app.kubernetes.io/instance=graph-credential-operator",
];

/// Follows the page, if the nodes have the image under the name that it uses.
pub(super) async fn run(settings: &Settings, report: &mut Report) -> Result<(), Difference> {
    const STEP: &str = "the commands of the page for helm and kubectl lead to two ready pods";
    report.profile("quick start on kind");
    if settings.image.repository != IMAGE || settings.chart.is_some() {
        report.not_run(STEP, &format!("because E2E_IMAGE is not {IMAGE}, or E2E_CHART is set"));
        return Ok(());
    }
    let kubeconfig = settings.kubeconfig.clone();
    spawn_blocking(move || follow(kubeconfig)).await??;
    report.step(STEP);
    Ok(())
}

fn follow(kubeconfig: PathBuf) -> Result<(), Difference> {
    // The page uses no program of this repository.
    let shell = Shell::open(&PathBuf::from("/bin/false"), &kubeconfig)?;
    let run = |command: &str| {
        let output = shell.run(command, "")?;
        if output.is_success() {
            Ok(output.out)
        } else {
            Err(Difference::new(format!("{command}: {output:?}")))
        }
    };
    let of_section: Vec<_> = commands(PAGE)?.into_iter().filter(|it| it.heading == SECTION).collect();
    if of_section.is_empty() {
        return Err(Difference::new(format!("{PAGE} has no commands under {SECTION}")));
    }
    for command in of_section {
        run(&command.text)?;
    }
    let ready = run(CHECK)?;
    if ready != "2" {
        return Err(Difference::new(format!("ready pods: expected 2, found {ready:?}")));
    }
    CLEAN_UP.into_iter().try_for_each(|command| run(command).map(drop))
}
