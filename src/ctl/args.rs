//! The command line's words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Administer a cluster through the REST API of its members.
#[derive(Debug, Parser)]
#[command(name = "tamada", bin_name = "tamada", no_binary_name = true, disable_version_flag = true)]
pub struct Arguments {
    /// A YAML file (or a folder of them) with settings; variables win over it. Without the option the one that
    /// PATRONICTL_CONFIG_FILE names.
    #[arg(short = 'c', long = "config-file", global = true, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The cluster's name, instead of PATRONI_SCOPE. On Kubernetes it is needed only where several are found.
    #[arg(long, global = true, value_name = "NAME")]
    pub scope: Option<String>,
    /// The namespace in Kubernetes, instead of that of the service account or of the kubeconfig's context.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The kubeconfig's context, instead of the current one.
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// Do not verify the members' certificates.
    #[arg(short = 'k', long, global = true)]
    pub insecure: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the members of the cluster.
    List(List),
    /// Switch over to another member, now or at a given time.
    Switchover(Switchover),
    /// Fail over to a member, also when there is no healthy leader.
    Failover(Failover),
    /// Restart PostgreSQL on members.
    Restart(Restart),
    /// Reload the configuration of members.
    Reload(OnMembers),
    /// Replace a replica's data with a new copy.
    Reinit(Reinit),
    /// Disable automatic failover.
    Pause(Wait),
    /// Enable automatic failover again.
    Resume(Wait),
    /// Make a standby cluster of this cluster: it follows another one, and takes no writes.
    DemoteCluster(DemoteCluster),
    /// Make a cluster with a primary of this standby cluster.
    PromoteCluster(PromoteCluster),
    /// Check this member's configuration; show or change the cluster's.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The same as `config show`.
    #[command(hide = true)]
    ShowConfig,
    /// Cancel a scheduled switchover or restart.
    #[command(subcommand)]
    Flush(Flush),
    /// Show the history of failovers and switchovers.
    History {
        #[arg(short, long, value_enum, default_value = "pretty")]
        format: Format,
    },
    /// Remove everything that the DCS holds of a cluster. Asks before it does; the members must have been stopped.
    Remove(Remove),
    /// Exit with 0 if this container's PostgreSQL runs, else with 1.
    Health,
    /// Show the version.
    Version,
}

#[derive(Debug, Args)]
pub struct List {
    #[arg(short, long, value_enum, default_value = "pretty")]
    pub format: Format,
    /// Show pending and scheduled restarts and tags even where no member has any.
    #[arg(short, long)]
    pub extended: bool,
}

#[derive(Debug, Args)]
pub struct Remove {
    /// The cluster's name.
    #[arg(value_name = "CLUSTER")]
    pub cluster: String,
    /// How its members are shown first.
    #[arg(short, long, value_enum, default_value = "pretty")]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Pretty,
    Tsv,
    Json,
    #[value(alias = "yml")]
    Yaml,
}

#[derive(Debug, Args)]
pub struct Switchover {
    /// The current leader; refused if another member leads.
    #[arg(long, alias = "primary", value_name = "NAME")]
    pub leader: Option<String>,
    /// The member to switch over to; without the option any healthy one.
    #[arg(long, value_name = "NAME")]
    pub candidate: Option<String>,
    /// When, e.g. 2030-01-01T03:00+01:00; local time without an offset.
    #[arg(long, value_name = "TIME")]
    pub scheduled: Option<String>,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Failover {
    /// The member to fail over to.
    #[arg(long, value_name = "NAME")]
    pub candidate: String,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct OnMembers {
    /// All members if none is named.
    #[arg(value_name = "MEMBER")]
    pub members: Vec<String>,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    pub on: OnMembers,
    /// When, e.g. 2030-01-01T03:00+01:00; local time without an offset.
    #[arg(long, value_name = "TIME")]
    pub scheduled: Option<String>,
    /// Only where PostgreSQL is older than this.
    #[arg(long, value_name = "VERSION")]
    pub pg_version: Option<String>,
    /// Only where a restart is pending.
    #[arg(long)]
    pub pending: bool,
    /// How long to wait for PostgreSQL, e.g. 1min.
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
}

#[derive(Debug, Args)]
pub struct Reinit {
    /// The replicas.
    #[arg(value_name = "MEMBER", required = true)]
    pub members: Vec<String>,
    /// Copy from the leader, even where other members are preferred as sources.
    #[arg(long)]
    pub from_leader: bool,
    /// Wait for the end of the copy.
    #[arg(long)]
    pub wait: bool,
    /// Do not ask for confirmation; cancel what is running on the replica.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Wait {
    /// Wait until all members have noticed.
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Args)]
pub struct DemoteCluster {
    /// The primary of the other cluster; several with commas between them.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// What fetches WAL from the other cluster's archive.
    #[arg(long, value_name = "COMMAND")]
    pub restore_command: Option<String>,
    /// The slot that is used there.
    #[arg(long, value_name = "NAME")]
    pub primary_slot_name: Option<String>,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct PromoteCluster {
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show this member's effective configuration and where each value came from, or everything that is wrong with it.
    Check,
    /// Show the cluster's configuration.
    Show,
    /// Change the cluster's configuration: `config set ttl=20 postgresql.parameters.work_mem=8MB`; null removes.
    Set {
        #[arg(value_name = "KEY=VALUE", required = true)]
        changes: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Flush {
    /// Cancel the scheduled switchover.
    Switchover,
    /// Cancel scheduled restarts.
    Restart {
        /// All members with one if none is named.
        #[arg(value_name = "MEMBER")]
        members: Vec<String>,
    },
}
