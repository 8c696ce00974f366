//! Which moments a cron expression names in a time zone, also on the days on which its clocks change.
//!
//! An expression that names particular hours (`0 2 * * *`, `30 */6 * * *`) means local time, and each local time that it names comes
//! exactly once: where clocks go forward and skip it, at the moment to which they go; where they go back and it comes twice, the
//! first time. An expression for every hour (`0 * * * *`, `*/15 * * * *`) means elapsed time: it fires in the hour that comes twice
//! both times, and a skipped hour has nothing.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Days, MappedLocalTime, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use crate::spec::SpecError;

/// The most zones that a refusal suggests.
const SUGGESTIONS: usize = 3;

/// The most that clocks have skipped at once, in minutes: a day (Samoa, 2011).
const LONGEST_GAP_MINUTES: usize = 24 * 60;

/// A cron expression in a time zone.
#[derive(Clone)]
pub struct Timetable {
    expression: String,
    cron: Cron,
    zone: Tz,
    every_hour: bool,
}

impl Timetable {
    /// Reads an expression of five fields (minute, hour, day of month, month, day of week) or a nickname such as `@daily`, and the
    /// name of an IANA time zone.
    ///
    /// # Errors
    /// Names `cron` or `zone`, and says what would be right.
    pub fn new(expression: &str, zone: &str) -> Result<Self, SpecError> {
        let zone = Tz::from_str(zone).map_err(|_| SpecError::invalid("zone", unknown_zone(zone)))?;
        let malformed = |problem: &str| {
            SpecError::invalid(
                "cron",
                format!(
                    "{expression:?} {problem}: write minute, hour, day of month, month and day of week, as in \"0 2 * * *\" for 02:00 \
                     every day"
                ),
            )
        };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| malformed(&format!("cannot be read ({error})")))?;
        let every_hour = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        let timetable = Self { expression: expression.to_owned(), cron, zone, every_hour };
        // The calendar repeats itself: what does not come after one moment never does.
        match timetable.next_after(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(timetable),
            None => Err(malformed("names a day that never comes")),
        }
    }

    /// The expression, as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The time zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first fire time after a moment.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = moment.with_timezone(&self.zone);
        if self.every_hour {
            return self.cron.find_next_occurrence(&local, false).ok().map(|next| next.to_utc());
        }
        let mut named = local.naive_local();
        loop {
            named = self.cron.find_next_occurrence(&named, false).ok()?;
            // In the second pass of an hour that comes twice, the rest of the hour is over already.
            let at = self.moment(named)?;
            if at > moment {
                return Some(at);
            }
        }
    }

    /// The fire times after a moment, in order.
    pub fn after(&self, moment: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        std::iter::successors(self.next_after(moment), |at| self.next_after(*at))
    }

    /// The first moment after another at which clocks show this time of day; the same rule holds as for fire times.
    pub fn time_of_day_after(&self, moment: DateTime<Utc>, time: NaiveTime) -> Option<DateTime<Utc>> {
        let today = moment.with_timezone(&self.zone).date_naive();
        (0..3)
            .filter_map(|days| self.moment(today.checked_add_days(Days::new(days))?.and_time(time)))
            .find(|at| *at > moment)
    }

    /// When clocks show this, for the first time; where they skip it, when they do.
    pub fn moment(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        (0..=LONGEST_GAP_MINUTES as i64).find_map(|minutes| {
            match self.zone.from_local_datetime(&local.checked_add_signed(TimeDelta::minutes(minutes))?) {
                MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => Some(at.to_utc()),
                MappedLocalTime::None => None,
            }
        })
    }
}

impl PartialEq for Timetable {
    fn eq(&self, other: &Self) -> bool {
        (&self.expression, self.zone) == (&other.expression, other.zone)
    }
}

impl fmt::Debug for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timetable({:?} in {})", self.expression, self.zone)
    }
}

fn unknown_zone(text: &str) -> String {
    let wanted = text.trim().to_lowercase().replace(' ', "_");
    let similar: Vec<_> = TZ_VARIANTS
        .iter()
        .map(|zone| zone.name())
        .filter(|name| !wanted.is_empty() && name.to_lowercase().contains(&wanted))
        .take(SUGGESTIONS)
        .collect();
    let hint = if similar.is_empty() { "write one such as America/Mexico_City".to_owned() } else { similar.join(", ") };
    let question = if similar.is_empty() { "" } else { "did you mean " };
    format!("{text:?} is not an IANA time zone: {question}{hint}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::Timelike;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The next fire times after a moment, in local time with their offset.
    fn fires(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let timetable = Timetable::new(expression, zone).unwrap();
        timetable
            .after(at(after))
            .take(count)
            .map(|at| at.with_timezone(&timetable.zone()).format("%d %H:%M%z").to_string())
            .collect()
    }

    #[test]
    fn a_named_time_in_a_gap_comes_when_clocks_go_forward() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00.
        let nights = fires("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
        assert_eq!(nights, ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]);
        // All that is named in the gap comes at one moment, and so once.
        let dense = fires("*/20 1-3 * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 5);
        assert_eq!(dense, ["29 01:40+0100", "29 03:00+0200", "29 03:20+0200", "29 03:40+0200", "30 01:00+0200"]);
        // Cairo, 2026-04-24: midnight becomes 01:00. Lord Howe moves by half an hour. Samoa left out a whole day.
        assert_eq!(fires("0 0 24 4 *", "Africa/Cairo", "2026-04-23T12:00:00Z", 1), ["24 01:00+0300"]);
        assert_eq!(fires("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", 1), ["04 02:30+1100"]);
        assert_eq!(fires("0 9 * * *", "Pacific/Apia", "2011-12-29T20:00:00Z", 2), ["31 00:00+1400", "31 09:00+1400"]);
    }

    #[test]
    fn a_named_time_that_comes_twice_counts_once() {
        // Berlin, 2026-10-25: 03:00 becomes 02:00.
        let nights = fires("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 3);
        assert_eq!(nights, ["24 02:30+0200", "25 02:30+0200", "26 02:30+0100"]);
        // Asked within the second pass, too.
        let later = fires("*/30 2,4 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 2);
        assert_eq!(later, ["25 04:00+0100", "25 04:30+0100"]);
    }

    #[test]
    fn every_hour_means_elapsed_time() {
        let back = fires("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 4);
        assert_eq!(back, ["25 02:00+0200", "25 02:00+0100", "25 03:00+0100", "25 04:00+0100"]);
        let forward = fires("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", 3);
        assert_eq!(forward, ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200"]);
    }

    #[test]
    fn mexico_city_has_no_summer_time_any_more() {
        let nights = fires("0 2 * * *", "America/Mexico_City", "2026-04-04T12:00:00Z", 2);
        assert_eq!(nights, ["05 02:00-0600", "06 02:00-0600"]);
    }

    #[test]
    fn a_time_of_day_is_found_by_the_same_rule() {
        let timetable = Timetable::new("0 2 * * *", "Europe/Berlin").unwrap();
        let seven = NaiveTime::from_hms_opt(7, 0, 0).unwrap();
        let next = |after: &str| timetable.time_of_day_after(at(after), seven).unwrap();
        assert_eq!(next("2026-03-29T00:59:00Z"), at("2026-03-29T05:00:00Z"));
        assert_eq!(next("2026-03-29T05:00:00Z"), at("2026-03-30T05:00:00Z"), "after, not at");
        let skipped = NaiveTime::from_hms_opt(2, 30, 0).unwrap();
        assert_eq!(timetable.time_of_day_after(at("2026-03-29T00:00:00Z"), skipped), Some(at("2026-03-29T01:00:00Z")));
    }

    /// Against the rule said another way: look at every minute, and at what its clocks show.
    #[test]
    fn a_year_agrees_with_looking_at_every_minute() {
        for zone in ["Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata"] {
            for expression in ["30 2 * * *", "0 0,2 * * *", "15,45 1-3 * * 0", "5 * * * *", "*/15 */2 * * *"] {
                let timetable = Timetable::new(expression, zone).unwrap();
                let (start, minutes) = (at("2026-01-01T00:00:00Z"), 366 * 24 * 60);
                let (mut expected, mut highest) = (Vec::new(), None::<NaiveDateTime>);
                for minute in 1..=minutes {
                    let moment = start + TimeDelta::minutes(minute);
                    let shown = moment.with_timezone(&timetable.zone()).naive_local();
                    let named = |local: &NaiveDateTime| timetable.cron.is_time_matching(local).unwrap();
                    let fires = if timetable.every_hour {
                        named(&shown)
                    } else {
                        // Local times that clocks have come to, or passed over, for the first time.
                        let from = highest.map_or(shown, |highest| highest + TimeDelta::minutes(1));
                        let mut new = std::iter::successors(Some(from), |local| Some(*local + TimeDelta::minutes(1)))
                            .take_while(|local| *local <= shown);
                        new.any(|local| named(&local))
                    };
                    highest = highest.max(Some(shown));
                    if fires {
                        expected.push(moment);
                    }
                }
                let end = start + TimeDelta::minutes(minutes);
                let found: Vec<_> = timetable.after(start).take_while(|at| *at <= end).collect();
                assert_eq!(found, expected, "{expression} in {zone}");
                assert!(found.iter().all(|at| at.second() == 0));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for wrong in ["", "0 2 * *", "0 2 * * * *", "60 2 * * *", "0 2 * * monday-ish", "0 0 30 2 *", "@fortnightly"] {
            let refused = Timetable::new(wrong, "UTC").unwrap_err().to_string();
            assert!(refused.starts_with("cron: ") && refused.contains("0 2 * * *"), "{refused}");
        }
        let refused = Timetable::new("0 2 * * *", "mexico city").unwrap_err().to_string();
        assert!(refused.starts_with("zone: ") && refused.contains("America/Mexico_City"), "{refused}");
        let refused = Timetable::new("0 2 * * *", "").unwrap_err().to_string();
        assert!(refused.contains("such as"), "{refused}");
        assert!(Timetable::new("@daily", "UTC").is_ok());
    }
}
