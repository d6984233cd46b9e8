//! `check --only-if-release`: a check of nothing but what helm installed.

use super::check::{check, found, kubeconfig_of_nobody};
use super::release::NAME;
use super::*;

#[tokio::test]
async fn check_only_if_release_checks_nothing_but_what_helm_installed() {
    let release = Release::install(|_| json!({})).await;
    let env = &release.env;
    let of = |release: &'static str| ["--only-if-release", release, "--deployment", NAME];
    let other = check(env, &of("other")).await;
    assert_eq!((other.code, other.out.as_str()), (Some(0), ""), "{other:?}");
    assert!(other.error.contains("was not installed by helm as release other"), "{other:?}");
    assert!(other.error.contains("nothing was checked"), "{other:?}");
    let missing = check(env, &["--only-if-release", NAME, "--deployment", "missing"]).await;
    assert_eq!((missing.code, missing.out.as_str()), (Some(0), ""), "{missing:?}");
    let own = check(env, &of(NAME)).await;
    assert!(own.code == Some(3) && found(&own, "leader").starts_with("failed"), "{own:?}");
    let alone = check(env, &[&of(NAME)[..], &["--leader-elect=false"]].concat()).await;
    assert!(found(&alone, "leader").starts_with("unknown"), "{alone:?}");

    for (flags, lacks) in [(&of(NAME)[..2], "--deployment"), (&of(NAME)[2..], "--only-if-release")] {
        let lonely = check(env, flags).await;
        assert!(lonely.code == Some(2) && lonely.error.contains(lacks), "{lonely:?}");
    }

    // Without the right to know, it goes on.
    let nobody = kubeconfig_of_nobody(env).await.display().to_string();
    let nobody = check(env, &[&of("other")[..], &["--kubeconfig", &nobody]].concat()).await;
    assert!(found(&nobody, "release").starts_with("unknown"), "{nobody:?}");
    assert!(found(&nobody, "leader").starts_with("unknown"), "{nobody:?}");
}
