//! PID 1 on real processes and namespaces. Needs root.
//!
//! This executable plays every part: the tests, PID 1 (the library's code, as `main` calls it), a scripted agent, a
//! postmaster and its backends. That is why it has a `main` of its own. What concerns the real binary's arguments runs
//! the real binary.
//!
//! `cargo test --test init [-- WORD…]` runs the tests whose name holds one of the words.

mod attach;
mod cast;
mod commands;
mod guard;
mod orphans;
mod privileges;
mod root;
mod secrets;
mod signals;
#[path = "../support/wait.rs"]
mod wait;
mod watchdog;
mod world;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

type Test = (&'static str, fn());

macro_rules! tests {
    ($($module:ident :: $name:ident,)*) => { &[$((stringify!($name), $module::$name as fn()),)*] };
}

const TESTS: &[Test] = tests![
    commands::executes_other_commands_as_they_are,
    commands::tells_missing_from_unexecutable_commands,
    commands::refuses_options_by_name,
    commands::a_health_check_as_root_has_no_more_rights_than_who_wrote_the_address,
    orphans::reaps_ten_thousand_orphans_and_disturbs_nobody,
    orphans::takes_orphans_in_when_not_pid_1,
    guard::kills_everything_at_the_deadline_when_the_agent_is_frozen,
    guard::kills_only_its_own_descendants_when_not_pid_1,
    guard::kills_other_users_processes_without_the_capability,
    guard::kills_although_nobody_reads_the_log,
    guard::a_renewal_does_not_wake_pid_1,
    guard::spares_postgresql_while_renewals_come,
    guard::a_deadline_that_is_brought_forward_holds,
    guard::a_deadline_that_is_lifted_kills_nobody,
    guard::a_former_agents_timer_moves_nothing,
    guard::an_agent_that_ends_at_its_deadline_leaves_it_in_force,
    guard::nothing_that_the_agent_starts_has_the_deadline,
    guard::a_killed_agent_is_restarted_with_lease_and_deadline,
    signals::forwards_a_stop_and_leaves_with_the_agents_code,
    signals::forwards_the_other_signals,
    signals::stops_postgresql_itself_when_the_agent_is_frozen,
    signals::a_second_request_cuts_the_wait_for_a_frozen_agent_short,
    signals::stops_a_postmaster_that_was_left_behind,
    signals::signals_no_process_of_another_user,
    signals::gives_up_with_the_code_of_an_agent_that_never_comes_up,
    signals::waits_for_a_process_to_be_had,
    watchdog::a_frozen_agent_keeps_no_watchdog_alive,
    watchdog::an_agent_that_is_restarted_finds_the_countdown_going,
    watchdog::a_stop_disarms_it,
    watchdog::what_cannot_be_armed_is_told,
    secrets::no_process_shows_a_secret_to_the_agents_user_nor_to_root,
    secrets::files_that_only_root_can_read_reach_the_agent_and_nobody_else,
    secrets::libpqs_variables_reach_nobody_and_are_named_once,
    secrets::any_user_number_will_do,
    attach::nobody_attaches_to_a_program_that_only_root_can_read,
    privileges::children_cannot_gain_privileges_and_pid_1_keeps_few,
    privileges::a_setuid_program_works_only_where_hooks_are_to_use_sudo,
    privileges::any_user_number_gains_nothing_either,
    root::prepares_a_fresh_volume_for_the_agents_user,
    root::prepares_the_wal_folder_as_it_does_the_data_directory,
    root::gives_no_directory_away_through_a_link,
    root::warns_only_of_what_the_agent_cannot_do_itself,
    root::leaves_what_is_not_a_data_directory_alone,
    root::stays_small,
];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some("start") => {
            tamada::process::hide();
            let rest = arguments.iter().enumerate().filter(|(index, _)| *index != 1).map(|(_, word)| word.clone());
            ExitCode::from(tamada::init::start(rest.collect(), std::env::vars_os().collect(), tamada::run::wal_folders))
        }
        Some(tamada::init::SECOND_STAGE) => {
            tamada::process::hide();
            ExitCode::from(tamada::init::supervise(arguments))
        }
        Some(tamada::init::AGENT) => cast::agent(&arguments[2..]),
        Some("postmaster") => cast::postmaster(&arguments[2]),
        Some("backend") => cast::backend(),
        Some("holder") => cast::holder(&arguments[2..]),
        Some("orphans") => cast::orphans(),
        Some("attacker") => cast::attacker(&arguments[2..]),
        _ => run_tests(&arguments[1..]),
    }
}

fn run_tests(words: &[OsString]) -> ExitCode {
    assert!(nix::unistd::geteuid().is_root(), "these tests make namespaces and need root");
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-')).collect();
    let chosen = TESTS.iter().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word)));
    let mut failed = Vec::new();
    for (name, test) in chosen {
        let begin = Instant::now();
        match std::panic::catch_unwind(test) {
            Ok(()) => println!("test {name} ... ok ({:.1} s)", begin.elapsed().as_secs_f64()),
            Err(_) => {
                println!("test {name} ... FAILED");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}");
    ExitCode::FAILURE
}
