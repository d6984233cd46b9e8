//! Transport to the API server with `TCP_NODELAY` and separate connections for Secrets.
//!
//! Requests about Secrets open new connections regularly. By default the end of the TLS handshake and the request are
//! sent as two small segments, and the kernel delays the second by 40 ms until the first is acknowledged. An account
//! queue would idle meanwhile.

use std::time::Duration;

use http::header::CONNECTION;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt, DynBody};
use kube::config::Config;
use tower::util::BoxService;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

use crate::k8s::client::is_watch;
use crate::k8s::secret_connections::SecretConnections;

/// The service type of kube's own builder.
type Transport = BoxService<http::Request<Body>, http::Response<Box<DynBody>>, BoxError>;

/// The transport for a configuration. Proxies and exec plugins with client certificates need kube's own.
///
/// A request with the header `Connection`, except a watch, uses a connection that is closed after `lifetime`.
pub fn transport(config: Config, lifetime: Duration) -> Result<ClientBuilder<Transport>, kube::Error> {
    if config.proxy_url.is_some() || config.auth_info.exec.is_some() {
        return ClientBuilder::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_write_timeout(config.write_timeout);
    let secrets = SecretConnections::new(connector.clone(), lifetime);
    let pool = Pool::builder(TokioExecutor::new()).build(connector);
    let send = service_fn(move |request: http::Request<Body>| {
        let (secrets, pool) = (secrets.clone(), pool.clone());
        async move {
            if request.headers().contains_key(CONNECTION) && !is_watch(request.uri()) {
                secrets.send(request).await.map(boxed)
            } else {
                Ok(boxed(pool.request(request).await?))
            }
        }
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(send)
        .boxed();
    Ok(ClientBuilder::new(service, config.default_namespace))
}

fn boxed<B>(response: http::Response<B>) -> http::Response<Box<DynBody>>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    response.map(|body| Box::new(body.map_err(Into::into)) as Box<DynBody>)
}
