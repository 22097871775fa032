//! What stands behind the `?` of a request.

use tereza_catalog::store::schemas::Deleted;

use crate::percent;
use crate::refusal::{Answer, Refusal};

/// Parameters, decoded, in their order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// What cannot be decoded is taken as it stands.
    pub(super) fn parse(text: &str) -> Self {
        let decode = |part: &str| {
            let part = part.replace('+', " ");
            percent::decode(&part).unwrap_or(part)
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let split = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(split.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// As Java reads booleans, and Python writes them.
    pub(super) fn is(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub(super) fn deleted(&self) -> Deleted {
        match (self.is("deletedOnly"), self.is("deleted")) {
            (true, _) => Deleted::Only,
            (false, true) => Deleted::Include,
            (false, false) => Deleted::Hide,
        }
    }

    pub(super) fn offset(&self) -> Answer<u32> {
        Ok(self.number("offset")?.and_then(|offset| u32::try_from(offset).ok()).unwrap_or_default())
    }

    /// Negative is none.
    pub(super) fn limit(&self) -> Answer<Option<u32>> {
        Ok(self.number("limit")?.and_then(|limit| u32::try_from(limit).ok()))
    }

    fn number(&self, name: &str) -> Answer<Option<i64>> {
        let number = self.get(name).filter(|value| !value.is_empty()).map(str::parse).transpose();
        number.map_err(|_| Refusal::http(404, "HTTP 404 Not Found"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("a=1&b=%3A*%3A&c&a=2&d=x+y&normalize=True&bad=%zz&limit=-1&offset=3");
        assert_eq!(query.all("a"), ["1", "2"]);
        assert_eq!((query.get("b"), query.get("c"), query.get("d")), (Some(":*:"), Some(""), Some("x y")));
        assert_eq!((query.get("bad"), query.get("e")), (Some("%zz"), None));
        assert!(query.is("normalize") && !query.is("a"));
        assert_eq!((query.offset(), query.limit()), (Ok(3), Ok(None)));
        assert_eq!(Query::parse("limit=x").limit().unwrap_err().status, 404);
    }
}
