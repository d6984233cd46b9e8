//! Microsoft's clouds: the authority and the Graph scope of each.

use crate::api::Cloud;
use crate::config::BaseUrl;

/// The authority of each cloud, where its secrets are verified.
///
/// Source: Microsoft, "National clouds" (authority hosts) and "Graph national cloud deployments" (roots).
#[derive(Clone, Debug)]
pub struct Authorities {
    global: BaseUrl,
}

// === impl Authorities ===

impl Authorities {
    /// Microsoft's authorities, except for that of the Global cloud, which an administrator may replace.
    pub fn new(global: BaseUrl) -> Self {
        Self { global }
    }

    /// The authority's base URL, without a trailing slash.
    pub fn of(&self, cloud: Cloud) -> &str {
        match cloud {
            Cloud::Global => self.global.as_str(),
            Cloud::USGovernment | Cloud::USGovernmentDoD | Cloud::China => authority_of(cloud),
        }
    }
}

/// Microsoft's own authority of a cloud.
pub(super) fn authority_of(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Global => "https://login.microsoftonline.com",
        Cloud::USGovernment | Cloud::USGovernmentDoD => "https://login.microsoftonline.us",
        Cloud::China => "https://login.partner.microsoftonline.cn",
    }
}

/// The scope that requests all application permissions granted on that cloud's Graph.
pub(super) fn scope(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Global => "https://graph.microsoft.com/.default",
        Cloud::USGovernment => "https://graph.microsoft.us/.default",
        Cloud::USGovernmentDoD => "https://dod-graph.microsoft.us/.default",
        Cloud::China => "https://microsoftgraph.chinacloudapi.cn/.default",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cloud_has_its_authority_and_its_graph() {
        let authorities = Authorities::new("https://login.example.test".parse().unwrap());
        for (cloud, authority, graph) in [
            (Cloud::Global, "login.example.test", "graph.microsoft.com"),
            (Cloud::USGovernment, "login.microsoftonline.us", "graph.microsoft.us"),
            (Cloud::USGovernmentDoD, "login.microsoftonline.us", "dod-graph.microsoft.us"),
            (Cloud::China, "login.partner.microsoftonline.cn", "microsoftgraph.chinacloudapi.cn"),
        ] {
            assert_eq!(authorities.of(cloud), format!("https://{authority}"));
            assert_eq!(scope(cloud), format!("https://{graph}/.default"));
        }
    }
}
