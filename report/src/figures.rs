//! How figures are written.

/// The least bound of the agent's histograms: what lies below cannot be interpolated.
const FIRST_BUCKET_US: f64 = 10.0;
/// Where there is no figure.
pub const NONE: &str = "·";

/// 12,345
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds with one decimal: 1,234.5
pub fn mean(us: f64) -> String {
    if !us.is_finite() {
        return NONE.to_owned();
    }
    let tenths = (us.abs() * 10.0).round() as u64;
    let sign = if us < 0.0 && tenths > 0 { "−" } else { "" };
    format!("{sign}{}.{}", count(tenths / 10), tenths % 10)
}

/// The same with a sign, for what was added.
pub fn added(us: f64) -> String {
    let text = mean(us);
    if text.starts_with(['−', '·']) {
        text
    } else {
        format!("+{text}")
    }
}

/// Microseconds of an interpolated quantile, without decimals.
pub fn quantile(us: f64) -> String {
    if !us.is_finite() {
        NONE.to_owned()
    } else if us < FIRST_BUCKET_US {
        "<10".to_owned()
    } else {
        count(us.round() as u64)
    }
}

/// 12.3 %
pub fn percent(part: f64, whole: f64) -> String {
    let percent = part / whole * 100.0;
    if percent.is_finite() {
        let text = format!("{percent:.1} %");
        text.replace("-0.0 ", "0.0 ").replace('-', "−")
    } else {
        NONE.to_owned()
    }
}

/// A share that somebody chose, with as many decimals as it was given: 99 %
pub fn level(share: f64) -> String {
    format!("{} %", (share * 1e4).round() / 1e2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.04, 1_234.56, -0.01, -3.0, f64::NAN].map(mean),
            ["0.0", "1,234.6", "0.0", "−3.0", "·"]
        );
        assert_eq!([5.0, -5.0].map(added), ["+5.0", "−5.0"]);
        assert_eq!(
            [4.0, 10.0, 1_234.5, f64::NAN].map(quantile),
            ["<10", "10", "1,235", "·"]
        );
        assert_eq!([0.99, 0.995].map(level), ["99 %", "99.5 %"]);
        assert_eq!(percent(1.0, 8.0), "12.5 %");
        assert_eq!(percent(-1.0, 8.0), "−12.5 %");
        assert_eq!(percent(1.0, 0.0), "·");
    }
}
