//! Where etcd is, who is trusted there, and where TLS is configured and not required.

use serde_json::Value;

use super::super::*;
use super::cluster;

#[test]
fn etcd_is_reached_as_it_is_told() {
    type Case = (&'static [(&'static str, &'static str)], &'static str, Scheme, Option<&'static str>, Switch);
    let cases: [Case; 4] = [
        (&[("PATRONI_ETCD3_HOST", "e"), ("PATRONI_ETCD3_PORT", "99")], "e:99", Scheme::Http, None, Switch::Off),
        (
            &[("PATRONI_ETCD3_HOSTS", "[::1]:1,[::2]:2"), ("PATRONI_ETCD3_PROTOCOL", "https")],
            "[::1]:1 [::2]:2",
            Scheme::Https,
            None,
            Switch::Off,
        ),
        (
            &[("PATRONI_ETCD3_URL", "https://u:p%40w@e:1"), ("PATRONI_ETCD3_HOSTS", "other")],
            "e:1",
            Scheme::Https,
            Some("u p@w"),
            Switch::Off,
        ),
        (
            &[("PATRONI_ETCD3_PROXY", "http://p"), ("PATRONI_ETCD3_URL", "https://e:1")],
            "p:2379",
            Scheme::Http,
            None,
            Switch::On,
        ),
    ];
    for (changes, endpoints, scheme, user, use_proxies) in cases {
        let mut changes = changes.to_vec();
        if !changes.iter().any(|(name, _)| *name == "PATRONI_ETCD3_HOSTS") {
            changes.push(("PATRONI_ETCD3_HOSTS", ""));
        }
        let DcsConfig::Etcd3(etcd) = cluster(&changes).unwrap().dcs else { panic!("no etcd") };
        let found: Vec<String> = etcd.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), endpoints);
        assert_eq!((etcd.scheme, etcd.use_proxies), (scheme, use_proxies));
        let found = etcd.username.zip(etcd.password).map(|(user, password)| format!("{user} {}", password.expose()));
        assert_eq!(found.as_deref(), user);
    }
}

#[test]
fn tls_that_verifies_nobody_is_warned_about() {
    let warned = |vars: &[(&str, &str)], name: &str| {
        let config = cluster(vars).unwrap();
        config.warnings.iter().any(|warning| warning.starts_with(name))
    };
    let ca = "PATRONI_ETCD3_CACERT is not set";
    assert!(warned(&[("PATRONI_ETCD3_PROTOCOL", "https")], ca));
    assert!(!warned(&[("PATRONI_ETCD3_PROTOCOL", "https"), ("PATRONI_ETCD3_CACERT", "/ca")], ca));
    assert!(!warned(&[], ca), "plain HTTP was asked for");
    for role in ["SUPERUSER", "REPLICATION"] {
        let (mode, root) = (format!("PATRONI_{role}_SSLMODE"), format!("PATRONI_{role}_SSLROOTCERT"));
        assert!(warned(&[(&root, "/ca")], &mode), "{role}");
        assert!(warned(&[(&root, "/ca"), (&mode, "allow")], &mode), "{role}");
        assert!(!warned(&[(&root, "/ca"), (&mode, "verify-full")], &mode), "{role}");
        assert!(!warned(&[], &mode), "{role}");
    }
}

#[test]
fn a_server_with_tls_that_nobody_has_to_use_is_told_by_name() {
    let warning = |vars: &[(&str, &str)]| {
        let config = cluster(vars).unwrap();
        let dynamic = Dynamic::parse(&Value::Object(config.bootstrap.dcs.clone())).unwrap();
        clear_text_warning(&config.postgres, &server_settings(&dynamic.server, &config.postgres.local))
    };
    let on = ("PATRONI_POSTGRESQL_PARAMETERS", "ssl: on");
    let of_replication = ("PATRONI_REPLICATION_SSLMODE", "verify-full");
    let of_superuser = ("PATRONI_SUPERUSER_SSLMODE", "verify-ca");
    let hba = |line| ("PATRONI_POSTGRESQL_PG_HBA", line);
    let strict = hba("local all all peer\nhostssl all all all scram-sha-256");
    assert_eq!(
        warning(&[on]).unwrap(),
        "ssl is on, but connections without TLS are possible: pg_hba is not set, and a new cluster's has host lines \
         (hostssl requires TLS); PATRONI_REPLICATION_SSLMODE is prefer (verify-full requires TLS and verifies the \
         server); PATRONI_SUPERUSER_SSLMODE is prefer (verify-full requires TLS and verifies the server)"
    );
    assert_eq!(warning(&[on, of_replication, of_superuser, strict]), None);
    let told = warning(&[on, of_replication, strict]).unwrap();
    assert!(told.contains("PATRONI_SUPERUSER_SSLMODE is prefer") && !told.contains("pg_hba"), "{told}");
    // The superuser goes to other members only where no role of its own rewinds.
    let rewind =
        [("PATRONI_REWIND_USERNAME", "r"), ("PATRONI_REWIND_PASSWORD", "p"), ("PATRONI_REWIND_SSLMODE", "allow")];
    let told = warning(&[&[on, of_replication, strict], &rewind[..]].concat()).unwrap();
    assert!(told.contains("PATRONI_REWIND_SSLMODE is allow") && !told.contains("SUPERUSER"), "{told}");
    for line in ["host all all 127.0.0.1/32 trust", "host all all ::1/128 md5", "host all all all reject"] {
        assert_eq!(warning(&[on, of_replication, of_superuser, hba(line)]), None, "{line}");
    }
    for line in ["host all all 10.0.0.0/8 md5", "host\tall all 10.0.0.0 255.0.0.0 scram-sha-256"] {
        let told = warning(&[on, of_replication, of_superuser, hba(line)]).unwrap();
        assert!(told.ends_with("possible: pg_hba has host lines (hostssl requires TLS)"), "{told}");
    }
    let own = ("PATRONI_CONFIGURATION", "{postgresql: {parameters: {ssl: 'yes'}, pg_hba: ['host all all all md5']}}");
    assert!(warning(&[own, of_replication, of_superuser, strict]).is_some(), "a node's own lines win");
    assert_eq!((warning(&[]), warning(&[("PATRONI_POSTGRESQL_PARAMETERS", "ssl: off")])), (None, None));
}
