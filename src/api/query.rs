//! Query strings: standard decoding; the first value of a repeated parameter counts, empty ones do not.

/// The parameters in the order given, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(raw: Option<&str>) -> Self {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(raw.unwrap_or_default().as_bytes()).into_owned() {
            if !value.is_empty() && !parameters.iter().any(|(known, _)| *known == name) {
                parameters.push((name, value));
            }
        }
        Query(parameters)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_and_lets_the_first_value_count() {
        let query = Query::parse(Some("a=1%2B2+x&a=2&empty=&b=%zz&%C3%A9=%C3%A9&c"));
        assert_eq!(query.get("a"), Some("1+2 x"));
        assert_eq!(query.get("empty"), None);
        assert_eq!(query.get("b"), Some("%zz"));
        assert_eq!(query.get("é"), Some("é"));
        assert_eq!(query.get("c"), None);
        assert_eq!(Query::parse(None), Query::default());
    }
}
