//! Sockets that connections come in by. `[::]` takes IPv4 as well, whatever the machine's default for that is, and stands
//! for `0.0.0.0` on a machine without IPv6: one setting serves in every cluster.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;

/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;

/// An address that cannot be served: it is taken, or not this machine's.
#[derive(Debug, Error)]
#[error("failed to listen on {address}: choose a free address and port with {flag}")]
pub struct ListenError {
    address: SocketAddr,
    flag: &'static str,
    source: io::Error,
}

/// Binds the address, which that flag gives; port 0 takes a free one. Returns the address that was bound as well.
pub async fn listen(
    address: SocketAddr,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let listen_error = |source| ListenError { address, flag, source };
    let listener = bind(address).await.map_err(listen_error)?;
    let bound = listener.local_addr().map_err(listen_error)?;
    Ok((listener, bound))
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !(address.is_ipv6() && address.ip().is_unspecified()) {
        return TcpListener::bind(address).await;
    }
    match listen_to_both(address) {
        Err(error) if lacks_ipv6(&error) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await,
        listener => listener,
    }
}

fn listen_to_both(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    // Otherwise the system decides: net.ipv6.bindv6only.
    socket.set_only_v6(false)?;
    // As tokio does: a restart need not wait for old connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether the kernel knows no IPv6, or has no address of it.
fn lacks_ipv6(error: &io::Error) -> bool {
    let none = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| none.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use tokio::net::TcpStream;

    use super::*;

    /// Whether a connection to that address comes in.
    async fn is_served(listener: &TcpListener, address: impl Into<std::net::IpAddr>) -> bool {
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((address.into(), port)).await.is_ok()
    }

    #[tokio::test]
    async fn any_address_of_ipv6_is_any_of_ipv4_as_well() {
        let listener = bind((Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap();
        assert!(is_served(&listener, Ipv4Addr::LOCALHOST).await);
        // A machine without IPv6 has no such address.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            assert!(is_served(&listener, Ipv6Addr::LOCALHOST).await);
        }
    }

    #[tokio::test]
    async fn any_other_address_is_that_alone() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        assert!(is_served(&listener, Ipv4Addr::LOCALHOST).await);
        assert!(!is_served(&listener, Ipv4Addr::new(127, 0, 0, 2)).await);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_no_lack_of_ipv6() {
        let first = bind((Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap();
        let taken = SocketAddr::from((Ipv6Addr::UNSPECIFIED, first.local_addr().unwrap().port()));
        assert_eq!(bind(taken).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        for (errno, lacks) in
            [(Errno::AFNOSUPPORT, true), (Errno::ADDRNOTAVAIL, true), (Errno::ADDRINUSE, false)]
        {
            assert_eq!(lacks_ipv6(&errno.into()), lacks, "{errno}");
        }
    }
}
