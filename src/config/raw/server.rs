//! Variables of etcd, of PostgreSQL on this node, and of the roles that the agent uses.

use super::variables;

variables! {
    /// Where the cluster's state is kept.
    Etcd in etcd {
        /// One endpoint, `host:port`.
        patroni_etcd3_host: Text, "etcd3.host", "", Restart;
        /// The endpoints: `a:2379,b:2379,c:2379`.
        patroni_etcd3_hosts: List, "etcd3.hosts", "", Restart;
        /// One endpoint as a URL, which may hold user and password; wins over `PATRONI_ETCD3_HOSTS`.
        patroni_etcd3_url: SecretUrl, "etcd3.url", "", Restart;
        /// Like `PATRONI_ETCD3_URL`, but other endpoints are not discovered from etcd; wins over all of them.
        patroni_etcd3_proxy: SecretUrl, "etcd3.proxy", "", Restart;
        /// Use only the endpoints given; do not discover others from etcd.
        patroni_etcd3_use_proxies: Switch, "etcd3.use_proxies", "off", Restart;
        /// `http` or `https`.
        patroni_etcd3_protocol: Text, "etcd3.protocol", "http", Restart;
        /// Domain whose SRV records name the endpoints. Not implemented yet and refused.
        patroni_etcd3_srv: Text, "etcd3.srv", "", Restart;
        /// Suffix of the SRV records' service name. Not implemented yet.
        patroni_etcd3_srv_suffix: Text, "etcd3.srv_suffix", "", Restart;
        /// Port of endpoints without one.
        patroni_etcd3_port: Whole, "etcd3.port", "2379", Restart;
        /// User of etcd. Needs the password too.
        patroni_etcd3_username: Text, "etcd3.username", "", Restart;
        /// Password of etcd.
        patroni_etcd3_password: Secret, "etcd3.password", "", Restart;
        /// Authorities that etcd's certificate is verified against. Without it, it is not verified.
        patroni_etcd3_cacert: Text, "etcd3.cacert", "", Restart;
        /// Client certificate.
        patroni_etcd3_cert: Text, "etcd3.cert", "", Restart;
        /// Key of the client certificate; without it the key is in the certificate's file.
        patroni_etcd3_key: Text, "etcd3.key", "", Restart;
    }
}

variables! {
    /// The server on this node.
    Server in server {
        /// Addresses and port: `addr[,addr…][:port]`.
        patroni_postgresql_listen: Text, "postgresql.listen", "0.0.0.0:5432", Restart;
        /// Address and port that other members and clients use to connect to PostgreSQL.
        patroni_postgresql_connect_address: Text, "postgresql.connect_address", "POD_IP, else the pod's address on Kubernetes, else the host name", Restart;
        /// Address and port of a proxy or connection pool in front of PostgreSQL; published in the member's record.
        patroni_postgresql_proxy_address: Text, "postgresql.proxy_address", "", Restart;
        /// The data directory.
        patroni_postgresql_data_dir: Text, "postgresql.data_dir", "PGDATA", Restart;
        /// Folder of the configuration files.
        patroni_postgresql_config_dir: Text, "postgresql.config_dir", "the data directory", Restart;
        /// Base name of the configuration file.
        patroni_postgresql_config_base_name: Text, "postgresql.config_base_name", "postgresql", Restart;
        /// A file that is included in place of the base configuration.
        patroni_postgresql_custom_conf: Text, "postgresql.custom_conf", "", Restart;
        /// Passfile that PostgreSQL and its programs read.
        patroni_postgresql_pgpass: Text, "postgresql.pgpass", "/run/postgresql/tamada.pgpass", Restart;
        /// Folder of PostgreSQL's programs.
        patroni_postgresql_bin_dir: Text, "postgresql.bin_dir", "PATH, then /usr/lib/postgresql", Restart;
        /// File name of pg_ctl.
        patroni_postgresql_bin_pg_ctl: Text, "postgresql.bin_name.pg_ctl", "pg_ctl", Restart;
        /// File name of initdb.
        patroni_postgresql_bin_initdb: Text, "postgresql.bin_name.initdb", "initdb", Restart;
        /// File name of pg_controldata.
        patroni_postgresql_bin_pg_controldata: Text, "postgresql.bin_name.pg_controldata", "pg_controldata", Restart;
        /// File name of pg_basebackup.
        patroni_postgresql_bin_pg_basebackup: Text, "postgresql.bin_name.pg_basebackup", "pg_basebackup", Restart;
        /// File name of postgres.
        patroni_postgresql_bin_postgres: Text, "postgresql.bin_name.postgres", "postgres", Restart;
        /// File name of pg_isready.
        patroni_postgresql_bin_pg_isready: Text, "postgresql.bin_name.pg_isready", "pg_isready", Restart;
        /// File name of pg_rewind.
        patroni_postgresql_bin_pg_rewind: Text, "postgresql.bin_name.pg_rewind", "pg_rewind", Restart;
        /// Database that the agent connects to.
        patroni_postgresql_database: Text, "postgresql.database", "postgres", Restart;
        /// Whether the agent connects through the socket.
        patroni_postgresql_use_unix_socket: Switch, "postgresql.use_unix_socket", "off", Restart;
        /// Whether local replication connections go through the socket. Nothing here makes any, so that either value holds.
        patroni_postgresql_use_unix_socket_repl: Switch, "postgresql.use_unix_socket_repl", "off", Restart;
        /// Seconds that the start of a standby may take, and that a promotion may go without replaying WAL, before it
        /// counts as failed.
        patroni_postgresql_pg_ctl_timeout: Whole, "postgresql.pg_ctl_timeout", "60", Restart;
        /// Kerberos service name.
        patroni_postgresql_krbsrvname: Text, "postgresql.krbsrvname", "", Restart;
        /// Commands run at events: `on_start`, `on_stop`, `on_restart`, `on_reload`, `on_role_change`.
        patroni_postgresql_callbacks: Map, "postgresql.callbacks", "{}", Restart;
        /// Options of pg_basebackup: `max-rate: 100M, verbose`.
        patroni_postgresql_basebackup: Options, "postgresql.basebackup", "", Restart;
        /// Options of pg_rewind.
        patroni_postgresql_rewind: Options, "postgresql.rewind", "", Restart;
        /// Remove the data directory and clone it anew when pg_rewind fails twice or was interrupted. Off: keep it and wait
        /// for an operator.
        patroni_postgresql_remove_data_directory_on_rewind_failure: Switch,
            "postgresql.remove_data_directory_on_rewind_failure",
            "as the cluster: on where variables alone made it, else off as in Patroni", Restart;
        /// Remove the data directory and clone it anew when timelines diverged and pg_rewind may not be used, when the WAL
        /// that a standby needs is gone, or when crash recovery fails again and again. Off: keep it and wait for an
        /// operator.
        patroni_postgresql_remove_data_directory_on_diverged_timelines: Switch,
            "postgresql.remove_data_directory_on_diverged_timelines",
            "as the cluster: on where variables alone made it, else off as in Patroni", Restart;
        /// Ways to make a replica. Only `basebackup` is implemented.
        patroni_postgresql_create_replica_methods: List, "postgresql.create_replica_methods", "basebackup", Restart;
        /// Command run before a promotion, by the holder of the lock: unless it ends with 0 within the lease, nothing is
        /// promoted and the lock is given up (docs/hooks.md).
        patroni_postgresql_pre_promote: Text, "postgresql.pre_promote", "", Restart;
        /// Command run before a stop, which waits for it a limited time; its failure is logged (docs/hooks.md).
        patroni_postgresql_before_stop: Text, "postgresql.before_stop", "", Restart;
    }
}

variables! {
    /// The roles of the agent.
    Roles in roles {
        /// The superuser's name.
        patroni_superuser_username: Text, "postgresql.authentication.superuser.username", "POSTGRES_USER, else postgres", Restart;
        /// The superuser's password.
        patroni_superuser_password: Secret, "postgresql.authentication.superuser.password", "POSTGRES_PASSWORD", Restart;
        /// `sslmode` of the superuser's connections.
        patroni_superuser_sslmode: Text, "postgresql.authentication.superuser.sslmode", "prefer", Restart;
        /// Client certificate of the superuser.
        patroni_superuser_sslcert: Text, "postgresql.authentication.superuser.sslcert", "", Restart;
        /// Key of that certificate, for the superuser.
        patroni_superuser_sslkey: Text, "postgresql.authentication.superuser.sslkey", "", Restart;
        /// Password of that key, for the superuser.
        patroni_superuser_sslpassword: Secret, "postgresql.authentication.superuser.sslpassword", "", Restart;
        /// Authorities that the server's certificate is verified against, for the superuser.
        patroni_superuser_sslrootcert: Text, "postgresql.authentication.superuser.sslrootcert", "", Restart;
        /// Revocation list, for the superuser.
        patroni_superuser_sslcrl: Text, "postgresql.authentication.superuser.sslcrl", "", Restart;
        /// Folder of revocation lists, for the superuser.
        patroni_superuser_sslcrldir: Text, "postgresql.authentication.superuser.sslcrldir", "", Restart;
        /// `gssencmode` of the superuser's connections.
        patroni_superuser_gssencmode: Text, "postgresql.authentication.superuser.gssencmode", "prefer", Restart;
        /// `channel_binding` of the superuser's connections.
        patroni_superuser_channel_binding: Text, "postgresql.authentication.superuser.channel_binding", "prefer", Restart;
        /// `sslnegotiation` of the superuser's connections.
        patroni_superuser_sslnegotiation: Text, "postgresql.authentication.superuser.sslnegotiation", "", Restart;
        /// The replication role's name.
        patroni_replication_username: Text, "postgresql.authentication.replication.username", "replicator", Restart;
        /// The replication role's password.
        patroni_replication_password: Secret, "postgresql.authentication.replication.password", "required with a DCS, unless pg_hba is given or a document names the role without one", Restart;
        /// `sslmode` of the replication role's connections.
        patroni_replication_sslmode: Text, "postgresql.authentication.replication.sslmode", "prefer", Restart;
        /// Client certificate of the replication role.
        patroni_replication_sslcert: Text, "postgresql.authentication.replication.sslcert", "", Restart;
        /// Key of that certificate, for the replication role.
        patroni_replication_sslkey: Text, "postgresql.authentication.replication.sslkey", "", Restart;
        /// Password of that key, for the replication role.
        patroni_replication_sslpassword: Secret, "postgresql.authentication.replication.sslpassword", "", Restart;
        /// Authorities that the server's certificate is verified against, for the replication role.
        patroni_replication_sslrootcert: Text, "postgresql.authentication.replication.sslrootcert", "", Restart;
        /// Revocation list, for the replication role.
        patroni_replication_sslcrl: Text, "postgresql.authentication.replication.sslcrl", "", Restart;
        /// Folder of revocation lists, for the replication role.
        patroni_replication_sslcrldir: Text, "postgresql.authentication.replication.sslcrldir", "", Restart;
        /// `gssencmode` of the replication role's connections.
        patroni_replication_gssencmode: Text, "postgresql.authentication.replication.gssencmode", "prefer", Restart;
        /// `channel_binding` of the replication role's connections.
        patroni_replication_channel_binding: Text, "postgresql.authentication.replication.channel_binding", "prefer", Restart;
        /// `sslnegotiation` of the replication role's connections.
        patroni_replication_sslnegotiation: Text, "postgresql.authentication.replication.sslnegotiation", "", Restart;
        /// The role of pg_rewind's name.
        patroni_rewind_username: Text, "postgresql.authentication.rewind.username", "the superuser", Restart;
        /// The role of pg_rewind's password.
        patroni_rewind_password: Secret, "postgresql.authentication.rewind.password", "", Restart;
        /// `sslmode` of the role of pg_rewind's connections.
        patroni_rewind_sslmode: Text, "postgresql.authentication.rewind.sslmode", "prefer", Restart;
        /// Client certificate of the role of pg_rewind.
        patroni_rewind_sslcert: Text, "postgresql.authentication.rewind.sslcert", "", Restart;
        /// Key of that certificate, for the role of pg_rewind.
        patroni_rewind_sslkey: Text, "postgresql.authentication.rewind.sslkey", "", Restart;
        /// Password of that key, for the role of pg_rewind.
        patroni_rewind_sslpassword: Secret, "postgresql.authentication.rewind.sslpassword", "", Restart;
        /// Authorities that the server's certificate is verified against, for the role of pg_rewind.
        patroni_rewind_sslrootcert: Text, "postgresql.authentication.rewind.sslrootcert", "", Restart;
        /// Revocation list, for the role of pg_rewind.
        patroni_rewind_sslcrl: Text, "postgresql.authentication.rewind.sslcrl", "", Restart;
        /// Folder of revocation lists, for the role of pg_rewind.
        patroni_rewind_sslcrldir: Text, "postgresql.authentication.rewind.sslcrldir", "", Restart;
        /// `gssencmode` of the role of pg_rewind's connections.
        patroni_rewind_gssencmode: Text, "postgresql.authentication.rewind.gssencmode", "prefer", Restart;
        /// `channel_binding` of the role of pg_rewind's connections.
        patroni_rewind_channel_binding: Text, "postgresql.authentication.rewind.channel_binding", "prefer", Restart;
        /// `sslnegotiation` of the role of pg_rewind's connections.
        patroni_rewind_sslnegotiation: Text, "postgresql.authentication.rewind.sslnegotiation", "", Restart;
    }
}
