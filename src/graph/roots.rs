//! The root of Microsoft Graph in each cloud.

use crate::api::Cloud;
use crate::config::BaseUrl;

/// The root of Microsoft Graph in each cloud.
///
/// Source: Microsoft, "Graph national cloud deployments".
#[derive(Clone, Debug)]
pub struct GraphRoots {
    global: BaseUrl,
}

// === impl GraphRoots ===

impl GraphRoots {
    /// Microsoft's roots, except for that of the Global cloud, which an administrator may replace.
    pub fn new(global: BaseUrl) -> Self {
        Self { global }
    }

    /// The root's URL, without a trailing slash.
    pub fn of(&self, cloud: Cloud) -> &str {
        match cloud {
            Cloud::Global => self.global.as_str(),
            Cloud::USGovernment => "https://graph.microsoft.us",
            Cloud::USGovernmentDoD => "https://dod-graph.microsoft.us",
            Cloud::China => "https://microsoftgraph.chinacloudapi.cn",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cloud_has_its_root() {
        let roots = GraphRoots::new("https://graph.example.test".parse().unwrap());
        for (cloud, host) in [
            (Cloud::Global, "graph.example.test"),
            (Cloud::USGovernment, "graph.microsoft.us"),
            (Cloud::USGovernmentDoD, "dod-graph.microsoft.us"),
            (Cloud::China, "microsoftgraph.chinacloudapi.cn"),
        ] {
            assert_eq!(roots.of(cloud), format!("https://{host}"));
        }
    }
}
