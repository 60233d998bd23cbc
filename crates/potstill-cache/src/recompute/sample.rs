//! Which entries are computed again, and what it says that all of them were right.

use std::collections::BTreeSet;

use crate::canonical::sha256;

/// A draw that misses all wrong entries may be so rare: one minus the confidence.
const MISSED: f64 = 0.01;
/// What the rounding of a product may take away: it must not make the statement stronger than it is.
const ROUNDING: f64 = 1e-9;

/// `count` different numbers below `population`, in order: a function of the nonce and the component's name, which nobody
/// can foresee who does not know the nonce. All of them when there are not more (Floyd's algorithm).
pub(crate) fn draw(nonce: &str, component: &str, population: u64, count: u64) -> Vec<u64> {
    let count = count.min(population);
    let mut drawn = BTreeSet::new();
    for last in population - count..population {
        let number = below(&format!("{nonce}|{component}|{last}"), last + 1);
        if !drawn.insert(number) {
            drawn.insert(last);
        }
    }
    drawn.into_iter().collect()
}

/// A number below `bound`; the first bytes of the text's SHA-256 as a fraction of 2⁶⁴.
fn below(text: &str, bound: u64) -> u64 {
    let digest = sha256(text.as_bytes());
    let first = digest
        .0
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    ((u128::from(first) * u128::from(bound)) >> 64) as u64
}

/// How many of `population` entries can be wrong when `drawn` of them, drawn without replacement, were all right: the
/// greatest number of wrong entries that a draw misses in at least one of a hundred cases.
pub(crate) fn undetected(population: u64, drawn: u64) -> u64 {
    let missed = |wrong: u64| {
        let right = population - wrong;
        (0..drawn)
            .map(|i| right.saturating_sub(i) as f64 / (population - i) as f64)
            .product::<f64>()
    };
    // Fewer are missed the more there are.
    let (mut low, mut high) = (0, population);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        match missed(middle) >= MISSED * (1. - ROUNDING) {
            true => low = middle,
            false => high = middle - 1,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_distinct_and_follow_the_nonce() {
        let draw_of = |nonce| draw(nonce, "teachers/a", 1000, 50);
        let drawn = draw_of("1");
        assert_eq!(drawn.len(), 50);
        assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn[49] < 1000);
        assert_eq!(drawn, draw_of("1"));
        assert_ne!(drawn, draw_of("2"));
        assert_ne!(drawn, draw("1", "teachers/b", 1000, 50));
        assert_eq!(draw("1", "x", 5, 9), [0, 1, 2, 3, 4]);
        assert_eq!(draw("1", "x", 0, 9), [0u64; 0]);
    }

    #[test]
    fn every_entry_is_drawn_equally_often() {
        let mut counts = [0u32; 20];
        for nonce in 0..2000 {
            for number in draw(&nonce.to_string(), "text", 20, 5) {
                counts[number as usize] += 1;
            }
        }
        // 500 each, with a standard deviation of 19.
        assert!(counts.iter().all(|&n| (400..600).contains(&n)), "{counts:?}");
    }

    #[test]
    fn bounds_on_what_is_not_seen() {
        assert_eq!(undetected(100, 100), 0);
        assert_eq!(undetected(100, 0), 100);
        // One wrong entry of 100 is missed by 99 draws in exactly one of a hundred cases.
        assert_eq!(undetected(100, 99), 1);
        // In a large cache nearly 1 − 0.01^(1/n).
        let share = undetected(1_000_000, 100) as f64 / 1e6;
        assert!((share - 0.0450).abs() < 1e-4, "{share}");
        assert!((undetected(1_000_000, 458) as f64 / 1e6 - 0.01).abs() < 1e-4);
    }
}
