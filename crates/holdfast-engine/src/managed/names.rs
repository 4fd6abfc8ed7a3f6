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

/// The name for a copy in another account, where copies from several accounts may lie: with the account that it is
/// from. Names of cluster snapshots have 63 characters (API reference of RDS, CopyDBClusterSnapshot): of a long one
/// the beginning is kept, and what tells it from others that begin alike.
pub fn copy_name_abroad(id: &str, account: &str) -> String {
    let name = copy_name(id, false);
    let tail = match name.len() + 1 + account.len() {
        0..=63 => account.to_string(),
        _ => {
            let sum = name.bytes().fold(5381u32, |h, b| h.wrapping_mul(33) ^ u32::from(b));
            format!("{sum:08x}-{account}")
        }
    };
    let room = 62usize.saturating_sub(tail.len());
    let head = name.get(..name.len().min(room)).unwrap_or(&name).trim_end_matches('-');
    format!("{head}-{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_automated_snapshots_get_a_name_of_their_own() {
        assert_eq!(copy_name("rds:shop-2026-11-22-03-10", false), "shop-2026-11-22-03-10");
        assert_eq!(copy_name("shop-daily-1", true), "shop-daily-1-copy");
    }

    #[test]
    fn copies_abroad_say_where_they_are_from_and_never_collide() {
        assert_eq!(copy_name_abroad("shop-daily-1", "123456789012"), "shop-daily-1-123456789012");
        let long = |last: char| format!("{}{last}", "x".repeat(62));
        let (a, b) =
            (copy_name_abroad(&long('a'), "123456789012"), copy_name_abroad(&long('b'), "123456789012"));
        assert!(a != b && a.len() <= 63 && a.ends_with("-123456789012"), "{a} {b}");
    }
}
