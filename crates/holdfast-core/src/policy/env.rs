//! Variables in the values of a policy: `${NAME}` and `${NAME:-default}`.
//!
//! Only values are expanded, never keys, and once: what a variable holds is taken as it is. `$${` stands
//! for `${` itself. A variable that is not there and has no default is a mistake, and so is one whose name
//! says that it is a secret: secrets come from the places that each kind of connection has for them.

use super::file::Mistake;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Looks a variable up; `None`: it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands every text value in `table`.
pub(super) fn expand(table: &mut DeTable<'_>, lookup: Lookup<'_>, mistakes: &mut Vec<Mistake>) {
    for (_, value) in table.iter_mut() {
        expand_value(value, lookup, mistakes);
    }
}

fn expand_value(value: &mut toml::Spanned<DeValue<'_>>, lookup: Lookup<'_>, mistakes: &mut Vec<Mistake>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match substitute(text, &span, lookup) {
            Ok(new) => *text = new.into(),
            Err(m) => mistakes.push(m),
        },
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                expand_value(item, lookup, mistakes);
            }
        }
        DeValue::Table(inner) => expand(inner, lookup, mistakes),
        _ => {}
    }
}

fn substitute(text: &str, span: &Range<usize>, lookup: Lookup<'_>) -> Result<String, Mistake> {
    let wrong =
        |message: String, hint: &str| Mistake { span: span.clone(), message, hint: Some(hint.into()) };
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(plain) = before.strip_suffix('$') {
            out.push_str(plain);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((inner, tail)) = after.split_once('}') else {
            return Err(wrong(
                "`${` without `}`".into(),
                "Write `${NAME}`, or `$${` for the two characters.",
            ));
        };
        rest = tail;
        let (name, default) = match inner.split_once(":-") {
            Some((n, d)) => (n, Some(d)),
            None => (inner, None),
        };
        let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !good || default.is_some_and(|d| d.contains("${")) {
            return Err(wrong(
                "this is not the name of a variable".into(),
                "Write `${NAME}` or `${NAME:-default}`; a default is plain text.",
            ));
        }
        if is_secret(name) {
            return Err(wrong(
                format!("`{name}` looks like a secret, and the policy file is no place for one"),
                "Passwords come from a password file, a service file or the secret that the policy names; \
                 credentials from the environment or profile as the provider's tools read them.",
            ));
        }
        match lookup(name).filter(|v| !(v.is_empty() && default.is_some())).or(default.map(str::to_string)) {
            Some(v) if v.chars().any(char::is_control) => {
                return Err(wrong(
                    format!("the variable `{name}` holds control characters"),
                    "Set it to one line of text.",
                ));
            }
            Some(v) => out.push_str(&v),
            None => {
                return Err(wrong(
                    format!("the variable `{name}` is not set"),
                    "Set it, or write a default: `${NAME:-default}`.",
                ));
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// By its name. `AWS_ACCESS_KEY_ID` is none, `AWS_SECRET_ACCESS_KEY` is one.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let file = name.ends_with("_FILE") || name.ends_with("_PATH") || name.ends_with("_ARN");
    !file
        && (["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "CREDENTIAL"]
            .iter()
            .any(|w| name.contains(w))
            || name.ends_with("PRIVATE_KEY")
            || name.ends_with("ACCESS_KEY")
            || name.ends_with("API_KEY"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(text: &str) -> Result<String, String> {
        let lookup = |n: &str| match n {
            "REGION" => Some("eu-west-1".to_string()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${REGION}".to_string()),
            "LINES" => Some("a\nb".to_string()),
            "DB_PASSWORD" | "AWS_SECRET_ACCESS_KEY" => Some("hunter2".to_string()),
            _ => None,
        };
        substitute(text, &(0..0), &lookup).map_err(|m| m.message)
    }

    #[test]
    fn variables_and_defaults() {
        for (text, want) in [
            ("rds://${REGION}/x", "rds://eu-west-1/x"),
            ("${REGION:-us-east-1}", "eu-west-1"),
            ("${NONE:-us-east-1}-${REGION}", "us-east-1-eu-west-1"),
            ("${NONE:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NESTED}", "${REGION}"),
            ("$${REGION} costs $5", "${REGION} costs $5"),
        ] {
            assert_eq!(sub(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_not_set_or_secret_is_refused() {
        for (text, says) in [
            ("${NONE}", "`NONE` is not set"),
            ("${LINES}", "control characters"),
            ("${REGION", "without `}`"),
            ("${}", "not the name"),
            ("${A B}", "not the name"),
            ("${NONE:-${REGION}}", "not the name"),
            ("${DB_PASSWORD}", "looks like a secret"),
            ("${DB_PASSWORD:-x}", "looks like a secret"),
            ("${AWS_SECRET_ACCESS_KEY}", "looks like a secret"),
        ] {
            let message = sub(text).unwrap_err();
            assert!(message.contains(says) && !message.contains("hunter2"), "{text}: {message}");
        }
        assert!(!is_secret("PGPASSWORD_FILE") && !is_secret("SECRET_ARN") && !is_secret("AWS_ACCESS_KEY_ID"));
    }
}
