//! The node itself: name, scope, REST API, requests to others, tags.

use std::time::Duration;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::addresses::is_loopback;
use super::given::{HostFacts, Purpose};
use super::mode::Wanted;
use super::origin::Origin;
use super::reader::{Reader, as_switch, remove_nulls, scalar};
use super::server::{is_wildcard, not_a_wildcard, own_address};
use super::{BasicAuth, CtlConfig, HostPort, RestConfig, ServerTls, ServerTokens, VerifyClient, redact, units};
use crate::core::policy::{Mode, Switch};
use crate::core::units::MemberName;
use crate::core::view::Tags;

/// The name that Patroni keeps for itself.
const RESERVED_NAME: &str = "__patroni_strict_sync_replica_placeholder__";

pub(super) fn name(reader: &mut Reader<'_>, host: &HostFacts, wanted: Wanted) -> MemberName {
    let given = reader.text("name").or_else(|| reader.text("postgresql.name"));
    // The pod's name. Its host name is another one where the specification says so, or on its node's network.
    let of_pod = || if wanted.is_kubernetes() { reader.text("environment.hostname") } else { None };
    let Some(name) = given.or_else(of_pod) else {
        reader.note("name", &host.host_name, Origin::Machine("host name"));
        if host.host_name.is_empty() {
            reader.missing_of_member("PATRONI_NAME", "the member's name, since the host name is empty");
        } else if wanted.mode() == Mode::Cluster && is_container_id(&host.host_name) {
            let advice = format!(
                "a name that the member keeps, since the host name {} is a container's id, new with each container: \
                 set PATRONI_NAME or the container's host name",
                host.host_name
            );
            reader.missing_of_member("PATRONI_NAME", &advice);
        }
        return MemberName::new(host.host_name.clone());
    };
    if name == RESERVED_NAME || !is_key(&name) {
        reader.wrong("name", "a name without / and control characters that is not reserved");
    }
    MemberName::new(name)
}

/// `docker stop` kills after 10 s where nobody says otherwise.
pub(super) fn stop_timeout(reader: &mut Reader<'_>) -> Duration {
    let seconds = reader.whole_or("environment.stop_timeout", 2..=86_400, 8);
    Duration::from_secs(seconds.unsigned_abs())
}

pub(super) fn keep_discarded(reader: &mut Reader<'_>) -> Duration {
    let seconds = reader.whole_or("environment.keep_discarded", 0..=31_536_000, 86_400);
    Duration::from_secs(seconds.unsigned_abs())
}

fn is_container_id(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a text can be one part of a key in the DCS.
fn is_key(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c == '/' || c.is_control())
}

/// A single server without a scope has the one that Patroni's documentation uses for its key folder.
pub(super) fn scope(reader: &mut Reader<'_>, wanted: Wanted) -> String {
    match reader.text("scope") {
        Some(scope) => {
            if !is_key(&scope) {
                reader.wrong("scope", "a name without / and control characters");
            }
            scope
        }
        None if wanted.is_kubernetes() && reader.purpose == Purpose::CommandLine => String::new(),
        None => {
            if wanted.mode() == Mode::Cluster {
                reader.missing("PATRONI_SCOPE", "the cluster's name");
            }
            reader.note("scope", "single", Origin::Default);
            "single".to_owned()
        }
    }
}

pub(super) fn namespace(reader: &mut Reader<'_>) -> String {
    let text = reader.text_or("namespace", "service");
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

pub(super) fn rest(reader: &mut Reader<'_>, host: &HostFacts, mode: Mode) -> RestConfig {
    let default = match mode {
        Mode::Cluster => "0.0.0.0:8008",
        Mode::Single => "127.0.0.1:8008",
    };
    let mut listen = reader.host_port("restapi.listen", Some(8008)).unwrap_or_else(|| {
        reader.note("restapi.listen", default, Origin::Default);
        HostPort { host: default.trim_end_matches(":8008").to_owned(), port: 8008 }
    });
    if mode == Mode::Single && !is_loopback(&listen.host) {
        let place = reader.document.place("restapi.listen");
        reader.report.warn(format!("{place}: without a DCS the REST API listens on 127.0.0.1 only, not on {listen}"));
        listen.host = "127.0.0.1".to_owned();
        reader.note("restapi.listen", &listen.to_string(), Origin::Machine("a single server"));
    }
    if listen.host == "*" {
        listen.host = "0.0.0.0".to_owned();
    }
    let (connect_address, connect_by_host_name) = match reader.host_port("restapi.connect_address", Some(listen.port)) {
        Some(address) => (not_a_wildcard(reader, "restapi.connect_address", address), false),
        None => {
            let shown = if is_wildcard(&listen.host) { "*".to_owned() } else { listen.host.clone() };
            own_address(reader, "restapi.connect_address", host, &shown, listen.port)
        }
    };
    RestConfig {
        connect_address,
        connect_by_host_name,
        auth: auth(reader, "restapi", "PATRONI_RESTAPI"),
        tls: tls(reader),
        allowlist: reader.list("restapi.allowlist").unwrap_or_default(),
        allowlist_include_members: reader.switch_or("restapi.allowlist_include_members", Switch::Off),
        http_extra_headers: headers(reader, "restapi.http_extra_headers"),
        https_extra_headers: headers(reader, "restapi.https_extra_headers"),
        request_queue_size: u32::try_from(reader.whole_or("restapi.request_queue_size", 0..=4096, 1024))
            .unwrap_or(1024),
        server_tokens: server_tokens(reader),
        listen,
    }
}

fn server_tokens(reader: &mut Reader<'_>) -> ServerTokens {
    match reader.text_or("restapi.server_tokens", "original").to_ascii_lowercase().as_str() {
        "original" => ServerTokens::Original,
        "minimal" => ServerTokens::Minimal,
        "productonly" => ServerTokens::ProductOnly,
        _ => {
            let place = reader.document.place("restapi.server_tokens");
            reader.report.warn(format!("{place}: expected original, minimal or productonly; original is used"));
            ServerTokens::Original
        }
    }
}

fn headers(reader: &mut Reader<'_>, path: &str) -> BTreeMap<String, String> {
    let headers = reader.texts(path);
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let is_value = |value: &str| value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    if !headers.iter().all(|(name, value)| is_name(name) && is_value(value)) {
        reader.error(path, "a header that HTTP does not allow", "names and values of printable ASCII characters");
    }
    headers
}

pub(super) fn auth(reader: &mut Reader<'_>, section: &str, prefix: &str) -> Option<BasicAuth> {
    let username = reader.text(&format!("{section}.authentication.username"));
    let password = reader.secret(&format!("{section}.authentication.password"));
    match (username, password) {
        (Some(username), Some(password)) => {
            if username.contains(':') {
                reader.wrong(&format!("{section}.authentication.username"), "a name without a colon");
            }
            Some(BasicAuth { username, password })
        }
        (None, None) => None,
        (Some(_), None) => {
            reader.missing(&format!("{prefix}_PASSWORD"), "both user and password, or neither");
            None
        }
        (None, Some(_)) => {
            reader.missing(&format!("{prefix}_USERNAME"), "both user and password, or neither");
            None
        }
    }
}

fn tls(reader: &mut Reader<'_>) -> Option<ServerTls> {
    let certfile = reader.file("restapi.certfile");
    let keyfile = reader.file("restapi.keyfile");
    let keyfile_password = reader.secret("restapi.keyfile_password");
    let cafile = reader.file("restapi.cafile");
    let ciphers = reader.text("restapi.ciphers");
    let verify_client = match reader.text_or("restapi.verify_client", "none").to_ascii_lowercase().as_str() {
        "none" => VerifyClient::None,
        "optional" => VerifyClient::Optional,
        "required" => VerifyClient::Required,
        _ => {
            reader.wrong("restapi.verify_client", "none, optional or required");
            VerifyClient::Required
        }
    };
    let needs_certificate = keyfile.is_some() || verify_client != VerifyClient::None;
    let Some(certfile) = certfile else {
        if needs_certificate {
            reader.missing(
                "PATRONI_RESTAPI_CERTFILE",
                "the REST API's certificate, since a key or client \
                            certificates are asked for",
            );
        }
        return None;
    };
    if verify_client != VerifyClient::None && cafile.is_none() {
        reader.missing("PATRONI_RESTAPI_CAFILE", "the authorities that clients' certificates are verified against");
    }
    Some(ServerTls { certfile, keyfile, keyfile_password, cafile, ciphers, verify_client })
}

/// Without credentials and authorities of its own it has those of the REST API.
pub(super) fn ctl(reader: &mut Reader<'_>, rest_auth: Option<BasicAuth>) -> CtlConfig {
    let config = CtlConfig {
        auth: auth(reader, "ctl", "PATRONI_CTL").or(rest_auth),
        insecure: reader.switch_or("ctl.insecure", Switch::Off).is_on(),
        cacert: reader.file("ctl.cacert"),
        cafile_of_api: reader.file("restapi.cafile"),
        certfile: reader.file("ctl.certfile"),
        keyfile: reader.file("ctl.keyfile"),
        keyfile_password: reader.secret("ctl.keyfile_password"),
    };
    if config.keyfile.is_some() && config.certfile.is_none() {
        reader.missing("PATRONI_CTL_CERTFILE", "the certificate of the key");
    }
    config
}

/// The tags as decisions take them, and as they are published.
pub(super) fn tags(reader: &mut Reader<'_>, name: &MemberName) -> (Tags, Map<String, Value>) {
    let mut published = reader.map("tags").cloned().unwrap_or_default();
    remove_nulls(&mut published);
    for key in ["nofailover", "noloadbalance", "clonefrom", "nosync", "nostream"] {
        let Some(value) = published.get_mut(key) else { continue };
        match as_switch(value) {
            Some(switch) => *value = Value::Bool(switch.is_on()),
            None => drop(reader.wrong(&format!("tags.{key}"), "on, true, yes, 1, off, false, no or 0")),
        }
    }
    for key in ["failover_priority", "sync_priority"] {
        if published.get(key).is_some_and(|value| priority(value).is_none()) {
            reader.wrong(&format!("tags.{key}"), "a whole number");
        }
    }
    let is_on = |key: &str| published.get(key) == Some(&Value::Bool(true));
    let weighed = |never: &str, name: &str| match (published.get(never), published.get(name).and_then(priority)) {
        (Some(Value::Bool(true)), _) => 0,
        (Some(_), priority) => priority.unwrap_or(1).max(1),
        (None, priority) => priority.unwrap_or(1).max(0),
    };
    let tags = Tags {
        failover_priority: weighed("nofailover", "failover_priority"),
        noloadbalance: is_on("noloadbalance"),
        clonefrom: is_on("clonefrom"),
        sync_priority: weighed("nosync", "sync_priority"),
        nostream: is_on("nostream"),
        replicatefrom: replicatefrom(reader, &published, name),
    };
    warn_of_contradictions(reader, &published);
    let is_kept = |key: &str| match key {
        "nofailover" => published.contains_key("failover_priority"),
        "nosync" => published.contains_key("sync_priority"),
        _ => false,
    };
    let dropped: Vec<&str> = ["clonefrom", "nofailover", "noloadbalance", "nosync", "nostream"]
        .into_iter()
        .filter(|key| !is_on(key) && !is_kept(key))
        .collect();
    let kept = published.iter().filter(|(key, _)| !dropped.contains(&key.as_str()));
    (tags, kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn replicatefrom(reader: &mut Reader<'_>, tags: &Map<String, Value>, me: &MemberName) -> Option<MemberName> {
    let value = tags.get("replicatefrom").filter(|value| value.as_str() != Some(""))?;
    let Some(name) = scalar(value).filter(|name| is_key(name)) else {
        reader.wrong("tags.replicatefrom", "a member's name");
        return None;
    };
    if name == me.as_str() {
        let place = reader.document.place("tags.replicatefrom");
        reader.report.warn(format!("{place}: {name} is this member itself: it follows the leader"));
        return None;
    }
    Some(MemberName::new(name))
}

fn warn_of_contradictions(reader: &mut Reader<'_>, tags: &Map<String, Value>) {
    for (switch, number) in [("nofailover", "failover_priority"), ("nosync", "sync_priority")] {
        let (Some(Value::Bool(never)), Some(priority)) = (tags.get(switch), tags.get(number).and_then(priority)) else {
            continue;
        };
        if *never != (priority <= 0) {
            let shown = redact::shown(&format!("tags.{number}"), &Value::from(priority));
            reader.report.warn(format!("tags {switch}: {never} and {number}: {shown} contradict; {switch} wins"));
        }
    }
}

fn priority(value: &Value) -> Option<i32> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => units::parse_int(text, None),
        _ => None,
    };
    number.and_then(|number| i32::try_from(number).ok())
}
