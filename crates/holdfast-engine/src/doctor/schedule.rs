//! How long a plan may leave nothing behind: [`longest_pause`].

use holdfast_core::policy::Plan;
use jiff::tz::TimeZone;
use std::time::Duration;

/// The longest time between two runs of the tier that runs most often; `None` without tiers.
pub(super) fn longest_pause(plan: &Plan) -> Option<Duration> {
    let pauses = plan.tiers.values().filter_map(|t| {
        let zone = TimeZone::get(&t.timezone).unwrap_or(TimeZone::UTC);
        t.schedule.longest_pause(&zone)
    });
    pauses.min().map(holdfast_core::time::Duration::std)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::policy::Policy;
    use std::path::Path;

    #[test]
    fn the_most_frequent_tier_counts() {
        let tier = |name: &str, schedule: &str| {
            format!("[policies.p.tiers.{name}]\nschedule = \"{schedule}\"\nkeep = {{ last = 1 }}\n")
        };
        let pause = |tiers: &str| {
            let text = format!(
                "version = 1\n[vaults.v]\nurl = \"file:///v\"\nkey-file = \"k\"\n[policies.p]\n{tiers}"
            );
            let policy = Policy::parse(&text, Path::new("/p.toml")).unwrap();
            longest_pause(&policy.policies["p"]).map(|d| d.as_secs())
        };
        assert_eq!(pause(""), None);
        assert_eq!(pause(&tier("a", "0 3 * * 0")), Some(7 * 86_400));
        assert_eq!(pause(&(tier("a", "first sunday 03:00") + &tier("b", "every 6h"))), Some(6 * 3_600));
    }
}
