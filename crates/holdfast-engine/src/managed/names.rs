//! Names of copies. Those of snapshots come from a pattern of the policy ([`IdPattern`]), once, when the operation
//! begins.
//!
//! [`IdPattern`]: holdfast_core::policy::managed::IdPattern

/// The name for a copy of a snapshot: automated ones (`rds:shop-2026-11-22-03-10`) have names that nobody may
/// give.
pub fn copy_name(id: &str, same_region: bool) -> String {
    let name = id.rsplit(':').next().unwrap_or(id);
    if same_region { format!("{name}-copy") } else { name.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_automated_snapshots_get_a_name_of_their_own() {
        assert_eq!(copy_name("rds:shop-2026-11-22-03-10", false), "shop-2026-11-22-03-10");
        assert_eq!(copy_name("shop-daily-1", true), "shop-daily-1-copy");
    }
}
