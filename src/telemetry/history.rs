//! What became of the last day's requests for predictions, five minutes by five minutes.
//!
//! The console shows it; metrics are for whoever keeps them longer. Counts only, and no more of
//! them than models are loaded.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::disposition::Outcome;

/// Seconds that are counted together.
pub const SPAN: u64 = 300;
/// Spans that are kept: a day.
pub const SPANS: usize = 288;
/// What is counted, in this order.
pub const OUTCOMES: [Outcome; 4] = [
    Outcome::Predicted,
    Outcome::Review,
    Outcome::Rejected,
    Outcome::Refused,
];

/// Counts of [`OUTCOMES`].
pub type Counts = [u32; OUTCOMES.len()];

static DAY: Mutex<Day> = Mutex::new(Day(BTreeMap::new()));

/// By model, all versions together; requests that reached none have no name.
#[derive(Debug)]
struct Day(BTreeMap<Box<str>, VecDeque<Span>>);

#[derive(Debug)]
struct Span {
    number: u64,
    counts: Counts,
}

/// Counts an answer.
pub(super) fn note(model: &str, outcome: Outcome, now: Duration) {
    DAY.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .note(model, outcome, now);
}

/// The last day of a model, the oldest span first; of all together when none is named.
pub fn last_day(model: Option<&str>, now: Duration) -> Vec<Counts> {
    DAY.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .last(model, now)
}

impl Day {
    fn note(&mut self, model: &str, outcome: Outcome, now: Duration) {
        let Some(place) = OUTCOMES.iter().position(|counted| *counted == outcome) else {
            return;
        };
        if !self.0.contains_key(model) {
            self.0.insert(model.into(), VecDeque::new());
        }
        let Some(spans) = self.0.get_mut(model) else {
            return;
        };
        let number = now.as_secs() / SPAN;
        // A clock that was set back a little counts on in the last span; one that was far ahead
        // leaves nothing.
        while spans.back().is_some_and(|last| last.number > number + 1) {
            spans.pop_back();
        }
        if spans.back().is_none_or(|last| last.number < number) {
            let counts = Counts::default();
            spans.push_back(Span { number, counts });
            if spans.len() > SPANS {
                spans.pop_front();
            }
        }
        if let Some(count) = spans.back_mut().and_then(|s| s.counts.get_mut(place)) {
            *count = count.saturating_add(1);
        }
    }

    fn last(&self, model: Option<&str>, now: Duration) -> Vec<Counts> {
        let mut day = vec![Counts::default(); SPANS];
        let last = now.as_secs() / SPAN;
        let wanted = self.0.iter();
        for (_, spans) in wanted.filter(|(name, _)| model.is_none_or(|model| model == &***name)) {
            for span in spans {
                let ago = usize::try_from(last.saturating_sub(span.number)).unwrap_or(SPANS);
                let place = SPANS.checked_sub(ago + 1);
                let Some(sums) = place.and_then(|place| day.get_mut(place)) else {
                    continue;
                };
                for (sum, count) in sums.iter_mut().zip(span.counts) {
                    *sum = sum.saturating_add(count);
                }
            }
        }
        day
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_and_no_more() {
        let mut day = Day(BTreeMap::new());
        let at = |span: u64| Duration::from_secs(1_700_000_100 / SPAN * SPAN + span * SPAN);
        for span in 0..300 {
            day.note("a", Outcome::Predicted, at(span));
            day.note("b", Outcome::Review, at(span));
            day.note("", Outcome::Refused, at(span));
            day.note("a", Outcome::Answered, at(span));
        }
        let all = day.last(None, at(299));
        assert_eq!(all.len(), SPANS);
        assert!(all.iter().all(|counts| *counts == [1, 1, 0, 1]));
        assert!(day.0.values().all(|spans| spans.len() == SPANS));
        let a = day.last(Some("a"), at(299));
        assert!(a.iter().all(|counts| *counts == [1, 0, 0, 0]));
        // Ten minutes later the two oldest spans are gone, and the two newest are empty.
        let later = day.last(Some("a"), at(301));
        assert_eq!(later.iter().filter(|counts| counts[0] == 1).count(), 286);
        assert_eq!(later.last(), Some(&[0; 4]));
        assert!(day.last(Some("a"), at(900)).iter().all(|c| *c == [0; 4]));
        assert_eq!(day.last(Some("none"), at(299))[0], [0; 4]);
    }

    #[test]
    fn what_a_clock_that_was_ahead_counted_does_not_stay() {
        let mut day = Day(BTreeMap::new());
        let at = |span: u64| Duration::from_secs(span * SPAN);
        day.note("a", Outcome::Predicted, at(100_000));
        for span in [1000, 1001, 1000] {
            day.note("a", Outcome::Review, at(span));
        }
        let now = day.last(Some("a"), at(1001));
        assert_eq!(now[SPANS - 2..], [[0, 1, 0, 0], [0, 2, 0, 0]]);
    }
}
