//! Name resolution in pure Rust, by configured servers only: without configuration, it never uses public ones.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

/// The name servers.
#[derive(Clone, Debug)]
pub enum DnsServers {
    /// Those in `/etc/resolv.conf`.
    System,
    /// Only these.
    Listed(Vec<SocketAddr>),
}

#[derive(Debug, Error)]
pub enum DnsError {
    #[error(
        "failed to read the system's DNS settings (/etc/resolv.conf): fix them, or specify the servers with --dns-server"
    )]
    System(#[source] NetError),
    #[error("failed to use the DNS servers {servers:?}: specify --dns-server as ADDRESS:PORT")]
    Listed { servers: Vec<SocketAddr>, source: NetError },
}

/// A resolver for reqwest. The settings are read when they are needed first, and again until they can be used.
pub(super) struct Resolver {
    servers: DnsServers,
    opened: Mutex<Option<TokioResolver>>,
}

// === impl DnsServers ===

impl DnsServers {
    /// The listed servers, or the system's if the list is empty.
    pub fn listed_or_system(listed: &[SocketAddr]) -> Self {
        if listed.is_empty() { Self::System } else { Self::Listed(listed.to_vec()) }
    }

    fn open(&self) -> Result<TokioResolver, DnsError> {
        match self {
            Self::System => TokioResolver::builder_tokio().and_then(build).map_err(DnsError::System),
            Self::Listed(servers) => {
                let config =
                    ResolverConfig::from_name_servers(servers.iter().copied().map(name_server).collect());
                let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
                build(builder).map_err(|source| DnsError::Listed { servers: servers.clone(), source })
            }
        }
    }
}

/// A name with a dot is looked up as it is first. In a pod, `ndots:5` would try it in each search domain before, where a
/// wildcard could answer.
fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, NetError> {
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.ndots = 1;
    builder.build()
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

// === impl Resolver ===

impl Resolver {
    pub(super) fn new(servers: &DnsServers) -> Arc<Self> {
        Arc::new(Self { servers: servers.clone(), opened: Mutex::default() })
    }

    pub(super) fn open(&self) -> Result<TokioResolver, DnsError> {
        let mut opened = self.opened.lock();
        match &*opened {
            Some(resolver) => Ok(resolver.clone()),
            None => Ok(opened.insert(self.servers.open()?).clone()),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.open();
        Box::pin(async move {
            let found = resolver?.lookup_ip(name.as_str()).await?;
            let addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr;
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that answers every name with an address, and the names that it is asked for.
    async fn wildcard() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let names = asked.clone();
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((_, client)) = socket.recv_from(&mut query).await {
                let (mut name, mut at) = (String::new(), 12);
                while query[at] > 0 {
                    let end = at + 1 + usize::from(query[at]);
                    name.push_str(std::str::from_utf8(&query[at + 1..end]).unwrap());
                    name.push('.');
                    at = end;
                }
                names.lock().push(name);
                // The question, and for type A an address.
                let (question, is_a) = (&query[12..at + 5], query[at + 2] == 1);
                let mut response = vec![query[0], query[1], 0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0];
                response.extend_from_slice(question);
                if is_a {
                    response.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
                }
                socket.send_to(&response, client).await.unwrap();
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn a_name_with_a_dot_is_not_looked_up_in_a_search_domain_that_answers_everything() {
        let (server, asked) = wildcard().await;
        let search = vec!["mail.svc.cluster.local.".parse::<rr::Name>().unwrap()];
        let config = ResolverConfig::from_parts(None, search, vec![name_server(server)]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().ndots = 5;
        let resolver = build(builder).unwrap();
        resolver.lookup_ip("login.microsoftonline.com").await.unwrap();
        assert!(asked.lock().iter().all(|name| name == "login.microsoftonline.com."), "{asked:?}");
        resolver.lookup_ip("proxy").await.unwrap();
        assert!(asked.lock().contains(&"proxy.mail.svc.cluster.local.".to_owned()), "{asked:?}");
    }
}
