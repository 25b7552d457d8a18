//! Variables of the whole cluster, of its initialisation, and those that PostgreSQL's container images have in common.

use super::variables;

variables! {
    /// What `bootstrap.dcs` holds: written once, when the cluster is initialised.
    Cluster in cluster {
        /// The cluster's first configuration as a map; the variables below win over it.
        patroni_bootstrap_dcs: Map, "bootstrap.dcs", "", Cluster;
        /// Seconds that the leader's lease lasts. At least 5, with Patroni members 20.
        patroni_ttl: Whole, "bootstrap.dcs.ttl", "30", Cluster;
        /// Seconds between two cycles when nothing happens. At least 1.
        patroni_loop_wait: Whole, "bootstrap.dcs.loop_wait", "10", Cluster;
        /// Seconds that requests to the DCS and to PostgreSQL are repeated for. At least 1, with members of another
        /// kind 3.
        patroni_retry_timeout: Whole, "bootstrap.dcs.retry_timeout", "10", Cluster;
        /// Maximum lag, in bytes of WAL, of a member that may become the leader.
        patroni_maximum_lag_on_failover: Whole, "bootstrap.dcs.maximum_lag_on_failover", "1048576", Cluster;
        /// Bytes of WAL that a synchronous standby may be behind; -1: any number. Without synchronous mode it has no
        /// effect.
        patroni_maximum_lag_on_syncnode: Text, "bootstrap.dcs.maximum_lag_on_syncnode", "-1", Cluster;
        /// Number of timeline history entries kept in the DCS; 0: all.
        patroni_max_timelines_history: Whole, "bootstrap.dcs.max_timelines_history", "0", Cluster;
        /// Seconds that a crashed primary may take to recover before a failover; 0: fail over at once.
        patroni_primary_start_timeout: Whole, "bootstrap.dcs.primary_start_timeout", "300", Cluster;
        /// Seconds that the stop of a primary may take in synchronous mode; 0: no limit.
        patroni_primary_stop_timeout: Whole, "bootstrap.dcs.primary_stop_timeout", "0", Cluster;
        /// Synchronous replication: `on` (chosen standbys confirm each commit, and only they may take over) or `quorum`
        /// (some of the standbys do).
        patroni_synchronous_mode: SyncMode, "bootstrap.dcs.synchronous_mode", "off", Cluster;
        /// Let commits wait where there is no synchronous standby.
        patroni_synchronous_mode_strict: Switch, "bootstrap.dcs.synchronous_mode_strict", "off", Cluster;
        /// Number of synchronous standbys. Without synchronous mode it has no effect.
        patroni_synchronous_node_count: Whole, "bootstrap.dcs.synchronous_node_count", "1", Cluster;
        /// Keep running as the primary while the DCS is unavailable and all members are reachable.
        patroni_failsafe_mode: Switch, "bootstrap.dcs.failsafe_mode", "off", Cluster;
        /// Accepted for compatibility: a member of an older timeline is always kept out of elections.
        patroni_check_timeline: Switch, "bootstrap.dcs.check_timeline", "on (Patroni: off)", Cluster;
        /// How long the replication slot of a member whose key is gone from the DCS is kept; 0: it is removed at once.
        patroni_member_slots_ttl: Seconds, "bootstrap.dcs.member_slots_ttl", "1800", Cluster;
        /// Permanent replication slots: name to `{type: physical}`, or `{type: logical, database: …, plugin: …}`.
        patroni_slots: Map, "bootstrap.dcs.slots", "{}", Cluster;
        /// Replication slots that are not dropped although nobody wants them: maps with any of `name`, `type`, `database`,
        /// `plugin`.
        patroni_ignore_slots: List, "bootstrap.dcs.ignore_slots", "[]", Cluster;
        /// Run as a standby cluster: `host`, `port`, `primary_slot_name`, `restore_command`, `archive_cleanup_command`,
        /// `recovery_min_apply_delay`.
        patroni_standby_cluster: Map, "bootstrap.dcs.standby_cluster", "", Cluster;
        /// PostgreSQL's parameters for all members.
        patroni_postgresql_parameters: Map, "bootstrap.dcs.postgresql.parameters", "{}", Cluster;
        /// The whole `pg_hba.conf` of all members, a line each. Without it: the socket by `peer`, replication for its
        /// role, and `host all all all scram-sha-256`.
        patroni_postgresql_pg_hba: Lines, "bootstrap.dcs.postgresql.pg_hba", "", Cluster;
        /// The whole `pg_ident.conf` of all members, a line each.
        patroni_postgresql_pg_ident: Lines, "bootstrap.dcs.postgresql.pg_ident", "", Cluster;
        /// Settings of recovery for standbys, such as `restore_command`.
        patroni_postgresql_recovery_conf: Map, "bootstrap.dcs.postgresql.recovery_conf", "", Cluster;
        /// Whether a former primary is rewound with pg_rewind to follow the new one.
        patroni_postgresql_use_pg_rewind: Switch, "bootstrap.dcs.postgresql.use_pg_rewind", "on", Cluster;
        /// Whether each member has a replication slot on the primary.
        patroni_postgresql_use_slots: Switch, "bootstrap.dcs.postgresql.use_slots", "on", Cluster;
    }
}

variables! {
    /// What is needed once, to make the first data directory.
    Initialisation in initialisation {
        /// Options of initdb: `encoding: UTF8, data-checksums`. Authentication is added unless it is given.
        patroni_bootstrap_initdb: Options, "bootstrap.initdb",
            "data-checksums, auth-local: peer, auth-host: scram-sha-256", Initialisation;
        /// Lines for `pg_hba.conf`, used unless the cluster has a whole one configured.
        patroni_bootstrap_pg_hba: Lines, "bootstrap.pg_hba", "", Initialisation;
        /// Command run once on the first primary; its argument is a connection string.
        patroni_bootstrap_post_bootstrap: Text, "bootstrap.post_bootstrap", "", Initialisation;
        /// Another way than initdb to make the first data directory. Not implemented yet; anything but `initdb` is
        /// refused.
        patroni_bootstrap_method: Text, "bootstrap.method", "initdb", Initialisation;
    }
}

variables! {
    /// Conventions of the official image.
    Container in container {
        /// The data directory, where nothing else names one.
        pgdata: Text, "environment.pgdata", "", Restart;
        /// The superuser's name, where PATRONI_SUPERUSER_USERNAME does not give it.
        postgres_user: FileText, "environment.user", "postgres", Initialisation;
        /// The superuser's password, where PATRONI_SUPERUSER_PASSWORD does not give it.
        postgres_password: Secret, "environment.password", "", Initialisation;
        /// A database to be made with a new cluster.
        postgres_db: FileText, "environment.db", "POSTGRES_USER", Initialisation;
        /// Further arguments of initdb, in a shell's notation.
        postgres_initdb_args: FileText, "environment.initdb_args", "", Initialisation;
        /// Where initdb puts the WAL.
        postgres_initdb_waldir: Text, "environment.initdb_waldir", "", Initialisation;
        /// How clients from other hosts authenticate, without a DCS; with one it has no effect. `trust` lets everybody in.
        postgres_host_auth_method: Text, "environment.host_auth_method", "scram-sha-256", Initialisation;
        /// `MALLOC_ARENA_MAX` of PostgreSQL's processes.
        pg_malloc_arena_max: Whole, "environment.malloc_arena_max", "", Restart;
    }
}
