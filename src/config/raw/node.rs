//! Variables of the node itself: its name, its REST API, its log.

use super::variables;

variables! {
    /// Identity of the node.
    Node in node {
        /// The whole configuration as one YAML or JSON document, with the keys of a configuration file. Not read when a
        /// configuration file is given. Single variables win over it.
        patroni_configuration: Document, "environment.configuration", "", Restart;
        /// The member's name, unique in the cluster. The host name is not taken for it when that is a bare container id.
        patroni_name: Text, "name", "on Kubernetes HOSTNAME, else the host name", Restart;
        /// The cluster's name. Required with a DCS, except by commands on Kubernetes, which find what there is.
        patroni_scope: Text, "scope", "", Restart;
        /// The folder in the DCS below which clusters keep their keys.
        patroni_namespace: Text, "namespace", "service", Restart;
        /// Where the cluster's state is kept: `etcd3` or `kubernetes`. Needed only where no setting of that store is given.
        tamada_dcs: Text, "environment.dcs", "the store that is configured", Restart;
        /// Start a single server in any case, without a DCS, even where a cluster is configured or the data directory
        /// was a cluster's. Nothing then prevents a second writable server.
        tamada_standalone: Switch, "environment.standalone", "off", Restart;
        /// How many seconds a stop of the container may take before it is killed (`docker stop --time`,
        /// `stop_grace_period`, `terminationGracePeriodSeconds`). A leader uses them to send its last WAL to a replica
        /// that is behind. The default fits the 10 s of `docker stop`.
        tamada_stop_timeout: Whole, "environment.stop_timeout", "8", Restart;
        /// How many seconds WAL that a clone or pg_rewind discards, and that the new leader does not have, stays beside the data
        /// directory (`PGDATA.discarded`); less where its file system is nearly full. 0: not at all.
        tamada_keep_discarded: Whole, "environment.keep_discarded", "86400", Restart;
        /// Whether PostgreSQL, its programs and hooks are kept from gaining privileges (`no_new_privs` and an empty
        /// bounding set of capabilities). `off` where a hook or `archive_command` uses sudo or another setuid program.
        tamada_no_new_privs: Switch, "environment.no_new_privs", "on", Restart;
        /// The address that other members reach this one at; the default of both connect addresses.
        pod_ip: Text, "environment.pod_ip", "the host name", Restart;
        /// Tags of this member: `nofailover`, `failover_priority`, `noloadbalance`, `clonefrom`, `nosync`,
        /// `sync_priority`, `nostream` (WAL from the archive alone), `replicatefrom`, and any of your own.
        patroni_tags: Map, "tags", "{}", Restart;
        /// Accepted for compatibility; has no effect.
        patroni_thread_pool_size: Whole, "thread_pool_size", "5", Restart;
        /// Accepted for compatibility; has no effect.
        patroni_thread_stack_size: Text, "thread_stack_size", "524288", Restart;
        /// `off`, `automatic` (a watchdog device that works is used) or `required` (this member does not lead without one):
        /// docs/watchdog.md. PID 1 fences without a device, too.
        patroni_watchdog_mode: Text, "watchdog.mode", "automatic", Restart;
        /// The watchdog's device: an absolute path of at most 48 bytes.
        patroni_watchdog_device: Text, "watchdog.device", "/dev/watchdog", Restart;
        /// Seconds between the reset of the machine and the end of the lease; -1: half of `ttl`.
        patroni_watchdog_safety_margin: Whole, "watchdog.safety_margin", "5", Restart;
    }
}

variables! {
    /// The REST API of this node, and its requests to others.
    Rest in rest {
        /// Address and port of the REST API. Without a DCS it listens on the loopback address only.
        patroni_restapi_listen: Text, "restapi.listen", "0.0.0.0:8008", Restart;
        /// Address and port that other members use to connect to the REST API.
        patroni_restapi_connect_address: Text, "restapi.connect_address", "POD_IP, else the pod's address on Kubernetes, else the host name", Restart;
        /// User of the REST API's unsafe endpoints. Needs the password too. Without credentials, client certificates and
        /// an allowlist only this host and the members may use them.
        patroni_restapi_username: Text, "restapi.authentication.username", "", Restart;
        /// Password of the REST API's unsafe endpoints.
        patroni_restapi_password: Secret, "restapi.authentication.password", "", Restart;
        /// Certificate in PEM; the REST API then speaks HTTPS.
        patroni_restapi_certfile: Text, "restapi.certfile", "", Restart;
        /// Key of the certificate; without it the key is in the certificate's file.
        patroni_restapi_keyfile: Text, "restapi.keyfile", "", Restart;
        /// Password of the key.
        patroni_restapi_keyfile_password: Secret, "restapi.keyfile_password", "", Restart;
        /// Authorities that clients' certificates are verified against. Where they have signed this node's certificate as
        /// well, members verify each other's with them.
        patroni_restapi_cafile: Text, "restapi.cafile", "", Restart;
        /// OpenSSL's list of ciphers.
        patroni_restapi_ciphers: Text, "restapi.ciphers", "", Restart;
        /// Whether clients need a certificate: `none`, `optional` (for unsafe endpoints) or `required`.
        patroni_restapi_verify_client: Text, "restapi.verify_client", "none", Restart;
        /// Who may call unsafe endpoints: names, addresses, networks. Empty: everybody who has the credentials or the
        /// certificate; without those, this host and the members. `0.0.0.0/0,::/0` admits everybody.
        patroni_restapi_allowlist: List, "restapi.allowlist", "[]", Restart;
        /// Whether other members may call unsafe endpoints although the list does not name them.
        patroni_restapi_allowlist_include_members: Switch, "restapi.allowlist_include_members", "off", Restart;
        /// Headers added to every answer.
        patroni_restapi_http_extra_headers: Map, "restapi.http_extra_headers", "{}", Restart;
        /// Headers added to every answer over HTTPS; they win over the former.
        patroni_restapi_https_extra_headers: Map, "restapi.https_extra_headers", "{}", Restart;
        /// Connections that may wait to be accepted, 0 to 4096; fewer than 1024 count as 1024.
        patroni_restapi_request_queue_size: Whole, "restapi.request_queue_size", "1024 (Patroni: 5)", Restart;
        /// What the `Server` header tells: `original` (tamada and its version), `minimal` (`Patroni/` and the version) or
        /// `productonly` (`Patroni`).
        patroni_restapi_server_tokens: Text, "restapi.server_tokens", "original", Restart;
        /// Accepted for compatibility; has no effect.
        patroni_restapi_thread_pool_size: Whole, "restapi.thread_pool_size", "5", Restart;
        /// User for requests to other members' REST API.
        patroni_ctl_username: Text, "ctl.authentication.username", "the REST API's", Restart;
        /// Password for requests to other members' REST API.
        patroni_ctl_password: Secret, "ctl.authentication.password", "the REST API's", Restart;
        /// Whether the command line accepts any certificate.
        patroni_ctl_insecure: Switch, "ctl.insecure", "off", Restart;
        /// Authorities that members' certificates are verified against.
        patroni_ctl_cacert: Text, "ctl.cacert", "PATRONI_RESTAPI_CAFILE", Restart;
        /// Client certificate for requests to other members.
        patroni_ctl_certfile: Text, "ctl.certfile", "", Restart;
        /// Key of the client certificate.
        patroni_ctl_keyfile: Text, "ctl.keyfile", "", Restart;
        /// Password of that key.
        patroni_ctl_keyfile_password: Secret, "ctl.keyfile_password", "", Restart;
    }
}

variables! {
    /// What is logged, and how.
    Log in log {
        /// `plain` or `json`.
        patroni_log_type: Text, "log.type", "plain", Restart;
        /// Old name of `PATRONI_LOG_LEVEL`, which wins.
        patroni_loglevel: Text, "log.level", "INFO", Restart;
        /// `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
        patroni_log_level: Text, "log.level", "INFO", Restart;
        /// Fields added to each line of the JSON format.
        patroni_log_static_fields: Map, "log.static_fields", "{}", Restart;
        /// `ERROR` or `DEBUG`. Accepted for compatibility: an error is one line with all of its causes, and there are no
        /// tracebacks.
        patroni_log_traceback_level: Text, "log.traceback_level", "ERROR", Restart;
        /// Old name of `PATRONI_LOG_FORMAT`.
        patroni_logformat: Text, "log.format", "", Restart;
        /// A line as Python's `logging` is told it: `%(asctime)s %(levelname)s: %(message)s`. With `PATRONI_LOG_TYPE=json` also
        /// the list of a line's fields, each a name or `name: other name`: `message, levelname: level`. Without it a JSON
        /// line has `time`, `level`, `message` and `logger`.
        patroni_log_format: Text, "log.format", "%(asctime)s %(levelname)s: %(message)s", Restart;
        /// Old name of `PATRONI_LOG_DATEFORMAT`.
        patroni_log_datefmt: Text, "log.dateformat", "", Restart;
        /// Format of `asctime`, as `strftime` takes it.
        patroni_log_dateformat: Text, "log.dateformat", "%Y-%m-%d %H:%M:%S with milliseconds", Restart;
        /// Lines that may wait to be written, at most 1000000, which 0 stands for; what does not fit is counted and told.
        patroni_log_max_queue_size: Whole, "log.max_queue_size", "1000", Restart;
        /// Folder of the file `patroni.log`, which the log is written to in place of standard error. PID 1's and PostgreSQL's
        /// own lines stay there.
        patroni_log_dir: Text, "log.dir", "", Restart;
        /// Mode of that file, octal with a leading 0: `0640`.
        patroni_log_mode: Text, "log.mode", "0666 without the umask", Restart;
        /// Size of that file in bytes from which it is renamed to `patroni.log.1`; 0: never.
        patroni_log_file_size: Whole, "log.file_size", "25000000", Restart;
        /// How many renamed files are kept; 0: it is never renamed.
        patroni_log_file_num: Whole, "log.file_num", "4", Restart;
        /// Levels of single loggers, by a module's name (`tamada::api`) or that of Patroni's counterpart: `patroni.postgresql:
        /// DEBUG, patroni.api: WARNING`.
        patroni_log_loggers: Map, "log.loggers", "{}", Restart;
        /// Whether the line of each cycle (`no action. I am …`) is left out while it is the same as before.
        patroni_log_deduplicate_heartbeat_logs: Switch, "log.deduplicate_heartbeat_logs", "off", Restart;
    }
}
