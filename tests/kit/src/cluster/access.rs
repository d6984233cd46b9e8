//! Access to the API: keys, the server's certificate, tokens, kubeconfig files and clients.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use http::Request;
use http::header::ACCEPT;
use kube::config::AuthInfo;
use kube::{Client, Config};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::{CryptoProvider, ring};

use super::Error;

/// The users of the API, each with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// May do everything: in the group `system:masters`.
    Admin,
    /// The user `operator`, with only the rights of the test's RBAC rules.
    Operator,
}

/// Everything that a client needs to use the API.
pub(super) struct Access {
    server: String,
    certificate: Vec<u8>,
    admin: String,
    operator: String,
}

// === impl User ===

impl User {
    const ALL: [Self; 2] = [Self::Admin, Self::Operator];

    /// The name in RBAC and the audit log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }

    const fn groups(self) -> &'static str {
        match self {
            Self::Admin => "system:masters",
            Self::Operator => "",
        }
    }
}

// === impl Access ===

impl Access {
    /// Creates keys and tokens, and writes what kube-apiserver and clients read to the cluster's directory.
    pub(super) fn create(dir: &Path, server: &str) -> Result<Self, Error> {
        let params =
            CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).map_err(Error::Keys)?;
        let key = KeyPair::generate().map_err(Error::Keys)?;
        let certificate = params.self_signed(&key).map_err(Error::Keys)?;
        let service_accounts = KeyPair::generate().map_err(Error::Keys)?;
        write_private(&certificate_path(dir), &certificate.pem())?;
        write_private(&dir.join("serving.key"), &key.serialize_pem())?;
        write_private(&dir.join("sa.key"), &service_accounts.serialize_pem())?;
        write_private(&dir.join("sa.pub"), &service_accounts.public_key_pem())?;

        let access = Self {
            server: server.to_owned(),
            certificate: certificate.der().to_vec(),
            admin: random_token()?,
            operator: random_token()?,
        };
        let line = |user: User| {
            format!("{},{},{},{}\n", access.token(user), user.name(), user.name(), user.groups())
        };
        write_private(&dir.join("tokens.csv"), &User::ALL.map(line).concat())?;
        for user in User::ALL {
            access.write_kubeconfig(dir, user.name(), access.token(user))?;
        }
        Ok(access)
    }

    /// The flags of kube-apiserver for it.
    pub(super) fn flags(dir: &Path) -> [String; 7] {
        let file = |flag: &str, name: &str| format!("--{flag}={}", dir.join(name).display());
        [
            file("tls-cert-file", "serving.crt"),
            file("tls-private-key-file", "serving.key"),
            file("service-account-signing-key-file", "sa.key"),
            file("service-account-key-file", "sa.pub"),
            file("token-auth-file", "tokens.csv"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
        ]
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn kubeconfig(&self, dir: &Path, user: User) -> PathBuf {
        kubeconfig_path(dir, user.name())
    }

    pub(super) fn write_kubeconfig(&self, dir: &Path, name: &str, token: &str) -> Result<PathBuf, Error> {
        // JSON is valid YAML, and quotes every character of a path or token.
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "kit", "cluster": {
                "server": self.server,
                "certificate-authority": certificate_path(dir),
            }}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "kit", "context": {"cluster": "kit", "user": name}}],
            "current-context": "kit",
        });
        let path = kubeconfig_path(dir, name);
        write_private(&path, &format!("{kubeconfig:#}\n"))?;
        Ok(path)
    }

    /// Uses only these values, not the environment: a proxy that is set there is for other servers.
    pub(super) fn client(&self, user: User) -> Result<Client, Error> {
        if CryptoProvider::get_default().is_none() {
            // Fails only if another thread has just installed one, which is as good.
            let _ = ring::default_provider().install_default();
        }
        let uri = self.server.parse().map_err(|source| self.client_error(source))?;
        let mut config = Config::new(uri);
        config.root_cert = Some(vec![self.certificate.clone()]);
        config.auth_info =
            AuthInfo { token: Some(self.token(user).to_owned().into()), ..AuthInfo::default() };
        Client::try_from(config).map_err(|source| self.client_error(source))
    }

    fn client_error(&self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Client { server: self.server.clone(), source: source.into() }
    }

    fn token(&self, user: User) -> &str {
        match user {
            User::Admin => &self.admin,
            User::Operator => &self.operator,
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("server", &self.server).finish_non_exhaustive()
    }
}

/// The body of a GET request.
pub(super) async fn get(client: &Client, path: &str, accept: Option<&str>) -> Result<String, Error> {
    let mut request = Request::get(path);
    if let Some(accept) = accept {
        request = request.header(ACCEPT, accept);
    }
    let action = format!("get {path}");
    match request.body(Vec::new()) {
        Ok(request) => client.request_text(request).await.map_err(Error::api(action)),
        Err(error) => Err(Error::api(action)(kube::Error::HttpError(error))),
    }
}

/// The server's certificate is self-signed, so it is its own authority.
fn certificate_path(dir: &Path) -> PathBuf {
    dir.join("serving.crt")
}

fn kubeconfig_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.kubeconfig"))
}

fn random_token() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes.map(|byte| format!("{byte:02x}")).concat())
}

/// Writes a file that only this user can read.
fn write_private(path: &Path, content: &str) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(Error::files("write", path))
}
