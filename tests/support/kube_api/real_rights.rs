//! Rights one by one, as a real server is asked for them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::access::Rule;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    namespace: Option<String>,
    group: String,
    resource: String,
    verb: String,
    /// Empty: any.
    name: String,
}

/// Those that the rules give, but for what stands in for several.
pub fn of(rules: &[Rule]) -> BTreeSet<Right> {
    let any = vec![String::new()];
    let mut rights = BTreeSet::new();
    for rule in rules {
        let names = if rule.names.is_empty() { &any } else { &rule.names };
        for (group, resource) in rule.groups.iter().flat_map(|group| rule.resources.iter().map(move |one| (group, one)))
        {
            for (verb, name) in rule.verbs.iter().flat_map(|verb| names.iter().map(move |name| (verb, name))) {
                rights.insert(Right {
                    namespace: rule.namespace.clone(),
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                    name: name.clone(),
                });
            }
        }
    }
    rights.retain(|right| [&right.group, &right.resource, &right.verb].iter().all(|text| !text.contains('*')));
    rights
}

impl Right {
    /// The question whether the user has it.
    pub fn review(&self, user: &str) -> Value {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        let attributes = json!({"verb": self.verb, "group": self.group, "resource": resource, "subresource": subresource,
            "namespace": self.namespace, "name": self.name});
        json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": {"user": user, "resourceAttributes": attributes}})
    }
}
