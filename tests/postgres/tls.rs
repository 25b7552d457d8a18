//! A server that takes nothing but TLS: verified where that is asked for, for our own sessions and for copies.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tamada::config::{Config, Secret};
use tamada::core::local::{CloneFrom, CloneSource, Postgres, Running, StartAs};
use tamada::postgres::{DesiredServer, Force, Instance};

use crate::installations::installations;
use crate::support::{LIMIT, Node, desired, eventually, on_every_version, progress, slots_for};

/// A self-signed certificate for `localhost` and the loopback address.
fn certificate(folder: &Path, name: &str) -> (String, String) {
    let path = |ending: &str| folder.join(format!("{name}.{ending}")).to_string_lossy().into_owned();
    let (cert, key) = (path("crt"), path("key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", &key, "-out", &cert])
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (cert, key)
}

/// Some builds of PostgreSQL cannot.
fn speaks_tls(bin: &Path) -> bool {
    let server = std::fs::read(bin.join("postgres")).expect("readable");
    server.windows(9).any(|bytes| bytes == b"libssl.so")
}

fn over_tls_alone(cert: &str, key: &str) -> DesiredServer {
    let mut desired = desired();
    let tls = json!({ "ssl": "on", "ssl_cert_file": cert, "ssl_key_file": key });
    desired.server.parameters.extend(tls.as_object().expect("a map").clone());
    let hba = [
        "local all all reject",
        "hostssl all all all scram-sha-256",
        "hostssl replication replicator all scram-sha-256",
    ];
    desired.server.pg_hba = Some(hba.map(str::to_owned).to_vec());
    desired
}

/// A list of revoked certificates by the authority that a self-signed one is, in a folder as `sslcrldir` wants it.
fn revoked(folder: &Path, cert: &str, key: &str) -> String {
    let run = |args: &[&str]| {
        let done = Command::new("openssl").args(args).current_dir(folder).output().expect("openssl");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    let settings = "[ca]\ndefault_ca=x\n[x]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\n\
                    default_crl_days=2\n";
    for (name, text) in [("ca.conf", settings), ("index", ""), ("number", "01\n")] {
        std::fs::write(folder.join(name), text).expect("written");
    }
    let ca = ["ca", "-config", "ca.conf", "-cert", cert, "-keyfile", key];
    run(&[&ca[..], &["-revoke", cert]].concat());
    let dir = folder.join("crls");
    std::fs::create_dir(&dir).expect("made");
    let list = folder.join("list.pem").to_string_lossy().into_owned();
    run(&[&ca[..], &["-gencrl", "-out", &list]].concat());
    let hash = run(&["crl", "-hash", "-noout", "-in", &list]);
    std::fs::rename(&list, dir.join(format!("{hash}.r0"))).expect("moved");
    dir.to_string_lossy().into_owned()
}

fn verifying(config: &mut Config, root: &str) {
    let postgres = &mut config.postgres;
    let roles = [Some(&mut postgres.superuser), Some(&mut postgres.replication), postgres.rewind.as_mut()];
    for role in roles.into_iter().flatten() {
        role.options.insert("sslmode".to_owned(), "verify-full".to_owned());
        role.options.insert("sslrootcert".to_owned(), root.to_owned());
    }
}

#[test]
fn a_server_that_takes_tls_alone_is_reached_and_its_certificate_verified() {
    assert!(installations().iter().any(|bin| speaks_tls(bin)), "no PostgreSQL here was built with TLS");
    on_every_version(|bin| async move {
        if !speaks_tls(&bin) {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = certificate(folder.path(), "server");
        let (other, _) = certificate(folder.path(), "other");
        let primary = Node::changed("n1", &bin, |config| verifying(config, &cert));
        let replica = Node::changed("n2", &bin, |config| verifying(config, &cert));
        let wanted = over_tls_alone(&cert, &key);
        primary.postgres.configure(&wanted, Force::No).await.expect("configured");
        primary.postgres.bootstrap(progress()).await.expect("bootstrapped");
        assert!(matches!(primary.probe().await.postgres, Postgres::Running(Running::Primary(_))));
        primary.postgres.sync_slots(&slots_for(&["n2"])).await.expect("slots");
        replica.postgres.configure(&wanted, Force::No).await.expect("configured");
        let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
        replica.postgres.clone_from(&source, progress()).await.expect("copied");
        replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
        eventually("the replica streams", async || replica.standby_facts().await.replication.is_some()).await;
        // By default TLS is used where the server wants it, and nothing is verified.
        let mut plain = (*primary.config).clone();
        for role in [&mut plain.postgres.superuser, &mut plain.postgres.replication] {
            role.options.clear();
        }
        primary.postgres.set_config(plain.clone().into());
        primary.postgres.checkpoint().await.expect("reached");
        // A certificate that was revoked is refused, where the lists are in a folder as well.
        verifying(&mut plain, &cert);
        let crls = revoked(folder.path(), &cert, &key);
        let mut wary = plain.clone();
        wary.postgres.superuser.options.insert("sslcrldir".to_owned(), crls);
        primary.postgres.set_config(wary.into());
        let error = primary.postgres.checkpoint().await.expect_err("revoked");
        assert!(error.to_string().contains("certificate verify failed"), "{error}");
        // Another authority's word is not enough.
        verifying(&mut plain, &other);
        primary.postgres.set_config(plain.into());
        let error = primary.postgres.checkpoint().await.expect_err("not verified");
        assert!(error.to_string().contains("certificate verify failed"), "{error}");
    });
}

/// The replication and the rewind user, each with this certificate, whose key has a password.
fn certified(config: &mut Config, cert: &str, key: &str, sslpassword: &str) {
    let postgres = &mut config.postgres;
    for role in [Some(&mut postgres.replication), postgres.rewind.as_mut()].into_iter().flatten() {
        for (option, value) in [("sslmode", "require"), ("sslcert", cert), ("sslkey", key)] {
            role.options.insert(option.to_owned(), value.to_owned());
        }
        role.sslpassword = Some(Secret::new(sslpassword));
    }
}

#[test]
fn a_certificate_whose_key_has_a_password_is_shown_by_copies_and_rewinds() {
    const KEY_PASSWORD: &str = " a key's \\\"password\" = # 1";
    on_every_version(|bin| async move {
        if !speaks_tls(&bin) {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = certificate(folder.path(), "server");
        let (client_cert, open_key) = certificate(folder.path(), "client");
        let client_key = format!("{open_key}.locked");
        let locked = Command::new("openssl")
            .args([
                "pkey",
                "-in",
                &open_key,
                "-aes256",
                "-passout",
                &format!("pass:{KEY_PASSWORD}"),
                "-out",
                &client_key,
            ])
            .output()
            .expect("openssl");
        assert!(locked.status.success(), "{}", String::from_utf8_lossy(&locked.stderr));
        std::fs::set_permissions(&client_key, PermissionsExt::from_mode(0o600)).expect("ours");
        let change = |config: &mut Config| certified(config, &client_cert, &client_key, KEY_PASSWORD);
        let (primary, replica) = (Node::changed("n1", &bin, change), Node::changed("n2", &bin, change));
        let mut wanted = over_tls_alone(&cert, &key);
        wanted.server.parameters.insert("ssl_ca_file".to_owned(), client_cert.clone().into());
        let hba = [
            "local all all peer",
            "hostssl all rewinder all scram-sha-256 clientcert=verify-ca",
            "hostssl replication replicator all scram-sha-256 clientcert=verify-ca",
            "hostssl all all all scram-sha-256",
        ];
        wanted.server.pg_hba = Some(hba.map(str::to_owned).to_vec());
        primary.postgres.configure(&wanted, Force::No).await.expect("configured");
        primary.postgres.bootstrap(progress()).await.expect("bootstrapped");
        primary.postgres.sync_slots(&slots_for(&["n2"])).await.expect("slots");
        replica.postgres.configure(&wanted, Force::No).await.expect("configured");
        let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
        let mut wrong = (*replica.config).clone();
        certified(&mut wrong, &client_cert, &client_key, "another");
        replica.postgres.set_config(wrong.into());
        replica.postgres.clone_from(&source, progress()).await.expect_err("the key stays locked");
        replica.postgres.set_config(replica.config.clone());
        replica.postgres.clone_from(&source, progress()).await.expect("copied");
        replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
        eventually("the replica streams", async || replica.standby_facts().await.replication.is_some()).await;
        replica.postgres.promote(LIMIT).await.expect("promoted");
        primary.sql("CREATE TABLE lost AS SELECT 1 AS a");
        replica.postgres.checkpoint().await.expect("checkpoint");
        primary.stop().await;
        primary.postgres.rewind(&replica.address(), progress()).await.expect("rewound");
        let left = std::fs::read_dir(replica.folder.path().join("run")).expect("there").flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).filter(|name| name != "pgpass").collect();
        assert_eq!(left, [""; 0], "what was lent is gone");
    });
}
