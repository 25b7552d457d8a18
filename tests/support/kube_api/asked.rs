//! What a request asks for, in the terms in which rights are given: verb, group, resource, namespace, name.

use std::collections::HashMap;

use hyper::Method;
use percent_encoding::percent_decode_str;

use super::selector::Selector;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; of a path the method.
    pub verb: String,
    pub group: String,
    pub version: String,
    /// Empty where a path is asked for that is no resource.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
}

/// The parameters behind the question mark; of several with one name the first.
pub struct Query(HashMap<String, String>);

impl Query {
    pub fn parse(text: &str) -> Self {
        let mut query = HashMap::new();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            query.entry(key.into_owned()).or_insert(value.into_owned());
        }
        Query(query)
    }

    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    /// As Kubernetes reads a Boolean: present and not `false` or `0`.
    pub fn is_set(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !["false", "0"].contains(&value.to_lowercase().as_str()))
    }

    pub fn selector(&self) -> Result<Selector, String> {
        Selector::parse(self.text("labelSelector"), self.text("fieldSelector"))
    }
}

impl Asked {
    pub fn read(method: &Method, path: &str, query: &Query) -> Self {
        let mut asked = Asked { verb: method.as_str().to_lowercase(), path: path.to_owned(), ..Asked::default() };
        let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let mut rest = match parts.first().map(String::as_str) {
            Some("api") if parts.len() > 2 => {
                asked.version.clone_from(&parts[1]);
                &parts[2..]
            }
            Some("apis") if parts.len() > 3 => {
                asked.group.clone_from(&parts[1]);
                asked.version.clone_from(&parts[2]);
                &parts[3..]
            }
            _ => return asked,
        };
        if rest[0] == "namespaces" && rest.len() > 1 {
            asked.namespace.clone_from(&rest[1]);
            if rest.len() > 2 && !["status", "finalize"].contains(&rest[2].as_str()) {
                rest = &rest[2..];
            }
        }
        let part = |at: usize| rest.get(at).cloned().unwrap_or_default();
        (asked.resource, asked.name, asked.subresource) = (part(0), part(1), part(2));
        asked.verb = asked.resource_verb(method, query).to_owned();
        if ["list", "watch", "deletecollection"].contains(&asked.verb.as_str())
            && let Some(name) = query.selector().ok().and_then(|selector| selector.name().map(str::to_owned))
        {
            asked.name = name;
        }
        asked
    }

    fn resource_verb(&self, method: &Method, query: &Query) -> &'static str {
        match (method.as_str(), self.name.is_empty()) {
            ("GET" | "HEAD", _) if query.is_set("watch") => "watch",
            ("GET" | "HEAD", false) => "get",
            ("GET" | "HEAD", true) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", false) => "delete",
            ("DELETE", true) => "deletecollection",
            _ => "",
        }
    }

    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// `pods`, `pods/status`.
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// What the user cannot do, as the server says it.
    pub fn denial(&self, user: &str) -> String {
        if !self.is_resource() {
            return format!("User {user:?} cannot {} path {:?}", self.verb, self.path);
        }
        let place = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        let (verb, resource, group) = (&self.verb, self.full_resource(), &self.group);
        format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
    }
}
