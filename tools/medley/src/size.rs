//! Sizes as people write and read them; K, M, G and T are powers of 1024.

const UNITS: [(char, u32); 5] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50)];

/// Reads `4096`, `512K`, `1.5G`, `10GiB`.
pub fn parse(text: &str) -> Result<u64, String> {
    let bad = || {
        format!(
            "`{text}` is no size: write a number with K, M, G or T behind it, as in 512M or 10G"
        )
    };
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start().to_ascii_uppercase();
    let shift = match unit
        .strip_suffix("IB")
        .or(unit.strip_suffix('B'))
        .unwrap_or(&unit)
    {
        "" => 0,
        letter => {
            UNITS
                .iter()
                .find(|(c, _)| letter == c.to_string())
                .ok_or_else(bad)?
                .1
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || (number.contains('.') && fraction.is_empty()) {
        return Err(bad());
    }
    // Exactly: a fraction that is no whole number of bytes is refused, not rounded.
    let scale = 10u128.pow(fraction.len() as u32);
    let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| bad())?;
    let scaled = digits.checked_mul(1 << shift).ok_or_else(bad)?;
    if scaled % scale != 0 {
        return Err(format!("`{text}` is not a whole number of bytes"));
    }
    u64::try_from(scaled / scale).map_err(|_| bad())
}

/// Writes `1.5 GiB`: at most two digits behind the point, the unit that leaves the fewest in front.
pub fn human(bytes: u64) -> String {
    let Some((letter, shift)) = UNITS.iter().rev().find(|(_, shift)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let value = bytes as f64 / (1u64 << shift) as f64;
    let digits = format!("{value:.2}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits} {letter}iB")
}

/// `1.5 GiB (1610612736 bytes)`, or just the bytes where that says it all.
pub fn exact(bytes: u64) -> String {
    if bytes < 1024 {
        format!("{bytes} bytes")
    } else {
        format!("{} ({bytes} bytes)", human(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_understood() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("4k", 4096),
            ("1.5G", 3 << 29),
            ("10GiB", 10 << 30),
            ("10 GB", 10 << 30),
            ("2T", 2 << 40),
            ("0.5K", 512),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "G",
            "1.G",
            ".5G",
            "-1",
            "1X",
            "1.2.3G",
            "99999999999999999999",
            "20000000P",
            "1.3",
            "1KK",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn people_can_read_it() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (10 << 30, "10 GiB"),
            ((1 << 30) + (10 << 20), "1.01 GiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(exact(512), "512 bytes");
    }
}
