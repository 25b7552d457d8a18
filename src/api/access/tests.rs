use super::*;
use crate::agent::status::Status;
use crate::api::fixture;
use crate::config::{BasicAuth, Secret};

const STRANGER: &str = "203.0.113.7";

/// "Basic admin:secret"
const HEADER: &[u8] = b"Basic YWRtaW46c2VjcmV0";

async fn checked(
    config: &RestConfig,
    status: &Status,
    from: &str,
    authorization: Option<&[u8]>,
) -> Result<(), Refusal> {
    let access = Access::load(config).await;
    check(&access, status, from, authorization).await
}

async fn check(access: &Access, status: &Status, from: &str, authorization: Option<&[u8]>) -> Result<(), Refusal> {
    let address = from.parse().expect("an address");
    let peer = Peer { address, certificate: ClientCertificate::None };
    access.check(&peer, authorization, status.cluster.as_ref().map(|cluster| &cluster.view)).await
}

fn with_password() -> RestConfig {
    let auth = BasicAuth { username: "admin".into(), password: Secret::new("secret") };
    RestConfig { auth: Some(auth), ..fixture::open_settings() }
}

/// With a member whose REST API has this host and whose server has none.
fn with_host(host: &str) -> Status {
    let mut status = fixture::primary();
    fixture::change_cluster(&mut status, |cluster| {
        let member = cluster.view.members.values_mut().next().expect("a member");
        member.api_url = Some(format!("http://{host}:8008/patroni"));
        cluster.view.members.values_mut().for_each(|member| member.address = None);
    });
    status
}

#[tokio::test]
async fn without_protection_only_this_host_and_members_are_admitted() {
    let (config, status) = (fixture::open_settings(), with_host("192.0.2.8"));
    for known in ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1", "192.0.2.8", "::ffff:192.0.2.8"] {
        assert_eq!(checked(&config, &status, known, None).await, Ok(()), "{known}");
    }
    let refusal = checked(&config, &status, STRANGER, None).await.expect_err("a stranger");
    assert_eq!(refusal.code(), 403);
    for name in ["PATRONI_RESTAPI_USERNAME", "PATRONI_RESTAPI_PASSWORD", "PATRONI_RESTAPI_ALLOWLIST"] {
        assert!(refusal.text().contains(name), "{}", refusal.text());
    }
    let mut alone = status;
    alone.cluster = None;
    assert_eq!(checked(&config, &alone, "192.0.2.8", None).await, Err(Refusal::Unprotected), "no view, no member");
    assert_eq!(checked(&config, &alone, "127.0.0.1", None).await, Ok(()));
}

#[tokio::test]
async fn an_allowlist_of_everybody_opens_on_purpose() {
    let mut config = fixture::open_settings();
    config.allowlist = vec!["0.0.0.0/0".into(), "::/0".into()];
    for anybody in [STRANGER, "2001:db8::7", "::ffff:203.0.113.7"] {
        assert_eq!(checked(&config, &fixture::primary(), anybody, None).await, Ok(()), "{anybody}");
    }
}

#[tokio::test]
async fn with_a_password_the_address_does_not_matter() {
    let status = fixture::primary();
    assert_eq!(checked(&with_password(), &status, STRANGER, Some(HEADER)).await, Ok(()));
    assert_eq!(checked(&with_password(), &status, STRANGER, None).await, Err(Refusal::NoAuthHeader));
    assert_eq!(checked(&with_password(), &status, "127.0.0.1", Some(b"x")).await, Err(Refusal::NotAuthenticated));
}

#[tokio::test]
async fn members_are_known_by_the_hosts_of_both_addresses() {
    let mut status = with_host("192.0.2.8");
    fixture::change_cluster(&mut status, |cluster| {
        let member = cluster.view.members.values_mut().next().expect("a member");
        let address = crate::core::view::Address { host: "192.0.2.9".into(), port: 5432, database: "x".into() };
        member.address = Some(address);
    });
    assert_eq!(checked(&fixture::open_settings(), &status, "192.0.2.9", None).await, Ok(()));
}

#[tokio::test]
async fn names_of_members_are_resolved_only_for_who_has_the_password() {
    let mut config = with_password();
    config.allowlist_include_members = Switch::On;
    let status = with_host("localhost");
    let access = Access::load(&config).await;
    for wrong in [None, Some(b"Basic x".as_slice())] {
        assert_eq!(check(&access, &status, "127.0.0.1", wrong).await, Err(Refusal::Denied));
        let view = &status.cluster.as_ref().expect("a view").view;
        let address = "127.0.0.1".parse().expect("an address");
        assert_eq!(access.members.look_up(address, view), Lookup::Unresolved, "a name was resolved");
    }
    assert_eq!(check(&access, &status, "127.0.0.1", Some(HEADER)).await, Ok(()));
    // Known by now: the password alone is wrong.
    assert_eq!(check(&access, &status, "127.0.0.1", None).await, Err(Refusal::NoAuthHeader));
    assert_eq!(check(&access, &status, STRANGER, Some(HEADER)).await, Err(Refusal::Denied));
}

#[test]
fn entries_of_the_allowlist_are_addresses_or_networks() {
    let cases = [
        ("10.1.2.3/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("0.0.0.0/0", "203.0.113.7", true),
        ("0.0.0.0/0", "::1", false),
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("[2001:db8::7]", "2001:db8::7", true),
        ("2001:db8::/32", "2001:db8:1::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("::/0", "2001:db9::1", true),
    ];
    for (entry, address, expected) in cases {
        let network = network(entry).expect("a network");
        let address: IpAddr = address.parse().expect("an address");
        assert_eq!(network.contains(&address), expected, "{entry} {address}");
    }
    for wrong in ["10.0.0.0/33", "::/129", "name", "10.0.0.0/x", ""] {
        assert_eq!(network(wrong), None, "{wrong}");
    }
}
