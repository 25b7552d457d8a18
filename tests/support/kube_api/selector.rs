//! Label and field selectors.

use serde_json::Value;

/// What a list or a watch is limited to.
#[derive(Clone, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    pub fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let labels = split(labels).into_iter().map(|text| requirement(&text)).collect::<Result<_, _>>()?;
        let fields = split(fields).into_iter().map(|text| field(&text)).collect::<Result<_, _>>()?;
        Ok(Selector { labels, fields })
    }

    /// The one name that is asked for, which authorisation takes for the request's.
    pub fn name(&self) -> Option<&str> {
        let named = self.fields.iter().find(|(field, is_equal, _)| field == "metadata.name" && *is_equal);
        named.map(|(_, _, name)| name.as_str())
    }

    /// Also asks for this name.
    pub fn limit_to(&mut self, name: &str) {
        self.fields.push(("metadata.name".to_owned(), true, name.to_owned()));
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// What the server says to a field that it cannot select by.
    pub fn complaint(&self, kind: &str) -> Option<String> {
        let of_pods = ["spec.nodeName", "status.phase", "status.podIP", "spec.restartPolicy"];
        let is_known = |field: &str| {
            ["metadata.name", "metadata.namespace"].contains(&field) || kind == "Pod" && of_pods.contains(&field)
        };
        let field = self.fields.iter().map(|(field, _, _)| field.as_str()).find(|field| !is_known(field))?;
        // Kinds with fields of their own have words of their own.
        Some(match kind {
            "Pod" | "Namespace" => format!("field label not supported: {field}"),
            _ => format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
        })
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|requirement| requirement.holds(labels.get(&requirement.key).and_then(Value::as_str)))
            && self.fields.iter().all(|(field, is_equal, wanted)| {
                let value = field.split('.').fold(object, |value, part| &value[part]);
                (value.as_str().unwrap_or_default() == wanted) == *is_equal
            })
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|wanted| wanted != value)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
        }
    }
}

/// At the commas that are not in brackets.
fn split(text: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        match (c, depth, parts.last_mut()) {
            (',', 0, _) => parts.push(String::new()),
            (c, _, Some(part)) => part.push(c),
            (_, _, None) => {}
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let text = text.trim();
    let made = |key: &str, test| Ok(Requirement { key: key.trim().to_owned(), test });
    if let Some((head, rest)) = text.split_once('(') {
        let values = rest.strip_suffix(')').ok_or_else(|| unparsable(text))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => made(key, Test::In(values)),
            (Some(key), Some("notin"), None) => made(key, Test::NotIn(values)),
            _ => Err(unparsable(text)),
        };
    }
    let value = |value: &str| vec![value.trim().to_owned()];
    if let Some((key, wanted)) = text.split_once("!=") {
        return made(key, Test::NotIn(value(wanted)));
    }
    if let Some((key, wanted)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return made(key, Test::In(value(wanted)));
    }
    match text.strip_prefix('!') {
        Some(key) => made(key, Test::Absent),
        None if text.contains(char::is_whitespace) => Err(unparsable(text)),
        None => made(text, Test::Exists),
    }
}

fn unparsable(text: &str) -> String {
    format!("unable to parse requirement: found '{text}', expected: in, notin, =, ==, !=, gt, lt")
}

fn field(text: &str) -> Result<(String, bool, String), String> {
    let found = text
        .split_once("!=")
        .map(|(field, value)| (field, false, value))
        .or_else(|| text.split_once("==").map(|(field, value)| (field, true, value)))
        .or_else(|| text.split_once('=').map(|(field, value)| (field, true, value)));
    let (field, is_equal, value) =
        found.ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{text}'"))?;
    Ok((field.trim().to_owned(), is_equal, value.trim().to_owned()))
}
