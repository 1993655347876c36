//! Calendar time in UTC, written without allocating: the Date field (RFC 9110 §5.6.7) and the access log's start time.
//! Knows no time zones and no leap seconds, as neither form has them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment as a calendar and a clock in UTC show it. Years 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CivilTime {
    year: u16,
    /// 1 to 12
    month: u8,
    /// 1 to 31
    day: u8,
    /// 0 is Sunday
    weekday: u8,
    hour: u8,
    minute: u8,
    second: u8,
    millisecond: u16,
}

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

const SECONDS_A_DAY: u64 = 86_400;

impl CivilTime {
    /// `time` in UTC; before 1970 is 1970, after 9999 is the last second of 9999.
    #[must_use]
    pub fn new(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs().min(LAST_SECOND);
        let (days, clock) = (seconds / SECONDS_A_DAY, seconds % SECONDS_A_DAY);
        let (year, month, day) = calendar(days);
        Self {
            year,
            month,
            day,
            weekday: ((days + 4) % 7) as u8, // 1970-01-01 was a Thursday.
            hour: (clock / 3600) as u8,
            minute: (clock / 60 % 60) as u8,
            second: (clock % 60) as u8,
            millisecond: since.subsec_millis() as u16,
        }
    }

    /// Appends `2026-11-23T01:12:04.007Z`.
    pub fn write_iso(&self, out: &mut Vec<u8>) {
        let [century, year] = [self.year / 100, self.year % 100].map(|n| pair(n as u8));
        let [month, day, hour] = [self.month, self.day, self.hour].map(pair);
        let [minute, second] = [self.minute, self.second].map(pair);
        for (digits, mark) in
            [(century, None), (year, Some(b'-')), (month, Some(b'-')), (day, Some(b'T')), (hour, Some(b':'))]
        {
            push(out, digits, mark);
        }
        push(out, minute, Some(b':'));
        push(out, second, Some(b'.'));
        out.push(b'0' + (self.millisecond / 100) as u8);
        push(out, pair((self.millisecond % 100) as u8), Some(b'Z'));
    }

    /// Appends `Mon, 23 Nov 2026 01:12:04 GMT`.
    pub fn write_http(&self, out: &mut Vec<u8>) {
        const DAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
        const MONTHS: [&[u8; 3]; 12] =
            [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
        out.extend_from_slice(DAYS[usize::from(self.weekday)]);
        out.extend_from_slice(b", ");
        push(out, pair(self.day), Some(b' '));
        out.extend_from_slice(MONTHS[usize::from(self.month - 1)]);
        out.push(b' ');
        push(out, pair((self.year / 100) as u8), None);
        push(out, pair((self.year % 100) as u8), Some(b' '));
        push(out, pair(self.hour), Some(b':'));
        push(out, pair(self.minute), Some(b':'));
        push(out, pair(self.second), None);
        out.extend_from_slice(b" GMT");
    }
}

/// Year, month and day of the day that is `days` after 1970-01-01 (not after 9999).
///
/// Years are counted from 1 March, so that the leap day is a year's last; 400 of them always have 146,097 days.
fn calendar(days: u64) -> (u16, u8, u8) {
    const DAYS_TO_1970: u64 = 719_468; // from 0000-03-01
    let days = days + DAYS_TO_1970;
    let (era, day) = (days / 146_097, days % 146_097);
    // Take out the leap days before `day`: what is left has 365 days a year.
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, months of 31, 30, 31, 30, 31 days repeat: 153 days for every five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year as u16, month as u8, day_of_month as u8)
}

fn pair(number: u8) -> [u8; 2] {
    [b'0' + number / 10, b'0' + number % 10]
}

fn push(out: &mut Vec<u8>, digits: [u8; 2], mark: Option<u8>) {
    out.extend_from_slice(&digits);
    out.extend(mark);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn shown(milliseconds: u64) -> (String, String) {
        let time = CivilTime::new(UNIX_EPOCH + Duration::from_millis(milliseconds));
        let (mut iso, mut http) = (Vec::new(), Vec::new());
        time.write_iso(&mut iso);
        time.write_http(&mut http);
        (String::from_utf8(iso).unwrap(), String::from_utf8(http).unwrap())
    }

    #[test]
    fn known_moments() {
        for (milliseconds, iso, http) in [
            (0, "1970-01-01T00:00:00.000Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777_009, "1994-11-06T08:49:37.009Z", "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400_999, "2000-02-29T00:00:00.999Z", "Tue, 29 Feb 2000 00:00:00 GMT"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z", "Fri, 31 Dec 9999 23:59:59 GMT"),
            (253_402_300_800_000, "9999-12-31T23:59:59.000Z", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(shown(milliseconds), (iso.to_owned(), http.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(milliseconds in 0..253_402_207_200_000_u64) {
            let time = jiff::Timestamp::from_millisecond(milliseconds as i64).unwrap();
            let (iso, http) = shown(milliseconds);
            prop_assert_eq!(iso, time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
            prop_assert_eq!(http, time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
        }
    }
}
