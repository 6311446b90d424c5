//! Which stage of a pipeline computes what when, from the times of its stages.
//!
//! The order of a stage's work is Megatron's: one forward, one backward by turns after a warm-up, which with virtual stages (`vpp`) goes
//! through a stage's chunks in rounds of `pp` micro-batches. A piece of work starts when its stage is free and what it reads is there; moving
//! activations takes no time of its own here.

/// Most pieces of work that a schedule lays out.
pub const MOST_PIECES: usize = 1 << 15;

/// Seconds that a stage takes for a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turn {
    /// Forward.
    pub forward: f64,
    /// Backward.
    pub backward: f64,
}

/// A piece of work: one chunk of layers of a micro-batch in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece {
    /// Whether it is a backward.
    pub is_backward: bool,
    /// The micro-batch, from 0.
    pub micro_batch: usize,
    /// The chunk of the stage, from 0.
    pub chunk: usize,
    /// Seconds after the start of the step.
    pub start: f64,
    /// Seconds after the start of the step.
    pub end: f64,
}

/// The pipeline's work in a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Each stage's pieces in order.
    pub stages: Vec<Vec<Piece>>,
    /// Seconds until the last piece ends.
    pub seconds: f64,
    /// Micro-batches that are laid out: all of them, or as many as there is room for.
    pub micro_batches: usize,
    /// Whether virtual stages are gone through in rounds.
    pub is_interleaved: bool,
}

impl Schedule {
    /// Share of all stages' time in which they stand idle.
    pub fn bubble(&self) -> f64 {
        let all = self.seconds * self.stages.len() as f64;
        if all <= 0.0 {
            return 0.0;
        }
        let busy: f64 = self
            .stages
            .iter()
            .flatten()
            .map(|piece| piece.end - piece.start)
            .sum();
        (1.0 - busy / all).clamp(0.0, 1.0)
    }
}

/// The schedule of `stages`, each of `vpp` equal chunks, for so many micro-batches; as many of them as [`MOST_PIECES`] allows.
///
/// Virtual stages take micro-batches in rounds of `pp`, as Megatron does: whole rounds are laid out, at least one.
pub fn schedule(stages: &[Turn], vpp: usize, micro_batches: usize) -> Schedule {
    let pp = stages.len();
    let vpp = if pp > 1 { vpp.clamp(1, MOST_PIECES) } else { 1 };
    let each = pp.max(1).saturating_mul(vpp).saturating_mul(2);
    let room = (MOST_PIECES / each).max(1);
    let micro_batches = micro_batches.max(1).min(room);
    let micro_batches = if vpp > 1 {
        (micro_batches / pp).max(1) * pp
    } else {
        micro_batches
    };
    if pp == 0 || each > 4 * MOST_PIECES {
        return Schedule {
            stages: vec![Vec::new(); pp.min(MOST_PIECES)],
            seconds: 0.0,
            micro_batches: 0,
            is_interleaved: vpp > 1,
        };
    }
    let orders: Vec<Vec<Work>> = (0..pp).map(|s| order(s, pp, vpp, micro_batches)).collect();
    let mut simulation = Simulation {
        stages,
        vpp,
        micro_batches,
        // End of every piece by direction, chunk of the whole pipeline, micro-batch.
        ends: vec![None; 2 * pp * vpp * micro_batches],
        laid: vec![Vec::new(); pp],
        free: vec![0.0; pp],
    };
    let mut next = vec![0; pp];
    loop {
        let mut moved = false;
        for (stage, order) in orders.iter().enumerate() {
            while let Some(&work) = order.get(next[stage]) {
                if !simulation.lay(stage, work) {
                    break;
                }
                next[stage] += 1;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    Schedule {
        seconds: simulation.free.iter().copied().fold(0.0, f64::max),
        stages: simulation.laid,
        micro_batches,
        is_interleaved: vpp > 1,
    }
}

/// Work without its time.
#[derive(Debug, Clone, Copy)]
struct Work {
    is_backward: bool,
    micro_batch: usize,
    chunk: usize,
}

/// What stage `s` does, in order.
fn order(s: usize, pp: usize, vpp: usize, micro_batches: usize) -> Vec<Work> {
    let all = micro_batches * vpp;
    let warm_up = if vpp > 1 {
        (2 * (pp - s - 1) + (vpp - 1) * pp).min(all)
    } else {
        (pp - s - 1).min(all)
    };
    let work = |n: usize, is_backward: bool| {
        // Rounds of `pp` micro-batches go through the chunks.
        let (round, inside) = (n / (pp * vpp), n % (pp * vpp));
        let chunk = inside / pp;
        if vpp > 1 {
            Work {
                is_backward,
                micro_batch: round * pp + inside % pp,
                chunk: if is_backward { vpp - 1 - chunk } else { chunk },
            }
        } else {
            Work {
                is_backward,
                micro_batch: n,
                chunk: 0,
            }
        }
    };
    let mut list = Vec::with_capacity(2 * all);
    list.extend((0..warm_up).map(|n| work(n, false)));
    for n in warm_up..all {
        list.push(work(n, false));
        list.push(work(n - warm_up, true));
    }
    list.extend((all - warm_up..all).map(|n| work(n, true)));
    list
}

struct Simulation<'a> {
    stages: &'a [Turn],
    vpp: usize,
    micro_batches: usize,
    ends: Vec<Option<f64>>,
    laid: Vec<Vec<Piece>>,
    free: Vec<f64>,
}

impl Simulation<'_> {
    fn slot(&self, is_backward: bool, place: usize, micro_batch: usize) -> usize {
        let chunks = self.stages.len() * self.vpp;
        (usize::from(is_backward) * chunks + place) * self.micro_batches + micro_batch
    }

    /// Lays a piece out if what it reads is there.
    fn lay(&mut self, stage: usize, work: Work) -> bool {
        let (pp, chunks) = (self.stages.len(), self.stages.len() * self.vpp);
        let Work {
            is_backward,
            micro_batch,
            chunk,
        } = work;
        // Chunk `c` of stage `s` is the `c * pp + s`th of the model.
        let place = chunk * pp + stage;
        let reads = match (is_backward, place) {
            (false, 0) => Some(0.0),
            (false, place) => self.ends[self.slot(false, place - 1, micro_batch)],
            (true, place) if place + 1 == chunks => self.ends[self.slot(false, place, micro_batch)],
            (true, place) => self.ends[self.slot(true, place + 1, micro_batch)],
        };
        let Some(ready) = reads else {
            return false;
        };
        let turn = self.stages[stage];
        let seconds = if is_backward {
            turn.backward
        } else {
            turn.forward
        };
        let seconds = if seconds.is_finite() {
            seconds.max(0.0) / self.vpp as f64
        } else {
            0.0
        };
        let start = self.free[stage].max(ready);
        let end = start + seconds;
        self.free[stage] = end;
        let slot = self.slot(is_backward, place, micro_batch);
        self.ends[slot] = Some(end);
        self.laid[stage].push(Piece {
            is_backward,
            micro_batch,
            chunk,
            start,
            end,
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn even(pp: usize) -> Vec<Turn> {
        vec![
            Turn {
                forward: 1.0,
                backward: 2.0
            };
            pp
        ]
    }

    #[test]
    fn even_stages_idle_as_the_formula_says() {
        for (pp, micro_batches) in [(1, 4), (2, 8), (4, 8), (8, 8), (8, 64)] {
            let laid = schedule(&even(pp), 1, micro_batches);
            let (pp, m) = (pp as f64, micro_batches as f64);
            assert!((laid.bubble() - (pp - 1.0) / (m + pp - 1.0)).abs() < 1e-9);
            assert!((laid.seconds - 3.0 * (m + pp - 1.0)).abs() < 1e-9);
        }
    }

    #[test]
    fn virtual_stages_cut_the_bubble_by_their_number() {
        for (pp, vpp, m) in [(2, 2, 8), (4, 2, 8), (4, 4, 16), (8, 2, 16)] {
            let laid = schedule(&even(pp), vpp, m);
            let idle = (pp as f64 - 1.0) / vpp as f64;
            let wanted = 3.0 * (m as f64 + idle);
            assert!((laid.seconds - wanted).abs() < 1e-9, "{pp} {vpp} {m}");
        }
    }

    #[test]
    fn a_slow_last_stage_sets_the_pace() {
        let mut stages = even(4);
        stages[3] = Turn {
            forward: 1.5,
            backward: 3.0,
        };
        let laid = schedule(&stages, 1, 16);
        assert!((laid.seconds - (16.0 * 4.5 + 3.0 * 3.0)).abs() < 1e-9);
    }

    #[test]
    fn absurd_sizes_are_cut() {
        for (pp, vpp, m) in [
            (0, 1, 1),
            (4, usize::MAX, 8),
            (3, 1, usize::MAX),
            (1 << 16, 4, 4),
        ] {
            let laid = schedule(&even(pp), vpp, m);
            assert!(laid.micro_batches <= MOST_PIECES);
            assert!(laid.stages.iter().map(Vec::len).sum::<usize>() <= 4 * MOST_PIECES);
        }
        let odd = Turn {
            forward: f64::NAN,
            backward: f64::INFINITY,
        };
        assert_eq!(schedule(&[odd; 2], 1, 2).seconds, 0.0);
    }

    fn check(times: &[(f64, f64)], vpp: usize, micro_batches: usize) -> Result<(), TestCaseError> {
        let stages: Vec<Turn> = times
            .iter()
            .map(|&(forward, backward)| Turn { forward, backward })
            .collect();
        let laid = schedule(&stages, vpp, micro_batches);
        let pp = stages.len();
        let vpp = if pp > 1 { vpp } else { 1 };
        let wanted = if vpp > 1 {
            (micro_batches / pp).max(1) * pp
        } else {
            micro_batches
        };
        prop_assert_eq!(laid.micro_batches, wanted);
        let micro_batches = wanted;
        let find = |stage: usize, chunk, micro_batch, is_backward| {
            let mut found = laid.stages[stage].iter().filter(|p| {
                (p.chunk, p.micro_batch, p.is_backward) == (chunk, micro_batch, is_backward)
            });
            let one = found.next().copied();
            assert!(found.next().is_none(), "twice");
            one
        };
        for (stage, pieces) in laid.stages.iter().enumerate() {
            prop_assert_eq!(pieces.len(), 2 * vpp * micro_batches);
            prop_assert!(
                pieces
                    .windows(2)
                    .all(|pair| pair[0].end <= pair[1].start + 1e-12)
            );
            let busy: f64 = pieces.iter().map(|piece| piece.end - piece.start).sum();
            let wanted = (times[stage].0 + times[stage].1) * micro_batches as f64;
            prop_assert!((busy - wanted).abs() < 1e-6);
        }
        for stage in 0..pp {
            for chunk in 0..vpp {
                for micro_batch in 0..micro_batches {
                    let forward = find(stage, chunk, micro_batch, false).expect("forward");
                    let backward = find(stage, chunk, micro_batch, true).expect("backward");
                    prop_assert!(forward.end <= backward.start + 1e-12);
                    let before = match (stage, chunk) {
                        (0, 0) => None,
                        (0, chunk) => Some((pp - 1, chunk - 1)),
                        (stage, chunk) => Some((stage - 1, chunk)),
                    };
                    if let Some((stage, chunk)) = before {
                        let before = find(stage, chunk, micro_batch, false).expect("before");
                        prop_assert!(before.end <= forward.start + 1e-12);
                        let after = find(stage, chunk, micro_batch, true).expect("after");
                        prop_assert!(backward.end <= after.start + 1e-12);
                    }
                }
            }
        }
        let slowest = times.iter().map(|t| t.0 + t.1).fold(0.0, f64::max);
        prop_assert!(laid.seconds >= slowest * micro_batches as f64 - 1e-9);
        prop_assert!((0.0..1.0).contains(&laid.bubble()));
        Ok(())
    }

    #[test]
    fn a_round_that_is_not_whole_is_left_out() {
        check(&[(0.1, 0.1); 7], 2, 9).expect("every piece once, in order");
    }

    proptest! {
        #[test]
        fn every_piece_is_there_once_in_an_order_that_works(
            times in prop::collection::vec((0.1..3.0f64, 0.1..3.0f64), 1..9),
            vpp in 1usize..5,
            micro_batches in 1usize..30,
        ) {
            check(&times, vpp, micro_batches)?;
        }
    }
}
