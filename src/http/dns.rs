//! Name resolution in pure Rust, by configured servers only: without configuration, it never uses public ones.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
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

/// A resolver for reqwest.
#[derive(Clone)]
pub(super) struct Resolver(TokioResolver);

// === impl DnsServers ===

impl DnsServers {
    /// The listed servers, or the system's if the list is empty.
    pub fn listed_or_system(listed: &[SocketAddr]) -> Self {
        if listed.is_empty() { Self::System } else { Self::Listed(listed.to_vec()) }
    }

    pub(super) fn resolver(&self) -> Result<Arc<Resolver>, DnsError> {
        let resolver = match self {
            Self::System => TokioResolver::builder_tokio().and_then(|mut builder| {
                builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
                builder.build()
            }),
            Self::Listed(servers) => {
                let servers = servers.iter().map(|server| name_server(*server)).collect();
                let config = ResolverConfig::from_name_servers(servers);
                let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
                builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
                builder.build()
            }
        };
        match resolver {
            Ok(resolver) => Ok(Arc::new(Resolver(resolver))),
            Err(source) => Err(match self {
                Self::System => DnsError::System(source),
                Self::Listed(servers) => DnsError::Listed { servers: servers.clone(), source },
            }),
        }
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

// === impl Resolver ===

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let found = resolver.lookup_ip(name.as_str()).await?;
            let addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
