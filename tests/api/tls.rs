//! TLS with the certificates that users have: one self-signed authority for everything, X.509 v1, encrypted keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Method;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use tamada::api::{LogGauge, Options, start};
use tamada::config::{
    Account, Config, ConfigErrors, CtlConfig, FoundData, HostFacts, KubernetesAccess, RestConfig, Secret, ServerTls,
    VerifyClient,
};
use tamada::core::policy::Mode;
use tamada::http::local_api::OwnApi;
use tamada::http::{Caller, Client, HttpError};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::fixture;
use super::server::{Harness, LIMIT, open_settings};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// No extensions at all.
    V1,
    /// An authority whose name is the loopback address.
    V3,
}

pub struct Files {
    folder: TempDir,
    key: PKey<Private>,
}

impl Files {
    pub fn new(version: Version) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
        let files = Files { folder: tempfile::tempdir().expect("a folder"), key };
        files.write_certificate(version, 1);
        std::fs::write(files.path("key.pem"), files.key.private_key_to_pem_pkcs8().expect("PEM")).expect("written");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_certificate(&self, version: Version, serial: u32) {
        self.write_certificate_for(version, serial, [0, 2]);
    }

    /// `days`: from when and until when, counted from now.
    fn write_certificate_for(&self, version: Version, serial: u32, days: [i64; 2]) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later");
        let [begin, end] = days.map(|days| Asn1Time::from_unix(now.as_secs() as i64 + days * 86_400).expect("a time"));
        let mut name = X509NameBuilder::new().expect("a name");
        name.append_entry_by_nid(Nid::COMMONNAME, "postgres cluster").expect("a name");
        let name = name.build();
        let mut builder = X509::builder().expect("a builder");
        let number = BigNum::from_u32(serial).and_then(|number| number.to_asn1_integer()).expect("a number");
        builder.set_serial_number(&number).expect("a serial number");
        builder.set_subject_name(&name).expect("a subject");
        builder.set_issuer_name(&name).expect("an issuer");
        builder.set_pubkey(&self.key).expect("a key");
        builder.set_not_before(&begin).expect("a time");
        builder.set_not_after(&end).expect("a time");
        if version == Version::V3 {
            builder.set_version(2).expect("a version");
            let constraints = BasicConstraints::new().critical().ca().build().expect("an extension");
            builder.append_extension(constraints).expect("an extension");
            let mut names = SubjectAlternativeName::new();
            let names = names.ip("127.0.0.1").build(&builder.x509v3_context(None, None)).expect("an extension");
            builder.append_extension(names).expect("an extension");
        }
        builder.sign(&self.key, MessageDigest::sha256()).expect("signed");
        std::fs::write(self.path("cert.pem"), builder.build().to_pem().expect("PEM")).expect("written");
    }

    pub fn server(&self, verify_client: VerifyClient) -> RestConfig {
        let tls = ServerTls {
            certfile: self.path("cert.pem"),
            keyfile: Some(self.path("key.pem")),
            keyfile_password: None,
            cafile: Some(self.path("cert.pem")),
            ciphers: None,
            verify_client,
        };
        RestConfig { tls: Some(tls), ..open_settings() }
    }

    /// A client that shows the same certificate.
    fn client(&self, caller: Caller) -> Client {
        let ctl = CtlConfig {
            cacert: Some(self.path("cert.pem")),
            certfile: Some(self.path("cert.pem")),
            keyfile: Some(self.path("key.pem")),
            ..CtlConfig::default()
        };
        Client::new(caller, &ctl, &open_settings()).expect("a client")
    }
}

/// Shows nothing and verifies what the caller must.
pub fn stranger(caller: Caller, cacert: Option<&Path>) -> Client {
    let ctl = CtlConfig { cacert: cacert.map(Path::to_owned), ..CtlConfig::default() };
    Client::new(caller, &ctl, &open_settings()).expect("a client")
}

fn serve(settings: RestConfig) -> Harness {
    Harness::start(settings, Mode::Cluster, fixture::primary())
}

async fn ask(client: &Client, harness: &Harness, method: Method, path: &str) -> Result<(u16, String), HttpError> {
    let url = format!("https://{}{path}", harness.address);
    client.send(method, &url, None, LIMIT).await.map(|answer| (answer.code, answer.text()))
}

#[tokio::test]
async fn one_self_signed_authority_serves_both_sides() {
    let files = Files::new(Version::V3);
    let harness = serve(files.server(VerifyClient::Required));
    for caller in [Caller::Member, Caller::Operator] {
        let answer = ask(&files.client(caller), &harness, Method::POST, "/sigterm").await;
        assert_eq!(answer.expect("an answer").0, 202, "{caller:?}");
    }
}

#[tokio::test]
async fn a_local_client_shows_the_servers_certificate() {
    let files = Files::new(Version::V1);
    let settings = files.server(VerifyClient::Required);
    let harness = serve(settings.clone());
    let itself = Client::new(Caller::Itself, &CtlConfig::default(), &settings).expect("a client");
    assert_eq!(ask(&itself, &harness, Method::GET, "/health").await.expect("an answer").0, 200);
    // The same without the configuration, by what the server says of itself.
    let local = Client::of_own_member(&OwnApi::new(&settings.listen, settings.tls.as_ref())).expect("a client");
    assert_eq!(ask(&local, &harness, Method::GET, "/health").await.expect("an answer").0, 200);
}

#[tokio::test]
async fn version_1_certificates_work_and_members_do_not_check_names() {
    let files = Files::new(Version::V1);
    let harness = serve(files.server(VerifyClient::Required));
    let answer = ask(&files.client(Caller::Member), &harness, Method::POST, "/sigterm").await;
    assert_eq!(answer.expect("an answer").0, 202);
    // It names nobody, which a person's client does not accept.
    let refused = ask(&files.client(Caller::Operator), &harness, Method::GET, "/health").await;
    assert!(matches!(refused, Err(HttpError::Tls { .. })), "{refused:?}");
}

#[tokio::test]
async fn required_certificates_are_asked_for_in_the_handshake() {
    let files = Files::new(Version::V3);
    let harness = serve(files.server(VerifyClient::Required));
    let refused = ask(&stranger(Caller::Member, None), &harness, Method::GET, "/health").await;
    assert!(refused.is_err(), "{refused:?}");
    let other = Files::new(Version::V3);
    let refused = ask(&other.client(Caller::Member), &harness, Method::GET, "/health").await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn optional_certificates_are_needed_for_control_alone() {
    let files = Files::new(Version::V3);
    let harness = serve(files.server(VerifyClient::Optional));
    let nobody = stranger(Caller::Operator, Some(&files.path("cert.pem")));
    assert_eq!(ask(&nobody, &harness, Method::GET, "/primary").await.expect("an answer").0, 200);
    let refused = ask(&nobody, &harness, Method::POST, "/sigterm").await.expect("an answer");
    assert_eq!(refused, (403, "client certificate required".into()));
    let known = ask(&files.client(Caller::Operator), &harness, Method::POST, "/sigterm").await;
    assert_eq!(known.expect("an answer").0, 202);
}

#[tokio::test]
async fn people_always_verify_and_members_where_an_authority_is_configured() {
    let files = Files::new(Version::V3);
    let harness = serve(files.server(VerifyClient::None));
    assert!(ask(&stranger(Caller::Member, None), &harness, Method::GET, "/health").await.is_ok());
    let (right, other) = (files.path("cert.pem"), Files::new(Version::V3));
    let wrong = other.path("cert.pem");
    assert!(ask(&stranger(Caller::Member, Some(&right)), &harness, Method::GET, "/health").await.is_ok());
    let refused = ask(&stranger(Caller::Member, Some(&wrong)), &harness, Method::GET, "/health").await;
    assert!(matches!(refused, Err(HttpError::Tls { .. })), "{refused:?}");
    let insecure = CtlConfig { insecure: true, cacert: Some(wrong), ..CtlConfig::default() };
    let insecure = Client::new(Caller::Member, &insecure, &open_settings()).expect("a client");
    assert!(ask(&insecure, &harness, Method::GET, "/health").await.is_ok());
    // The authority of the REST API's clients is the members' too.
    let settings = other.server(VerifyClient::None);
    let member = Client::new(Caller::Member, &CtlConfig::default(), &settings).expect("a client");
    let refused = ask(&member, &harness, Method::GET, "/health").await;
    assert!(matches!(refused, Err(HttpError::Tls { .. })), "{refused:?}");
    let refused = ask(&stranger(Caller::Operator, None), &harness, Method::GET, "/health").await;
    assert!(matches!(refused, Err(HttpError::Tls { .. })), "{refused:?}");
    let insecure = CtlConfig { insecure: true, ..CtlConfig::default() };
    let insecure = Client::new(Caller::Operator, &insecure, &open_settings()).expect("a client");
    assert!(ask(&insecure, &harness, Method::GET, "/health").await.is_ok());
}

#[tokio::test]
async fn encrypted_keys_and_cipher_strings_are_used() {
    let files = Files::new(Version::V3);
    let encrypted = files.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"s3cr3t pa:ss").expect("PEM");
    std::fs::write(files.path("key.pem"), encrypted).expect("written");
    let mut settings = files.server(VerifyClient::None);
    let tls = settings.tls.as_mut().expect("TLS");
    tls.keyfile_password = Some(Secret::new("s3cr3t pa:ss"));
    tls.ciphers = Some("ECDHE-RSA-AES256-GCM-SHA384".into());
    let harness = serve(settings.clone());
    assert!(ask(&stranger(Caller::Member, None), &harness, Method::GET, "/health").await.is_ok());

    let cases = [
        (Some("wr0ng"), "DEFAULT", "restapi.keyfile"),
        (None, "DEFAULT", "restapi.keyfile"),
        (Some("s3cr3t pa:ss"), "NO-SUCH-CIPHER", "restapi.ciphers"),
    ];
    for (password, ciphers, told) in cases {
        let tls = settings.tls.as_mut().expect("TLS");
        tls.keyfile_password = password.map(Secret::new);
        tls.ciphers = Some(ciphers.into());
        let (_rest, rest) = watch::channel(Arc::new(settings.clone()));
        let (_status, status) = watch::channel(Arc::new(fixture::primary()));
        let (mailbox, _requests) = mpsc::channel(1);
        let error =
            start(Options { rest, mode: Mode::Cluster, status, mailbox, log: LogGauge::default(), announce: None })
                .expect_err("refused")
                .to_string();
        assert!(error.contains(told), "{error}");
        assert!(password.is_some() || error.contains("encrypted and no password is set"), "{error}");
        assert!(!error.contains("wr0ng") && !error.contains("s3cr3t"), "{error}");
    }
}

#[tokio::test]
async fn a_reload_takes_the_new_certificate() {
    let files = Files::new(Version::V3);
    let harness = serve(files.server(VerifyClient::None));
    assert_eq!(serial(&harness).await, 1);
    files.write_certificate(Version::V3, 2);
    assert_eq!(serial(&harness).await, 1, "not before the reload");
    harness.rest.send_replace(Arc::new(files.server(VerifyClient::None)));
    while serial(&harness).await == 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(serial(&harness).await, 2);
    // A broken one leaves the old one in force.
    std::fs::write(files.path("cert.pem"), "nonsense").expect("written");
    harness.rest.send_replace(Arc::new(files.server(VerifyClient::None)));
    for _ in 0..20 {
        assert_eq!(serial(&harness).await, 2);
    }
}

/// The serial number of the certificate that the server shows.
async fn serial(harness: &Harness) -> u32 {
    use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
    let mut connector = SslConnector::builder(SslMethod::tls_client()).expect("a connector");
    connector.set_verify(SslVerifyMode::NONE);
    let mut configuration = connector.build().configure().expect("a configuration");
    configuration.set_verify_hostname(false);
    let ssl = configuration.into_ssl("localhost").expect("a session");
    let tcp = tokio::net::TcpStream::connect(harness.address).await.expect("a connection");
    let mut stream = tokio_openssl::SslStream::new(ssl, tcp).expect("a stream");
    let shaking = std::pin::Pin::new(&mut stream).connect();
    tokio::time::timeout(LIMIT, shaking).await.expect("in time").expect("a handshake");
    let certificate = stream.ssl().peer_certificate().expect("a certificate");
    let number = certificate.serial_number().to_bn().expect("a number").to_dec_str().expect("digits").to_string();
    number.parse().expect("a small number")
}

/// The configuration of a member that starts with these settings.
fn member(settings: &[(&str, &str)], files: &[(&str, &Path)]) -> Result<Config, ConfigErrors> {
    let least = [
        ("PATRONI_SCOPE", "main"),
        ("PATRONI_NAME", "n1"),
        ("PATRONI_ETCD3_HOSTS", "e1"),
        ("PGDATA", "/data"),
        ("POSTGRES_PASSWORD", "su-pw"),
        ("PATRONI_REPLICATION_PASSWORD", "repl-pw"),
    ];
    let texts = least.iter().chain(settings).map(|(name, value)| ((*name).into(), (*value).into()));
    let files = files.iter().map(|(name, file)| ((*name).into(), file.as_os_str().to_owned()));
    let host = HostFacts {
        host_name: "box".to_owned(),
        kubernetes: KubernetesAccess::default(),
        account: Account::Named("postgres".to_owned()),
        inspect: Box::new(|_| FoundData::None),
        unusable: tamada::run::unusable_settings,
    };
    Config::for_start(texts.chain(files), None, &host)
}

/// Whoever comes from Patroni may have one authority for clients, and server certificates of another.
#[tokio::test]
async fn an_authority_that_signs_clients_alone_keeps_no_member_from_asking_another() {
    let (files, clients) = (Files::new(Version::V3), Files::new(Version::V3));
    let (cert, key, authority) = (files.path("cert.pem"), files.path("key.pem"), clients.path("cert.pem"));
    let harness = serve(files.server(VerifyClient::None));
    let own = [("PATRONI_RESTAPI_CERTFILE", cert.as_path()), ("PATRONI_RESTAPI_KEYFILE", &key)];
    let with = |more: &[(&str, &Path)]| member(&[], &[&own[..], more].concat()).expect("a configuration");
    let asks = async |config: &Config| {
        let member = Client::new(Caller::Member, &config.ctl, &config.rest).expect("a client");
        ask(&member, &harness, Method::GET, "/health").await.is_ok()
    };
    let cafile = ("PATRONI_RESTAPI_CAFILE", authority.as_path());
    let config = with(&[cafile]);
    assert!(asks(&config).await, "the members' certificates are of another authority");
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(warning.starts_with("PATRONI_RESTAPI_CAFILE: ") && warning.contains("PATRONI_CTL_CACERT"), "{warning}");
    // Where somebody says what the members' certificates are signed by, that holds.
    for (file, expected) in [(&authority, false), (&cert, true)] {
        let config = with(&[cafile, ("PATRONI_CTL_CACERT", file)]);
        assert_eq!((asks(&config).await, config.warnings.len()), (expected, 0), "{:?}", config.warnings);
    }
    // An authority that has signed both is taken for the members' too.
    let strange = serve(clients.server(VerifyClient::None));
    let both = with(&[("PATRONI_RESTAPI_CAFILE", &cert)]);
    assert_eq!(both.warnings, Vec::<String>::new());
    let client = Client::new(Caller::Member, &both.ctl, &both.rest).expect("a client");
    let refused = ask(&client, &strange, Method::GET, "/health").await;
    assert!(matches!(refused, Err(HttpError::Tls { .. })), "{refused:?}");
    // So is one whose time is over: nobody is believed for that.
    files.write_certificate_for(Version::V3, 2, [-2, -1]);
    let over = with(&[("PATRONI_RESTAPI_CAFILE", &cert)]);
    assert_eq!(over.warnings, Vec::<String>::new());
    let client = Client::new(Caller::Member, &over.ctl, &over.rest).expect("a client");
    let refused = ask(&client, &strange, Method::GET, "/health").await;
    assert!(matches!(refused, Err(HttpError::Tls { .. })), "{refused:?}");
}

#[test]
fn what_tls_cannot_use_is_told_with_everything_else_that_is_wrong() {
    let (files, others) = (Files::new(Version::V3), Files::new(Version::V3));
    let broken = files.path("broken.pem");
    std::fs::write(&broken, "no PEM").expect("written");
    let locked = files.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"right").expect("PEM");
    std::fs::write(files.path("locked.pem"), locked).expect("written");
    let errors = |settings: &[(&str, &Path)]| {
        let wrong = [("PATRONI_RESTAPI_KEYFILE_PASSWORD", "wrong-pw"), ("PATRONI_TTL", "soon")];
        let read = member(&wrong, settings).expect_err("the ttl is no number");
        let lines: Vec<String> = read.errors.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|line| line.starts_with("PATRONI_TTL: ")), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("wrong-pw") || line.contains("routines")), "{lines:#?}");
        lines
    };
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let certificate = ("PATRONI_RESTAPI_CERTFILE", cert.as_path());
    for (name, file, others, why) in [
        ("PATRONI_RESTAPI_CERTFILE", &broken, vec![], "it holds no such item in PEM form"),
        ("PATRONI_RESTAPI_KEYFILE", &broken, vec![certificate], ""),
        ("PATRONI_RESTAPI_KEYFILE", &others.path("key.pem"), vec![certificate], "key values mismatch"),
        ("PATRONI_RESTAPI_KEYFILE", &files.path("locked.pem"), vec![certificate], "password does not decrypt it"),
        ("PATRONI_RESTAPI_CAFILE", &broken, vec![certificate, ("PATRONI_RESTAPI_KEYFILE", &key)], ""),
        ("PATRONI_CTL_CACERT", &broken, vec![], "no certificate or crl found"),
        ("PATRONI_CTL_CERTFILE", &broken, vec![("PATRONI_CTL_KEYFILE", &key)], "it holds no such item in PEM form"),
        ("PATRONI_CTL_KEYFILE", &broken, vec![("PATRONI_CTL_CERTFILE", &cert)], ""),
        ("PATRONI_RESTAPI_CERTFILE", &files.path("missing.pem"), vec![], "no such file"),
    ] {
        let lines = errors(&[&others[..], &[(name, file)]].concat());
        let of_it: Vec<&String> =
            lines.iter().filter(|line| line.starts_with(&format!("{name}: {file:?} given, "))).collect();
        assert!(lines.len() == 2 && of_it.len() == 1 && of_it[0].contains(why), "{name}: {lines:#?}");
    }
    let good = [certificate, ("PATRONI_RESTAPI_KEYFILE", &key), ("PATRONI_RESTAPI_CAFILE", &cert)];
    assert_eq!(errors(&good).len(), 1);
}
