//! Names of users and groups, from the files that every PostgreSQL host has.

/// The names behind a uid and a gid; the numbers themselves where there are none.
pub fn names(uid: u32, gid: u32) -> (String, String) {
    (lookup("/etc/passwd", uid), lookup("/etc/group", gid))
}

fn lookup(file: &str, id: u32) -> String {
    std::fs::read_to_string(file)
        .ok()
        .and_then(|text| {
            text.lines().find_map(|l| {
                let mut f = l.split(':');
                let name = f.next()?;
                let number: u32 = f.nth(1)?.parse().ok()?;
                (number == id).then(|| name.to_string())
            })
        })
        .unwrap_or_else(|| id.to_string())
}

/// Uid and gid of a user by name.
pub fn by_name(user: &str) -> Option<(u32, u32)> {
    std::fs::read_to_string("/etc/passwd").ok()?.lines().find_map(|l| {
        let f: Vec<&str> = l.split(':').collect();
        (f.first() == Some(&user)).then(|| Some((f.get(2)?.parse().ok()?, f.get(3)?.parse().ok()?)))?
    })
}
