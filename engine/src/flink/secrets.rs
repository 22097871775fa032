//! What is not shown of texts and options: passwords and the like.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// What the keys of options have in them whose values are not shown.
const SECRETS: [&str; 5] = ["credential", "jaas", "password", "secret", "token"];
/// What stands in their place.
pub(crate) const HIDDEN: &str = "***";

static OPTION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words = SECRETS.join("|");
    Regex::new(&format!(r"(?is)('[^']*(?:{words})[^']*'\s*=\s*)'(?:[^']|'')*'")).ok()
});

/// Whether the value of an option of this key is not shown.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRETS.iter().any(|word| key.contains(word))
}

/// A text of SQL without the values of options that are not shown.
pub(crate) fn without_secrets(sql: &str) -> Cow<'_, str> {
    match OPTION.as_ref() {
        Some(option) if is_secret(sql) => option.replace_all(sql, format!("${{1}}'{HIDDEN}'")),
        _ => Cow::Borrowed(sql),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_are_not_in_a_text() {
        let sql = "CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'properties.sasl.jaas.config' = 'it''s; a \n \
                   secret', 'properties.ssl.key.password'='p', 'topic' = 'tokens')";
        let shown = without_secrets(sql);
        assert_eq!(
            shown,
            "CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'properties.sasl.jaas.config' = '***', \
             'properties.ssl.key.password'='***', 'topic' = 'tokens')"
        );
        assert_eq!(without_secrets("SELECT 'x' = 'y'"), "SELECT 'x' = 'y'");
        assert!(is_secret("avro-confluent.BASIC-AUTH.Credentials-source") && !is_secret("topic"));
    }
}
