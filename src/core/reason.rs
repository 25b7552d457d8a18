//! Why a decision was taken: a closed list, each with one sentence for people and one stable code for programs.
//!
//! Where Patroni logs a sentence for the same reason, it is that sentence, word for word: monitoring looks for it.

use std::fmt;

use super::local::{CloneSource, HistoryOf, Job};
use super::units::{Lsn, MemberName, Seconds, SystemId, Timeline};

macro_rules! reasons {
    ($( $(#[$doc:meta])* $name:ident $({ $($field:ident : $type:ty),* })? , $code:literal , $sentence:literal ; )*) => {
        /// See the module.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $( $(#[$doc])* $name $({ $($field: $type),* })? ),* }

        impl Reason {
            /// Stable, snake_case; never changed once published.
            pub fn code(&self) -> &'static str {
                match self { $( Reason::$name $({ $($field: _),* })? => $code ),* }
            }

            /// Every code, in the order of the list.
            pub const CODES: &'static [&'static str] = &[ $( $code ),* ];
        }

        impl fmt::Display for Reason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $( Reason::$name $({ $($field),* })? => write!(f, $sentence) ),* }
            }
        }
    };
}

reasons! {
    // Steady state.
    Leading { name: MemberName }, "leading", "no action. I am ({name}), the leader with the lock";
    Following { name: MemberName, leader: MemberName }, "following", "no action. I am ({name}), a secondary, and following a leader ({leader})";
    FollowingStandbyLeader { name: MemberName, leader: MemberName }, "following_standby_leader", "no action. I am ({name}), a secondary, and following a standby leader ({leader})";
    LeadingStandbys { name: MemberName }, "leading_standbys", "no action. I am ({name}), the standby leader with the lock";
    Serving, "serving", "no action. I am a single server without a DCS";
    StandbyAlone, "standby_alone", "no action. I am a standby without a DCS";

    // The lock.
    ConfirmingLock, "confirming_lock", "the leader key is on our lease; renewing it before anything else";
    AcquiredAsPrimary, "acquired_as_primary", "acquired session lock as a leader";
    Acquiring, "acquiring", "acquiring the leader lock";
    Promoting, "promoting", "promoted self to leader by acquiring session lock";
    TakenUnawares, "taken_unawares", "the leader key is on our lease by a call that was given up; releasing it, so that the best member takes it";
    PromotionFailed, "promotion_failed", "the promotion failed; stopping PostgreSQL to give the leader lock to another member";
    PrePromoteFailed, "pre_promote_failed", "Promotion cancelled because the pre-promote script failed";
    PrePromoteBackoff, "pre_promote_backoff", "backoff: skip leader race after pre_promote script failure and releasing the lock voluntarily";
    AwaitingWatchdog, "awaiting_watchdog", "waiting for PID 1 to tell of the watchdog";
    WatchdogUnusable, "watchdog_unusable", "Watchdog device is not usable";
    WatchdogNotPromoting, "watchdog_not_promoting", "Not promoting self because watchdog could not be activated";
    WatchdogDemoting, "watchdog_demoting", "Demoting self because watchdog could not be activated";
    LockExpiring, "lock_expiring", "waiting to promote: the leader lock is about to expire and must be renewed first";
    LockNotConfirmed { left: Seconds }, "lock_not_confirmed", "DCS is not accessible; the leader lock is ours for another {left}";
    DemotedNoDcs, "demoted_no_dcs", "demoting self because DCS is not accessible and I was a leader";
    DemotedLockLost, "demoted_lock_lost", "demoted self because failed to update leader lock in DCS";
    DemotedOtherLeader { leader: MemberName }, "demoted_other_leader", "demoting self because I do not have the lock and I was a leader; the lock is held by {leader}";
    DcsOutage { error: String }, "dcs_outage", "DCS is not accessible: {error}";
    StoreForgot, "store_forgot", "the DCS has lost its data (restored from a backup, or wiped): what it says about the leader lock does not count, and nobody takes it before ttl is over but a primary whose lock is still valid";
    StoreForgotMyLock, "store_forgot_my_lock", "the DCS has lost its data (restored from a backup, or wiped): taking the leader lock again, which is still valid by our own clock";
    DuringJob { job: Job }, "during_job", "updated leader lock during {job}";
    JobInProgress { job: Job }, "job_in_progress", "{job} in progress";
    JobLostLock { job: Job }, "job_lost_lock", "lost leader lock during {job}";

    FailsafeLeading, "failsafe_leading", "continue to run as a leader because failsafe mode is enabled and all members are accessible";
    FailsafeAsking, "failsafe_asking", "DCS is not accessible; asking all members of the failsafe key whether they accept this leader";
    FailsafeGivenBack { leader: MemberName }, "failsafe_given_back", "releasing the leader lock: this member has accepted {leader} as the leader in failsafe mode";
    FailsafeUnsure, "failsafe_unsure", "taking no part in a leader race for ttl: a former agent of this member may have accepted a leader in failsafe mode";
    FailsafeNotNamed, "failsafe_not_named", "taking no part in a leader race: failsafe mode is on, and the failsafe key does not name this member";

    // Election.
    AskingPeers, "asking_peers", "no leader; asking the other members for their WAL positions";
    NotAllowedToPromote, "not_allowed_to_promote", "following a different leader because I am not allowed to promote";
    NotSynchronous, "not_synchronous", "waiting for a synchronous standby to take the leader lock: the sync key does not name this member";
    TooFewVotes { votes: usize, needed: usize }, "too_few_votes", "waiting for more votes: {votes} of {needed} members of the quorum are known not to be ahead";
    PreparingSynchronous, "preparing_synchronous", "setting the synchronous standbys before PostgreSQL takes writes";
    TimelineBehind { own: Timeline, cluster: Timeline }, "timeline_behind", "My timeline {own} is behind last known cluster timeline {cluster}";
    OtherBranch { timeline: Timeline }, "other_branch", "waiting for a member on the cluster's timeline {timeline}: ours is none of its history's";
    LagTooLarge { lag: u64 }, "lag_too_large", "My wal position exceeds maximum replication lag ({lag} bytes)";
    BehindReleased { own: Lsn, released: Lsn }, "behind_released", "waiting for a member that has everything: my wal position {own} is behind the position {released} at which the last leader gave up the lock";
    LeaderLeaseAlive { leader: MemberName }, "leader_lease_alive", "the leader key is gone but the lease of {leader} is alive; waiting for it to take the lock again or to expire";
    StoreKnowsNoLeader, "store_knows_no_leader", "the DCS has never heard of a leader; waiting for ttl, since it may have lost its data under one that still runs";
    PrimaryAlive { peer: MemberName }, "primary_alive", "Primary ({peer}) is still alive";
    PeerAhead { peer: MemberName }, "peer_ahead", "Wal position of {peer} is ahead of my wal position";
    PeerPreferred { peer: MemberName, theirs: i32, own: i32 }, "peer_preferred", "{peer} has equally tolerable WAL position and priority {theirs}, while this node has priority {own}";
    CandidateGoesFirst { candidate: MemberName }, "candidate_goes_first", "switchover: to {candidate}, i am not the candidate";
    LeftToOthers, "left_to_others", "gave the leader lock up; waiting for another member to take it";
    NoClusterId, "no_cluster_id", "waiting for the cluster to be initialized";

    // Planned change.
    HandingOver, "handing_over", "switchover: demoting myself";
    NoHealthyCandidate, "no_healthy_candidate", "switchover: no healthy members found, switchover is not possible";
    RequestFulfilled, "request_fulfilled", "Cleaning up failover key after acquiring leader lock...";
    RequestMismatch, "request_mismatch", "switchover: the request does not name the leader, or names it as the candidate; cleaning up failover key";
    PausedNeedsCandidate, "paused_needs_candidate", "Switchover is possible only to a specific candidate in a paused state";
    RequestStale, "request_stale", "Found a stale switchover value, cleaning up";
    RequestInvalid { given: String }, "request_invalid", "Found a switchover schedule without a valid time zone, cleaning up: {given}";
    CheckingCandidates, "checking_candidates", "switchover: asking the candidates";
    ConfirmingHandover { position: Lsn }, "confirming_handover", "waiting for a member to have received everything up to {position} before the leader lock is given up";
    Released, "released", "Leader key released";
    ReleasedUnconfirmed { missing: u64, own: MemberName }, "released_unconfirmed", "Leader key released although no other member has the last WAL: at least {missing} bytes are on {own} only; starting {own} first keeps them";
    ReleasedUnclean { own: MemberName }, "released_unclean", "Leader key released although PostgreSQL had to be ended before its last checkpoint: what {own} had not sent is on {own} only; starting {own} first keeps it";
    HandoverAborted, "handover_aborted", "switchover: no member has received the last WAL in time; starting as the leader again";

    // PostgreSQL is not running.
    StartingInPlace, "starting_in_place", "starting primary after failure";
    WalBehindPublished { end: Lsn, published: Lsn }, "wal_behind_published", "giving the leader lock to another member: the WAL in the data directory ends at {end}, before {published}, which this leader had published; the directory is an older copy, or its disk has lost what was written";
    StartingWithoutPublished { end: Lsn, published: Lsn }, "starting_without_published", "starting primary although the WAL in the data directory ends at {end}, before {published}, which this leader had published: no other member can take over. If the data directory of another member has it, stop this one and start that one first";
    StartingPrimary, "starting_primary", "starting as the primary; the last shutdown was clean";
    FailingOver, "failing_over", "stopped PostgreSQL to fail over after a crash";
    Sweeping, "sweeping", "Primary crashed. Failing over.";
    StartFailedRelease, "start_failed_release", "removed leader key after trying and failing to start postgres";
    StartTimeout, "start_timeout", "stopped PostgreSQL because of startup timeout";
    Recovering, "recovering", "doing crash recovery in a single user mode";
    CheckingDivergence { leader: HistoryOf }, "checking_divergence", "comparing our WAL with the history of {leader}";
    Rewinding { leader: HistoryOf }, "rewinding", "running pg_rewind from {leader}";
    RewindUnfinished, "rewind_unfinished", "pg_rewind was interrupted, so that PostgreSQL cannot be started; waiting for a leader to repeat it or to clone from";
    Recloning { source: CloneSource }, "recloning", "reinitializing due to diverged timelines, from {source}";
    RecloningWalGone { source: CloneSource }, "recloning_wal_gone", "the leader no longer has the WAL that follows ours; reinitializing from {source}";
    RecloningUnrecovered { source: CloneSource }, "recloning_unrecovered", "crash recovery has failed again and again; reinitializing from {source}";
    DivergedNoRemedy { leader: HistoryOf }, "diverged_no_remedy", "our WAL has diverged from that of {leader}, pg_rewind is not possible and the data directory may not be replaced; run: tamada reinit";
    WalGoneNoRemedy { leader: HistoryOf }, "wal_gone_no_remedy", "{leader} no longer has the WAL that follows ours and the data directory may not be replaced; run: tamada reinit";
    WaitingForCheckpoint { leader: HistoryOf }, "waiting_for_checkpoint", "Waiting for checkpoint on {leader} before rewind";
    StartingStandby, "starting_standby", "starting as a secondary";
    RestartingStandby, "restarting_standby", "restarting after failure";
    StartingReadOnly, "starting_read_only", "starting as readonly because i had the session lock";
    BackingOff { failures: u32, left: Seconds }, "backing_off", "waiting {left} before the next try ({failures} failed)";
    Unusable { why: String }, "unusable", "data directory is not usable: {why}";
    SystemIdMismatch { name: MemberName, own: SystemId, cluster: SystemId }, "system_id_mismatch", "system ID mismatch, node {name} belongs to a different cluster: {own} != {cluster}. Nothing was changed. Give this member an empty data directory to make it a replica, or the data their own cluster by another PATRONI_SCOPE";
    Starting, "starting", "PostgreSQL is still starting up";
    Stopping, "stopping", "PostgreSQL is stopping";
    NotAnswering, "not_answering", "PostgreSQL does not answer; its last known role stands";

    // Following.
    NewUpstream { leader: MemberName }, "new_upstream", "following new leader {leader}";
    StoppingToRejoin { leader: HistoryOf }, "stopping_to_rejoin", "our WAL has diverged from that of {leader}; stopping PostgreSQL to repair it";
    NewParent { member: MemberName }, "new_parent", "following {member}, which the tag replicatefrom names";
    ResumingReplay, "resuming_replay", "WAL replay was paused; resuming it";
    CopyingSlots { names: String }, "copying_slots", "Copying logical slots {names} from the primary";
    LeaderNotReady { leader: MemberName }, "leader_not_ready", "waiting for {leader} to become the primary";
    StreamsFromNobody, "streams_from_nobody", "nostream is set: WAL comes from the archive alone from now on";
    LeaderWithoutAddress { leader: MemberName }, "leader_without_address", "waiting for the member record of {leader}";
    OwnNameHeldElsewhere, "own_name_held_elsewhere", "the leader key has our name but is not on our lease; waiting for it to expire";

    // Bootstrap.
    Bootstrapping, "bootstrapping", "trying to bootstrap a new cluster";
    Initialized, "initialized", "initialized a new cluster";
    NotInitializing, "not_initializing", "not initializing a new cluster although the DCS knows none: this member has seen one before and waits for a member with its data. If that cluster is given up, remove .tamada.cluster from the data directory and restart this member";
    BootstrapFailed, "bootstrap_failed", "failed to bootstrap cluster";
    WaitingForLeader, "waiting_for_leader", "waiting for leader to bootstrap";
    Cloning { source: CloneSource }, "cloning", "trying to bootstrap from {source}";
    ReleasedEmpty, "released_empty", "released leader key voluntarily as data dir empty and currently leader";
    ReleasedForeign, "released_foreign", "released leader key voluntarily due to the system ID mismatch";
    ReplicaBeforeCluster, "replica_before_cluster", "No initialize key in DCS and PostgreSQL is running as replica, aborting start. Start the member with the primary first";

    // Standby cluster.
    NewSource, "new_source", "promoted self to a standby leader because i had the session lock";
    StartingStandbyLeader, "starting_standby_leader", "starting as a standby leader because i had the session lock";
    DemotingCluster, "demoting_cluster", "demoting to a standby cluster";
    NotPrimaryOfStandbys, "not_primary_of_standbys", "stopping PostgreSQL to start it as a standby: this is a standby cluster, and the leader lock is not ours";
    MayBePromoting, "may_be_promoting", "stopping PostgreSQL to start it as a standby: this is a standby cluster, and a promotion that was begun before may be under way";
    StandbyOfItself { member: MemberName }, "standby_of_itself", "the server that standby_cluster names is {member}, a member of this cluster: nothing is changed until it names another";
    NothingToCloneFrom, "nothing_to_clone_from", "waiting for a member with data: standby_cluster names no host to make a copy from";
    PausedStandbyLeader { name: MemberName }, "paused_standby_leader", "PAUSE: no action. I am ({name}), the standby leader with the lock";

    // Requests.
    Restarting, "restarting", "restart initiated";
    Reinitializing { source: CloneSource }, "reinitializing", "reinitialize from {source}";
    AskingForRelease, "asking_for_release", "Waiting for primary to release us from synchronous standby";
    ShuttingDown, "shutting_down", "shutting down";
    Stopped, "stopped", "PostgreSQL is stopped";
    LeftRunning, "left_running", "Leader key is not deleted and Postgresql is not stopped due paused state";

    // Pause.
    PausedLeading { name: MemberName }, "paused_leading", "PAUSE: no action. I am ({name}), the leader with the lock";
    PausedIdle { name: MemberName }, "paused_idle", "PAUSE: no action. I am ({name})";
    PausedWithoutLock, "paused_without_lock", "PAUSE: continue to run as primary without lock";
    PausedNotRunning, "paused_not_running", "PAUSE: postgres is not running";
    PausedReleased, "paused_released", "PAUSE: removed leader lock because postgres is not running as primary";
    PausedPromoting, "paused_promoting", "PAUSE: waiting to become primary after promote...";
    PausedEmpty, "paused_empty", "PAUSE: running with empty data directory";

    // Before the first cycle.
    NotStarted, "not_started", "starting up";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_snake_case() {
        let mut codes = Reason::CODES.to_vec();
        codes.sort_unstable();
        let count = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), count);
        assert!(codes.iter().all(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }
}
