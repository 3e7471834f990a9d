//! A monotone curve through a few knots: values to normal scores, scores to surprisal.

/// Straight lines between knots, continued with the outermost slopes beyond them.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    segments: Vec<Segment>,
}

/// A line from its knot to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    from: f32,
    at: f32,
    slope: f32,
}

/// With a single knot there is no slope to go by: whatever differs lies far away.
const CLIFF: f32 = 1e6;

impl Curve {
    /// A curve through `(x, y)` knots, ascending in x and not descending in y; `None` for any
    /// others, and for knots that are not finite.
    pub fn through(knots: &[(f32, f32)]) -> Option<Self> {
        let finite = knots.iter().all(|(x, y)| x.is_finite() && y.is_finite());
        let pairs = || knots.iter().zip(knots.iter().skip(1));
        if knots.is_empty() || !finite || !pairs().all(|(a, b)| a.0 < b.0 && a.1 <= b.1) {
            return None;
        }
        let mut segments: Vec<Segment> = pairs()
            .map(|(a, b)| Segment {
                from: a.0,
                at: a.1,
                slope: (b.1 - a.1) / (b.0 - a.0),
            })
            .collect();
        if segments.iter().any(|s| !s.slope.is_finite()) {
            return None;
        }
        if let ([], [(x, y)]) = (segments.as_slice(), knots) {
            segments.push(Segment {
                from: *x,
                at: *y,
                slope: CLIFF,
            });
        }
        Some(Self { segments })
    }

    /// The height at `x`.
    pub fn at(&self, x: f32) -> f32 {
        let after = self.segments.partition_point(|s| s.from <= x);
        let segment = self.segments.get(after.saturating_sub(1));
        segment.map_or(0.0, |s| s.slope * (x - s.from) + s.at)
    }

    /// The place at which the curve has height `y`; where it is level, the upper end.
    pub fn inverse(&self, y: f32) -> f32 {
        let after = self.segments.partition_point(|s| s.at <= y);
        let segment = self.segments.get(after.saturating_sub(1));
        segment.map_or(0.0, |s| {
            if s.slope > 0.0 {
                s.from + (y - s.at) / s.slope
            } else {
                s.from
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_join_the_knots_and_go_on_beyond_them() {
        let curve = Curve::through(&[(0.0, 0.0), (2.0, 1.0), (3.0, 3.0)]).unwrap();
        for (x, y) in [
            (-2.0, -1.0),
            (0.0, 0.0),
            (1.0, 0.5),
            (2.0, 1.0),
            (2.5, 2.0),
            (4.0, 5.0),
        ] {
            assert!((curve.at(x) - y).abs() < 1e-6, "{x}");
            assert!((curve.inverse(y) - x).abs() < 1e-6, "{y}");
        }
    }

    #[test]
    fn a_single_knot_is_a_cliff() {
        let curve = Curve::through(&[(1.0, 0.0)]).unwrap();
        assert!(curve.at(1.0).abs() < 1e-6);
        assert!(curve.at(1.1) > 8.0 && curve.at(0.9) < -8.0);
    }

    #[test]
    fn knots_that_are_no_curve_are_refused() {
        for knots in [
            &[][..],
            &[(1.0, 0.0), (1.0, 1.0)],
            &[(0.0, 1.0), (1.0, 0.0)],
            &[(0.0, f32::NAN)],
            &[(0.0, 0.0), (f32::INFINITY, 1.0)],
        ] {
            assert!(Curve::through(knots).is_none(), "{knots:?}");
        }
    }
}
