//! Figures as they come, one table at the end.

use std::collections::BTreeMap;

/// Digits shown of a figure below one.
const DIGITS: i32 = 3;

/// The one in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Two decimals; of a figure below one as many as show three digits that count: 0.00 would say that nothing was measured.
fn shown(value: f64) -> String {
    let magnitude = value.abs();
    if !magnitude.is_finite() || magnitude == 0.0 || magnitude >= 1.0 {
        return format!("{value:.2}");
    }
    // 0.1 has its first digit at one decimal, 0.01 at two.
    let first = (-magnitude.log10()).ceil().max(1.0) as i32;
    let decimals = usize::try_from(first - 1 + DIGITS).unwrap_or_default();
    if decimals > 9 { format!("{value:.2e}") } else { format!("{value:.decimals$}") }
}

/// Figures by name, in the order they were measured.
pub(crate) struct Table {
    rows: Vec<(String, f64, &'static str)>,
    by_name: BTreeMap<String, f64>,
    ratios: Vec<(String, f64, &'static str)>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), by_name: BTreeMap::new(), ratios: Vec::new() }
    }

    /// One figure with its unit.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        eprintln!("{name:<64} {:>14} {unit}", shown(value));
        self.by_name.insert(name.clone(), value);
        self.rows.push((name, value, unit));
    }

    /// A figure measured before; not a number if it was not.
    pub(crate) fn get(&self, name: &str) -> f64 {
        self.by_name.get(name).copied().unwrap_or(f64::NAN)
    }

    /// A ratio of two figures of this run, with its aim.
    pub(crate) fn ratio(&mut self, name: &str, value: f64, aim: &'static str) {
        self.ratios.push((name.into(), value, aim));
    }

    /// The aims of the design, as ratios within this run.
    pub(crate) fn ratios(&mut self) {
        let get = |name: &str| self.get(name);
        let cost = get("echo CPU per request")
            + get("Ed25519 sign")
            + get("Ed25519 verify")
            + get("ledger CPU per outcome");
        let ceiling = 2e6 / cost;
        let single = get("software Ed25519, 128 callers, rate");
        let intents = get("software Ed25519 with intents, 128 callers, rate");
        let slow = get("slow device, 2 sessions of 5 ms, rate") / 400.0;
        let rows = [
            ("signs/s at 128 ÷ additive ceiling", single / ceiling, "≥ 0.7"),
            ("the same with an intent per signature", intents / ceiling, "-"),
            (
                "durable ÷ sync off (ledger on tmpfs)",
                single / get("software Ed25519 on tmpfs, 128 callers, rate"),
                "≥ 0.85",
            ),
            ("batch of 256 ÷ single calls", get("software Ed25519, batch of 256, rate") / single, "≥ 1.6"),
            (
                "p99 ÷ p50 at 128",
                get("software Ed25519, 128 callers, p99") / get("software Ed25519, 128 callers, p50"),
                "≤ 3",
            ),
            ("unloaded p50 ÷ sync", get("software Ed25519, 1 callers, p50") / get("sync of 4 KiB"), "≤ 2.5"),
            (
                "ledger alone, groups of 256, entries/s ÷ 50,000",
                get("ledger alone, groups of 256") / 50_000.0,
                "≥ 1",
            ),
            ("HSM-bound rate ÷ (sessions ÷ latency)", slow, "≥ 0.95"),
            (
                "verify time, batches ÷ one by one",
                get("verify, batches") / get("verify, one by one"),
                "≤ 0.4",
            ),
            ("verifier's peak memory ÷ 32 MiB", get("verify, peak memory") / 32.0, "≤ 1"),
            (
                "daemon's memory from 10⁵ entries on, highest ÷ lowest",
                get("daemon memory, highest ÷ lowest"),
                "≤ 1.22, which is ± 10 % around the middle",
            ),
        ];
        for (name, value, aim) in rows {
            // Parts that were not asked for are not missed.
            if value.is_finite() {
                self.ratio(name, value, aim);
            }
        }
        if ceiling.is_finite() {
            self.add("additive ceiling", ceiling, "signs/s");
        }
    }

    /// Prints everything and writes the JSON.
    pub(crate) fn finish(&self) {
        println!("\n{:<66} {:>14} unit", "measured", "value");
        for (name, value, unit) in &self.rows {
            println!("{name:<66} {:>14} {unit}", shown(*value));
        }
        println!("\n{:<66} {:>14} aim", "ratio within this run", "value");
        for (name, value, aim) in &self.ratios {
            println!("{name:<66} {:>14} {aim}", shown(*value));
        }
        let rows: serde_json::Map<String, serde_json::Value> = self
            .rows
            .iter()
            .chain(&self.ratios)
            .map(|(name, value, _)| (name.clone(), (*value).into()))
            .collect();
        let json = serde_json::to_string_pretty(&rows).unwrap();
        std::fs::create_dir_all("target").unwrap();
        std::fs::write("target/bench.json", json + "\n").unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_figures_keep_three_digits() {
        for (value, text) in [
            (1234.5, "1234.50"),
            (1.0, "1.00"),
            (0.95, "0.950"),
            (0.1, "0.100"),
            (0.099_96, "0.1000"),
            (0.0016, "0.00160"),
            (0.001_594, "0.00159"),
            (-0.25, "-0.250"),
            (0.000_000_123_4, "0.000000123"),
            (1.2e-12, "1.20e-12"),
            (0.0, "0.00"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(shown(value), text, "{value}");
        }
    }
}
