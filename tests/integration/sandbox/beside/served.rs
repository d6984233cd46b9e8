//! A server of Woodpecker's API: the sandbox or the double, each prepared in its own way and then asked the same.

use kit::entra::Entra;
use kit::woodpecker::{Company, Woodpecker};

use super::super::*;
use crate::rest_api::http::send_raw;

pub const COMPANIES: &str = "/rest/v2/agency/companies";
pub const MAILBOXES: &str = "/rest/v2/mailboxes";
pub const BULK: &str = "/rest/v2/mailboxes/microsoft/bulk";
pub const ME: &str = "/rest/v1/me";

/// A company that the agency's key acts for.
pub const COMPANY: &str = "20000001";

/// Companies in the list, of which each fortieth is inactive.
pub const LISTED: i64 = 120;

/// The double's account.
const TEAM: &str = "team";

pub struct Served {
    pub name: &'static str,
    server: Server,
    address: String,
    key: &'static str,
    /// A secret that it rejects.
    pub wrong_secret: &'static str,
    /// A mailbox that it does not connect.
    pub wrong_mailbox: &'static str,
}

enum Server {
    Sandbox { _process: Sandbox },
    Double { woodpecker: Woodpecker, _entra: Entra },
}

impl Served {
    /// A sandbox whose file lists many companies, because no request creates one.
    pub async fn sandbox() -> Self {
        let mut first = Sandbox::start(&["--file", "state.json"]).await;
        let folder = std::mem::take(&mut first.folder);
        assert!(first.process.stop().await.unwrap().success());
        let path = folder.join("state.json");
        let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let companies = (1..=LISTED).map(|id| {
            json!({"id": 20_000_000 + id, "name": format!("Company {id}"), "active": id % 40 != 0, "header": "Honored"})
        });
        state["companies"] = companies.collect();
        std::fs::write(&path, state.to_string()).unwrap();
        let sandbox = Sandbox::start_in(folder, &["--file", "state.json", "--strict"]).await;
        Self {
            name: "sandbox",
            address: sandbox.address.clone(),
            server: Server::Sandbox { _process: sandbox },
            key: KEY,
            wrong_secret: "sandbox-invalid-client-secret",
            wrong_mailbox: "rejected@example.com",
        }
    }

    pub async fn double() -> Self {
        let (woodpecker, entra) = (Woodpecker::start().await, Entra::start().await);
        entra.add_app(TENANT, CLIENT);
        entra.set_secrets(TENANT, CLIENT, &["s3cret-one"]);
        woodpecker.verify_with(&entra);
        woodpecker.add_account(TEAM, "key");
        woodpecker.add_company(TEAM, COMPANY);
        woodpecker.refuse_mailbox("refused@example.com", Some("NO_MAILBOX"));
        let identity = json!({
            "firm_id": 7, "firm_name": "Agency", "user_email": "a@example.com", "user_id": 8, "user_name": "A"
        });
        woodpecker.set_identity(TEAM, identity);
        for id in 1..=LISTED {
            let company = Company::new(20_000_000 + id, &format!("Company {id}"));
            woodpecker.list_company(TEAM, Company { is_active: id % 40 != 0, ..company });
        }
        let url = woodpecker.base_url();
        let address = url.strip_prefix("http://").and_then(|it| it.strip_suffix("/rest")).unwrap().to_owned();
        Self {
            name: "double",
            server: Server::Double { woodpecker, _entra: entra },
            address,
            key: "key",
            wrong_secret: "wrong",
            wrong_mailbox: "refused@example.com",
        }
    }

    /// Sends a request with these headers and no other key.
    pub async fn send(
        &self,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> HttpResponse {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let headers: String =
            headers.iter().flat_map(|(name, value)| [*name, ": ", *value, "\r\n"]).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        send_raw(&self.address, request.as_bytes()).await.expect("a response")
    }

    /// The header with its API key.
    pub fn key(&self) -> (&'static str, &'static str) {
        ("x-api-key", self.key)
    }

    /// Sends a request with its API key, and JSON if there is a body.
    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> HttpResponse {
        self.send(&[self.key(), ("content-type", "application/json")], method, path, body).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self.request("GET", path, None).await;
        assert_eq!(response.status, 200, "{}: GET {path}: {response:?}", self.name);
        response.json()
    }

    /// Creates a credential; returns its id.
    pub async fn created(&self, over: Value) -> i64 {
        let created = self.request("POST", PATH, Some(sample(over))).await;
        assert_eq!(created.status, 201, "{}: {created:?}", self.name);
        created.json()["credential_id"].as_i64().expect("a number")
    }

    /// The ids of its credentials.
    pub async fn ids(&self) -> Vec<i64> {
        let listed = self.get(PATH).await;
        listed["credentials"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["credential_id"].as_i64().unwrap())
            .collect()
    }

    /// Connects mailboxes of a credential.
    pub async fn connect(&self, credential: i64, addresses: &[&str]) -> HttpResponse {
        let accounts: Vec<_> =
            addresses.iter().map(|it| json!({"mailbox_email": it, "display_name": "Jimothy H"})).collect();
        let body = json!({"auth_type": "APP_ONLY", "credential_id": credential, "accounts": accounts});
        self.request("POST", BULK, Some(body)).await
    }

    /// Connects a mailbox that then uses the credential. The double does not connect the two.
    pub async fn use_credential(&self, id: i64) {
        let connected = self.connect(id, &["user@example.com"]).await;
        assert_eq!(connected.status, 200, "{}: {connected:?}", self.name);
        if let Server::Double { woodpecker, .. } = &self.server {
            woodpecker.mark_in_use(id);
        }
    }
}
