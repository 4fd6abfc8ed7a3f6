//! Connection strings as libpq reads them: `key=value` lists, and URLs.
//!
//! Only the syntax (PostgreSQL docs, "Connection Strings"; src/interfaces/libpq/fe-connect.c
//! `conninfo_parse`, `conninfo_uri_parse`): what the settings mean is for who connects. Neither function
//! ever repeats the text in an error: it may hold a password.

/// `host=/run user='me too'`; `None` if it is not that.
pub fn keyword_value(text: &str) -> Option<Vec<(String, String)>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, tail) = rest.split_once('=')?;
        let key = key.trim_end();
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return None;
        }
        let tail = tail.trim_start();
        let quoted = tail.starts_with('\'');
        let mut value = String::new();
        let mut chars = tail.char_indices().skip(usize::from(quoted));
        let mut end = None;
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => value.extend(chars.next().map(|(_, c)| c)),
                '\'' if quoted => {
                    end = Some(i + 1);
                    break;
                }
                c if !quoted && c.is_whitespace() => {
                    end = Some(i);
                    break;
                }
                c => value.push(c),
            }
        }
        if quoted && end.is_none() {
            return None;
        }
        out.push((key.to_string(), value));
        rest = tail.get(end.unwrap_or(tail.len())..)?.trim_start();
    }
    if out.is_empty() { None } else { Some(out) }
}

/// `postgresql://user:password@host1:5432,host2/dbname?key=value` as settings; several hosts come as a list
/// with commas. `None` if it is not that.
pub fn url(text: &str) -> Option<Vec<(String, String)>> {
    let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    let mut out = Vec::new();
    let hosts = match authority.split_once('@') {
        Some((credentials, hosts)) => {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            for (k, v) in [("user", user), ("password", password)] {
                if !v.is_empty() {
                    out.push((k.to_string(), decode(v)?));
                }
            }
            hosts
        }
        None => authority,
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for one in hosts.split(',').filter(|_| !hosts.is_empty()) {
        // An IPv6 address stands in brackets.
        let (host, port) = match one.strip_prefix('[').and_then(|o| o.split_once(']')) {
            Some((host, tail)) => (host, tail.strip_prefix(':').unwrap_or(tail)),
            None => one.split_once(':').unwrap_or((one, "")),
        };
        names.push(decode(host)?);
        ports.push(port.to_string());
    }
    if names.iter().any(|n| !n.is_empty()) {
        out.push(("host".into(), names.join(",")));
    }
    if ports.iter().any(|p| !p.is_empty()) {
        out.push(("port".into(), ports.join(",")));
    }
    if !dbname.is_empty() {
        out.push(("dbname".into(), decode(dbname)?));
    }
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (k, v) = pair.split_once('=')?;
        let (k, v) = (decode(k)?, decode(v)?);
        // As libpq: JDBC's word for it.
        if k == "ssl" && v == "true" {
            out.push(("sslmode".into(), "require".into()));
        } else {
            out.push((k, v));
        }
    }
    Some(out)
}

/// Percent-decoding; a plus sign is a plus sign here.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let hex = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok().filter(|s| !s.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: Option<Vec<(String, String)>>) -> String {
        of.map_or("none".into(), |p| {
            p.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" | ")
        })
    }

    #[test]
    fn urls_become_settings() {
        for (text, expected) in [
            ("postgresql://", ""),
            ("postgres://db1/orders", "host=db1 | dbname=orders"),
            (
                "postgresql://me:p%40ss@db1:5433/o%2Fx?sslmode=verify-full",
                "user=me | password=p@ss | host=db1 | port=5433 | dbname=o/x | sslmode=verify-full",
            ),
            ("postgresql://a,b:5433,[::1]:5/", "host=a,b,::1 | port=,5433,5"),
            (
                "postgresql:///?host=/run/postgresql&port=5432&user=x+y",
                "host=/run/postgresql | port=5432 | user=x+y",
            ),
            ("postgresql://%2Frun%2Fpg/db?ssl=true", "host=/run/pg | dbname=db | sslmode=require"),
            ("postgresql://h/?a", "none"),
            ("postgresql://h%0/", "none"),
            ("postgresql://h%00/", "none"),
            ("mysql://h/", "none"),
        ] {
            assert_eq!(pairs(url(text)), expected, "{text}");
        }
    }

    #[test]
    fn lists_become_settings() {
        for (text, expected) in [
            ("host=/run user='me too' ", "host=/run | user=me too"),
            (r"a = 'it\'s' b=x\ y", "a=it's | b=x y"),
            ("host=", "host="),
            ("host='x", "none"),
            ("host", "none"),
            ("", "none"),
        ] {
            assert_eq!(pairs(keyword_value(text)), expected, "{text}");
        }
    }
}
