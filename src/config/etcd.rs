//! The section `etcd3`: which endpoints, how to speak to them, as whom.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::error::Reported;
use super::reader::{Reader, parse_host_port};
use super::{EtcdConfig, HostPort, Scheme, Secret};
use crate::core::policy::Switch;

const ENDPOINTS: &str = "endpoints as host:port, for example PATRONI_ETCD3_HOSTS=etcd1:2379,etcd2:2379";
const URL: &str = "http://host:port or https://user:password@host:port";

pub(super) fn read(reader: &mut Reader<'_>) -> Result<EtcdConfig, Reported> {
    if !reader.document.get("etcd3").is_none_or(Value::is_object) {
        return Err(reader.wrong("etcd3", "a map"));
    }
    let default_port = reader.whole_or("etcd3.port", 1..=65535, 2379);
    let default_port = u16::try_from(default_port).unwrap_or(2379);
    let protocol = reader.text_or("etcd3.protocol", "http").to_ascii_lowercase();
    let scheme = match protocol.as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => {
            reader.wrong("etcd3.protocol", "http or https");
            Scheme::Http
        }
    };
    let mut config = EtcdConfig {
        endpoints: Vec::new(),
        scheme,
        use_proxies: reader.switch_or("etcd3.use_proxies", Switch::Off),
        username: reader.text("etcd3.username"),
        password: reader.secret("etcd3.password"),
        cacert: reader.file("etcd3.cacert"),
        cert: reader.file("etcd3.cert"),
        key: reader.file("etcd3.key"),
    };
    let (srv, endpoints) = (refuse_srv(reader), endpoints(reader, &mut config, default_port));
    srv.and(endpoints)?;
    check(reader, config)
}

fn check(reader: &mut Reader<'_>, config: EtcdConfig) -> Result<EtcdConfig, Reported> {
    if config.endpoints.is_empty() {
        let broken = reader.report.broken_section("PATRONI_ETCD3_");
        return Err(broken.unwrap_or_else(|| reader.missing("PATRONI_ETCD3_HOSTS", ENDPOINTS)));
    }
    if config.username.is_some() != config.password.is_some() {
        let (set, unset) = match config.username {
            Some(_) => ("etcd3.username", "PATRONI_ETCD3_PASSWORD"),
            None => ("etcd3.password", "PATRONI_ETCD3_USERNAME"),
        };
        let set = reader.document.place(set);
        return Err(reader.missing(unset, &format!("both user and password, since {set} is set")));
    }
    if config.scheme == Scheme::Https && config.cacert.is_none() {
        reader.report.warn(
            "etcd is asked over TLS, but its certificate is not verified: whoever stands between can read the password and \
             rule the cluster. Set PATRONI_ETCD3_CACERT",
        );
    }
    if config.key.is_some() && config.cert.is_none() {
        reader.missing("PATRONI_ETCD3_CERT", "the certificate of the key");
    }
    Ok(config)
}

/// Somebody who has only the domain gives no endpoints.
fn refuse_srv(reader: &mut Reader<'_>) -> Result<(), Reported> {
    let names = ["etcd3.srv", "etcd3.discovery_srv", "etcd3.srv_domain"];
    let found: Vec<&str> = names.into_iter().filter(|name| reader.value(name).is_some()).collect();
    let _asked = reader.value("etcd3.srv_suffix");
    let accepted = "PATRONI_ETCD3_HOSTS: endpoints are not discovered by SRV records yet";
    match found.into_iter().map(|name| reader.wrong(name, accepted)).last() {
        Some(reported) => Err(reported),
        None => Ok(()),
    }
}

/// The proxy wins over the URL, that over `hosts`, that over `host`.
fn endpoints(reader: &mut Reader<'_>, config: &mut EtcdConfig, default_port: u16) -> Result<(), Reported> {
    let [proxy, url] = ["etcd3.proxy", "etcd3.url"].map(|path| reader.text(path).map(|url| (path, url)));
    let hosts = reader.list("etcd3.hosts");
    let host = reader.text("etcd3.host");
    if proxy.is_some() {
        config.use_proxies = Switch::On;
    }
    if let Some((path, url)) = proxy.or(url) {
        let Some(parsed) = parse_url(&url, default_port) else {
            return Err(reader.wrong(path, URL));
        };
        config.scheme = parsed.scheme;
        config.endpoints = vec![parsed.endpoint];
        if let Some((username, password)) = parsed.user {
            config.username = Some(username);
            config.password = Some(password);
        }
        return Ok(());
    }
    let (path, texts) = match (hosts, host) {
        (Some(hosts), _) => ("etcd3.hosts", hosts),
        (None, Some(host)) => ("etcd3.host", vec![host]),
        (None, None) => return Ok(()),
    };
    for text in texts.iter().filter(|text| !text.trim().is_empty()) {
        match parse_host_port(text, Some(default_port)) {
            Some(endpoint) => config.endpoints.push(endpoint),
            None => {
                let given = super::redact::given(path, &Value::from(text.as_str()));
                return Err(reader.error(path, given, ENDPOINTS));
            }
        }
    }
    Ok(())
}

struct Url {
    scheme: Scheme,
    endpoint: HostPort,
    user: Option<(String, Secret)>,
}

fn parse_url(url: &str, default_port: u16) -> Option<Url> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let user = match user {
        Some(user) => {
            let (name, password) = user.split_once(':')?;
            Some((percent_decoded(name)?, Secret::new(percent_decoded(password)?)))
        }
        None => None,
    };
    let endpoint = parse_host_port(host, Some(default_port))?;
    path.is_empty().then_some(Url { scheme, endpoint, user })
}

/// `None` where a `%` begins no escape, which the crate would let stand for itself: such a password is a mistake.
fn percent_decoded(text: &str) -> Option<String> {
    let is_escape = |rest: &str| rest.bytes().take_while(u8::is_ascii_hexdigit).take(2).count() == 2;
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}
