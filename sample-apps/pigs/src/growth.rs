//! The forecast: a Gompertz curve for each animal, and the day on which it reaches a weight.
//!
//! The curve is Gompertz's, `W(t) = A · exp(-ln(A / W₀) · exp(-k·t))`, with mature weight `A`, weight at
//! the first weighing `W₀` and rate of maturing `k`. Wellock, Emmans and Kyriazakis (Animal Science 78
//! (2004) 379–388) argue for it as a description of the growth of pigs. In logarithms it is
//! `ln W(t) = a·(1 - g) + s·g` with `a = ln A`, `s = ln W₀` and `g = exp(-k·t)`: linear in `a` and `s` once
//! `k` is known. So the fit needs no iteration: for each `k` of a small grid a Kalman filter goes once over the
//! weighings and leaves the exact normal distribution of `a`, `s` and of the animal's slow drift away from
//! its curve (a Wiener process: health, feed, weather), and how likely the weighings were under that `k`.
//! Gelman et al., Bayesian Data Analysis (3rd ed. 2013), section 10.1, integrate a nonlinear parameter over a grid so.
//! The forecast mixes the grid by prior × likelihood (Bayesian model averaging), and its interval
//! holds what isn't known of `A`, `W₀`, `k` and the drift as well as the scatter of one weighing.
//!
//! Only `+ - * /`, `sqrt` and the functions of `libm` are used: the same bits on every machine,
//! sandboxed or not.

/// What is known of an animal's curve before its own weighings count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// Mature weight `A` in kg: the median over animals.
    pub mature: f64,
    /// Standard deviation of `ln A` between animals.
    pub mature_spread: f64,
    /// Rate of maturing `k`, for each day: the median over animals.
    pub rate: f64,
    /// Standard deviation of `ln k` between animals.
    pub rate_spread: f64,
}

/// How weighings scatter about an animal's curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scatter {
    /// Standard deviation of the scale itself, kg.
    pub scale: f64,
    /// Standard deviation of the fill of gut and bladder, relative to the weight.
    pub fill: f64,
    /// Drift of `ln W` away from the curve: its standard deviation after one day.
    pub drift: f64,
}

impl Scatter {
    /// Variance of `ln W` at a weighing.
    fn variance(&self, kg: f64) -> f64 {
        let scale = self.scale / kg;
        self.fill * self.fill + scale * scale
    }
}

/// A weighing as the fit sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighing {
    /// Days since the first weighing.
    pub day: f64,
    /// Live weight in kg, above zero.
    pub kg: f64,
}

/// When an animal reaches a weight, in days since the first weighing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// With a probability of 5 % it is earlier.
    pub low: f64,
    /// As likely earlier as later.
    pub day: f64,
    /// With a probability of 5 % it is later.
    pub high: f64,
}

/// Values of `k` on the grid.
const GRID: usize = 7;
/// The grid spans these multiples of the prior's rate.
const GRID_FROM: f64 = 0.6;
const GRID_TO: f64 = 1.5;
/// How far a first weighing may be from the animal's true weight then: it says nearly all there is to know.
const FIRST_SPREAD: f64 = 0.5;
/// Weighings beyond this many standard deviations count as if they lay there: a glitch of the scale
/// must not bend the curve.
const OUTLIER: f64 = 3.0;
/// The scatter above counts as much as this many weighings of the animal's own scatter.
const SCATTER_WEIGHT: f64 = 20.0;
/// Nothing is forecast further ahead of the last weighing than this many days.
pub const HORIZON: f64 = 400.0;
/// So many standard deviations from the mean lie 5 % of a normal distribution.
const FIVE_PERCENT: f64 = 1.6448536269514722;
/// Four or five are enough; this bounds what no weighings should bring about.
const STEPS: usize = 20;

/// One point of the grid: the distribution of (a, s, drift) given its `k`.
#[derive(Clone, Copy)]
struct Curve {
    rate: f64,
    mean: [f64; 3],
    /// Covariance: aa, as, au, ss, su, uu.
    cov: [f64; 6],
    /// Product of the innovations' variances; it stays far from underflow in 64 weighings of at least 1e-4.
    determinant: f64,
    /// Sum of the squares of the standardized innovations.
    misfit: f64,
    /// ln of the prior weight, then the weight itself.
    weight: f64,
    /// The variances' factor by the animal's own scatter.
    factor: f64,
}

impl Curve {
    fn new(rate: f64, first: f64, prior: &Prior) -> Self {
        let z = libm::log(rate / prior.rate) / prior.rate_spread;
        Self {
            rate,
            mean: [libm::log(prior.mature), first, 0.0],
            cov: [prior.mature_spread * prior.mature_spread, 0.0, 0.0, FIRST_SPREAD * FIRST_SPREAD, 0.0, 0.0],
            determinant: 1.0,
            misfit: 0.0,
            // The grid is even in k, the prior is normal in ln k: hence the 1 / k.
            weight: -0.5 * z * z - libm::log(rate / prior.rate),
            factor: 1.0,
        }
    }

    /// `P·h` for `h = (1 - g, g, 1)`, and `h·P·h`.
    fn project(&self, g: f64) -> ([f64; 3], f64) {
        let [aa, asx, au, ss, su, uu] = self.cov;
        let f = 1.0 - g;
        let ph = [aa * f + asx * g + au, asx * f + ss * g + su, au * f + su * g + uu];
        (ph, ph[0] * f + ph[1] * g + ph[2])
    }

    fn expect(&self, g: f64) -> f64 {
        self.mean[0] + self.mean[2] - (self.mean[0] - self.mean[1]) * g
    }

    /// One step of the Kalman filter.
    fn weigh(&mut self, g: f64, log_kg: f64, drift: f64, scatter: f64) {
        self.cov[5] += drift;
        let (ph, spread) = self.project(g);
        let innovation = log_kg - self.expect(g);
        let square = innovation * innovation;
        let variance = (spread + scatter).max(square / (OUTLIER * OUTLIER));
        let inverse = 1.0 / variance;
        self.misfit += square * inverse;
        self.determinant *= variance;
        let step = innovation * inverse;
        for (mean, ph) in self.mean.iter_mut().zip(ph) {
            *mean += ph * step;
        }
        self.cov[0] -= ph[0] * ph[0] * inverse;
        self.cov[1] -= ph[0] * ph[1] * inverse;
        self.cov[2] -= ph[0] * ph[2] * inverse;
        self.cov[3] -= ph[1] * ph[1] * inverse;
        self.cov[4] -= ph[1] * ph[2] * inverse;
        self.cov[5] -= ph[2] * ph[2] * inverse;
    }

    /// ln of prior × likelihood, the unknown factor of all variances integrated out (Student's t).
    fn settle(&mut self, count: f64) {
        self.factor = (SCATTER_WEIGHT + self.misfit) / (SCATTER_WEIGHT + count);
        self.weight -= 0.5 * libm::log(self.determinant)
            + 0.5 * (SCATTER_WEIGHT + count) * libm::log(1.0 + self.misfit / SCATTER_WEIGHT);
    }
}

/// The curves that fit an animal's weighings.
pub struct Fit {
    curves: [Curve; GRID],
    /// The grid's first `k` and the distance to the next.
    lowest: f64,
    step: f64,
    /// Day of the last weighing.
    last: f64,
    scatter: Scatter,
}

impl Fit {
    /// Fits the curve to weighings in the order of their days; `None` without any.
    pub fn new(
        weighings: impl Iterator<Item = Weighing> + Clone,
        prior: &Prior,
        scatter: &Scatter,
    ) -> Option<Self> {
        let first = weighings.clone().next()?;
        let start = libm::log(first.kg);
        let lowest = prior.rate * GRID_FROM;
        let step = prior.rate * (GRID_TO - GRID_FROM) / (GRID - 1) as f64;
        let mut curves: [Curve; GRID] =
            core::array::from_fn(|index| Curve::new(lowest + step * index as f64, start, prior));
        let mut before = first.day;
        let mut count = 0.0;
        for weighing in weighings {
            count += 1.0;
            let log_kg = libm::log(weighing.kg);
            let variance = scatter.variance(weighing.kg);
            let drift = scatter.drift * scatter.drift * (weighing.day - before);
            before = weighing.day;
            // The grid is even in k, so each exp(-k·t) is the one before times the same factor.
            let since = weighing.day - first.day;
            let mut g = libm::exp(-lowest * since);
            let factor = libm::exp(-step * since);
            for curve in &mut curves {
                curve.weigh(g, log_kg, drift, variance);
                g *= factor;
            }
        }
        let mut best = f64::NEG_INFINITY;
        for curve in &mut curves {
            curve.settle(count);
            best = best.max(curve.weight);
        }
        let mut total = 0.0;
        for curve in &mut curves {
            curve.weight = libm::exp(curve.weight - best);
            total += curve.weight;
        }
        for curve in &mut curves {
            curve.weight /= total;
        }
        Some(Self { curves, lowest, step, last: before - first.day, scatter: *scatter })
    }

    /// The probability that the animal weighs at least `kg` on a day, counted from the first weighing.
    pub fn chance(&self, day: f64, kg: f64) -> f64 {
        let target = Target::new(kg, &self.scatter);
        let (mean, deviation) = self.expect(day, &target);
        0.5 * libm::erfc((target.log_kg - mean) / deviation * core::f64::consts::FRAC_1_SQRT_2)
    }

    /// Mean and standard deviation of `ln W` on a day, the scatter of a weighing of the target's size included.
    ///
    /// At each `k` it is normal, and over the grid it is nearly so: the mixture's first two moments are enough.
    fn expect(&self, day: f64, target: &Target) -> (f64, f64) {
        let ahead = self.scatter.drift * self.scatter.drift * (day - self.last).max(0.0) + target.variance;
        let mut g = libm::exp(-self.lowest * day);
        let factor = libm::exp(-self.step * day);
        let (mut mean, mut square) = (0.0, 0.0);
        for curve in &self.curves {
            let (_, spread) = curve.project(g);
            // Counted from the target, the squares lose no digits.
            let above = curve.expect(g) - target.log_kg;
            mean += curve.weight * above;
            square += curve.weight * ((spread + ahead) * curve.factor + above * above);
            g *= factor;
        }
        (mean + target.log_kg, (square - mean * mean).max(0.0).sqrt())
    }

    /// By the likeliest curve, the day on which it passes the target: where to begin to look.
    fn guess(&self, target: &Target) -> f64 {
        let far = self.last + HORIZON / 4.0;
        let likelier = |a: &&Curve, b: &&Curve| a.weight.total_cmp(&b.weight);
        let day = self.curves.iter().max_by(likelier).map(|curve| {
            let range = curve.mean[0] - curve.mean[1];
            let left = curve.mean[0] + curve.mean[2] - target.log_kg;
            if left > 0.0 && range > 0.0 { libm::log(range / left) / curve.rate } else { far }
        });
        day.unwrap_or(far).clamp(self.last, self.last + HORIZON)
    }

    /// The day on which `ln W` less so many standard deviations passes the target, within the horizon.
    fn passes(&self, deviations: f64, near: f64, target: &Target) -> f64 {
        let end = self.last + HORIZON;
        let above = |day: f64| {
            let (mean, deviation) = self.expect(day, target);
            mean - deviations * deviation - target.log_kg
        };
        // A bracket first, by steps that double, then the secant kept within it (Illinois).
        let (mut low, mut high) = (near, near);
        let mut low_above = above(near);
        let mut high_above = low_above;
        let mut step = 4.0;
        while high_above < 0.0 {
            if high >= end {
                return end;
            }
            (low, low_above) = (high, high_above);
            high = (high + step).min(end);
            high_above = above(high);
            step *= 2.0;
        }
        while low_above >= 0.0 {
            if low <= self.last {
                return self.last;
            }
            (high, high_above) = (low, low_above);
            low = (low - step).max(self.last);
            low_above = above(low);
            step *= 2.0;
        }
        let mut same_side = 0i8;
        for _ in 0..STEPS {
            let day = low + (high - low) * low_above / (low_above - high_above);
            let here = above(day);
            // Growth is about a hundredth a day: this is a quarter of an hour.
            if here.abs() < 1e-4 {
                return day;
            }
            if here < 0.0 {
                (low, low_above) = (day, here);
                high_above *= if same_side == -1 { 0.5 } else { 1.0 };
                same_side = -1;
            } else {
                (high, high_above) = (day, here);
                low_above *= if same_side == 1 { 0.5 } else { 1.0 };
                same_side = 1;
            }
        }
        0.5 * (low + high)
    }

    /// When the animal reaches `kg`: the median, and an interval that holds the day with a probability of 90 %.
    ///
    /// Days are counted from the first weighing, not before the last weighing and at most [`HORIZON`] after it.
    pub fn reaches(&self, kg: f64) -> Forecast {
        let target = Target::new(kg, &self.scatter);
        let day = self.passes(0.0, self.guess(&target), &target);
        let low = self.passes(-FIVE_PERCENT, day, &target);
        let high = self.passes(FIVE_PERCENT, day, &target);
        Forecast { low, day, high }
    }
}

/// A weight to reach.
struct Target {
    log_kg: f64,
    /// Of `ln W`, by the scatter of a weighing there.
    variance: f64,
}

impl Target {
    fn new(kg: f64, scatter: &Scatter) -> Self {
        Self { log_kg: libm::log(kg), variance: scatter.variance(kg) }
    }
}
