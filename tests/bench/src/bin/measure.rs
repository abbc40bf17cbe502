//! A stopwatch: runs a command and writes how long it took and how much memory its processes held.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const USAGE: &str = "\
Usage: measure REPORT TIMES COMMAND [ARGUMENT]...

Runs COMMAND TIMES times and writes to the file REPORT one object of JSON: medians over the times of
wall_s and cpu_s (user and system), and of all times the least and the largest wall_s and the largest
max_rss_kib. Ends with the exit code of the first time that failed; no report is written then.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [report, times, command @ ..] = arguments.as_slice() else { return usage() };
    let times = times.parse::<usize>().unwrap_or(0);
    if times == 0 || command.is_empty() {
        return usage();
    }
    let mut laps = Vec::with_capacity(times);
    for _ in 0..times {
        match run(command) {
            Ok(Ended { code: 0, lap }) => laps.push(lap),
            Ok(Ended { code, .. }) => return give_up(code, &format!("{} ended with code {code}", command[0])),
            Err(cause) => return give_up(127, &format!("cannot run {}: {cause}", command[0])),
        }
    }
    match std::fs::write(report, to_json(&laps)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => give_up(1, &format!("cannot write {report}: {cause}")),
    }
}

fn usage() -> ExitCode {
    let _ = write!(io::stderr(), "{USAGE}");
    ExitCode::from(2)
}

fn give_up(code: u8, why: &str) -> ExitCode {
    // Nobody is left to tell when standard error is gone, too.
    let _ = writeln!(io::stderr(), "measure: {why}");
    ExitCode::from(code)
}

/// What one time took.
#[derive(Clone, Copy)]
struct Lap {
    wall: Duration,
    cpu: Duration,
    /// Of the largest process among the command and those it waited for.
    max_rss_kib: u64,
}

/// How one time ended.
struct Ended {
    /// Of the command; 128 and the signal when it was killed.
    code: u8,
    lap: Lap,
}

fn run(command: &[String]) -> io::Result<Ended> {
    let start = Instant::now();
    let child = Command::new(&command[0]).args(&command[1..]).spawn()?;
    let (status, usage) = wait(child.id().cast_signed())?;
    let wall = start.elapsed();
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
    Ok(Ended { code: code as u8, lap: Lap { wall, cpu, max_rss_kib: usage.ru_maxrss as u64 } })
}

/// Waits for the child `pid`: its wait status and what it and the children it waited for used.
#[expect(unsafe_code, reason = "the standard library waits without telling what the child used")]
fn wait(pid: libc::pid_t) -> io::Result<(libc::c_int, libc::rusage)> {
    let mut status = 0;
    // SAFETY: rusage is a struct of integers, for which all zeros is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live values of the types that wait4 writes.
        if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } == pid {
            return Ok((status, usage));
        }
        let cause = io::Error::last_os_error();
        if cause.kind() != io::ErrorKind::Interrupted {
            return Err(cause);
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
}

/// The report on one or more laps.
fn to_json(laps: &[Lap]) -> String {
    let sorted = |of: fn(&Lap) -> Duration| {
        let mut all: Vec<f64> = laps.iter().map(|lap| of(lap).as_secs_f64()).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let walls = sorted(|lap| lap.wall);
    let mut json = String::from("{");
    let mut member = |name: &str, value: String| {
        let comma = if json.len() > 1 { "," } else { "" };
        write!(json, "{comma}\"{name}\":{value}").expect("writing into a String cannot fail");
    };
    member("wall_s", format!("{:.6}", median(&walls)));
    member("wall_min_s", format!("{:.6}", walls[0]));
    member("wall_max_s", format!("{:.6}", walls[walls.len() - 1]));
    member("cpu_s", format!("{:.6}", median(&sorted(|lap| lap.cpu))));
    member("max_rss_kib", laps.iter().map(|lap| lap.max_rss_kib).max().unwrap_or(0).to_string());
    json.push_str("}\n");
    json
}

/// Of sorted values, at least one.
fn median(sorted: &[f64]) -> f64 {
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_exit_code_of_the_command_is_told_and_a_signal_is_128_and_more() {
        assert_eq!(run(&command("exit 0")).unwrap().code, 0);
        assert_eq!(run(&command("exit 7")).unwrap().code, 7);
        assert_eq!(run(&command("kill -KILL $$")).unwrap().code, 137);
    }

    #[test]
    fn a_command_has_held_some_memory() {
        assert!(run(&command("exit 0")).unwrap().lap.max_rss_kib > 100);
    }

    #[test]
    fn a_report_has_the_middle_of_all_times() {
        let lap = |milliseconds, max_rss_kib| Lap {
            wall: Duration::from_millis(milliseconds),
            cpu: Duration::from_millis(milliseconds / 2),
            max_rss_kib,
        };
        assert_eq!(
            to_json(&[lap(40, 7), lap(10, 9), lap(20, 8)]),
            "{\"wall_s\":0.020000,\"wall_min_s\":0.010000,\"wall_max_s\":0.040000,\"cpu_s\":0.010000,\
             \"max_rss_kib\":9}\n"
        );
        assert!((median(&[1.0, 2.0]) - 1.5).abs() < f64::EPSILON);
    }
}
