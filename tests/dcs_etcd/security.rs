//! Passwords and certificates.

use etcd_client::{Client, ConnectOptions, Permission, PermissionType};
use tamada::config::{DcsConfig, EtcdConfig, Secret};
use tamada::core::lock_seen::LockSeen;
use tamada::dcs::{Dcs, DcsError};

use super::certs::Authority;
use super::etcd::{Etcd, TlsFiles, own_host};
use super::{SOON, member, record};

const ROOT: (&str, &str) = ("root", "secret of root");
const USER: (&str, &str) = ("tamada", "secret of tamada");

/// Switch passwords on: `tamada` may use the keys of the cluster `demo`, `stranger` none.
async fn lock_up(client: &mut Client) {
    for (name, password) in [ROOT, USER, ("stranger", USER.1)] {
        client.user_add(name, password, None).await.expect("etcd answers");
    }
    client.role_add("root").await.expect("etcd answers");
    client.user_grant_role("root", "root").await.expect("etcd answers");
    client.role_add("demo").await.expect("etcd answers");
    let permission = Permission::new(PermissionType::Readwrite, "/service/demo/").with_prefix();
    client.role_grant_permission("demo", permission).await.expect("etcd answers");
    client.user_grant_role(USER.0, "demo").await.expect("etcd answers");
    client.auth_enable().await.expect("etcd answers");
}

fn with_password(etcd: &Etcd, (username, password): (&str, &str)) -> EtcdConfig {
    EtcdConfig { username: Some(username.to_owned()), password: Some(Secret::new(password)), ..etcd.config() }
}

#[tokio::test]
async fn a_user_with_its_password_is_served_and_nobody_else() {
    let etcd = Etcd::start();
    let mut client = etcd.client().await;
    lock_up(&mut client).await;
    let dcs = member(&with_password(&etcd, USER), "n1");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("the password is right").is_held());
    dcs.publish(&record(), SOON).await.expect("the password is right");
    assert!(dcs.renew(None, None, SOON).await.expect("the password is right").is_held());
    for config in [with_password(&etcd, (USER.0, "wrong")), with_password(&etcd, ("stranger", USER.1)), etcd.config()] {
        let refused = member(&config, "n2").read(SOON).await.expect_err("etcd refuses");
        assert!(matches!(refused, DcsError::Denied { .. }), "{refused:?}");
        assert!(!refused.to_string().contains("wrong") && !format!("{refused:?}").contains(USER.1));
    }
}

#[tokio::test]
async fn a_token_that_became_invalid_is_replaced() {
    let etcd = Etcd::start();
    let mut client = etcd.client().await;
    lock_up(&mut client).await;
    let dcs = member(&with_password(&etcd, USER), "n1");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("the password is right").is_held());
    // Switching passwords off and on makes etcd forget all tokens, but no connection.
    let options = ConnectOptions::new().with_user(ROOT.0, ROOT.1);
    let urls: Vec<_> = etcd.endpoints().iter().map(|at| format!("http://{}:{}", at.host, at.port)).collect();
    let mut root = Client::connect(urls, Some(options)).await.expect("the password is right");
    root.auth_disable().await.expect("etcd answers");
    client.auth_enable().await.expect("etcd answers");
    assert!(dcs.renew(None, None, SOON).await.expect("a new token is had").is_held());
    dcs.publish(&record(), SOON).await.expect("a new token is had");
}

#[tokio::test]
async fn a_login_that_was_changed_is_used_without_a_start() {
    let etcd = Etcd::start();
    let mut client = etcd.client().await;
    lock_up(&mut client).await;
    let dcs = member(&with_password(&etcd, (USER.0, "wrong")), "n1");
    assert!(matches!(dcs.acquire(LockSeen::default(), SOON).await.expect_err("etcd refuses"), DcsError::Denied { .. }));
    dcs.set_credentials(&DcsConfig::Etcd3(with_password(&etcd, USER)));
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("the password is right now").is_held());

    // A connection that is in use goes on with the new password once etcd has it.
    let options = ConnectOptions::new().with_user(ROOT.0, ROOT.1);
    let urls: Vec<_> = etcd.endpoints().iter().map(|at| format!("http://{}:{}", at.host, at.port)).collect();
    let mut root = Client::connect(urls, Some(options)).await.expect("the password is right");
    root.user_change_password(USER.0, "another secret").await.expect("etcd answers");
    dcs.set_credentials(&DcsConfig::Etcd3(with_password(&etcd, (USER.0, "another secret"))));
    assert!(dcs.renew(None, None, SOON).await.expect("the new password is right").is_held());
}

#[tokio::test]
async fn a_password_is_no_trouble_where_none_is_needed_and_is_used_once_it_is() {
    let etcd = Etcd::start();
    let dcs = member(&with_password(&etcd, USER), "n1");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("no password is needed").is_held());
    lock_up(&mut etcd.client().await).await;
    assert!(dcs.renew(None, None, SOON).await.expect("the password is right").is_held());
}

#[tokio::test]
async fn certificates_are_shown_and_verified() {
    let etcd = Etcd::with_tls(|directory| {
        let authority = Authority::new("authority");
        let leaf = authority.issue(directory, "node", own_host());
        TlsFiles { cacert: authority.write(directory), cert: leaf.cert, key: leaf.key }
    });
    let config = etcd.config();
    let dcs = member(&config, "n1");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("both certificates are right").is_held());

    let directory = tempfile::tempdir().expect("a directory can be made");
    let stranger = Authority::new("stranger");
    let leaf = stranger.issue(directory.path(), "client", own_host());
    let limit = std::time::Duration::from_secs(2);
    let wrong_server = EtcdConfig { cacert: Some(stranger.write(directory.path())), ..config.clone() };
    let wrong_client = EtcdConfig { cert: Some(leaf.cert.clone()), key: Some(leaf.key), ..config.clone() };
    let no_client = EtcdConfig { cert: None, key: None, ..config.clone() };
    let no_key = EtcdConfig { key: Some(leaf.cert), ..config.clone() };
    for (what, config) in [("authority", wrong_server), ("client", wrong_client), ("none", no_client), ("key", no_key)]
    {
        let refused = member(&config, "n2").read(limit).await.expect_err("no connection comes about");
        assert!(matches!(refused, DcsError::Unreachable { .. }), "{what}: {refused:?}");
    }
    let unverified = EtcdConfig { cacert: None, ..config };
    member(&unverified, "n2").read(SOON).await.expect("without an authority nothing is verified");
}
