//! Identities: the operator signs in to Microsoft Graph with an `EntraIdentity`, and says what is missing.

use graph_credential_operator::api::conditions::{Condition, ConditionStatus, ConditionType, find};
use graph_credential_operator::api::{EntraIdentity, RECONCILE_REQUESTED_AT};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kit::cluster::User;
use kit::entra::{Entra, Outcome, SentCredential};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{QUIET_TIME, TENANT, TestEnv, eventually};

/// The app of the identity, which is not the one whose secret goes to Woodpecker.
const APP: &str = "0a0a0a0a-480e-4a17-9b85-3467967bd179";
const OTHER_TENANT: &str = "cccccccc-aaf4-4f7c-9dc2-2c9160d1cb32";
const CLIENT_APP: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const READ: &str = "Application.Read.All";

/// A test environment whose operator uses identities and has a folder for ServiceAccount tokens.
struct Identities {
    env: TestEnv,
    tokens: tempfile::TempDir,
}

impl Identities {
    async fn start() -> Self {
        let mut env = TestEnv::bare().await;
        let tokens = tempfile::tempdir().unwrap();
        let folder = tokens.path().display().to_string();
        env.extra_args = vec!["--entra-identities".into(), "--federated-token-dir".into(), folder];
        env.start_operator().await;
        Self { env, tokens }
    }

    /// Writes a token of a real ServiceAccount, as the kubelet does. Returns its issuer and its subject.
    async fn mount_token(&self) -> (String, String) {
        let accounts: Api<ServiceAccount> = self.env.api();
        let account = json!({"metadata": {"name": "operator"}});
        let _exists =
            accounts.create(&PostParams::default(), &serde_json::from_value(account).unwrap()).await;
        let request: TokenRequest =
            serde_json::from_value(json!({"spec": {"audiences": [AUDIENCE], "expirationSeconds": 3600}}))
                .unwrap();
        let issued = accounts.create_token_request("operator", &PostParams::default(), &request).await;
        let token = issued.unwrap().status.unwrap().token;
        let claims = claims(&token);
        std::fs::write(self.tokens.path().join("global"), format!("{token}\n")).unwrap();
        let claim = |name: &str| claims[name].as_str().unwrap().to_owned();
        (claim("iss"), claim("sub"))
    }

    async fn apply(&self, spec: Value) -> EntraIdentity {
        self.env.apply("agency", json!({"spec": spec})).await.expect("the identity can be applied")
    }

    /// Requests a check of all tenants now.
    async fn request_check(&self) {
        let at = jiff::Timestamp::now().to_string();
        let patch = json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: at}}});
        let api: Api<EntraIdentity> = self.env.api();
        api.patch("agency", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    async fn wait_for(&self, type_: ConditionType, status: ConditionStatus, reason: &str) -> EntraIdentity {
        let what = format!("{type_:?} {status:?} {reason}");
        eventually(&what, || async {
            let object: EntraIdentity =
                self.env.api().get("agency").await.map_err(|error| error.to_string())?;
            match condition(&object, type_) {
                Some(found) if found.status == status && found.reason == reason => Ok(object),
                _ => Err(format!("status {:#?}\n{}", object.status, self.env.log())),
            }
        })
        .await
    }

    async fn wait_until_ready(&self) -> EntraIdentity {
        self.wait_for(ConditionType::Ready, ConditionStatus::True, "Authenticated").await
    }

    /// Token requests of the identity's app in a tenant.
    fn sign_ins(&self, tenant: &str) -> usize {
        self.env.entra.count(tenant, APP)
    }
}

/// The claims of a JWT.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn condition(object: &EntraIdentity, type_: ConditionType) -> Option<&Condition> {
    find(&object.status.as_ref()?.conditions, type_)
}

fn message(object: &EntraIdentity, type_: ConditionType) -> &str {
    condition(object, type_).map(|found| found.message.as_str()).unwrap_or_default()
}

fn spec(auth: &Value) -> Value {
    json!({"clientId": APP, "tenantId": TENANT, "auth": auth})
}

fn grant(tenant: &str) -> Value {
    json!({"namespaces": ["client-a"], "tenantId": tenant, "clientIds": [CLIENT_APP]})
}

fn federated() -> Value {
    spec(&json!({"federatedToken": {}}))
}

fn sent(entra: &Entra) -> Vec<SentCredential> {
    let own = entra.requests().into_iter().filter(|it| it.client == APP && it.outcome == Outcome::Issued);
    own.map(|it| it.credential).collect()
}

fn fixture(name: &str) -> String {
    let file = kit::workspace().join("tests/kit/fixtures/identity").join(name);
    std::fs::read_to_string(file).unwrap()
}

#[tokio::test]
async fn an_identity_signs_in_with_the_token_of_a_service_account_and_names_what_entra_does_not_trust() {
    let identities = Identities::start().await;
    let entra = &identities.env.entra;
    identities.apply(federated()).await;
    let object = identities.wait_for(ConditionType::Ready, ConditionStatus::False, "TokenFileUnusable").await;
    assert!(message(&object, ConditionType::Ready).contains(AUDIENCE), "{object:#?}");
    let (issuer, subject) = identities.mount_token().await;

    entra.add_app(TENANT, APP);
    let unready = async |reason| {
        identities.request_check().await;
        identities.wait_for(ConditionType::Ready, ConditionStatus::False, reason).await
    };
    let object = unready("FederationNotTrusted").await;
    let text = message(&object, ConditionType::Ready).to_owned();
    assert!(text.contains(&issuer) && text.contains(&subject) && text.contains(AUDIENCE), "{text}");
    assert!(condition(&object, ConditionType::Stalled).is_some(), "{object:#?}");

    entra.trust_federated(TENANT, APP, &issuer, "system:serviceaccount:a:b", AUDIENCE);
    assert!(message(&unready("SubjectNotTrusted").await, ConditionType::Ready).contains(&subject));
    entra.distrust_federated(TENANT, APP);
    entra.trust_federated(TENANT, APP, "https://other.example/", &subject, AUDIENCE);
    assert!(message(&unready("IssuerNotTrusted").await, ConditionType::Ready).contains(&issuer));
    entra.distrust_federated(TENANT, APP);
    entra.trust_federated(TENANT, APP, &issuer, &subject, "api://other");
    assert!(message(&unready("AudienceNotTrusted").await, ConditionType::Ready).contains(AUDIENCE));
    entra.set_issuer_unreachable(TENANT, APP, true);
    assert!(message(&unready("IssuerUnreachable").await, ConditionType::Ready).contains(&issuer));

    entra.set_issuer_unreachable(TENANT, APP, false);
    entra.trust_federated(TENANT, APP, &issuer, &subject, AUDIENCE);
    identities.request_check().await;
    let object = identities.wait_until_ready().await;
    assert!(condition(&object, ConditionType::Stalled).is_none());
    assert_eq!(sent(entra), [SentCredential::FederatedToken]);
    identities.env.wait_for_event("agency", "SubjectNotTrusted: ").await;
    identities.env.wait_for_event("agency", "Authenticated: ").await;
}

#[tokio::test]
async fn an_identity_signs_in_with_a_certificate() {
    let identities = Identities::start().await;
    let (entra, env) = (&identities.env.entra, &identities.env);
    entra.add_app(TENANT, APP);
    identities.apply(spec(&json!({"certificateSecretRef": {"name": "graph-cert"}}))).await;
    let unready =
        async |reason| identities.wait_for(ConditionType::Ready, ConditionStatus::False, reason).await;
    unready("SecretNotFound").await;
    let (certificate, key) = (fixture("tls.crt"), fixture("tls.key"));
    env.secret("graph-cert", &[("tls.crt", &certificate), ("tls.key", &fixture("other.key"))]).await;
    let object = unready("CertificateInvalid").await;
    assert!(
        message(&object, ConditionType::Ready).contains("does not belong to the certificate"),
        "{object:#?}"
    );
    env.secret("graph-cert", &[("tls.crt", &certificate), ("tls.key", &key)]).await;
    unready("CertificateNotTrusted").await;
    assert!(entra.trust_certificate(TENANT, APP, certificate.as_bytes(), key.as_bytes()));
    identities.request_check().await;
    identities.wait_until_ready().await;
    assert_eq!(sent(entra), [SentCredential::Certificate]);
    assert!(!env.log().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_changed_client_secret_of_an_identity_is_used_within_a_minute() {
    let identities = Identities::start().await;
    let (entra, env) = (&identities.env.entra, &identities.env);
    entra.set_secrets(TENANT, APP, &["identity-one"]);
    env.secret("graph-secret", &[("client-secret", "identity-one")]).await;
    identities.apply(spec(&json!({"clientSecretRef": {"name": "graph-secret"}}))).await;
    identities.wait_until_ready().await;
    env.secret("graph-secret", &[("client-secret", "wrong-secret")]).await;
    identities.wait_for(ConditionType::Ready, ConditionStatus::False, "InvalidClientSecret").await;
    entra.expire_secret(TENANT, APP, "identity-old");
    env.secret("graph-secret", &[("client-secret", "identity-old")]).await;
    identities.wait_for(ConditionType::Ready, ConditionStatus::False, "SecretExpired").await;
    env.secret("graph-secret", &[("client-secret", "identity-one")]).await;
    identities.wait_until_ready().await;
    let log = env.log();
    for secret in ["identity-one", "wrong-secret", "identity-old"] {
        assert!(!log.contains(secret), "the log shows a secret");
    }
    assert!(!log.contains(kit::entra::TOKEN_SIGNATURE), "the log shows a token");
}

#[tokio::test]
async fn a_tenant_without_consent_or_permission_is_named_with_its_consent_url() {
    let identities = Identities::start().await;
    let (entra, env) = (&identities.env.entra, &identities.env);
    entra.set_secrets(TENANT, APP, &["identity-one"]);
    entra.trust_federated(TENANT, APP, "https://issuer.example", "subject", AUDIENCE);
    entra.add_tenant(OTHER_TENANT);
    env.secret("graph-secret", &[("client-secret", "identity-one")]).await;
    let mut whole = spec(&json!({"clientSecretRef": {"name": "graph-secret"}}));
    whole["grants"] = json!([grant(OTHER_TENANT)]);
    identities.apply(whole).await;
    let object =
        identities.wait_for(ConditionType::TenantsReady, ConditionStatus::False, "TenantsNotReady").await;
    assert!(condition(&object, ConditionType::Ready).is_some_and(|it| it.status == ConditionStatus::True));
    let problem = &object.status.as_ref().unwrap().tenants[0];
    let url = format!("{}/{OTHER_TENANT}/adminconsent?client_id={APP}", entra.url());
    assert_eq!((problem.tenant_id.as_str(), problem.reason.as_str()), (OTHER_TENANT, "ConsentMissing"));
    assert_eq!(problem.consent_url.as_deref(), Some(url.as_str()));

    let own = format!("{{namespace=\"{}\",name=\"agency\",reason=", env.namespace);
    let series = format!("graph_credential_identity_tenants_ready{own}\"TenantsNotReady\"}} 0\n");
    let ready = format!("graph_credential_identity_ready{own}\"Authenticated\"}} 1\n");
    eventually("the metrics say so too", || async {
        let (_, metrics) = env.get("/metrics").await;
        if metrics.contains(&series) && metrics.contains(&ready) { Ok(()) } else { Err(metrics) }
    })
    .await;
    let kubeconfig = env.cluster.kubeconfig_for(User::Operator).display().to_string();
    let status = ["status", "--namespace", &env.namespace, "--kubeconfig", &kubeconfig];
    let printed = crate::command_line::run(&status, "").await;
    assert!(printed.out.contains("identities:\n") && printed.out.contains("agency"), "{printed:?}");

    entra.consent(OTHER_TENANT, APP, &["User.Read.All"]);
    identities.request_check().await;
    eventually("the permission is missing", || async {
        let object: EntraIdentity = env.api().get("agency").await.unwrap();
        let tenants = object.status.map(|status| status.tenants).unwrap_or_default();
        match tenants.first() {
            Some(problem) if problem.reason == "PermissionMissing" => Ok(()),
            _ => Err(format!("{tenants:#?}\n{}", env.log())),
        }
    })
    .await;
    // Nobody requests a check: the operator tries again automatically, with a new token.
    entra.consent(OTHER_TENANT, APP, &[READ]);
    let object =
        identities.wait_for(ConditionType::TenantsReady, ConditionStatus::True, "Authenticated").await;
    let status = object.status.unwrap();
    assert_eq!((status.tenants.len(), status.tenant_count), (0, Some(2)));
    assert!(status.last_checked_time.is_some());
}

#[tokio::test]
async fn a_settled_identity_costs_nothing_and_a_restart_signs_in_nowhere() {
    let mut identities = Identities::start().await;
    identities.env.entra.set_secrets(TENANT, APP, &["identity-one"]);
    identities.env.entra.consent(TENANT, APP, &[READ]);
    identities.env.entra.consent(OTHER_TENANT, APP, &[READ]);
    identities.env.entra.trust_federated(TENANT, APP, "https://issuer.example", "subject", AUDIENCE);
    identities.env.secret("graph-secret", &[("client-secret", "identity-one")]).await;
    let mut whole = spec(&json!({"clientSecretRef": {"name": "graph-secret"}}));
    whole["grants"] = json!([grant(OTHER_TENANT)]);
    identities.apply(whole.clone()).await;
    identities.wait_for(ConditionType::TenantsReady, ConditionStatus::True, "Authenticated").await;
    let requests = |of: &Identities| (of.sign_ins(TENANT), of.sign_ins(OTHER_TENANT));
    assert_eq!(requests(&identities), (1, 1), "one token for each tenant");

    let mark = identities.env.cluster.audit_mark().unwrap();
    identities.env.stop_operator().await;
    identities.env.start_operator().await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(requests(&identities), (1, 1));
    let writes = identities.env.status_writes(mark);
    assert!(writes.is_empty(), "{writes:#?}");

    whole["grants"] = json!([grant(OTHER_TENANT), grant(TENANT)]);
    identities.apply(whole).await;
    eventually("the changed grants are observed", || async {
        let object: EntraIdentity = identities.env.api().get("agency").await.unwrap();
        let observed = object.status.map(|status| status.observed_generation);
        if observed == object.metadata.generation { Ok(()) } else { Err(format!("{observed:?}")) }
    })
    .await;
    assert_eq!(requests(&identities), (1, 1), "a grant in a known tenant needs no new token");
    identities.request_check().await;
    eventually("a requested check signs in", || async {
        let found = requests(&identities);
        if found.0 > 1 && found.1 > 1 { Ok(()) } else { Err(format!("{found:?}\n{}", identities.env.log())) }
    })
    .await;
}

#[tokio::test]
async fn identities_outside_of_the_operators_namespace_are_not_read() {
    let identities = Identities::start().await;
    let env = &identities.env;
    env.entra.set_secrets(TENANT, APP, &["identity-one"]);
    let elsewhere = env.cluster.create_namespace("tenant").await.unwrap();
    let api: Api<EntraIdentity> = Api::namespaced(env.client.clone(), &elsewhere);
    let object = json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "EntraIdentity", "metadata": {"name": "own"},
        "spec": federated()
    });
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    identities.mount_token().await;
    let mark = env.cluster.audit_mark().unwrap();
    tokio::time::sleep(QUIET_TIME).await;
    let entries = env.cluster.audit_since(mark).unwrap();
    let asked = entries.iter().filter(|it| {
        it.user == User::Operator.name()
            && it.resource == "entraidentities"
            && it.namespace.as_deref() != Some(&env.namespace)
    });
    // Other tests have operators of their own, which serve their own namespaces.
    assert!(
        asked.clone().all(|it| it.namespace.as_deref() != Some(&elsewhere)),
        "{:#?}",
        asked.collect::<Vec<_>>()
    );
    assert_eq!(identities.sign_ins(TENANT), 0);
    let object = api.get("own").await.unwrap();
    assert!(object.status.is_none_or(|status| status.observed_generation == -1));
    api.delete("own", &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn verify_signs_in_with_an_identity() {
    let env = TestEnv::bare().await;
    env.entra.set_secrets(TENANT, APP, &["identity-one"]);
    env.entra.set_roles(TENANT, APP, &["User.Read.All"]);
    env.secret("graph-secret", &[("client-secret", "identity-one")]).await;
    let mut whole = spec(&json!({"clientSecretRef": {"name": "graph-secret"}}));
    whole["grants"] = json!([grant(TENANT), grant(OTHER_TENANT)]);
    let _applied: EntraIdentity = env.apply("agency", json!({"spec": whole})).await.unwrap();
    let (kubeconfig, authority) = (env.cluster.kubeconfig_for(User::Operator), env.entra.url());
    let kubeconfig = kubeconfig.display().to_string();
    let verify = async |more: &[&str]| {
        let mut args = vec!["verify", "--identity", "agency", "--microsoft-authority", &authority];
        args.extend(["--dns-server", "127.0.0.1:9", "--kubeconfig", &kubeconfig]);
        args.extend(["--operator-namespace", &env.namespace, "-o", "json"]);
        args.extend(more);
        let printed = crate::command_line::run(&args, "").await;
        assert!(
            !printed.out.contains("identity-one") && !printed.error.contains("identity-one"),
            "{printed:?}"
        );
        let found: Value =
            serde_json::from_str(&printed.out).unwrap_or_else(|error| panic!("{error}: {printed:?}"));
        (
            printed.code,
            found["reason"].as_str().unwrap().to_owned(),
            found["message"].as_str().unwrap().to_owned(),
        )
    };
    let (code, reason, message) = verify(&[]).await;
    assert_eq!((code, reason.as_str()), (Some(3), "PermissionMissing"), "{message}");
    env.entra.set_roles(TENANT, APP, &[READ]);
    assert_eq!(verify(&[]).await.1, "TokenIssued");
    let described = ["describe", "ei/agency", "--namespace", &env.namespace, "--kubeconfig", &kubeconfig];
    let described = crate::command_line::run(&described, "").await;
    assert!(described.code == Some(0) && described.out.contains("/agency"), "{described:?}");
    env.entra.add_tenant(OTHER_TENANT);
    env.entra.trust_federated(TENANT, APP, "https://issuer.example", "subject", AUDIENCE);
    let (code, reason, message) = verify(&["--tenant-id", OTHER_TENANT]).await;
    assert_eq!((code, reason.as_str()), (Some(3), "ConsentMissing"));
    assert!(message.contains("/adminconsent?client_id="), "{message}");
}
