//! Checks that the workflows pin actions to a commit, because a tag can be moved.

use std::fs;
use std::path::PathBuf;

#[test]
fn actions_in_workflows_are_pinned_to_a_commit() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".github").join("workflows");
    let mut pinned = 0;
    for file in fs::read_dir(folder).expect("there are workflows") {
        let path = file.expect("a workflow can be found").path();
        let text = fs::read_to_string(path).expect("it can be read");
        for used in
            text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "))
        {
            // An action of this repository, at the same commit.
            if used.starts_with("./") {
                continue;
            }
            let (action, rest) = used.split_once('@').expect(used);
            let (commit, version) = rest.split_once(" # v").expect("a commit, and the version that it is");
            let is_commit = commit.len() == 40 && commit.chars().all(|it| it.is_ascii_hexdigit());
            assert!(is_commit && !version.is_empty(), "{action} is not pinned: {used}");
            pinned += 1;
        }
    }
    assert!(pinned > 5, "{pinned} actions");
}
