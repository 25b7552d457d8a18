//! Every setting of Patroni 4.1.5 with what becomes of it here: `keys | works, differs, accepted, not yet or refused | note`.
//! `docs/settings.md` is made of it. Tests hold it against what is read.

/// Of a node: a file, `PATRONI_CONFIGURATION`, and variables.
pub(super) const NODE: &str = "\
## Node
name, scope, namespace | works | `name` is the host name, or the pod's, where nothing is given. Without a DCS `scope` is not needed.
thread_pool_size, thread_stack_size | accepted | There is no pool of Python's threads.
## Log
log.type | differs | Without `log.format` a JSON line has `time`, `level`, `message` and `logger`, where Patroni's has `asctime`, \
`levelname` and `message`; `log.format` names others.
log.level | works |
log.traceback_level | accepted | An error is one line with all of its causes; there are no tracebacks at any level.
log.format | works | Python's `%(name)s`, with width and precision. `funcName` and `taskName` are empty. What an event says besides its \
text is a part of `message`, and in JSON fields of their own. A format that cannot be used ends the start.
log.dateformat | works | What `strftime` takes; a format that cannot be used ends the start.
log.static_fields | works | In JSON alone, as with Patroni.
log.max_queue_size | works | 0, Patroni's word for no limit, is 1000000 lines. A log that nobody reads costs lines, and never a renewal.
log.dir | works | The file is `patroni.log`. Lines of PID 1 and of PostgreSQL stay on standard error and output. A folder that is not there \
ends the start; what cannot be written later goes to standard error. The file is opened anew at each reload.
log.file_size, log.file_num | works |
log.mode | differs | Octal with a leading 0 alone: `644`, which Patroni takes for a decimal number, is an error.
log.loggers | works | Names of Patroni's packages (`patroni.postgresql`) stand for their counterparts here; others are the names of modules \
of this program (`tamada::api`) or of its libraries (`h2`).
log.deduplicate_heartbeat_logs | works | See above.
## REST API
restapi.listen, restapi.connect_address | works | Without a DCS it listens on the loopback address alone.
restapi.authentication.username, restapi.authentication.password | works | One without the other is an error.
restapi.certfile, restapi.keyfile, restapi.keyfile_password, restapi.cafile, restapi.ciphers | works |
restapi.verify_client | differs | Another word than `none`, `optional` and `required` is an error.
restapi.allowlist, restapi.allowlist_include_members | works | Without credentials, client certificates and a list only this host and the \
members are admitted to requests that change something.
restapi.http_extra_headers, restapi.https_extra_headers | works |
restapi.server_tokens | works |
restapi.request_queue_size | differs | At least 1024.
restapi.thread_pool_size | accepted |
## Requests to other members
ctl.authentication.username, ctl.authentication.password | works |
ctl.insecure, ctl.cacert, ctl.certfile, ctl.keyfile, ctl.keyfile_password | works | Members verify each other's certificates where \
the authorities are known.
## Tags
tags.nofailover, tags.failover_priority, tags.noloadbalance, tags.clonefrom | works |
tags.nostream | works |
tags.nosync, tags.sync_priority | works |
tags.replicatefrom | works | A circle, and a member that names itself: it follows the leader. [replication.md](replication.md)
## Watchdog
watchdog.mode, watchdog.device, watchdog.safety_margin, watchdog.driver | works | PID 1 keeps the device: [watchdog.md](watchdog.md).
## PostgreSQL
postgresql.listen, postgresql.connect_address, postgresql.proxy_address | works |
postgresql.data_dir, postgresql.config_dir | works | PGDATA where no `data_dir` is given.
postgresql.pgpass | works | `/run/postgresql/tamada.pgpass` where nothing is given.
postgresql.authentication.superuser.username, postgresql.authentication.replication.username, \
postgresql.authentication.rewind.username | works | `postgres`, `replicator`, and the superuser where nothing is given.
postgresql.authentication.superuser.password, postgresql.authentication.replication.password, \
postgresql.authentication.rewind.password | differs | Not needed where `pg_hba` lines are given (`postgresql.pg_hba`, \
`bootstrap.dcs.postgresql.pg_hba`, `bootstrap.pg_hba`), or where a document names the role without one; otherwise its absence is an \
error, since a `pg_hba.conf` that is made here lets in nobody without one. Without a password `~/.pgpass` of PostgreSQL's account counts.
postgresql.authentication.superuser.sslmode, postgresql.authentication.superuser.sslcert, postgresql.authentication.superuser.sslkey, \
postgresql.authentication.superuser.sslpassword, postgresql.authentication.superuser.sslrootcert, \
postgresql.authentication.superuser.sslcrl, postgresql.authentication.superuser.channel_binding, \
postgresql.authentication.superuser.sslnegotiation | works | And of `replication` and `rewind`.
postgresql.authentication.superuser.sslcrldir, postgresql.authentication.superuser.gssencmode | differs | They reach PostgreSQL and its \
programs, and not our own sessions. So with `replication` and `rewind`.
postgresql.parameters | works | Controlled parameters count in the cluster's configuration alone, and are told here.
postgresql.pg_hba, postgresql.pg_ident | works |
postgresql.recovery_conf | works |
postgresql.custom_conf, postgresql.config_base_name | works |
postgresql.bin_dir | works | PATH and `/usr/lib/postgresql` are searched where nothing is given.
postgresql.bin_name.initdb, postgresql.bin_name.pg_basebackup, postgresql.bin_name.pg_controldata, postgresql.bin_name.pg_rewind, \
postgresql.bin_name.postgres | works |
postgresql.bin_name.pg_ctl, postgresql.bin_name.pg_isready | accepted | Neither program is run.
postgresql.database | works |
postgresql.use_pg_rewind, postgresql.rewind | works |
postgresql.remove_data_directory_on_rewind_failure, postgresql.remove_data_directory_on_diverged_timelines | differs | On in a cluster \
that was made by variables alone. The one for diverged timelines also counts where the WAL that a standby needs is gone, or its crash \
recovery fails again and again.
postgresql.basebackup | works |
postgresql.callbacks.on_start, postgresql.callbacks.on_stop, postgresql.callbacks.on_restart, postgresql.callbacks.on_reload, \
postgresql.callbacks.on_role_change | differs | Their environment is without our own variables and passwords.
postgresql.pg_ctl_timeout | differs | Limits the start of a standby, promotions and the server of a bootstrap; a stop has limits of its own.
postgresql.use_unix_socket | works |
postgresql.use_unix_socket_repl | accepted | Nothing here connects to its own server for replication.
postgresql.krbsrvname | works |
postgresql.create_replica_methods, postgresql.create_replica_method | not yet | Replicas are made by pg_basebackup.
postgresql.pre_promote, postgresql.before_stop | works | [hooks.md](hooks.md)
postgresql.parameters_primary, postgresql.parameters_replica, postgresql.parameters_standby_leader | not yet | After 4.1.5.
postgresql.pg_hba_primary, postgresql.pg_hba_replica, postgresql.pg_hba_standby_leader | not yet | After 4.1.5.
postgresql.pg_ident_primary, postgresql.pg_ident_replica, postgresql.pg_ident_standby_leader | not yet | After 4.1.5.
## Bootstrap
bootstrap.dcs | differs | A value that Patroni would replace by a default is an error here.
bootstrap.initdb, bootstrap.pg_hba | works |
bootstrap.post_bootstrap, bootstrap.post_init | differs | The environment is that of callbacks.
bootstrap.method | refused | But `initdb`.
bootstrap.users | not yet | Patroni has dropped it too.
## etcd
etcd3.host, etcd3.hosts, etcd3.url, etcd3.proxy, etcd3.use_proxies, etcd3.protocol, etcd3.port | works |
etcd3.username, etcd3.password, etcd3.cacert, etcd3.cert, etcd3.key | works | A user without a password is an error.
etcd3.srv, etcd3.discovery_srv, etcd3.srv_domain | refused | Name the endpoints.
etcd3.srv_suffix | not yet |
## Kubernetes
kubernetes.namespace, kubernetes.labels, kubernetes.scope_label, kubernetes.role_label | works |
kubernetes.leader_label_value, kubernetes.follower_label_value, kubernetes.standby_leader_label_value, kubernetes.tmp_role_label, \
kubernetes.bootstrap_labels | works |
kubernetes.use_endpoints, kubernetes.pod_ip, kubernetes.ports, kubernetes.cacert, kubernetes.bypass_api_service, \
kubernetes.retriable_http_codes, kubernetes.context | works | [kubernetes.md](kubernetes.md) says how far.
## Not supported
consul, etcd, exhibitor, raft, zookeeper | refused | etcd's v3 API and Kubernetes are.
citus | refused |
";

/// Of the cluster: `/config` and `bootstrap.dcs`.
pub(super) const CLUSTER: &str = "\
## The cluster
ttl, loop_wait, retry_timeout | works | Their minima are 5, 1 and 1 s while all members are ours, else Patroni's.
maximum_lag_on_failover, max_timelines_history, primary_start_timeout, master_start_timeout, pause | works |
member_slots_ttl | works |
primary_stop_timeout, master_stop_timeout | works | It counts in synchronous modes alone.
check_timeline | differs | Always on: a member of an older timeline never becomes the leader.
ignore_slots | works |
synchronous_mode, synchronous_mode_strict, synchronous_node_count, maximum_lag_on_syncnode | differs | [replication.md](replication.md) \
says what each mode promises. A wrong value, which Patroni replaces by a default, is refused, and rejects a whole document.
failsafe_mode | differs | Not to be switched on yet: [replication.md](replication.md).
standby_cluster | differs | [replication.md](replication.md). A wrong value, which Patroni passes over, is refused, and rejects a whole \
document. `create_replica_methods`: the first copy is made by pg_basebackup.
slots, permanent_slots, permanent_replication_slots | works | [replication.md](replication.md). An entry that is wrong is refused; in \
a document that is there already it is left out, and a slot of its name is left alone.
primary_race_backoff | not yet | After 4.1.5.
## PostgreSQL
postgresql.parameters | works | Rules of PostgreSQL 13 to 18. `max_connections`, `max_locks_per_transaction`, \
`max_prepared_transactions`, `max_wal_senders` and `max_worker_processes` are never lower on a standby than its primary had them: a standby \
starts with the higher value and shows it as pending. `tamada restart` of several members restarts the leader last, or first where it \
only lowers them. Patroni's command keeps the order of the members.
postgresql.use_slots | works |
postgresql.use_pg_rewind, postgresql.pg_hba, postgresql.pg_ident, postgresql.recovery_conf | works | A node's own word wins.
postgresql.remove_data_directory_on_rewind_failure, postgresql.remove_data_directory_on_diverged_timelines | differs | As of a node.
postgresql.basebackup, postgresql.callbacks, postgresql.custom_conf, postgresql.krbsrvname, postgresql.pg_ctl_timeout, \
postgresql.rewind, postgresql.use_unix_socket, postgresql.use_unix_socket_repl | works | A node's own word wins, key by key and each as a \
whole.
postgresql.bin_dir, postgresql.bin_name, postgresql.config_base_name, postgresql.database | works | So too, with a member's next start. \
A member without data starts before it has heard of them, and has them with the start after its clone.
postgresql.create_replica_methods, postgresql.create_replica_method | not yet | Replicas are made by pg_basebackup.
postgresql.pre_promote, postgresql.before_stop | works | [hooks.md](hooks.md)
postgresql.parameters_primary, postgresql.parameters_replica, postgresql.parameters_standby_leader | not yet | After 4.1.5.
postgresql.pg_hba_primary, postgresql.pg_hba_replica, postgresql.pg_hba_standby_leader | not yet | After 4.1.5.
postgresql.pg_ident_primary, postgresql.pg_ident_replica, postgresql.pg_ident_standby_leader | not yet | After 4.1.5.
";
