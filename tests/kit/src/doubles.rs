//! The doubles as a program, for clusters with nodes: TLS for the operator, and a plain port on which the
//! test reads the credentials and the requests at Woodpecker, and the client secrets of an app.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::double::http::{HttpResponse, Reply};
use crate::double::server::Server;
use crate::entra::Entra;
use crate::graph::Graph;
use crate::woodpecker::{Op, Woodpecker};

/// Port of Microsoft, with TLS.
pub const MICROSOFT: u16 = 8443;
/// Port of Woodpecker, with TLS.
pub const WOODPECKER: u16 = 9443;
/// Port of Microsoft Graph, with TLS.
pub const GRAPH: u16 = 10443;
/// Port that returns the state of Woodpecker and of the app whose client secret rotates.
pub const CONTROL: u16 = 8080;

/// The tenant of every app.
pub const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
/// Secrets that Entra accepts for every app.
pub const SECRETS: [&str; 2] = ["first-value", "second-value"];
/// The API key of the only account.
pub const API_KEY: &str = "1234.the-agencys-api-key";
/// How many apps there are.
pub const APPS: u32 = 192;

/// The app whose client secret rotates.
pub const ROTATING: &str = "93d5a1f7-64b2-4c3e-8d1a-0e2b7c9f4a55";
/// The app with which the operator changes it.
pub const IDENTITY: &str = "7d0f3a86-5a53-4a76-a4b0-5f8f6a1c9e02";

const ACCOUNT: &str = "agency";
/// What tokens of a ServiceAccount are for, in the Global cloud.
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// The client id of an app, by its number from 0 on.
pub fn client_id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Serves until the process is stopped. The identity signs in with tokens of that issuer and subject.
pub async fn serve(certificate: &Path, key: &Path, issuer: &str, subject: &str) -> ExitCode {
    match try_serve(certificate, key, (issuer, subject)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kit: the doubles cannot be served: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn try_serve(certificate: &Path, key: &Path, trusted: (&str, &str)) -> io::Result<()> {
    let acceptor = acceptor(certificate, key)?;
    let entra = Entra::start().await;
    let woodpecker = Woodpecker::start().await;
    woodpecker.verify_with(&entra);
    woodpecker.add_account(ACCOUNT, API_KEY);
    for number in 0..APPS {
        let client = client_id(number);
        entra.add_app(TENANT, &client);
        entra.set_secrets(TENANT, &client, &SECRETS);
    }
    let graph = start_graph(&entra, trusted).await;
    let (microsoft, remote) = (address(&entra.url()), address(&woodpecker.url()));
    let (woodpecker, graph_address) = (Arc::new(woodpecker), address(&graph.url()));
    let control = Server::start(move |_| {
        let mut state = woodpecker_state(&woodpecker);
        state["clientSecrets"] = graph.live_secrets(TENANT, ROTATING).len().into();
        async move { Reply { what: HttpResponse::json(200, &state).into(), held: Vec::new() } }
    })
    .await;
    let relays = [
        tokio::spawn(relay(MICROSOFT, microsoft, Some(acceptor.clone()))),
        tokio::spawn(relay(WOODPECKER, remote, Some(acceptor.clone()))),
        tokio::spawn(relay(GRAPH, graph_address, Some(acceptor))),
        tokio::spawn(relay(CONTROL, address(&control.url()), None)),
    ];
    for relay in relays {
        relay.await.map_err(io::Error::other)??;
    }
    Ok(())
}

/// An app without client secrets, and the identity that owns it.
async fn start_graph(entra: &Entra, (issuer, subject): (&str, &str)) -> Graph {
    let graph = Graph::start().await;
    graph.connect(entra);
    entra.add_app(TENANT, ROTATING);
    graph.set_application(TENANT, ROTATING, &[]);
    graph.add_owner(TENANT, ROTATING, IDENTITY);
    entra.set_roles(TENANT, IDENTITY, &["Application.ReadWrite.OwnedBy"]);
    entra.trust_federated(TENANT, IDENTITY, issuer, subject, AUDIENCE);
    graph
}

/// The account's credentials, and its requests so far.
fn woodpecker_state(woodpecker: &Woodpecker) -> Value {
    let credentials: Vec<Value> = woodpecker
        .credentials(ACCOUNT)
        .into_iter()
        .map(|it| {
            let secret = SECRETS.iter().position(|secret| it.secret.is(secret));
            json!({"id": it.credential_id, "name": it.name, "client": it.client_id, "secret": secret})
        })
        .collect();
    let requests = woodpecker.requests(ACCOUNT);
    let count = |op: Op| requests.iter().filter(|request| request.op == op).count();
    json!({
        "credentials": credentials,
        "creates": count(Op::Create),
        "updates": count(Op::Update),
        "deletes": count(Op::Delete),
        "connects": count(Op::Connect),
        "mailboxes": woodpecker.mailboxes(ACCOUNT).len(),
        "maxInFlight": woodpecker.max_in_flight(ACCOUNT),
    })
}

fn acceptor(certificate: &Path, key: &Path) -> io::Result<TlsAcceptor> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Forwards connections to a port of every address to a loopback one.
async fn relay(port: u16, to: String, acceptor: Option<TlsAcceptor>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    loop {
        let (connection, _) = listener.accept().await?;
        let (to, acceptor) = (to.clone(), acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                Some(acceptor) => forward(acceptor.accept(connection).await?, &to).await,
                None => forward(connection, &to).await,
            }
        });
    }
}

async fn forward(mut client: impl AsyncRead + AsyncWrite + Unpin, to: &str) -> io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

fn address(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}
