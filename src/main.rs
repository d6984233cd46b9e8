//! Starts the library: allocator, TLS provider, command line.

use std::process::ExitCode;

use graph_credential_operator::cli::Cli;
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// Wipes freed memory, for secrets pass through buffers that no type of ours owns.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    // mimalloc asks for huge pages. A process this small fills little of each, so they nearly doubled its memory. A system that
    // does not know the request has none to give.
    let _unknown = rustix::thread::disable_transparent_huge_pages(true);
    // One TLS provider for kube and reqwest; the only failure is that there is one already.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    Cli::run()
}
