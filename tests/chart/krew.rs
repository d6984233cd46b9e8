//! The archives of a release, and the manifest of the kubectl plugin that names them, made as the workflow does.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

const STEP: &str = "An archive of the commands for each platform";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Puts files where the workflow downloads what its earlier jobs have built.
fn built(folder: &Path) {
    let put = |path: String| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "program").unwrap();
    };
    for arch in ["amd64", "arm64"] {
        put(format!("built/image-{arch}/graph-credential-operator-linux-{arch}"));
        put(format!("built/commands-darwin-{arch}/graph-credential-operator"));
    }
    put("built/commands-windows-amd64/graph-credential-operator.exe".to_owned());
    fs::create_dir_all(folder.join("release")).unwrap();
    fs::create_dir_all(folder.join("tools")).unwrap();
    for file in ["LICENSE", "tools/krew"] {
        fs::copy(kit::workspace().join(file), folder.join(file)).unwrap();
    }
}

#[test]
fn the_krew_manifest_names_each_archive_with_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    built(folder.path());
    // Not every machine has zip: the archive's content does not matter here.
    let zip = "zip() { : > \"$2\"; }\n";
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &(zip.to_owned() + &crate::release::commands_of(STEP))])
        .current_dir(folder.path())
        .env("GITHUB_REF_NAME", format!("v{VERSION}"))
        .env("GITHUB_SERVER_URL", "https://git.example.com")
        .env("GITHUB_REPOSITORY", "mail/graph-credential-operator")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");

    let release = folder.path().join("release");
    let text = fs::read_to_string(release.join("graph-credentials.yaml")).unwrap();
    let manifest: Value = kit::helm::parse(&text).unwrap().remove(0);
    assert_eq!(
        (&manifest["kind"], &manifest["metadata"]["name"]),
        (&"Plugin".into(), &"graph-credentials".into())
    );
    assert_eq!(manifest["spec"]["homepage"], "https://git.example.com/mail/graph-credential-operator");
    assert_eq!(manifest["spec"]["version"], format!("v{VERSION}"));
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    for platform in platforms {
        let text = |pointer: &str| platform.pointer(pointer).and_then(Value::as_str).unwrap();
        let extension = if text("/selector/matchLabels/os") == "windows" { ".exe" } else { "" };
        assert_eq!(text("/bin"), format!("kubectl-graph_credentials{extension}"));
        assert_eq!(text("/files/0/from"), format!("graph-credential-operator{extension}"));
        let (address, archive) = text("/uri").rsplit_once('/').unwrap();
        assert_eq!(
            address,
            format!("https://git.example.com/mail/graph-credential-operator/releases/download/v{VERSION}")
        );
        let content = fs::read(release.join(archive)).unwrap();
        assert_eq!(text("/sha256"), hex::encode(Sha256::digest(content)), "{archive}");
    }
    assert_eq!(platforms.len(), 5);
    let archives = fs::read_dir(&release).unwrap().count() - 1;
    assert_eq!(archives, platforms.len(), "every archive is named");
}
