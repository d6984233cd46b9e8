//! Starts the library: allocator, TLS provider, command line.

use std::process::ExitCode;

use graph_credential_operator::cli::Cli;
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// Wipes freed memory, for secrets pass through buffers that no type of ours owns.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    // One TLS provider for kube and reqwest; the only failure is that there is one already.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    Cli::run()
}
