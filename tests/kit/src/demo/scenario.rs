//! The steps of the demo: from apply to delete, to the store, to rotation and to the sandbox, each with the
//! manifest, the visible result, and the checks.

mod rotation;
mod sandbox;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::Difference;
use super::fixture::{CLIENT, Fixture, GOOD_SECRETS, NAMESPACE, OTHER_CLIENT, TENANT};
use super::manifests::{ACCOUNT_YAML, CREDENTIAL_YAML, DELETE_YAML, EXPIRY, NAMESPACE_YAML, STORE_YAML};
use super::screen::Screen;
use super::woodpecker::API_KEY;
use crate::entra::Outcome;

/// How many credentials besides the first one are in the store when its key is rotated.
const FLEET: usize = 40;

/// How many lines of a table are shown.
const MAX_TABLE_LINES: usize = 6;

/// The result of one step.
struct StepResult {
    title: &'static str,
    took: Duration,
    difference: Option<Difference>,
}

/// Runs all steps; returns whether every check passed.
pub(super) async fn run(fixture: &Fixture, screen: &Screen) -> bool {
    let mut runner = Runner { fixture, screen, results: Vec::new(), id: None };
    runner.step("create: from apply to Ready", Runner::create).await;
    runner.step("rotate the secret: updated at Woodpecker, under the same id", Runner::rotate).await;
    runner
        .step(
            "a wrong secret: the status reports it, and the old registration stays",
            Runner::reject_wrong_secret,
        )
        .await;
    runner.step("the right secret again: Ready", Runner::fix).await;
    runner.step("a secret that expires in ten days: the status warns", Runner::expire).await;
    runner.step("delete with Retain (the default): the credential stays at Woodpecker", Runner::retain).await;
    runner.step("delete with Delete: the credential is removed, and nothing else", Runner::delete).await;
    runner.step("destination.store: encrypted in the cluster, no plaintext in etcd", Runner::store).await;
    runner.step("rotate the key of the store: every record is re-encrypted", Runner::rotate_key).await;
    runner
        .step("rotation: the operator creates the client secret, and replaces it", Runner::rotate_at_entra)
        .await;
    runner.step("sandbox: the same API in memory, with answers on demand", Runner::sandbox).await;
    runner.summary()
}

/// Applies a new credential and prints how to experiment with it.
pub(super) async fn prepare_for_experiments(fixture: &Fixture, screen: &Screen) -> Result<(), Difference> {
    for credential in fixture.woodpecker.credentials().await? {
        fixture.woodpecker.remove(credential.credential_id).await?;
    }
    fixture.secret("sales-eu-graph", GOOD_SECRETS[0], EXPIRY).await?;
    fixture.apply(CREDENTIAL_YAML, &[]).await?;
    screen.title("everything keeps running");
    screen.block(
        "try, in another terminal (`make kubectl` builds kubectl if you have none):",
        &format!(
            "export KUBECONFIG={}\n\
             kubectl -n {NAMESPACE} get mgc -o wide\n\
             kubectl -n {NAMESPACE} describe mgc sales-eu\n\
             curl -H 'x-api-key: {API_KEY}' {}\n\
             kubectl -n {NAMESPACE} patch secret sales-eu-graph -p '{{\"stringData\":{{\"client_secret\":\"{}\"}}}}'",
            fixture.cluster.kubeconfig_path().display(),
            fixture.woodpecker.url(),
            GOOD_SECRETS[1]
        ),
    );
    screen.line(&format!("Microsoft's double accepts: {}", GOOD_SECRETS.join(", ")));
    screen.line("Ctrl-C stops and removes everything");
    Ok(())
}

struct Runner<'a> {
    fixture: &'a Fixture,
    screen: &'a Screen,
    results: Vec<StepResult>,
    id: Option<i64>,
}

// === impl Runner ===

impl Runner<'_> {
    async fn step(
        &mut self,
        title: &'static str,
        run: impl AsyncFnOnce(&mut Self) -> Result<(), Difference>,
    ) {
        self.screen.step(self.results.len() + 1, title);
        let (started, since) = (Instant::now(), Timestamp::now());
        let ended = run(self).await;
        let ended = match self.show(since).await {
            Ok(()) => ended,
            Err(difference) => ended.and(Err(difference)),
        };
        let took = started.elapsed();
        match &ended {
            Ok(()) => self.screen.passed(&format!("passed, in {:.1} s", took.as_secs_f64())),
            Err(difference) => self.screen.failed(&difference.to_string()),
        }
        self.results.push(StepResult { title, took, difference: ended.err() });
    }

    /// Shows the table that a user sees, and the requests that the remote services received.
    async fn show(&self, since: Timestamp) -> Result<(), Difference> {
        let table = self.fixture.table().await?;
        let table = if table.is_empty() { "No resources found in mail namespace.".to_owned() } else { table };
        self.screen.block("$ kubectl -n mail get mgc -o wide", &shortened(&table));
        let requests = self.fixture.entra.requests().into_iter().filter(|request| request.at >= since);
        let mut received: Vec<String> = requests
            .map(|request| {
                let outcome = match request.outcome {
                    Outcome::Issued => "token issued".to_owned(),
                    Outcome::Rejected { status, error, code } => format!("{status} {error}, AADSTS{code}"),
                    other => format!("{other:?}"),
                };
                format!(
                    "Microsoft   POST token app={}… → {outcome}",
                    request.client.get(..4).unwrap_or_default()
                )
            })
            .collect();
        received.extend(
            self.fixture.woodpecker.summary(since).into_iter().map(|line| format!("Woodpecker  {line}")),
        );
        if received.is_empty() {
            received.push("nothing".to_owned());
        }
        self.screen.block("requests to the remote services:", &counted(&received).join("\n"));
        Ok(())
    }

    async fn create(&mut self) -> Result<(), Difference> {
        self.screen
            .block("$ kubectl apply --server-side -f -", &format!("{ACCOUNT_YAML}---\n{CREDENTIAL_YAML}"));
        self.screen.line("and a Secret sales-eu-graph with client_secret and secret_expires_at");
        self.fixture.apply(NAMESPACE_YAML, &[]).await?;
        self.fixture.secret("sales-eu-graph", GOOD_SECRETS[0], EXPIRY).await?;
        let base_url = self.fixture.woodpecker.base_url();
        let values = [("(the API key)", API_KEY), ("(where the REST API is served)", base_url.as_str())];
        self.fixture.apply(ACCOUNT_YAML, &values).await?;
        self.fixture.apply(CREDENTIAL_YAML, &[]).await?;
        let object =
            self.fixture.until("sales-eu", "Ready", |object| is(object, "Ready", "True", "Ready")).await?;
        let id = object["status"]["credentialId"].as_i64();
        self.id = id;
        check_equal("status.credentialId", &id.is_some(), &true)?;
        check_equal("status.expiresAt", &object["status"]["expiresAt"], &Value::from(EXPIRY))?;
        self.holds("MS Graph app", GOOD_SECRETS[0], EXPIRY).await
    }

    async fn rotate(&mut self) -> Result<(), Difference> {
        let expiry = "2028-05-31T00:00:00Z";
        self.screen.line("the Secret sales-eu-graph gets a new client_secret and secret_expires_at");
        self.fixture.secret("sales-eu-graph", GOOD_SECRETS[1], expiry).await?;
        let object = self
            .fixture
            .until("sales-eu", "the new expiry", |object| expires_at(object) == Some(expiry))
            .await?;
        check_equal("status.credentialId", &object["status"]["credentialId"].as_i64(), &self.id)?;
        self.holds("MS Graph app", GOOD_SECRETS[1], expiry).await
    }

    async fn reject_wrong_secret(&mut self) -> Result<(), Difference> {
        let (before, writes) = (self.registration().await?, self.fixture.woodpecker.writes());
        self.screen.line("the Secret sales-eu-graph gets a client_secret with a typo");
        self.fixture.secret("sales-eu-graph", "first-valeu", "2028-05-31T00:00:00Z").await?;
        let refused = |object: Option<&Value>| is(object, "Verified", "False", "InvalidClientSecret");
        let object = self.fixture.until("sales-eu", "Verified False InvalidClientSecret", refused).await?;
        let message = condition(&object, "Ready")["message"].as_str().unwrap_or_default().to_owned();
        self.screen.block("the message of Ready:", &message);
        check_equal("status.registration", &self.registration().await?, &before)?;
        check_equal("writes to Woodpecker", &self.fixture.woodpecker.writes(), &writes)?;
        self.holds("MS Graph app", GOOD_SECRETS[1], "2028-05-31T00:00:00Z").await
    }

    async fn fix(&mut self) -> Result<(), Difference> {
        let expiry = "2028-06-30T00:00:00Z";
        self.screen.line("the Secret sales-eu-graph gets the right client_secret");
        self.fixture.secret("sales-eu-graph", GOOD_SECRETS[2], expiry).await?;
        let fixed = |object: Option<&Value>| {
            is(object, "Ready", "True", "Ready") && expires_at(object) == Some(expiry)
        };
        let object = self.fixture.until("sales-eu", "Ready with the new expiry", fixed).await?;
        check_equal("status.credentialId", &object["status"]["credentialId"].as_i64(), &self.id)?;
        self.holds("MS Graph app", GOOD_SECRETS[2], expiry).await
    }

    async fn expire(&mut self) -> Result<(), Difference> {
        let soon = Timestamp::now() + Duration::from_secs(10 * 24 * 3600);
        let soon = soon.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.screen.line(&format!("the Secret sales-eu-graph gets the expiry {soon}"));
        self.fixture.secret("sales-eu-graph", GOOD_SECRETS[2], &soon).await?;
        let warns = |object: Option<&Value>| {
            is(object, "Expiring", "True", "ExpiresSoon") && expires_at(object) == Some(&soon)
        };
        let object = self.fixture.until("sales-eu", "Expiring True ExpiresSoon", warns).await?;
        let message = condition(&object, "Expiring")["message"].as_str().unwrap_or_default().to_owned();
        self.screen.block("the message of Expiring:", &message);
        check_equal("Ready", &is(Some(&object), "Ready", "True", "Ready"), &true)?;
        self.holds("MS Graph app", GOOD_SECRETS[2], &soon).await
    }

    async fn retain(&mut self) -> Result<(), Difference> {
        self.screen.line("$ kubectl -n mail delete mgc sales-eu");
        self.fixture.delete("sales-eu").await?;
        self.fixture.until("sales-eu", "the object is deleted", |object| object.is_none()).await?;
        check_equal("credentials at Woodpecker", &self.fixture.woodpecker.credentials().await?.len(), &1)
    }

    async fn delete(&mut self) -> Result<(), Difference> {
        self.screen.block("$ kubectl apply --server-side -f -", DELETE_YAML);
        self.fixture.secret("sales-us-graph", GOOD_SECRETS[0], EXPIRY).await?;
        self.fixture.apply(DELETE_YAML, &[]).await?;
        self.fixture.until("sales-us", "Ready", |object| is(object, "Ready", "True", "Ready")).await?;
        check_equal("credentials at Woodpecker", &self.fixture.woodpecker.credentials().await?.len(), &2)?;
        self.screen.block("$ kubectl -n mail get mgc -o wide", &self.fixture.table().await?);
        self.screen.line("$ kubectl -n mail delete mgc sales-us");
        self.fixture.delete("sales-us").await?;
        self.fixture.until("sales-us", "the object is deleted", |object| object.is_none()).await?;
        let left = self.fixture.woodpecker.credentials().await?;
        check_equal(
            "the remaining credential",
            &left.iter().map(|one| one.client_id.as_str()).collect::<Vec<_>>(),
            &vec![CLIENT],
        )?;
        check_equal(
            "verifications of the other app",
            &(self.fixture.entra.count(TENANT, OTHER_CLIENT) > 0),
            &true,
        )
    }

    /// Checks that Woodpecker holds one credential, under the id of the first step, with exactly these
    /// values.
    async fn holds(&self, name: &str, secret: &str, expires_at: &str) -> Result<(), Difference> {
        let mut stored = self.fixture.woodpecker.credentials().await?;
        // Readiness does not wait for the name.
        for _ in 0..50 {
            if stored.first().is_none_or(|one| one.name == name) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            stored = self.fixture.woodpecker.credentials().await?;
        }
        check_equal(
            "credentials at Woodpecker",
            &stored.iter().map(|one| Some(one.credential_id)).collect::<Vec<_>>(),
            &vec![self.id],
        )?;
        let Some(one) = stored.first() else { return Ok(()) };
        check_equal("its name", &one.name.as_str(), &name)?;
        check_equal("its expiry", &one.secret_expires_at.as_str(), &expires_at)?;
        // A saved secret cannot be read. It is the one that was verified last.
        let requests = self.fixture.entra.requests();
        let mut issued = requests.iter().rev().filter(|request| request.outcome == Outcome::Issued);
        let is_right = issued.next().is_some_and(|request| request.secret_is(secret));
        check_equal("its secret is the one that was verified last", &is_right, &true)
    }

    async fn store(&mut self) -> Result<(), Difference> {
        self.screen.block("$ kubectl apply --server-side -f -", STORE_YAML);
        self.fixture.secret("sales-store-graph", GOOD_SECRETS[1], EXPIRY).await?;
        self.fixture.apply(STORE_YAML, &[]).await?;
        let object =
            self.fixture.until("sales-store", "Ready", |object| is(object, "Ready", "True", "Ready")).await?;
        check_equal("Registered", &is(Some(&object), "Registered", "True", "Stored"), &true)?;
        let (stored, table) = self.fixture.records().await?;
        self.screen.block("$ kubectl -n mail get sgc", &table);
        let Some(record) = stored.first() else { return Err(Difference::new("etcd holds no record")) };
        self.screen.block("its secret in etcd:", &envelope(record));
        for form in [GOOD_SECRETS[1].to_owned(), STANDARD.encode(GOOD_SECRETS[1])] {
            check_equal("the secret is in etcd", &record.contains(&form), &false)?;
        }
        Ok(())
    }

    async fn rotate_key(&mut self) -> Result<(), Difference> {
        self.screen.line(&format!("{FLEET} more objects are applied, each for its own app"));
        self.fixture.secret("fleet-graph", GOOD_SECRETS[0], EXPIRY).await?;
        let app = |number: usize| format!("00000000-0000-4000-8000-{number:012}");
        for number in 1..=FLEET {
            self.fixture.entra.add_app(TENANT, &app(number));
            self.fixture.entra.set_secrets(TENANT, &app(number), &GOOD_SECRETS);
            let one = STORE_YAML.replace(CLIENT, &app(number)).replace("sales-store-graph", "fleet-graph");
            self.fixture.apply(&one.replace("sales-store", &format!("fleet-{number}")), &[]).await?;
        }
        for number in 1..=FLEET {
            let is_ready = |object: Option<&Value>| is(object, "Ready", "True", "Ready");
            self.fixture.until(&format!("fleet-{number}"), "Ready", is_ready).await?;
        }
        let (before, _) = self.fixture.records().await?;
        let output = self.fixture.command(&["keys", "rotate", "--yes"]).await?;
        self.screen.block("$ graph-credential-operator keys rotate --yes", &output);
        let events = self.fixture.events("Reencrypt").await?;
        self.screen.block("$ kubectl get events, about the keyring:", &events);
        let output = self.fixture.command(&["keys", "verify"]).await?;
        self.screen.block("$ graph-credential-operator keys verify", &output);
        let (after, _) = self.fixture.records().await?;
        let [before, after] =
            [before, after].map(|records| records.iter().map(|it| envelope(it)).collect::<Vec<_>>());
        check_equal("records", &(before.len(), after.len()), &(FLEET + 1, FLEET + 1))?;
        check_equal("unchanged envelopes", &before.iter().filter(|it| after.contains(it)).count(), &0)?;
        check_equal("the events report it", &events.contains("Reencrypting"), &true)
    }

    async fn registration(&self) -> Result<Value, Difference> {
        let object = self.fixture.credential("sales-eu").await?.unwrap_or_default();
        Ok(object["status"]["registration"].clone())
    }

    fn summary(&self) -> bool {
        self.screen.title("summary");
        for (number, step) in self.results.iter().enumerate() {
            let line = format!("{}. {}, {:.1} s", number + 1, step.title, step.took.as_secs_f64());
            match &step.difference {
                None => self.screen.passed(&line),
                Some(_) => self.screen.failed(&line),
            }
        }
        let all_passed = self.results.iter().all(|step| step.difference.is_none());
        self.screen.line(if all_passed { "all checks passed" } else { "some checks failed: see above" });
        all_passed
    }
}

/// The first lines of a long table.
fn shortened(table: &str) -> String {
    let lines: Vec<&str> = table.lines().collect();
    let left = lines.len().saturating_sub(MAX_TABLE_LINES);
    if left == 0 {
        return table.to_owned();
    }
    format!("{}\n… and {left} more", lines[..MAX_TABLE_LINES].join("\n"))
}

/// The lines, with repeated ones shown once with their number.
fn counted(lines: &[String]) -> Vec<String> {
    let same = lines.chunk_by(|one, next| one == next);
    let line = |same: &[String]| match same {
        [one] => one.clone(),
        many => format!("{} (× {})", many[0], many.len()),
    };
    same.map(line).collect()
}

/// The envelope of a record, as stored.
fn envelope(record: &str) -> String {
    let record: Value = serde_json::from_str(record).unwrap_or_default();
    record["spec"]["envelope"].as_str().unwrap_or_default().to_owned()
}

fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

fn is(object: Option<&Value>, type_: &str, status: &str, reason: &str) -> bool {
    object.is_some_and(|object| {
        let condition = condition(object, type_);
        condition["status"] == status && condition["reason"] == reason
    })
}

fn expires_at(object: Option<&Value>) -> Option<&str> {
    object?["status"]["expiresAt"].as_str()
}

fn check_equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), Difference> {
    if found == expected {
        Ok(())
    } else {
        Err(Difference::new(format!("{what} is {found:?}, but must be {expected:?}")))
    }
}
