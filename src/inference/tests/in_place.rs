//! Rows that find the replicas busy: whoever gives one back runs them.

use super::*;

fn quick_engine(threads: usize, max_batch: usize) -> Arc<Engine<Row>> {
    let mut spec = faulty_spec();
    spec.limits.in_place = Duration::from_secs(1);
    spec.limits.threads = NonZeroUsize::new(threads).unwrap();
    spec.limits.max_batch = NonZeroUsize::new(max_batch).unwrap();
    spec.limits.queue_rows = NonZeroUsize::new(4000).unwrap();
    Arc::new(Engine::start(&runtime(), &spec).unwrap())
}

/// Nothing that was sent waits for ever.
async fn ended<T>(task: tokio::task::JoinHandle<T>) -> Result<T, tokio::task::JoinError> {
    tokio::time::timeout(Duration::from_mins(1), task)
        .await
        .expect("it hangs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn every_row_has_its_answer_whoever_runs_it() {
    for (threads, max_batch) in [(1, 1), (1, 2), (1, 5), (2, 1), (2, 3), (3, 4)] {
        let engine = quick_engine(threads, max_batch);
        let mut sent = Vec::new();
        for i in 0..1500u32 {
            let row = [(i % 2) as f32, i as f32 / 100.0];
            let task = send(&engine, &row);
            if i % 7 == 3 {
                task.abort();
            }
            sent.push((row, task));
            if i % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for (row, task) in sent {
            let Ok(scored) = ended(task).await else {
                continue; // aborted
            };
            if let MemberOutput::Probability(p) = scored.unwrap().outputs[0] {
                assert!((p - faulty_answer(&row)).abs() < 1e-6);
            }
        }
        assert_eq!(engine.queued_rows(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_panic_in_whoever_runs_them_leaves_nobody_waiting() {
    for (threads, fatal) in [(1, 100), (1, 137), (1, 433), (2, 174), (2, 285), (3, 322)] {
        let engine = quick_engine(threads, 2);
        let sent: Vec<_> = (0..600u16)
            .map(|i| {
                let row = if i == fatal {
                    [2.0, 99.0]
                } else {
                    [1.0, i.into()]
                };
                send(&engine, &row)
            })
            .collect();
        for task in sent {
            let scored = ended(task).await.unwrap();
            assert!(matches!(scored, Ok(_) | Err(ScoreError::Stopped)));
        }
        assert!(!engine.is_alive());
        assert_eq!(engine.queued_rows(), 0);
    }
}
