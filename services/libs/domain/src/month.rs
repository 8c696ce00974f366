//! Calendar months: what predictions are partitioned by, and so what is archived at once.

use std::{fmt, str::FromStr};

use chrono::{Datelike, Months, NaiveDate};

/// A month of a year, such as `2024-05`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(NaiveDate);

/// A text that is no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no month: write it as 2024-05")]
pub struct NotAMonth(String);

/// An age in months, such as `18months` or `2years`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(Months);

/// A text that is no age.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no age: write whole months or years, such as 18months or 2years")]
pub struct NotAnAge(String);

impl Month {
    /// The month of a day.
    pub fn of(day: NaiveDate) -> Self {
        Self(day.with_day(1).unwrap_or(day))
    }

    /// Its first day.
    pub fn first_day(self) -> NaiveDate {
        self.0
    }

    /// The first day of the next month.
    pub fn end(self) -> NaiveDate {
        // Past the end of the calendar there are no months.
        self.0.checked_add_months(Months::new(1)).unwrap_or(NaiveDate::MAX)
    }

    /// Whether even the month's last day is more than `age` before `today`.
    pub fn is_older_than(self, age: Age, today: NaiveDate) -> bool {
        today.checked_sub_months(age.0).is_some_and(|limit| self.end() <= limit)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m"))
    }
}

impl FromStr for Month {
    type Err = NotAMonth;

    fn from_str(text: &str) -> Result<Self, NotAMonth> {
        let day = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok();
        // Only as it is written here, which excludes 24-5.
        day.map(Self).filter(|month| month.to_string() == text).ok_or_else(|| NotAMonth(text.to_owned()))
    }
}

impl FromStr for Age {
    type Err = NotAnAge;

    fn from_str(text: &str) -> Result<Self, NotAnAge> {
        let wrong = || NotAnAge(text.to_owned());
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let months = match unit.trim() {
            "month" | "months" => number,
            "year" | "years" => number.checked_mul(12).ok_or_else(wrong)?,
            _ => return Err(wrong()),
        };
        Ok(Self(Months::new(months)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_month_is_old_when_its_last_day_is() {
        let age: Age = "18months".parse().unwrap();
        for (month, today, old) in [
            ("2024-05", "2025-11-30", false),
            ("2024-05", "2025-12-01", true),
            ("2023-12", "2025-07-01", true),
            ("2024-01", "2025-07-31", false),
        ] {
            assert_eq!(month.parse::<Month>().unwrap().is_older_than(age, day(today)), old, "{month} {today}");
        }
        // The present month never is.
        let none: Age = "0months".parse().unwrap();
        assert!(!Month::of(day("2025-11-30")).is_older_than(none, day("2025-11-30")));
        assert_eq!("2years".parse::<Age>(), "24 months".parse());
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in ["2024", "24-05", "2024-13", "2024-5", "2024-05-01", ""] {
            assert!(wrong.parse::<Month>().is_err(), "{wrong}");
        }
        for wrong in ["18", "months", "18days", "-1months", "99999999999years", ""] {
            assert!(wrong.parse::<Age>().is_err(), "{wrong}");
        }
        assert_eq!("2024-05".parse::<Month>().unwrap().to_string(), "2024-05");
    }
}
