//! Times as the documented APIs show them: RFC 3339 in UTC.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Milliseconds of a day.
pub(crate) const DAY_MS: u64 = 24 * 3_600_000;

/// The milliseconds after 1970 of a time in RFC 3339.
pub(crate) fn ms(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

/// The beginning of a day such as `2026-03-01`, in UTC.
pub(crate) fn day_ms(text: &str) -> Option<u64> {
    if text.len() != 10 { None } else { ms(&format!("{text}T00:00:00Z")) }
}

/// The time that many milliseconds after 1970.
pub(crate) fn rfc3339(ms: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    let text = time.ok().and_then(|t| t.format(&Rfc3339).ok());
    // Only another node's nonsense is past the year 9999.
    text.unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_their_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(ms("2023-11-14T23:13:20.123+01:00"), Some(1_700_000_000_123));
        assert_eq!((day_ms("1970-01-02"), day_ms("1970-1-2"), ms("x")), (Some(DAY_MS), None, None));
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
