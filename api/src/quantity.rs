//! Quantities of resources in the grammar and the canonical form of Kubernetes
//! (`500m`, `2Gi`, `1e3`); see "resource.Quantity" in its API reference.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::ops::Add;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
/// Larger amounts than this (in nano-units, about 9.2e18 units) are refused.
const MAX: i128 = i64::MAX as i128 * NANO;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Decimal,
    Binary,
    Exponent,
}

/// An exact amount, down to a billionth; finer parts are rounded up.
/// Two quantities are equal when their amounts are.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    form: Form,
}

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a quantity: write for example 2, 500m, 0.5, 1Gi or 1e3")]
pub struct QuantityError(String);

impl Quantity {
    /// The amount in thousandths, rounded up: the unit of cpu shares.
    pub fn millis(self) -> i128 {
        ceil_div(self.nanos, NANO / 1000)
    }

    /// The amount in whole units, rounded up: bytes for memory.
    pub fn units(self) -> i128 {
        ceil_div(self.nanos, NANO)
    }

    /// True below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }
}

impl Add for Quantity {
    type Output = Self;

    /// In the form of the first one; never more than the largest amount there is.
    fn add(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos).clamp(-MAX, MAX), form: self.form }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

fn ceil_div(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text).ok_or_else(|| QuantityError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() + fraction.len() > 36 {
        return None;
    }
    let (numerator, denominator, form) = scale(suffix)?;
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    // value = digits / 10^|fraction| * numerator / denominator, kept in nano-units and rounded up
    let mut over = digits.checked_mul(numerator)?.checked_mul(NANO);
    let mut under = denominator.checked_mul(10i128.checked_pow(fraction.len() as u32)?)?;
    if over.is_none() {
        // Large digits with a fraction: drop common factors of ten first.
        let shared = 10i128.pow((fraction.len() as u32).min(9));
        under /= shared;
        over = digits.checked_mul(numerator)?.checked_mul(NANO / shared);
    }
    let nanos = ceil_div(over?, under);
    let nanos = if negative { -nanos } else { nanos };
    (nanos.abs() <= MAX).then_some(Quantity { nanos, form })
}

fn scale(suffix: &str) -> Option<(i128, i128, Form)> {
    const DECIMAL: [(&str, i128, i128); 10] = [
        ("n", 1, NANO),
        ("u", 1, 1_000_000),
        ("m", 1, 1_000),
        ("", 1, 1),
        ("k", 1_000, 1),
        ("M", 1_000_000, 1),
        ("G", 1_000_000_000, 1),
        ("T", 1_000_000_000_000, 1),
        ("P", 1_000_000_000_000_000, 1),
        ("E", 1_000_000_000_000_000_000, 1),
    ];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some((_, numerator, denominator)) = DECIMAL.iter().find(|(name, ..)| *name == suffix) {
        return Some((*numerator, *denominator, Form::Decimal));
    }
    if let Some(power) = BINARY.iter().position(|name| *name == suffix) {
        return Some((1i128 << (10 * (power + 1)), 1, Form::Binary));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    match exponent {
        0..=18 => Some((10i128.pow(exponent as u32), 1, Form::Exponent)),
        -18..0 => Some((1, 10i128.pow(exponent.unsigned_abs()), Form::Exponent)),
        _ => None,
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps the amount exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.form == Form::Binary && self.nanos.abs() >= 1024 * NANO {
            let mut value = self.units();
            let mut power = 0;
            while value % 1024 == 0 && power < 6 {
                value /= 1024;
                power += 1;
            }
            return write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let mut value = self.nanos;
        let mut thousands = 0;
        while value % 1000 == 0 && thousands < 9 {
            value /= 1000;
            thousands += 1;
        }
        if self.form == Form::Exponent {
            let exponent = 3 * thousands as i32 - 9;
            return if exponent == 0 { write!(f, "{value}") } else { write!(f, "{value}e{exponent}") };
        }
        write!(f, "{value}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][thousands])
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a quantity: a string such as \"500m\" or a number")]
        enum Either {
            Text(String),
            Number(serde_json::Number),
        }
        match Option::<Either>::deserialize(deserializer)? {
            Some(Either::Text(text)) => text.parse().map_err(de::Error::custom),
            Some(Either::Number(number)) => number.to_string().parse().map_err(de::Error::custom),
            None => Ok(Quantity { nanos: 0, form: Form::Decimal }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_print_in_canonical_form() {
        for (text, shown) in [
            ("0.5", "500m"),
            ("2048Mi", "2Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.1", "100m"),
            ("1e3", "1e3"),
            ("1000m", "1"),
            ("2.50", "2500m"),
            ("1", "1"),
            ("1000", "1k"),
            ("128Ki", "128Ki"),
            ("0.5Ki", "512"),
            ("1.1Gi", "1181116007"),
            ("-1", "-1"),
            ("0", "0"),
            ("1E", "1E"),
            ("12e2", "1200"),
            (".5", "500m"),
            ("5.", "5"),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", "-", ".", "1KB", "Gi", "1 Gi", "1.2.3", "abc", "1e", "1e99", "1e-99", "99999999999999999999", "1Qi"]
        {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_form_reads_back_to_itself(text in "[-+]?[0-9]{0,12}(\\.[0-9]{0,8})?(|n|u|m|k|M|G|Ki|Mi|Gi|e[0-9]|e-[0-9])") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                let shown = quantity.to_string();
                let again: Quantity = shown.parse().unwrap();
                proptest::prop_assert_eq!(again.to_string(), shown);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
