//! The program: sets up the allocator and the TLS provider, and runs the command line.

use std::process::ExitCode;

use graph_credential_operator::cli::Cli;
use graph_credential_operator::platform;
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// Wipes freed memory, because secrets pass through buffers of other libraries.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    // mimalloc asks for huge pages. A process this small fills little of each, so they nearly doubled its memory.
    platform::disable_huge_pages();
    // One TLS provider for kube and reqwest; the only failure is that one is already installed.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    Cli::run()
}
