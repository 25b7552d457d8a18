//! Boolean and text parameters by the versions that know them.

use super::{ALL, Versions, from, majors, minors, only};

/// Versions, and names separated by spaces.
pub(super) type Names = (Versions, &'static str);

pub(super) const BOOLEANS: &[Names] = &[
    (only(13), "operator_precedence_warning"),
    (majors(13, 16), "db_user_namespace"),
    (
        ALL,
        "allow_system_table_mods array_nulls autovacuum bonjour check_function_bodies data_sync_retry \
         debug_pretty_print debug_print_parse debug_print_plan debug_print_rewritten \
         default_transaction_deferrable default_transaction_read_only enable_bitmapscan enable_gathermerge \
         enable_hashagg enable_hashjoin enable_indexonlyscan enable_indexscan enable_material enable_mergejoin \
         enable_nestloop enable_seqscan enable_sort enable_tidscan escape_string_warning exit_on_error fsync \
         full_page_writes geqo hot_standby hot_standby_feedback ignore_checksum_failure ignore_system_indexes \
         krb_caseins_users lo_compat_privileges log_checkpoints log_disconnections log_duration log_executor_stats \
         logging_collector log_hostname log_lock_waits log_parser_stats log_planner_stats log_replication_commands \
         log_statement_stats log_truncate_on_rotation quote_all_identifiers restart_after_crash row_security ssl \
         ssl_prefer_server_ciphers standard_conforming_strings synchronize_seqscans syslog_sequence_numbers \
         syslog_split_messages trace_notify trace_sort track_activities track_commit_timestamp track_counts \
         track_io_timing transaction_deferrable transaction_read_only transform_null_equals update_process_title \
         wal_log_hints zero_damaged_pages",
    ),
    (
        ALL,
        "enable_parallel_append enable_parallel_hash enable_partition_pruning enable_partitionwise_aggregate \
         enable_partitionwise_join jit jit_debugging_support jit_dump_bitcode jit_expressions \
         jit_profiling_support jit_tuple_deforming parallel_leader_participation \
         ssl_passphrase_command_supports_reload",
    ),
    (ALL, "wal_init_zero wal_recycle"),
    (ALL, "enable_incremental_sort ignore_invalid_pages wal_receiver_create_temp_slot"),
    (from(14), "enable_async_append log_recovery_conflict_waits remove_temp_files_after_crash track_wal_io_timing"),
    (from(15), "enable_memoize"),
    (from(16), "enable_presorted_aggregate gss_accept_delegation send_abort_for_crash send_abort_for_kill"),
    (
        from(17),
        "allow_alter_system enable_group_by_reordering event_triggers summarize_wal sync_replication_slots \
         trace_connection_negotiation",
    ),
    (
        only(18),
        "enable_distinct_reordering enable_self_join_elimination log_lock_failures md5_password_warnings \
         track_cost_delay_timing vacuum_truncate",
    ),
    (minors(13, 8), "allow_in_place_tablespaces"),
    (minors(14, 5), "allow_in_place_tablespaces"),
    (from(15), "allow_in_place_tablespaces"),
];

pub(super) const TEXTS: &[Names] = &[
    (majors(13, 14), "stats_temp_directory"),
    (majors(13, 17), "ssl_ecdh_curve"),
    (
        ALL,
        "application_name archive_command bonjour_name client_encoding cluster_name config_file data_directory \
         DateStyle default_tablespace default_text_search_config dynamic_library_path event_source \
         external_pid_file hba_file ident_file krb_server_keyfile lc_messages lc_monetary lc_numeric lc_time \
         listen_addresses local_preload_libraries log_destination log_directory log_filename log_line_prefix \
         log_timezone search_path session_preload_libraries shared_preload_libraries ssl_ca_file ssl_cert_file \
         ssl_ciphers ssl_crl_file ssl_dh_params_file ssl_key_file synchronous_standby_names syslog_ident \
         temp_tablespaces TimeZone timezone_abbreviations unix_socket_directories unix_socket_group \
         wal_consistency_checking",
    ),
    (ALL, "jit_provider ssl_passphrase_command"),
    (ALL, "default_table_access_method"),
    (ALL, "backtrace_functions"),
    (majors(14, 17), "extension_destdir"),
    (from(14), "ssl_crl_dir"),
    (from(15), "archive_library"),
    (from(16), "createrole_self_grant debug_io_direct"),
    (from(17), "synchronized_standby_slots"),
    (only(18), "extension_control_path oauth_validator_libraries ssl_groups ssl_tls13_ciphers"),
    (minors(13, 16), "restrict_nonsystem_relation_kind"),
    (minors(14, 13), "restrict_nonsystem_relation_kind"),
    (minors(15, 8), "restrict_nonsystem_relation_kind"),
    (minors(16, 4), "restrict_nonsystem_relation_kind"),
    (from(17), "restrict_nonsystem_relation_kind"),
];
