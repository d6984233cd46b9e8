//! Completion of the kubectl plugin, as kubectl itself runs it.

use std::path::Path;

use kit::shell::Shell;

#[test]
fn kubectl_completes_the_commands_and_flags_of_the_plugin() {
    let program = Path::new(env!("CARGO_BIN_EXE_graph-credential-operator"));
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    let shell = Shell::open(program, kubeconfig.path()).unwrap();
    let install = "ln -s graph-credential-operator bin/kubectl-graph_credentials && \
        cp deploy/completion/kubectl_complete-graph_credentials bin";
    assert!(shell.run(install, "").unwrap().is_success());
    for (words, expected) in [
        ("res", &["resume", ":4"][..]),
        ("status --exp", &["--expiring", ":4"]),
        ("completion po", &["powershell", ":4"]),
        ("keys retire --operator-n", &["--operator-namespace", ":4"]),
        ("describe sales-", &[":0"]),
    ] {
        let printed = shell.run(&format!("kubectl __complete graph-credentials {words}"), "").unwrap();
        assert_eq!(printed.out.lines().collect::<Vec<_>>(), expected, "{words}: {printed:?}");
    }
}
