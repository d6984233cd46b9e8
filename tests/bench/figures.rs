//! Figures by name, such as `store/1000/operator/objects_per_second`: in memory, and as `bench.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Figures by name. A name is a path; its last part is the quantity with its unit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Figures(BTreeMap<String, f64>);

/// The file with the figures.
#[derive(Default, Serialize, Deserialize)]
pub struct Kept {
    /// The machine of the last run that changed the file.
    pub machine: String,
    pub figures: Figures,
}

// === impl Figures ===

impl Figures {
    /// Stores a figure with three decimal places.
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), (value * 1000.0).round() / 1000.0);
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Adds other figures with this prefix before their names.
    pub fn extend(&mut self, prefix: &str, others: &Self) {
        self.0.extend(others.0.iter().map(|(name, value)| (format!("{prefix}{name}"), *value)));
    }

    /// The figures whose names begin with `prefix`, by the rest of their names.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, *value)))
    }

    /// The sizes that were measured with this destination.
    pub fn sizes(&self, to: &str) -> Vec<usize> {
        let prefix = format!("{to}/");
        let mut sizes: Vec<usize> =
            self.below(&prefix).filter_map(|(name, _)| name.split('/').next()?.parse().ok()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Replaces everything that the same scenario stored for the same size.
    pub fn replace_with(&mut self, fresh: &Self) {
        let scenario = |name: &str| {
            let parts: Vec<&str> = name.split('/').collect();
            parts[..parts.len().saturating_sub(1).min(4)].join("/")
        };
        let again: std::collections::BTreeSet<String> = fresh.0.keys().map(|name| scenario(name)).collect();
        self.0.retain(|name, _| !again.contains(&scenario(name)));
        self.extend("", fresh);
    }

    /// Prints all of them, one per line.
    pub fn print(&self, prefix: &str) {
        for (name, value) in &self.0 {
            println!("  {prefix}{name}: {value}");
        }
    }
}

// === impl Kept ===

impl Kept {
    /// The content of the file; empty if it does not exist.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.is_empty() { Self::default() } else { serde_json::from_str(&text).expect("bench.json") }
    }

    pub fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(self).unwrap() + "\n";
        std::fs::write(path, text).expect("bench.json can be written");
    }
}

/// The value at a fraction of the sorted values: 0.5 is the median.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len().saturating_sub(1)) as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// A count as a figure.
#[allow(clippy::cast_precision_loss)]
pub fn float(count: usize) -> f64 {
    count as f64
}
