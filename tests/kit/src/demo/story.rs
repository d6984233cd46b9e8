//! The steps of the demo: nine steps from apply to delete and to the store, each with the manifest, the
//! visible result, and the checks.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::Difference;
use super::manifests::{ACCOUNT_YAML, CREDENTIAL_YAML, DELETE_YAML, EXPIRY, NAMESPACE_YAML, STORE_YAML};
use super::sandbox::API_KEY;
use super::scene::{CLIENT, GOOD_SECRETS, NAMESPACE, OTHER_CLIENT, Scene, TENANT};
use super::screen::Screen;
use crate::entra::Outcome;

/// How many credentials besides the first one are in the store when its key is rotated.
const FLEET: usize = 40;

/// How many lines of a table are shown.
const LONGEST_TABLE: usize = 6;

/// The record of one step.
struct Told {
    title: &'static str,
    took: Duration,
    difference: Option<Difference>,
}

/// Runs all steps; returns whether every check passed.
pub(super) async fn tell(scene: &Scene, screen: &Screen) -> bool {
    let mut teller = Teller { scene, screen, told: Vec::new(), id: None };
    teller.step("create: from apply to Ready", Teller::create).await;
    teller.step("rotate the secret: updated at Woodpecker, under the same id", Teller::rotate).await;
    teller
        .step("a wrong secret: the status reports it, and the old registration stays", Teller::mistake)
        .await;
    teller.step("the right secret again: Ready", Teller::mend).await;
    teller.step("a secret that expires in ten days: the status warns", Teller::expire).await;
    teller.step("delete with Retain (the default): the credential stays at Woodpecker", Teller::retain).await;
    teller.step("delete with Delete: the credential is removed, and nothing else", Teller::delete).await;
    teller.step("destination.store: encrypted in the cluster, no plaintext in etcd", Teller::seal).await;
    teller.step("rotate the key of the store: every record is re-encrypted", Teller::rotate_key).await;
    teller.summary()
}

/// Applies a new credential and prints how to experiment with it.
pub(super) async fn leave(scene: &Scene, screen: &Screen) -> Result<(), Difference> {
    for held in scene.woodpecker.credentials().await? {
        scene.woodpecker.remove(held.credential_id).await?;
    }
    scene.secret("sales-eu-graph", GOOD_SECRETS[0], EXPIRY).await?;
    scene.apply(CREDENTIAL_YAML, &[]).await?;
    screen.title("everything keeps running");
    screen.block(
        "try, in another terminal (`make kubectl` builds kubectl if you have none):",
        &format!(
            "export KUBECONFIG={}\n\
             kubectl -n {NAMESPACE} get mgc -o wide\n\
             kubectl -n {NAMESPACE} describe mgc sales-eu\n\
             curl -H 'x-api-key: {API_KEY}' {}\n\
             kubectl -n {NAMESPACE} patch secret sales-eu-graph -p '{{\"stringData\":{{\"client_secret\":\"{}\"}}}}'",
            scene.cluster.kubeconfig_path().display(),
            scene.woodpecker.url(),
            GOOD_SECRETS[1]
        ),
    );
    screen.line(&format!("Microsoft's double accepts: {}", GOOD_SECRETS.join(", ")));
    screen.line("Ctrl-C stops and removes everything");
    Ok(())
}

struct Teller<'a> {
    scene: &'a Scene,
    screen: &'a Screen,
    told: Vec<Told>,
    id: Option<i64>,
}

// === impl Teller ===

impl Teller<'_> {
    async fn step(
        &mut self,
        title: &'static str,
        tell: impl AsyncFnOnce(&mut Self) -> Result<(), Difference>,
    ) {
        self.screen.step(self.told.len() + 1, title);
        let (started, since) = (Instant::now(), Timestamp::now());
        let ended = tell(self).await;
        let ended = match self.show(since).await {
            Ok(()) => ended,
            Err(difference) => ended.and(Err(difference)),
        };
        let took = started.elapsed();
        match &ended {
            Ok(()) => self.screen.well(&format!("passed, in {:.1} s", took.as_secs_f64())),
            Err(difference) => self.screen.differs(&difference.to_string()),
        }
        self.told.push(Told { title, took, difference: ended.err() });
    }

    /// Shows the table that a user sees, and the requests that the remote services received.
    async fn show(&self, since: Timestamp) -> Result<(), Difference> {
        let table = self.scene.table().await?;
        let table = if table.is_empty() { "No resources found in mail namespace.".to_owned() } else { table };
        self.screen.block("$ kubectl -n mail get mgc -o wide", &shortened(&table));
        let proofs = self.scene.entra.requests().into_iter().filter(|request| request.at >= since);
        let mut received: Vec<String> = proofs
            .map(|request| {
                let outcome = match request.outcome {
                    Outcome::Issued => "token issued".to_owned(),
                    Outcome::Refused { status, error, code } => format!("{status} {error}, AADSTS{code}"),
                    other => format!("{other:?}"),
                };
                format!(
                    "Microsoft   POST token app={}… → {outcome}",
                    request.client.get(..4).unwrap_or_default()
                )
            })
            .collect();
        received.extend(
            self.scene.woodpecker.summary(since).into_iter().map(|line| format!("Woodpecker  {line}")),
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
        self.scene.apply(NAMESPACE_YAML, &[]).await?;
        self.scene.secret("sales-eu-graph", GOOD_SECRETS[0], EXPIRY).await?;
        let base_url = self.scene.woodpecker.base_url();
        let values = [("(the API key)", API_KEY), ("(where the REST API is served)", base_url.as_str())];
        self.scene.apply(ACCOUNT_YAML, &values).await?;
        self.scene.apply(CREDENTIAL_YAML, &[]).await?;
        let object =
            self.scene.until("sales-eu", "Ready", |object| is(object, "Ready", "True", "Ready")).await?;
        let id = object["status"]["credentialId"].as_i64();
        self.id = id;
        same("status.credentialId", &id.is_some(), &true)?;
        same("status.expiresAt", &object["status"]["expiresAt"], &Value::from(EXPIRY))?;
        self.holds("MS Graph app", GOOD_SECRETS[0], EXPIRY).await
    }

    async fn rotate(&mut self) -> Result<(), Difference> {
        let expiry = "2028-05-31T00:00:00Z";
        self.screen.line("the Secret sales-eu-graph gets a new client_secret and secret_expires_at");
        self.scene.secret("sales-eu-graph", GOOD_SECRETS[1], expiry).await?;
        let object = self
            .scene
            .until("sales-eu", "the new expiry", |object| expires_at(object) == Some(expiry))
            .await?;
        same("status.credentialId", &object["status"]["credentialId"].as_i64(), &self.id)?;
        self.holds("MS Graph app", GOOD_SECRETS[1], expiry).await
    }

    async fn mistake(&mut self) -> Result<(), Difference> {
        let (before, writes) = (self.registration().await?, self.scene.woodpecker.writes());
        self.screen.line("the Secret sales-eu-graph gets a client_secret with a typo");
        self.scene.secret("sales-eu-graph", "first-valeu", "2028-05-31T00:00:00Z").await?;
        let refused = |object: Option<&Value>| is(object, "Verified", "False", "InvalidClientSecret");
        let object = self.scene.until("sales-eu", "Verified False InvalidClientSecret", refused).await?;
        let message = condition(&object, "Ready")["message"].as_str().unwrap_or_default().to_owned();
        self.screen.block("the message of Ready:", &message);
        same("status.registration", &self.registration().await?, &before)?;
        same("writes to Woodpecker", &self.scene.woodpecker.writes(), &writes)?;
        self.holds("MS Graph app", GOOD_SECRETS[1], "2028-05-31T00:00:00Z").await
    }

    async fn mend(&mut self) -> Result<(), Difference> {
        let expiry = "2028-06-30T00:00:00Z";
        self.screen.line("the Secret sales-eu-graph gets the right client_secret");
        self.scene.secret("sales-eu-graph", GOOD_SECRETS[2], expiry).await?;
        let mended = |object: Option<&Value>| {
            is(object, "Ready", "True", "Ready") && expires_at(object) == Some(expiry)
        };
        let object = self.scene.until("sales-eu", "Ready with the new expiry", mended).await?;
        same("status.credentialId", &object["status"]["credentialId"].as_i64(), &self.id)?;
        self.holds("MS Graph app", GOOD_SECRETS[2], expiry).await
    }

    async fn expire(&mut self) -> Result<(), Difference> {
        let soon = Timestamp::now() + Duration::from_secs(10 * 24 * 3600);
        let soon = soon.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.screen.line(&format!("the Secret sales-eu-graph gets the expiry {soon}"));
        self.scene.secret("sales-eu-graph", GOOD_SECRETS[2], &soon).await?;
        let told = |object: Option<&Value>| {
            is(object, "Expiring", "True", "ExpiresSoon") && expires_at(object) == Some(&soon)
        };
        let object = self.scene.until("sales-eu", "Expiring True ExpiresSoon", told).await?;
        let message = condition(&object, "Expiring")["message"].as_str().unwrap_or_default().to_owned();
        self.screen.block("the message of Expiring:", &message);
        same("Ready", &is(Some(&object), "Ready", "True", "Ready"), &true)?;
        self.holds("MS Graph app", GOOD_SECRETS[2], &soon).await
    }

    async fn retain(&mut self) -> Result<(), Difference> {
        self.screen.line("$ kubectl -n mail delete mgc sales-eu");
        self.scene.delete("sales-eu").await?;
        self.scene.until("sales-eu", "the object is deleted", |object| object.is_none()).await?;
        same("credentials at Woodpecker", &self.scene.woodpecker.credentials().await?.len(), &1)
    }

    async fn delete(&mut self) -> Result<(), Difference> {
        self.screen.block("$ kubectl apply --server-side -f -", DELETE_YAML);
        self.scene.secret("sales-us-graph", GOOD_SECRETS[0], EXPIRY).await?;
        self.scene.apply(DELETE_YAML, &[]).await?;
        self.scene.until("sales-us", "Ready", |object| is(object, "Ready", "True", "Ready")).await?;
        same("credentials at Woodpecker", &self.scene.woodpecker.credentials().await?.len(), &2)?;
        self.screen.block("$ kubectl -n mail get mgc -o wide", &self.scene.table().await?);
        self.screen.line("$ kubectl -n mail delete mgc sales-us");
        self.scene.delete("sales-us").await?;
        self.scene.until("sales-us", "the object is deleted", |object| object.is_none()).await?;
        let left = self.scene.woodpecker.credentials().await?;
        same(
            "the remaining credential",
            &left.iter().map(|held| held.client_id.as_str()).collect::<Vec<_>>(),
            &vec![CLIENT],
        )?;
        same("verifications of the other app", &(self.scene.entra.count(TENANT, OTHER_CLIENT) > 0), &true)
    }

    /// Checks that Woodpecker holds one credential, under the id of the first step, with exactly these
    /// values.
    async fn holds(&self, name: &str, secret: &str, expires_at: &str) -> Result<(), Difference> {
        let held = self.scene.woodpecker.credentials().await?;
        same(
            "credentials at Woodpecker",
            &held.iter().map(|one| Some(one.credential_id)).collect::<Vec<_>>(),
            &vec![self.id],
        )?;
        let Some(one) = held.first() else { return Ok(()) };
        same("its name", &one.name.as_str(), &name)?;
        same("its expiry", &one.secret_expires_at.as_str(), &expires_at)?;
        // A saved secret cannot be read. It is the one that was verified last.
        let proofs = self.scene.entra.requests();
        let mut issued = proofs.iter().rev().filter(|request| request.outcome == Outcome::Issued);
        let is_right = issued.next().is_some_and(|request| request.secret_is(secret));
        same("its secret is the one that was verified last", &is_right, &true)
    }

    async fn seal(&mut self) -> Result<(), Difference> {
        self.screen.block("$ kubectl apply --server-side -f -", STORE_YAML);
        self.scene.secret("sales-store-graph", GOOD_SECRETS[1], EXPIRY).await?;
        self.scene.apply(STORE_YAML, &[]).await?;
        let object =
            self.scene.until("sales-store", "Ready", |object| is(object, "Ready", "True", "Ready")).await?;
        same("Registered", &is(Some(&object), "Registered", "True", "Stored"), &true)?;
        let (stored, table) = self.scene.records().await?;
        self.screen.block("$ kubectl -n mail get sgc", &table);
        let Some(record) = stored.first() else { return Err(Difference::new("etcd holds no record")) };
        self.screen.block("its secret in etcd:", &envelope(record));
        for form in [GOOD_SECRETS[1].to_owned(), STANDARD.encode(GOOD_SECRETS[1])] {
            same("the secret is in etcd", &record.contains(&form), &false)?;
        }
        Ok(())
    }

    async fn rotate_key(&mut self) -> Result<(), Difference> {
        self.screen.line(&format!("{FLEET} more objects are applied, each for its own app"));
        self.scene.secret("fleet-graph", GOOD_SECRETS[0], EXPIRY).await?;
        let app = |number: usize| format!("00000000-0000-4000-8000-{number:012}");
        for number in 1..=FLEET {
            self.scene.entra.add_app(TENANT, &app(number));
            self.scene.entra.set_secrets(TENANT, &app(number), &GOOD_SECRETS);
            let one = STORE_YAML.replace(CLIENT, &app(number)).replace("sales-store-graph", "fleet-graph");
            self.scene.apply(&one.replace("sales-store", &format!("fleet-{number}")), &[]).await?;
        }
        for number in 1..=FLEET {
            let is_ready = |object: Option<&Value>| is(object, "Ready", "True", "Ready");
            self.scene.until(&format!("fleet-{number}"), "Ready", is_ready).await?;
        }
        let (before, _) = self.scene.records().await?;
        let said = self.scene.command(&["keys", "rotate"]).await?;
        self.screen.block("$ graph-credential-operator keys rotate", &said);
        let told = self.scene.events("Reencrypt").await?;
        self.screen.block("$ kubectl get events, about the keyring:", &told);
        let said = self.scene.command(&["keys", "verify"]).await?;
        self.screen.block("$ graph-credential-operator keys verify", &said);
        let (after, _) = self.scene.records().await?;
        let [before, after] =
            [before, after].map(|records| records.iter().map(|it| envelope(it)).collect::<Vec<_>>());
        same("records", &(before.len(), after.len()), &(FLEET + 1, FLEET + 1))?;
        same("unchanged envelopes", &before.iter().filter(|it| after.contains(it)).count(), &0)?;
        same("the events report it", &told.contains("Reencrypting"), &true)
    }

    async fn registration(&self) -> Result<Value, Difference> {
        let object = self.scene.credential("sales-eu").await?.unwrap_or_default();
        Ok(object["status"]["registration"].clone())
    }

    fn summary(&self) -> bool {
        self.screen.title("summary");
        for (number, step) in self.told.iter().enumerate() {
            let line = format!("{}. {}, {:.1} s", number + 1, step.title, step.took.as_secs_f64());
            match &step.difference {
                None => self.screen.well(&line),
                Some(_) => self.screen.differs(&line),
            }
        }
        let all_well = self.told.iter().all(|step| step.difference.is_none());
        self.screen.line(if all_well { "all checks passed" } else { "some checks failed: see above" });
        all_well
    }
}

/// The first lines of a long table.
fn shortened(table: &str) -> String {
    let lines: Vec<&str> = table.lines().collect();
    let left = lines.len().saturating_sub(LONGEST_TABLE);
    if left == 0 {
        return table.to_owned();
    }
    format!("{}\n… and {left} more", lines[..LONGEST_TABLE].join("\n"))
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

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, told: &T) -> Result<(), Difference> {
    if found == told {
        Ok(())
    } else {
        Err(Difference::new(format!("{what} is {found:?}, but must be {told:?}")))
    }
}
