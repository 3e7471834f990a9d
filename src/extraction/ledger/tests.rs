//! Budgets are spent once, repeats are free, and each pattern has the consequence it should.

use super::*;
use crate::{
    bundle::model::QueriesSpec,
    config::{CallerLimits, Patterns, RowsPerDay},
};

/// Noon of some day, Unix milliseconds.
const NOON: u64 = (20_000 * DAY + DAY / 2) * 1000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

fn terms(rows: u32, clinical: Clinical) -> Terms {
    let limits = CallerLimits {
        rows_per_day: RowsPerDay::Limited(rows),
        ..CallerLimits::DEFAULT
    };
    Terms::new(&limits, clinical, &QueriesSpec::default())
}

fn shadow(clinical: Clinical) -> Terms {
    let limits = CallerLimits {
        patterns: Patterns::Shadow,
        ..CallerLimits::DEFAULT
    };
    Terms::new(&limits, clinical, &QueriesSpec::default())
}

/// A row that is near to no other with another number.
fn far(number: u64) -> Query {
    let mut state = number;
    let bits = std::array::from_fn(|_| {
        // SplitMix64, as in its authors' reference.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    });
    Query {
        fingerprint: number << 1,
        embedding: Some(Embedding(bits)),
        flagged: false,
        answered: true,
        version: 1,
    }
}

/// A row near to number 0, different for each number.
fn near(number: u64) -> Query {
    let mut query = far(0);
    query.fingerprint = 1_000_000 + number;
    if let Some(Embedding(bits)) = &mut query.embedding {
        bits[0] ^= number % 256;
    }
    query
}

fn flagged(query: Query) -> Query {
    Query {
        flagged: true,
        answered: false,
        ..query
    }
}

/// Flagged, and its prediction goes with the review.
fn attached(query: Query) -> Query {
    Query {
        answered: true,
        ..flagged(query)
    }
}

fn code(verdict: &Verdict) -> Option<&'static str> {
    verdict.outcome.err().map(|(why, _)| why.code().as_str())
}

#[test]
fn a_budget_is_of_different_rows_and_of_one_day() {
    let (mut ledger, terms) = (Ledger::default(), terms(10, Clinical::No));
    let mut alerts = Vec::new();
    for number in 0..10 {
        for again in [false, true] {
            let verdict = ledger.enter(&far(number), &terms, NOON + number);
            assert_eq!(verdict.outcome, Ok(Detail::Full));
            assert_eq!(
                (verdict.charged, u64::from(verdict.used)),
                (!again, number + 1)
            );
            if verdict.events.contains(Event::Alert) {
                alerts.push(number + 1);
            }
        }
    }
    assert_eq!(alerts, [8], "once, at 80 %");
    let spent = ledger.enter(&far(10), &terms, NOON + 10);
    assert_eq!(spent.outcome, Err((Why::Exhausted, DAY / 2)));
    assert!(spent.events.contains(Event::Exhausted));
    let spent = ledger.enter(&far(11), &terms, NOON + 11);
    assert_eq!(code(&spent), Some("BUDGET_EXHAUSTED"));
    assert!(spent.events.is_empty(), "it was told");
    // What was answered is answered again.
    let again = ledger.enter(&far(3), &terms, NOON + 12);
    assert_eq!((again.outcome, again.charged), (Ok(Detail::Full), false));
    let tomorrow = ledger.enter(&far(11), &terms, NOON + DAY / 2 * 1000);
    assert_eq!((tomorrow.outcome, tomorrow.used), (Ok(Detail::Full), 1));
}

#[test]
fn a_record_system_goes_on_with_bands() {
    let (mut ledger, terms) = (Ledger::default(), terms(5, Clinical::RecordSystem));
    for number in 0..5 {
        ledger.enter(&far(number), &terms, NOON);
    }
    for number in [5, 6, 5] {
        let verdict = ledger.enter(&far(number), &terms, NOON);
        assert_eq!((verdict.outcome, verdict.used), (Ok(Detail::Band), 5));
    }
    assert_eq!(
        ledger.enter(&far(2), &terms, NOON).outcome,
        Ok(Detail::Full)
    );
}

/// Copies of one patient are noticed beyond the budget, too; trying the last one again is none.
#[test]
fn near_rows_are_counted_beyond_the_budget() {
    let (mut ledger, terms) = (Ledger::default(), terms(200, Clinical::RecordSystem));
    for number in 100..300 {
        ledger.enter(&far(number), &terms, NOON);
    }
    let mut noticed = Vec::new();
    for number in 0..12 {
        for again in [false, true, true] {
            let verdict = ledger.enter(&near(number), &terms, NOON + number * MINUTE);
            assert_eq!((verdict.outcome, verdict.used), (Ok(Detail::Band), 200));
            let near = verdict.events.contains(Event::NearDuplicate);
            assert!(!(again && near), "{number}");
            noticed.push(near);
        }
    }
    assert!(noticed[..12].iter().all(|noticed| !noticed), "{noticed:?}");
    assert_eq!(noticed[18..].iter().filter(|noticed| **noticed).count(), 6);
    assert_eq!(
        ledger.current(terms.clinical, NOON / 1000 + 12 * 60),
        Step::BandsOnly
    );
    for number in 0..10_000 {
        ledger.enter(&far(1000 + number), &terms, NOON + HOUR);
    }
    assert!(ledger.seen.len() <= EMBEDDINGS);
}

/// A hospital that has spent its budget scores its patients again and again, most of them unchanged.
#[test]
fn unchanged_rows_beyond_the_budget_are_no_pattern() {
    let (mut ledger, terms) = (Ledger::default(), terms(5, Clinical::RecordSystem));
    for number in 0..5 {
        ledger.enter(&far(number), &terms, NOON);
    }
    for round in 0..12 {
        for number in 100..300 {
            let query = far(number);
            let query = if number % 50 == 0 {
                flagged(query)
            } else {
                query
            };
            let verdict = ledger.enter(&query, &terms, NOON + round * 20 * MINUTE);
            assert_eq!(verdict.outcome, Ok(Detail::Band));
            let first = (round, number) == (0, 100);
            assert_eq!(verdict.events.is_empty(), !first, "{round} {number}");
            assert_eq!(verdict.step, Step::None, "{round} {number}");
        }
    }
}

/// Two refused rows, tried in turn.
#[test]
fn retries_of_several_refused_rows_are_no_other_attempts() {
    let (mut ledger, terms) = (Ledger::default(), terms(200, Clinical::Person));
    for number in 0..4 {
        ledger.enter(&near(number), &terms, NOON);
    }
    for turn in 0..100 {
        let refused = ledger.enter(&near(10 + turn % 3), &terms, NOON + turn * 1000);
        assert_eq!(code(&refused), Some("SLOWED_DOWN"));
        assert_eq!(refused.events.contains(Event::NearDuplicate), turn < 3);
        assert!(refused.step <= Step::SlowDown, "{turn}");
    }
}

/// They tell as much as any other row, and are paid for; none is more than its band, whoever asks.
#[test]
fn near_rows_of_a_record_system_are_charged() {
    let (mut ledger, ehr) = (Ledger::default(), terms(200, Clinical::RecordSystem));
    for number in 0..10 {
        let detail = if number < 4 {
            Detail::Full
        } else {
            Detail::Band
        };
        for charged in [true, false] {
            let verdict = ledger.enter(&near(number), &ehr, NOON);
            assert_eq!((verdict.outcome, verdict.charged), (Ok(detail), charged));
        }
    }
    assert_eq!(ledger.used(), 10);
    let other = terms(200, Clinical::Person);
    assert_eq!(
        ledger.enter(&near(9), &other, NOON).outcome,
        Ok(Detail::Band)
    );
    ledger.pardon();
    assert_eq!(ledger.enter(&near(9), &ehr, NOON).outcome, Ok(Detail::Full));
}

#[test]
fn the_fifth_row_near_four_others_is_refused_and_told_when_to_come_again() {
    let (mut ledger, terms) = (Ledger::default(), terms(200, Clinical::Person));
    for number in 0..4 {
        let verdict = ledger.enter(&near(number), &terms, NOON + number * MINUTE);
        assert_eq!(verdict.outcome, Ok(Detail::Full), "{number}");
    }
    let now = NOON + 10 * MINUTE;
    let refused = ledger.enter(&near(4), &terms, now);
    let (why, wait) = refused.outcome.unwrap_err();
    assert_eq!(
        (why, refused.used, refused.step),
        (Why::NearDuplicate, 4, Step::SlowDown)
    );
    assert_eq!(why.code().as_str(), "SLOWED_DOWN");
    assert!(refused.events.contains(Event::NearDuplicate));
    assert!(refused.events.contains(Event::Raised));
    // Trying it again is no other attempt.
    for _ in 0..50 {
        let again = ledger.enter(&near(4), &terms, now);
        assert_eq!(
            (code(&again), again.step),
            (Some("SLOWED_DOWN"), Step::SlowDown)
        );
    }
    // Another patient is answered, and the row itself in its time.
    assert_eq!(ledger.enter(&far(9), &terms, now).outcome, Ok(Detail::Full));
    let later = ledger.enter(&near(4), &terms, now + wait * 1000);
    assert_eq!(later.outcome, Ok(Detail::Full));
    assert!(
        later.events.contains(Event::Eased),
        "a strike fades in an hour"
    );
}

#[test]
fn a_correction_is_no_near_duplicate_and_no_other_flag() {
    let (mut ledger, terms) = (Ledger::default(), terms(200, Clinical::Person));
    for number in 0..40 {
        let verdict = ledger.enter(&flagged(near(number)), &terms, NOON + number * MINUTE);
        assert_eq!(
            (verdict.outcome, verdict.step),
            (Ok(Detail::Full), Step::None)
        );
    }
    let corrected = ledger.enter(&near(77), &terms, NOON + 41 * MINUTE);
    assert_eq!(
        (corrected.outcome, corrected.step),
        (Ok(Detail::Full), Step::None)
    );
}

#[test]
fn made_up_patients_are_noticed_after_five_and_answered_less_and_less() {
    let (mut ledger, terms) = (Ledger::default(), terms(200, Clinical::No));
    let mut steps = Vec::new();
    let mut now = NOON;
    for number in 0..40 {
        let mut verdict = ledger.enter(&flagged(far(number)), &terms, now);
        if let Err((Why::SlowedDown, wait)) = verdict.outcome {
            now += wait * 1000;
            verdict = ledger.enter(&flagged(far(number)), &terms, now);
        }
        if steps.last().is_none_or(|(_, step)| *step != verdict.step) {
            steps.push((number + 1, verdict.step));
        }
        if verdict.step == Step::Quarantine {
            break;
        }
    }
    assert_eq!(
        steps,
        [
            (1, Step::None),
            (5, Step::BandsOnly),
            (10, Step::Review),
            (20, Step::Quarantine)
        ]
    );
    // Not even what was answered before; and it ends by itself.
    let refused = ledger.enter(&far(0), &terms, now);
    assert_eq!(code(&refused), Some("CALLER_QUARANTINED"));
    assert_eq!(
        ledger.current(Clinical::No, now / 1000 + 20 * 3600),
        Step::None
    );
}

#[test]
fn nobody_at_a_bedside_is_stopped_by_a_program() {
    for clinical in [Clinical::Person, Clinical::RecordSystem] {
        let (mut ledger, terms) = (Ledger::default(), terms(10_000, clinical));
        let mut now = NOON;
        for number in 0..500 {
            let verdict = ledger.enter(&flagged(far(number)), &terms, now);
            assert!(verdict.step <= Step::BandsOnly);
            match verdict.outcome {
                Ok(detail) => assert!(detail >= Detail::Band),
                Err((why, wait)) => {
                    assert_eq!((why, clinical), (Why::SlowedDown, Clinical::Person));
                    now += wait * 1000;
                }
            }
        }
    }
}

#[test]
fn a_slowed_caller_gets_a_new_row_every_ten_seconds() {
    let (mut ledger, terms) = (Ledger::default(), terms(10_000, Clinical::Person));
    for number in 0..5 {
        ledger.enter(&flagged(far(number)), &terms, NOON);
    }
    let answered = (0..120u64)
        .filter(|second| {
            let query = far(100 + second);
            ledger
                .enter(&query, &terms, NOON + second * 1000)
                .outcome
                .is_ok()
        })
        .count();
    // Six at once, then one in ten seconds.
    assert_eq!(answered, 6 + 11);
}

#[test]
fn shadow_mode_sees_everything_and_does_nothing() {
    let (mut ledger, terms) = (Ledger::default(), shadow(Clinical::No));
    let mut seen = Events::default();
    let mut last = Step::None;
    for number in 0..150 {
        let query = if number % 2 == 0 {
            flagged(far(number))
        } else {
            near(number)
        };
        let verdict = ledger.enter(&query, &terms, NOON + number);
        assert_eq!(verdict.outcome, Ok(Detail::Full));
        verdict.events.iter().for_each(|event| seen.insert(event));
        last = verdict.step;
    }
    assert_eq!(last, Step::Quarantine);
    for event in [Event::NearDuplicate, Event::FlagRate, Event::Raised] {
        assert!(seen.contains(event), "{event:?}");
    }
}

#[test]
fn less_than_full_is_never_made_full_by_asking_twice() {
    // Near rows of a record system: bands, however often.
    let (mut ledger, ehr) = (Ledger::default(), terms(200, Clinical::RecordSystem));
    for number in 0..4 {
        ledger.enter(&near(number), &ehr, NOON);
    }
    for _ in 0..3 {
        assert_eq!(ledger.enter(&near(9), &ehr, NOON).outcome, Ok(Detail::Band));
    }
    // Withheld for the caller's sake: withheld again.
    let (mut ledger, other) = (Ledger::default(), terms(200, Clinical::No));
    let mut now = NOON;
    for number in 0..10 {
        now += 20_000;
        ledger.enter(&flagged(far(number)), &other, now);
    }
    for query in [far(50), far(50), far(8)] {
        now += 20_000;
        let verdict = ledger.enter(&query, &other, now);
        assert_eq!(verdict.outcome, Ok(Detail::Withheld));
    }
    // An operator's pardon.
    assert!(ledger.pardon());
    assert_eq!(
        ledger.enter(&far(51), &other, now).outcome,
        Ok(Detail::Full)
    );
    assert_eq!(
        ledger.enter(&far(50), &other, now).outcome,
        Ok(Detail::Full)
    );
}

#[test]
fn what_was_answered_in_full_is_answered_so_again_and_nothing_else_is() {
    let (mut ledger, terms) = (Ledger::default(), terms(200, Clinical::No));
    for number in [100, 101] {
        assert_eq!(
            ledger.enter(&far(number), &terms, NOON).outcome,
            Ok(Detail::Full)
        );
    }
    for number in 0..6 {
        ledger.enter(&flagged(far(number)), &terms, NOON);
    }
    let now = NOON + 100_000;
    let in_bands = ledger.enter(&far(102), &terms, now);
    assert_eq!(
        (in_bands.outcome, in_bands.step),
        (Ok(Detail::Band), Step::BandsOnly)
    );
    let of_another_version = Query {
        version: 2,
        ..far(100)
    };
    for (query, detail) in [
        (far(100), Detail::Full),
        (of_another_version, Detail::Band),
        (far(101), Detail::Full),
        (far(102), Detail::Band),
        (flagged(far(0)), Detail::Band),
    ] {
        let again = ledger.enter(&query, &terms, now);
        assert_eq!((again.outcome, again.charged), (Ok(detail), false));
    }
}

#[test]
fn a_flagged_row_that_is_answered_with_a_prediction_counts_as_near() {
    let (mut ledger, terms) = (Ledger::default(), terms(200, Clinical::Person));
    for number in 0..4 {
        let query = if number % 2 == 0 {
            attached(near(number))
        } else {
            near(number)
        };
        let verdict = ledger.enter(&query, &terms, NOON + number);
        assert_eq!(verdict.outcome, Ok(Detail::Full), "{number}");
    }
    for query in [attached(near(4)), near(5)] {
        let refused = ledger.enter(&query, &terms, NOON + 10);
        assert_eq!(
            refused.outcome.map_err(|(why, _)| why),
            Err(Why::NearDuplicate)
        );
    }
    // One that is not answered goes to a person, as ever.
    let kept = ledger.enter(&flagged(near(6)), &terms, NOON + 10);
    assert!(kept.outcome.is_ok());
}

/// A server that the store told nothing of a caller, but of whom it heard.
#[test]
fn apart_the_share_is_of_what_was_heard_to_be_left() {
    let terms = terms(60, Clinical::Person);
    let answered = |heard: u32| {
        let mut ledger = Ledger::default();
        let rows = (0..60).map(|n| ledger.enter_apart(&far(n), &terms, (2, heard), NOON + n));
        rows.filter(|verdict| verdict.outcome.is_ok()).count()
    };
    assert_eq!([0, 40, 59, 60, 70].map(answered), [30, 10, 1, 0, 0]);
}

/// The store may be back long before midnight; and what is left is what may be asked.
#[test]
fn apart_a_spent_share_is_worth_trying_again_soon() {
    let terms = terms(10, Clinical::Person);
    let mut ledger = Ledger::default();
    let mut last = None;
    for number in 0..6 {
        last = Some(ledger.enter_apart(&far(number), &terms, (2, 0), NOON));
    }
    let last = last.unwrap();
    assert_eq!(last.outcome, Err((Why::Exhausted, APART_SECONDS)));
    assert_eq!((last.used, last.quota), (5, Some(5)));
    // Back, and it has what another server put there.
    ledger.settled(9);
    assert_eq!(ledger.used(), 9);
    let verdict = ledger.enter(&far(7), &terms, NOON);
    assert_eq!((verdict.used, verdict.quota), (10, Some(10)));
    let spent = ledger.enter(&far(8), &terms, NOON);
    assert_eq!(spent.outcome, Err((Why::Exhausted, DAY / 2)));
}

/// A store that comes back with less than it had does not lower what is known.
#[test]
fn what_is_known_to_be_spent_only_grows_within_a_day() {
    let terms = terms(100, Clinical::Person);
    let mut ledger = Ledger::default();
    for number in 0..3 {
        ledger.enter_apart(&far(number), &terms, (2, 40), NOON);
    }
    assert_eq!(ledger.used(), 43);
    let debt = ledger.debt(NOON / 1000).unwrap();
    assert_eq!((debt.confirmed, debt.used), (40, 43));
    // Two of the three had been charged by another server before.
    ledger.settled(41);
    assert_eq!(ledger.used(), 41);
    ledger.settled(3);
    assert_eq!(ledger.used(), 41);
}

#[test]
fn what_came_while_the_store_was_away_is_owed_and_a_pardon_owes_nothing() {
    let terms = terms(200, Clinical::No);
    let mut ledger = Ledger::default();
    for number in 0..5 {
        ledger.enter(&flagged(far(number)), &terms, NOON);
    }
    // Three hours later one strike of four is left, and four more are found.
    let later = NOON + 3 * HOUR;
    for number in 10..15 {
        ledger.enter_apart(&flagged(far(number)), &terms, (2, 0), later);
    }
    let debt = ledger.debt(later / 1000).unwrap();
    assert_eq!((debt.known, debt.more), (1.0, 4.0));
    let an_hour_on = ledger.debt(later / 1000 + 3600).unwrap();
    assert_eq!((an_hour_on.known, an_hour_on.more), (0.0, 4.0));
    ledger.pardon();
    let debt = ledger.debt(later / 1000).unwrap();
    assert_eq!((debt.known, debt.more), (0.0, 0.0));
}

#[test]
fn one_more_near_row_is_another_patients_in_a_crowd() {
    let (mut ledger, terms) = (Ledger::default(), terms(3600, Clinical::RecordSystem));
    for number in 1..=64 {
        ledger.enter(&far(number), &terms, NOON);
    }
    for number in 0..5 {
        let verdict = ledger.enter(&near(number), &terms, NOON + HOUR);
        assert_eq!(verdict.outcome, Ok(Detail::Full), "{number}");
    }
    assert_eq!(
        ledger.enter(&near(5), &terms, NOON + HOUR).outcome,
        Ok(Detail::Band)
    );
}

#[test]
fn memory_is_bounded_whatever_is_sent() {
    let (mut ledger, unbudgeted) = (
        Ledger::default(),
        Terms {
            rows: None,
            ..shadow(Clinical::No)
        },
    );
    for number in 0..20_000 {
        ledger.enter(&far(number), &unbudgeted, NOON + number);
    }
    assert!(ledger.seen.len() <= EMBEDDINGS);
    assert!(ledger.used() as usize <= UNBUDGETED);
}
