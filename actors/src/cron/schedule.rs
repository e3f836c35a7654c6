//! When a job is due: a schedule's words are read into something that knows the next moment after a moment.
//!
//! No clock and no state. Which of the moments are acted on is [`super::core`]'s business.
//!
//! Days on which the clock is put forward or back, in the job's zone: a job at one fixed time of day runs once on each of
//! them, at the first moment after the gap if its own is left out, at the first of the two if it comes twice. A job with
//! several times of day (`*/30 * * * *`, `0 2,3 * * *`) goes by what the clock shows: what is left out doesn't happen,
//! what comes twice happens twice. `every` goes by elapsed time and doesn't notice.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The shortest period: a command costs a process and two records on every member, and what is due more often than this
/// is a service.
pub const PERIOD_MS_MIN: u64 = 1000;
/// The longest: whatever is rarer has a date.
pub const PERIOD_MS_MAX: u64 = 366 * 24 * 3_600_000;
/// Bytes of a schedule's words: the longest of which anybody made sense so far has 60.
pub const EXPR_BYTES_MAX: usize = 256;
/// Bytes of a zone's name: `America/Argentina/ComodRivadavia` has 32.
pub const TZ_BYTES_MAX: usize = 64;
/// How far [`Schedule::newest`] looks back: what is older is not made up for, so it is of no interest.
const LOOK_BACK_S: u64 = 2 * 3600;

/// What a schedule's words mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Five fields, or six with seconds in front: `30 7 * * 1-5`.
    Cron,
    /// A period from the job's creation on: `5m`, `1h30m`.
    Every,
    /// Another documented word for the same.
    Interval,
    /// One moment: RFC 3339, or `2026-03-01 07:30` in the job's zone.
    Once,
}

/// A schedule that can be asked.
#[derive(Debug, Clone)]
pub struct Schedule(When);

#[derive(Debug, Clone)]
enum When {
    Cron(Box<Cron>, Tz),
    Every { from_ms: u64, period_ms: u64 },
    Once(u64),
}

impl Schedule {
    /// Reads a schedule. `from_ms` is when its job was made: periods count from there.
    ///
    /// # Errors
    /// What is wrong, for people, and the field in which it is: `schedule_expr` or `schedule_tz`.
    pub fn parse(kind: Kind, expr: &str, tz: &str, from_ms: u64) -> Result<Schedule, (&'static str, String)> {
        if expr.len() > EXPR_BYTES_MAX {
            return Err(("schedule_expr", format!("has {} bytes; at most {EXPR_BYTES_MAX}", expr.len())));
        }
        let zone = zone(tz).map_err(|why| ("schedule_tz", why))?;
        let expr = expr.trim();
        let when = match kind {
            Kind::Cron => pattern(expr).map(|cron| When::Cron(Box::new(cron), zone)),
            Kind::Every | Kind::Interval => period_ms(expr).map(|period_ms| When::Every { from_ms, period_ms }),
            Kind::Once => moment_ms(expr, zone).map(When::Once),
        };
        when.map(Schedule).map_err(|why| ("schedule_expr", why))
    }

    /// The first moment after this one, in milliseconds since 1970; `None` if none follows.
    pub fn next(&self, after_ms: u64) -> Option<u64> {
        match &self.0 {
            When::Cron(cron, zone) => {
                let after = zone.timestamp_opt(i64::try_from(after_ms / 1000).ok()?, 0).single()?;
                let next = cron.find_next_occurrence(&after, false).ok()?;
                u64::try_from(next.timestamp()).ok().map(|seconds| seconds * 1000).filter(|next| *next > after_ms)
            }
            When::Every { from_ms, period_ms } => {
                let periods = after_ms.saturating_sub(*from_ms) / period_ms;
                from_ms.checked_add((periods + 1).checked_mul(*period_ms)?)
            }
            When::Once(at_ms) => Some(*at_ms).filter(|at| *at > after_ms),
        }
    }

    /// The last moment from `first_ms`, which is one, to `now_ms`. Moments more than two hours ago may be left out.
    pub fn newest(&self, first_ms: u64, now_ms: u64) -> u64 {
        let mut newest = first_ms;
        // Further and further back until there is one: few follow it.
        let mut back_s = 1;
        while back_s <= LOOK_BACK_S && now_ms.saturating_sub(back_s * 1000) > first_ms {
            if let Some(found) = self.next(now_ms - back_s * 1000).filter(|found| *found <= now_ms) {
                newest = found;
                break;
            }
            back_s *= 2;
        }
        while let Some(next) = self.next(newest).filter(|next| *next <= now_ms && now_ms - newest <= LOOK_BACK_S * 1000)
        {
            newest = next;
        }
        newest
    }

    /// The period, if it is one.
    pub fn every_ms(&self) -> Option<u64> {
        match self.0 {
            When::Every { period_ms, .. } => Some(period_ms),
            When::Cron(..) | When::Once(_) => None,
        }
    }
}

fn zone(name: &str) -> Result<Tz, String> {
    let unknown = || "is no time zone: give a name such as Europe/Zurich, America/New_York or UTC".to_owned();
    if name.len() > TZ_BYTES_MAX {
        return Err(unknown());
    }
    Tz::from_str(name).map_err(|_| unknown())
}

fn pattern(expr: &str) -> Result<Cron, String> {
    // Years are left out: croner would look for one that never comes for a long time.
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(expr).map_err(|why| {
        format!("is no cron expression ({why}): give minute, hour, day, month and weekday, such as `30 7 * * 1-5`")
    })
}

/// `90s`, `5m`, `1h30m`, `2d`, `1w`, in milliseconds.
fn period_ms(expr: &str) -> Result<u64, String> {
    let wrong = || "is no period: give numbers with units, such as 30s, 5m, 1h30m or 2d".to_owned();
    let (mut sum, mut digits, mut rest) = (0u64, String::new(), expr.chars().peekable());
    while let Some(letter) = rest.next() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit = match letter {
            'm' if rest.next_if_eq(&'s').is_some() => 1,
            's' => 1000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 24 * 3_600_000,
            'w' => 7 * 24 * 3_600_000,
            _ => return Err(wrong()),
        };
        let number: u64 = std::mem::take(&mut digits).parse().map_err(|_| wrong())?;
        sum = number.checked_mul(unit).and_then(|ms| ms.checked_add(sum)).ok_or_else(wrong)?;
    }
    if !digits.is_empty() {
        return Err(wrong());
    }
    match sum {
        0..PERIOD_MS_MIN => {
            Err("is too short a period: at least 1s; what is to run all the time is one command".into())
        }
        PERIOD_MS_MIN..=PERIOD_MS_MAX => Ok(sum),
        _ => Err("is too long a period: at most 366d; what is rarer has a date (`once`)".into()),
    }
}

fn moment_ms(expr: &str, zone: Tz) -> Result<u64, String> {
    let ms = |ms: i64| u64::try_from(ms).map_err(|_| "is before 1970".to_owned());
    if let Ok(at) = DateTime::parse_from_rfc3339(expr) {
        return ms(at.timestamp_millis());
    }
    let formats = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"];
    let naive = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(expr, format).ok());
    let naive = naive.ok_or("is no moment: give one such as `2026-03-01 07:30` or `2026-03-01T07:30:00Z`")?;
    match zone.from_local_datetime(&naive) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => ms(at.timestamp_millis()),
        LocalResult::None => Err(format!("does not exist in {zone}: the clock is put forward over it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Timelike;
    use proptest::prelude::*;

    fn at(text: &str) -> u64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis() as u64
    }

    fn schedule(kind: Kind, expr: &str, tz: &str) -> Schedule {
        Schedule::parse(kind, expr, tz, at("2026-01-01T00:00:00Z")).unwrap()
    }

    /// The moments after `from`, as many as are expected.
    fn check(expr: &str, tz: &str, from: &str, expected: &[&str]) {
        let schedule = schedule(Kind::Cron, expr, tz);
        let mut now = at(from);
        for expected in expected {
            now = schedule.next(now).unwrap();
            assert_eq!(now, at(expected), "{expr} in {tz}: {}", chrono::Utc.timestamp_millis_opt(now as i64).unwrap());
        }
    }

    #[test]
    fn a_fixed_time_that_the_spring_leaves_out_comes_right_after_the_gap_and_once() {
        // In Zurich 02:00 is followed by 03:00 on 29 March 2026.
        let days = ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"];
        check("30 2 * * *", "Europe/Zurich", "2026-03-27T12:00:00Z", &days);
    }

    #[test]
    fn a_fixed_time_that_the_autumn_shows_twice_comes_once() {
        // In Zurich 02:59 summer time is followed by 02:00 winter time on 25 October 2026.
        let days = ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"];
        check("30 2 * * *", "Europe/Zurich", "2026-10-23T12:00:00Z", &days);
    }

    #[test]
    fn several_times_of_a_day_go_by_what_the_clock_shows() {
        let spring = ["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"];
        check("*/30 * * * *", "Europe/Zurich", "2026-03-29T01:00:00+01:00", &spring);
        let autumn = ["02:00:00+02:00", "02:30:00+02:00", "02:00:00+01:00", "02:30:00+01:00", "03:00:00+01:00"];
        let autumn = autumn.map(|time| format!("2026-10-25T{time}"));
        check("*/30 * * * *", "Europe/Zurich", "2026-10-25T01:30:00+02:00", &autumn.each_ref().map(String::as_str));
    }

    #[test]
    fn a_period_counts_from_the_jobs_creation() {
        let schedule = schedule(Kind::Every, "1h30m", "Europe/Zurich");
        let from = at("2026-01-01T00:00:00Z");
        assert_eq!(schedule.next(from), Some(at("2026-01-01T01:30:00Z")));
        assert_eq!(schedule.next(from - 7), Some(at("2026-01-01T01:30:00Z")), "not before its creation");
        assert_eq!(schedule.next(at("2026-01-01T01:30:00Z")), Some(at("2026-01-01T03:00:00Z")));
        assert_eq!(schedule.every_ms(), Some(5_400_000));
    }

    #[test]
    fn a_moment_is_read_in_the_jobs_zone_and_comes_once() {
        let once = schedule(Kind::Once, "2026-07-01 07:30", "America/New_York");
        assert_eq!(once.next(0), Some(at("2026-07-01T11:30:00Z")));
        assert_eq!(once.next(at("2026-07-01T11:30:00Z")), None);
        assert_eq!(
            schedule(Kind::Once, "2026-07-01T07:30:00.250Z", "UTC").next(0),
            Some(at("2026-07-01T07:30:00Z") + 250)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let check = |kind, expr: &str, tz: &str, field, hint: &str| {
            let (named, why) = Schedule::parse(kind, expr, tz, 0).unwrap_err();
            assert!(named == field && why.contains(hint), "{expr}: {named}: {why}");
        };
        check(Kind::Cron, "61 * * * *", "UTC", "schedule_expr", "30 7 * * 1-5");
        check(Kind::Cron, "* * * * * * 2030", "UTC", "schedule_expr", "30 7 * * 1-5");
        check(Kind::Cron, "* * * * *", "Middle/Earth", "schedule_tz", "Europe/Zurich");
        check(Kind::Every, "5", "UTC", "schedule_expr", "1h30m");
        check(Kind::Every, "5x", "UTC", "schedule_expr", "1h30m");
        check(Kind::Every, "m", "UTC", "schedule_expr", "1h30m");
        check(Kind::Every, "99999999999999999999w", "UTC", "schedule_expr", "1h30m");
        check(Kind::Every, "999ms", "UTC", "schedule_expr", "at least 1s");
        check(Kind::Interval, "400d", "UTC", "schedule_expr", "at most 366d");
        check(Kind::Once, "tomorrow", "UTC", "schedule_expr", "2026-03-01 07:30");
        check(Kind::Once, "2026-03-29 02:30", "Europe/Zurich", "schedule_expr", "does not exist");
        check(Kind::Cron, &"*".repeat(300), "UTC", "schedule_expr", "at most 256");
    }

    #[test]
    fn a_date_that_never_comes_has_no_next_moment_and_takes_no_time_to_find_that_out() {
        let never = schedule(Kind::Cron, "0 0 30 2 *", "Europe/Zurich");
        let start = tokio::time::Instant::now();
        assert_eq!(never.next(at("2026-01-01T00:00:00Z")), None);
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }

    #[test]
    fn the_newest_of_many_is_found_without_walking_over_all() {
        let each_second = schedule(Kind::Cron, "* * * * * *", "UTC");
        let (first, now) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z") + 300);
        assert_eq!(each_second.newest(first, now), now - 300);
        let hourly = schedule(Kind::Cron, "0 * * * *", "UTC");
        assert_eq!(hourly.newest(first, at("2026-06-01T10:59:59Z")), at("2026-06-01T10:00:00Z"));
        let yearly = schedule(Kind::Cron, "0 0 1 1 *", "UTC");
        assert_eq!(yearly.newest(first, at("2026-06-01T00:00:00Z")), first);
    }

    /// One field: everything, a step, or some values.
    fn field(max: u32) -> impl Strategy<Value = String> {
        prop_oneof![
            Just("*".to_owned()),
            (2..=max / 2).prop_map(|step| format!("*/{step}")),
            prop::collection::btree_set(0..max, 1..4).prop_map(|set| set
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(",")),
        ]
    }

    fn holds(field: &str, value: u32) -> bool {
        match field.strip_prefix("*/") {
            _ if field == "*" => true,
            Some(step) => value.is_multiple_of(step.parse::<u32>().unwrap()),
            None => field.split(',').any(|n| n.parse() == Ok(value)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_next_moment_is_what_looking_at_every_minute_finds(
            (minute, hour) in (field(60), field(24)), start in 0u64..400 * 24 * 60,
            zone in prop::sample::select(vec!["UTC", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
        ) {
            // Fixed times of a day have a rule of their own for nights that are too short or too long: they are above.
            let fixed = |field: &str| field.parse::<u32>().is_ok();
            prop_assume!(!(fixed(&minute) && fixed(&hour)));
            let schedule = schedule(Kind::Cron, &format!("{minute} {hour} * * *"), zone);
            let zone: Tz = zone.parse().unwrap();
            let start_ms = at("2026-01-01T00:00:00Z") + start * 60_000;
            let found = (1..3 * 24 * 60).map(|n| start_ms + n * 60_000).find(|ms| {
                let local = zone.timestamp_millis_opt(*ms as i64).unwrap();
                holds(&minute, local.minute()) && holds(&hour, local.hour())
            });
            prop_assert_eq!(schedule.next(start_ms), found);
        }

        #[test]
        fn next_moments_only_go_forward(expr in (field(60), field(60), field(24)), after in 0u64..2_000_000_000_000, more in 0u64..100_000_000) {
            let (second, minute, hour) = expr;
            for schedule in [
                schedule(Kind::Cron, &format!("{second} {minute} {hour} * * *"), "Europe/Zurich"),
                schedule(Kind::Every, "1h17s", "UTC"),
            ] {
                let (next, later) = (schedule.next(after).unwrap(), schedule.next(after + more).unwrap());
                prop_assert!(next > after && later >= next);
                prop_assert_eq!(schedule.newest(next, next), next);
            }
        }
    }
}
