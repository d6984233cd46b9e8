//! Versions that are valid for a chart and invalid as a label.

use std::path::Path;

use serde_json::json;

use crate::rendering::{Rendered, chart, helm};

/// Whether a text is a valid value of a label.
fn is_label(text: &str) -> bool {
    let ends = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= 63 && text.chars().all(is_inner) && (text.is_empty() || ends(text))
}

#[test]
fn labels_are_valid_for_every_version_of_the_chart_and_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().display().to_string();
    // The cuts after 63 characters would end with a dash and with a dot.
    let long = format!("1.2.3-{}-{}", "a".repeat(56), "b".repeat(20));
    let longer = format!("1.2.3-{}.{}", "a".repeat(30), "b".repeat(40));
    for version in ["1.2.3", "1.2.3+build.5", "1.2.3-rc.1+g0123abc", &long, &longer] {
        let chart = chart().display().to_string();
        let package =
            ["package", &chart, "--version", version, "--app-version", version, "--destination", &to];
        helm().plain(Path::new("/dev/null"), &package).unwrap();
        let archive = folder.path().join(format!("graph-credential-operator-{version}.tgz"));
        let rendered = Rendered(helm().objects(&archive, "mail", &json!({})).unwrap());
        for object in &rendered.0 {
            let pod = object.pointer("/spec/template/metadata/labels");
            for (key, value) in object
                .pointer("/metadata/labels")
                .into_iter()
                .chain(pod)
                .filter_map(|it| it.as_object())
                .flatten()
            {
                assert!(is_label(value.as_str().unwrap()), "{key}: {value}");
            }
        }
        let image =
            rendered.get("Deployment", "")["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        assert_eq!(image, format!("graph-credential-operator:{}", version.replace('+', "_")));
        let label = &rendered.get("Deployment", "")["metadata"]["labels"]["app.kubernetes.io/version"];
        assert!(version.replace('+', "_").starts_with(label.as_str().unwrap()), "{label}");
    }
}

#[test]
fn names_of_the_hooks_are_short_enough_for_the_labels_of_their_pods() {
    let values = json!({"fullnameOverride": "f".repeat(80), "nameOverride": "n".repeat(80)});
    let rendered = Rendered(helm().objects(&chart(), "mail", &values).unwrap());
    let job = rendered.get("Job", "");
    assert!(is_label(job["metadata"]["name"].as_str().unwrap()), "{job}");
    let test = rendered.get("Pod", "");
    assert!(is_label(test["metadata"]["name"].as_str().unwrap()), "{test}");
    for metadata in [&job["spec"]["template"]["metadata"], &test["metadata"]] {
        for (key, value) in metadata["labels"].as_object().unwrap() {
            assert!(is_label(value.as_str().unwrap()), "{key}: {value}");
        }
    }
}
