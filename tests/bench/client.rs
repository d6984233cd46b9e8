//! A Kubernetes client with TCP_NODELAY, like the operator's. kube's own client leaves Nagle's algorithm on,
//! and small requests then sometimes wait for 40 ms.

use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// The client of a kubeconfig file.
pub async fn of_kubeconfig(path: impl AsRef<std::path::Path>) -> Client {
    let kubeconfig = Kubeconfig::read_from(path).expect("the kubeconfig can be read");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = config.rustls_https_connector_with_connector(tcp).unwrap();
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().unwrap())
        .map_err(BoxError::from)
        .service(Pool::builder(TokioExecutor::new()).build(connector));
    Client::new(service, config.default_namespace)
}

/// The client of `KUBECONFIG`.
pub async fn of_env() -> Client {
    of_kubeconfig(std::env::var("KUBECONFIG").expect("a kubeconfig is named")).await
}
