//! The commands of `docs/tasks/sandbox.md`.

use std::path::Path;
use std::process::Command;

use kit::docs::commands;

use super::*;
use crate::documentation::SECTIONS_BY_TEST;

/// The port in the page.
const PORT: &str = "127.0.0.1:8445";

#[tokio::test]
async fn the_page_of_the_sandbox_works_as_written() {
    let name = "the_page_of_the_sandbox_works_as_written";
    let (_, places) = SECTIONS_BY_TEST.iter().find(|(test, _)| *test == name).unwrap();
    let is_of_test = |heading: &str| places.iter().any(|(_, it)| *it == heading);
    let all = commands("docs/tasks/sandbox.md").unwrap();
    let mut documented = all.iter().filter(|it| !it.is_illustrative && is_of_test(&it.heading));
    let start = documented.next().unwrap();
    assert_eq!(start.text, "graph-credential-operator sandbox");
    let sandbox = Sandbox::start(&[]).await;
    let page = std::fs::read_to_string(kit::workspace().join("docs/tasks/sandbox.md")).unwrap();
    let blocks = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    for (file, block) in ["credential.json", "seed.json"].iter().zip(blocks) {
        std::fs::write(sandbox.folder.join(file), block).unwrap();
    }
    // One shell, because the page exports variables.
    let script: Vec<String> =
        documented.map(|command| command.text.replace(PORT, &sandbox.address)).collect();
    assert!(script.len() >= 9, "{script:?}");
    let script = format!("set -e\n{}", script.join("\necho\n").replace("curl ", "curl -sS --fail "));
    let printed = run(&script, &sandbox.folder).await;
    assert_eq!(printed.matches("\"credential_id\":").count(), 2, "created and listed: {printed}");
    assert!(printed.contains("\"now\":\"2028-01-01T00:00:0"), "{printed}");
    let expired: Vec<_> = match sandbox.request("GET", PATH, None).await {
        planned if planned.status == 429 => panic!("a reset forgets what is planned: {planned:?}"),
        listed => {
            listed.json()["credentials"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect()
        }
    };
    assert_eq!(expired, ["expired"]);
}

async fn run(script: &str, folder: &Path) -> String {
    let (script, folder) = (script.to_owned(), folder.to_owned());
    let run = move || Command::new("sh").args(["-c", &script]).current_dir(folder).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
