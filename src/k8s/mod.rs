//! Access to the Kubernetes API: client layers, watches and what else every command shares.
