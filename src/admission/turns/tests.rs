use std::future::pending;

use super::*;

const ROUTINE: Urgency = Urgency {
    priority: Priority::Routine,
    deadline: None,
};

fn with(priority: Priority) -> Urgency {
    Urgency {
        priority,
        deadline: None,
    }
}

type Waiting = tokio::task::JoinHandle<Result<Turn, Code>>;

/// Has somebody wait, and returns once it does.
async fn wait(turns: &Arc<Turns>, caller: &'static str, urgency: Urgency) -> Waiting {
    let before = turns.waiting(urgency.priority);
    let line = Arc::clone(turns);
    let waiting = tokio::spawn(async move { line.take(caller, urgency, pending()).await });
    while turns.waiting(urgency.priority) == before {
        tokio::task::yield_now().await;
    }
    waiting
}

/// In which order those who wait get their turn, when there is one at a time.
async fn order(first: Turn, waiting: Vec<(&'static str, Waiting)>) -> Vec<&'static str> {
    let (note, mut noted) = tokio::sync::mpsc::unbounded_channel();
    for (name, waiting) in waiting {
        let note = note.clone();
        tokio::spawn(async move {
            let turn = waiting.await.unwrap().unwrap();
            note.send(name).unwrap();
            drop(turn);
        });
    }
    drop((first, note));
    let mut order = Vec::new();
    while let Some(name) = noted.recv().await {
        order.push(name);
    }
    order
}

#[tokio::test]
async fn the_urgent_go_first_and_the_others_go_in_time() {
    let turns = Turns::new(1, 100);
    let first = turns.take("a", ROUTINE, pending()).await.unwrap();
    let mut waiting = Vec::new();
    for (priority, count) in [
        (Priority::Batch, 4),
        (Priority::Routine, 4),
        (Priority::Stat, 30),
    ] {
        for _ in 0..count {
            let name = priority.as_str();
            waiting.push((name, wait(&turns, "a", with(priority)).await));
        }
    }
    let order = order(first, waiting).await;
    let places = |name: &str| -> Vec<usize> {
        let found = order.iter().enumerate().filter(|(_, n)| **n == name);
        found.map(|(place, _)| place).collect()
    };
    // While the urgent never run out, nobody takes the turns of the others all to itself.
    assert_eq!(places("routine"), [7, 23, 34, 35]);
    assert_eq!(places("batch"), [15, 31, 36, 37]);
    assert_eq!(turns.waiting(Priority::Batch), 0);
}

#[tokio::test]
async fn another_callers_queue_does_not_make_a_deadline_hopeless() {
    let turns = Turns::new(1, 100);
    let first = turns.take("many", ROUTINE, pending()).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(("many", wait(&turns, "many", ROUTINE).await));
    }
    turns.line().pace = Duration::from_secs(1);
    let within = |seconds| Urgency {
        deadline: Some(clock::monotonic() + Duration::from_secs(seconds)),
        ..ROUTINE
    };
    let hopeless = turns.take("many", within(30), pending()).await;
    assert_eq!(hopeless.unwrap_err(), Code::Overloaded);
    waiting.push(("few", wait(&turns, "few", within(30)).await));
    assert_eq!(order(first, waiting).await[1], "few");
}

#[tokio::test]
async fn callers_take_turns_however_many_requests_each_has() {
    let turns = Turns::new(1, 100);
    let first = turns.take("many", ROUTINE, pending()).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(("many", wait(&turns, "many", ROUTINE).await));
    }
    for _ in 0..2 {
        waiting.push(("few", wait(&turns, "few", ROUTINE).await));
    }
    let order = order(first, waiting).await;
    assert_eq!(order[..4], ["many", "few", "many", "few"]);
}

#[tokio::test]
async fn the_line_is_bounded_and_the_last_places_are_for_the_urgent() {
    let turns = Turns::new(1, 8);
    let first = turns.take("a", ROUTINE, pending()).await.unwrap();
    let mut waiting = Vec::new();
    for (priority, places) in [
        (Priority::Batch, 4),
        (Priority::Routine, 3),
        (Priority::Stat, 1),
    ] {
        for _ in 0..places {
            waiting.push(wait(&turns, "a", with(priority)).await);
        }
        let refused = turns.take("b", with(priority), pending()).await;
        assert_eq!(refused.unwrap_err(), Code::Overloaded);
    }
    // Who has gone holds no place.
    waiting.remove(0).abort();
    while turns
        .take("b", with(Priority::Stat), std::future::ready(()))
        .await
        .unwrap_err()
        == Code::Overloaded
    {
        tokio::task::yield_now().await;
    }
    let waiting: Vec<_> = waiting.into_iter().map(|w| ("served", w)).collect();
    let those_left = waiting.len();
    assert_eq!(order(first, waiting).await.len(), those_left);
    assert_eq!(turns.line().free, 1);
}

#[tokio::test]
async fn nobody_waits_beyond_a_deadline_or_for_a_caller_that_is_gone() {
    let turns = Turns::new(1, 8);
    let first = turns.take("a", ROUTINE, pending()).await.unwrap();
    let due = |time| Urgency {
        priority: Priority::Routine,
        deadline: Some(clock::monotonic() + time),
    };
    let late = turns.take("a", due(Duration::from_millis(5)), pending());
    assert_eq!(late.await.unwrap_err(), Code::DeadlinePassed);
    let passed = turns.take("a", due(Duration::ZERO), pending()).await;
    assert_eq!(passed.unwrap_err(), Code::DeadlinePassed);
    let gone = turns.take("a", ROUTINE, std::future::ready(())).await;
    assert_eq!(gone.unwrap_err(), Code::CallerGone);
    // Told at once, when those who wait already will take longer.
    let waiting = wait(&turns, "a", ROUTINE).await;
    turns.line().pace = Duration::from_mins(1);
    let hopeless = turns.take("a", due(Duration::from_secs(30)), pending());
    assert_eq!(hopeless.await.unwrap_err(), Code::Overloaded);
    drop(first);
    drop(waiting.await.unwrap().unwrap());
    assert_eq!(turns.line().free, 1);
}
