//! What helm prints after an install.

use std::path::Path;

use serde_json::{Value, json};

use crate::rendering::{chart, helm};

fn notes(values: &Value) -> String {
    let chart = chart().display().to_string();
    let args = ["install", "graph-credential-operator", &chart, "--namespace", "mail", "--dry-run=client"];
    let printed = helm().run(Path::new("/dev/null"), &args, values).unwrap_or_else(|error| panic!("{error}"));
    printed.split_once("NOTES:").unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_notes_name_the_image_and_say_that_it_must_be_built_first() {
    let warning = "No public registry has this image";
    let by_default = notes(&json!({}));
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        by_default.contains(&format!("The pods run the image graph-credential-operator:{version}.")),
        "{by_default}"
    );
    assert!(by_default.contains(warning), "{by_default}");
    for image in [json!({"registry": "r.example.com"}), json!({"repository": "r.example.com/gco"})] {
        let printed = notes(&json!({"image": image}));
        assert!(
            printed.contains("The pods run the image r.example.com/") && !printed.contains(warning),
            "{printed}"
        );
    }
}

#[test]
fn the_notes_say_how_to_test_the_release_in_its_own_namespace() {
    let command = "helm test graph-credential-operator --namespace mail";
    assert!(notes(&json!({"namespaceOverride": "operators"})).contains(command));
    assert!(!notes(&json!({"helmTest": {"enabled": false}})).contains("helm test"));
}

#[test]
fn the_notes_say_how_to_install_again_after_an_uninstall_that_kept_the_crds() {
    assert!(notes(&json!({})).contains("--take-ownership"));
    for crds in [json!({"keep": false}), json!({"enabled": false})] {
        assert!(!notes(&json!({"crds": crds})).contains("--take-ownership"), "{crds}");
    }
}

#[test]
fn the_notes_name_an_object_that_was_left_out() {
    let values = |mode: &str| json!({"podMonitor": {"enabled": true, "renderMode": mode}});
    let warning = "podMonitor.enabled is without effect";
    assert!(notes(&values("skipIfMissing")).contains(warning));
    for other in [json!({}), values("alwaysRender")] {
        assert!(!notes(&other).contains(warning), "{other}");
    }
}

#[test]
fn the_notes_say_where_runbooks_have_no_address() {
    let values = |base: &str| json!({"prometheusRule": {"enabled": true, "runbookBaseUrl": base}});
    let warning = "set prometheusRule.runbookBaseUrl";
    assert!(notes(&values("")).contains(warning));
    for other in [json!({}), values("https://runbooks.example.com")] {
        assert!(!notes(&other).contains(warning), "{other}");
    }
}

#[test]
fn the_notes_name_the_namespace_and_the_registry_in_use() {
    let printed =
        notes(&json!({"namespaceOverride": "operators", "global": {"imageRegistry": "mirror.example.com"}}));
    assert!(printed.contains("kubectl --namespace operators rollout status"), "{printed}");
    assert!(printed.contains("The pods run the image mirror.example.com/"), "{printed}");
    assert!(!printed.contains("No public registry has this image"), "{printed}");
}
