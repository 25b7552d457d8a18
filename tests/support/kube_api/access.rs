//! Who asks, and whether they may: tokens, client certificates, and rights as RBAC gives them. Rights come from the test,
//! for each user, and from the Roles and bindings that are stored.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value;

use super::asked::Asked;
use super::refusal::Refusal;
use super::resources::named;
use super::store::{Store, key};

pub const SUPERUSERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    pub fn new(name: &str, groups: &[&str]) -> Self {
        User { name: name.to_owned(), groups: groups.iter().map(|&group| group.to_owned()).collect() }
    }

    pub fn service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        User::new(&format!("system:serviceaccount:{namespace}:{name}"), &["system:serviceaccounts", &of_namespace])
    }

    fn anonymous() -> Self {
        User::new("system:anonymous", &["system:unauthenticated"])
    }

    fn authenticated(mut self) -> Self {
        self.groups.push(AUTHENTICATED.to_owned());
        self
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// A right, as in a Role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub verbs: Vec<String>,
    /// Empty: any.
    pub names: Vec<String>,
    /// `None`: everywhere, and what is in no namespace.
    pub namespace: Option<String>,
}

impl Rule {
    /// Verbs on resources of the core group, everywhere.
    pub fn new(resources: &[&str], verbs: &[&str]) -> Self {
        Rule { groups: owned(&[""]), resources: owned(resources), verbs: owned(verbs), ..Rule::default() }
    }

    pub fn of_group(mut self, group: &str) -> Self {
        self.groups = owned(&[group]);
        self
    }

    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    pub fn only(mut self, names: &[&str]) -> Self {
        self.names = owned(names);
        self
    }

    /// What is left of it without these verbs on resources.
    pub fn without(&self, withheld: &[(String, String)]) -> Vec<Rule> {
        let only = |resource: &String| {
            let is_left = |verb: &&String| !withheld.iter().any(|(taken, of)| taken == *verb && of == resource);
            let verbs = self.verbs.iter().filter(is_left).cloned().collect();
            Rule { resources: vec![resource.clone()], verbs, ..self.clone() }
        };
        self.resources.iter().map(only).filter(|rule| !rule.verbs.is_empty()).collect()
    }

    fn allows(&self, asked: &Asked) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|one| one == "*" || one == wanted);
        let any_of_sub = format!("*/{}", asked.subresource);
        has(&self.verbs, &asked.verb)
            && has(&self.groups, &asked.group)
            && (has(&self.resources, &asked.full_resource())
                || !asked.subresource.is_empty() && self.resources.contains(&any_of_sub))
            && (self.names.is_empty() || self.names.contains(&asked.name))
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == asked.namespace)
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

struct Token {
    user: User,
    expires: Option<Instant>,
}

#[derive(Default)]
pub struct Access {
    tokens: HashMap<String, Token>,
    rules: HashMap<String, Vec<Rule>>,
}

impl Access {
    pub fn add_token(&mut self, token: &str, user: User, expires: Option<Instant>) {
        self.tokens.insert(token.to_owned(), Token { user, expires });
    }

    /// From this instant on the token is refused.
    pub fn expire(&mut self, token: &str, at: Instant) {
        let token = self.tokens.get_mut(token).expect("a token that was made here");
        token.expires = Some(at);
    }

    pub fn set_rules(&mut self, user: &str, rules: Vec<Rule>) {
        self.rules.insert(user.to_owned(), rules);
    }

    /// `certificate`: what the client's certificate says of it, or that it is not to be trusted.
    pub fn authenticate(
        &self,
        authorization: Option<&str>,
        certificate: Option<Result<User, ()>>,
    ) -> Result<User, Refusal> {
        match certificate {
            Some(Ok(user)) => return Ok(user.authenticated()),
            Some(Err(())) if authorization.is_none() => return Err(Refusal::unauthorized()),
            Some(Err(())) | None => {}
        }
        let Some(header) = authorization else { return Ok(User::anonymous()) };
        let Some((scheme, token)) = header.split_once(' ') else { return Ok(User::anonymous()) };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(User::anonymous());
        }
        let known = self.tokens.get(token.trim()).ok_or_else(Refusal::unauthorized)?;
        match known.expires {
            Some(expires) if expires <= Instant::now() => Err(Refusal::unauthorized()),
            Some(_) | None => Ok(known.user.clone().authenticated()),
        }
    }

    pub fn authorise(&self, store: &Store, user: &User, asked: &Asked) -> Result<(), Refusal> {
        if self.is_allowed(store, user, asked) {
            return Ok(());
        }
        Err(Refusal::forbidden(&asked.group, &asked.resource, &asked.name, &asked.denial(&user.name)))
    }

    pub fn is_allowed(&self, store: &Store, user: &User, asked: &Asked) -> bool {
        if user.is_in(SUPERUSERS) {
            return true;
        }
        if !asked.is_resource() {
            return asked.verb == "get" && is_open_path(user, &asked.path);
        }
        if asked.group == "authorization.k8s.io" && asked.resource == "selfsubjectaccessreviews" {
            return user.is_in(AUTHENTICATED);
        }
        let given = self.rules.get(&user.name).is_some_and(|rules| rules.iter().any(|rule| rule.allows(asked)));
        given || bound(store, user, asked)
    }
}

/// What every user may see: the roles `system:discovery` and `system:public-info-viewer`.
fn is_open_path(user: &User, path: &str) -> bool {
    let is_public = ["/healthz", "/livez", "/readyz", "/version", "/version/"].contains(&path);
    let is_discovery = ["/api", "/apis", "/openapi"]
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    is_public || is_discovery && user.is_in(AUTHENTICATED)
}

/// Whether a stored binding gives the right.
fn bound(store: &Store, user: &User, asked: &Asked) -> bool {
    let namespaced = store.list(named("rolebindings"), Some(&asked.namespace)).into_iter();
    let everywhere = store.list(named("clusterrolebindings"), None).into_iter();
    let of_namespace = namespaced.filter(|_| !asked.namespace.is_empty());
    of_namespace.chain(everywhere).any(|((_, namespace, _), binding)| {
        let subjects = binding["subjects"].as_array().map_or(&[][..], Vec::as_slice);
        if !subjects.iter().any(|subject| is_meant(subject, user, &namespace)) {
            return false;
        }
        let reference = &binding["roleRef"];
        let name = reference["name"].as_str().unwrap_or_default();
        let role = match reference["kind"].as_str() {
            Some("Role") => key(named("roles"), &namespace, name),
            _ => key(named("clusterroles"), "", name),
        };
        let role = store.get(&role);
        let rules = role.as_ref().and_then(|role| role["rules"].as_array()).map_or(&[][..], Vec::as_slice);
        rules.iter().any(|rule| stored_rule(rule).allows(asked))
    })
}

fn is_meant(subject: &Value, user: &User, namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.is_in(name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(namespace);
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn stored_rule(rule: &Value) -> Rule {
    let texts = |field: &str| {
        let values = rule[field].as_array().map_or(&[][..], Vec::as_slice);
        values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    Rule {
        groups: texts("apiGroups"),
        resources: texts("resources"),
        verbs: texts("verbs"),
        names: texts("resourceNames"),
        namespace: None,
    }
}
