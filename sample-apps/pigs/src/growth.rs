//! The forecast: a Gompertz curve for each animal, and the day on which it reaches a weight.
//!
//! The curve is Gompertz's, `W(t) = A · exp(-ln(A / W₀) · exp(-k·t))`, with mature weight `A`, weight at the
//! first weighing `W₀` and rate of maturing `k`. Wellock, Emmans and Kyriazakis (Animal Science 78 (2004) 379–388)
//! argue for it as a description of the growth of pigs. It is the solution of `dx = k·(a - x) dt` with `x = ln W` and
//! `a = ln A`. Health, feed and weather push an animal about: `dx = k·(a - x) dt + σ dB`, the stochastic Gompertz
//! model of Donnet, Foulley and Samson (Biometrics 66 (2010) 733–741), who follow the growth of chickens with it.
//!
//! Once `k` is known all of it is linear and normal, so the fit needs no iteration: for each `k` of a small grid a Kalman
//! filter goes once over the weighings and leaves the exact joint distribution of `x` and `a`, and how likely the
//! weighings were under that `k`. The forecast mixes the grid by prior × likelihood, so its interval holds
//! what isn't known of `A`, `W₀` and `k`, the pushes to come, and the scatter of the weighing that will show it.
//!
//! Only `+ - * /`, `sqrt` and the functions of `libm` are used: the same bits on every machine,
//! sandboxed or not.

use crate::grid::{Grid, RATES, larger};

/// The knowledge about an animal's curve before its own weighings count.
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

/// The scatter of an animal and its weighings about its curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scatter {
    /// Standard deviation of the scale itself, kg.
    pub scale: f64,
    /// Standard deviation of the fill of gut and bladder, relative to the weight.
    pub fill: f64,
    /// `σ`: how far `ln W` is pushed about in a day, as a standard deviation.
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
    /// Its natural logarithm. The caller keeps it, since it costs more than the rest that the fit does with a weighing.
    pub log_kg: f64,
}

impl Weighing {
    /// A weighing, with its logarithm.
    pub fn new(day: f64, kg: f64) -> Self {
        Self { day, kg, log_kg: libm::log(kg) }
    }
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

/// The grid's rates are 3, 4, 5 and 6 times this multiple of the prior's rate: two standard deviations either way, and
/// the decays are powers of one. More rates forecast no better.
const GRID_UNIT: f64 = 0.22;
const GRID: Grid = Grid([3.0, 4.0, 5.0, 6.0]);
/// Standard deviation of `ln W` before the first weighing: that says nearly all there is to know.
const FIRST_SPREAD: f64 = 0.5;
/// Weighings beyond this many standard deviations count as if they lay there: a glitch of the scale
/// must not bend the curve.
const OUTLIER: f64 = 3.0;
/// The scatter given counts as much as this many weighings of the animal's own.
const SCATTER_WEIGHT: u32 = 20;
/// About one over the variance of an innovation: their product stays near 1, however many there are.
const USUAL_PRECISION: f64 = 1e3;
/// Nothing is forecast further ahead of the last weighing than this many days.
pub const HORIZON: f64 = 400.0;
/// So many standard deviations from the mean lie 5 % of a normal distribution.
const FIVE_PERCENT: f64 = 1.6448536269514722;
/// `ln W` this near the target is the day to a quarter of an hour, growth being about a hundredth a day.
const NEAR: f64 = 1e-4;
/// From this near one more secant gets as near as that: its error is the square.
const NEARLY: f64 = 3e-3;
/// Two are enough; this bounds what no weighings should bring about.
const STEPS: usize = 20;

/// Data that the forecasts of all animals of a breed share.
#[derive(Clone, Debug)]
pub struct Model {
    rates: Grid,
    /// The distance from one rate to the next.
    unit: f64,
    /// Prior weight of each rate.
    weights: Grid,
    /// `σ² / 2k`: the variance of the pushes in the long run.
    pushes: Grid,
    log_mature: f64,
    mature_variance: f64,
    scatter: Scatter,
}

impl Model {
    /// Makes the grid.
    pub fn new(prior: &Prior, scatter: &Scatter) -> Self {
        let unit = prior.rate * GRID_UNIT;
        let rates = GRID * unit;
        Self {
            rates,
            unit,
            // The grid is even in k, the prior is normal in ln k: hence the 1 / k.
            weights: Grid(rates.0.map(|rate| {
                let z = libm::log(rate / prior.rate) / prior.rate_spread;
                libm::exp(-0.5 * z * z) / rate
            })),
            pushes: Grid::all(0.5 * scatter.drift * scatter.drift) / rates,
            log_mature: libm::log(prior.mature),
            mature_variance: prior.mature_spread * prior.mature_spread,
            scatter: *scatter,
        }
    }

    /// `exp(-k·days)` for each rate.
    #[inline(always)]
    fn decay(&self, days: f64) -> Grid {
        Grid::powers(libm::exp(-self.unit * days))
    }

    /// Fits the curve to weighings in the order of their days; `None` without any.
    #[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
    pub fn fit(&self, weighings: impl Iterator<Item = Weighing>) -> Option<Fit<'_>> {
        let mut weighings = weighings.peekable();
        let first = *weighings.peek()?;
        let (mut last, mut count) = (first.day, 0);
        // Means and covariances of x = ln W and a = ln A.
        let (mut x, mut a) = (Grid::all(first.log_kg), Grid::all(self.log_mature));
        let mut xx = Grid::all(FIRST_SPREAD * FIRST_SPREAD);
        let (mut xa, mut aa) = (Grid::all(0.0), Grid::all(self.mature_variance));
        let (mut determinant, mut misfit) = (Grid::all(1.0), Grid::all(0.0));
        let (mut span, mut decay) = (0.0, Grid::all(1.0));
        for weighing in weighings {
            if weighing.day - last != span {
                span = weighing.day - last;
                decay = self.decay(span);
            }
            last = weighing.day;
            count += 1;
            // To the day of the weighing,
            let rise = Grid::all(1.0) - decay;
            x = a - (a - x) * decay;
            let both = xa * decay;
            let ripe = aa * rise;
            xx = decay * (xx * decay + both * (rise * 2.0))
                + ripe * rise
                + self.pushes * (rise + rise * decay);
            xa = both + ripe;
            // and to what it says.
            let innovation = Grid::all(weighing.log_kg) - x;
            let square = innovation * innovation;
            let variance =
                (xx + self.scatter.variance(weighing.kg)).max(square * (1.0 / (OUTLIER * OUTLIER)));
            let precision = Grid::all(1.0) / variance;
            misfit = misfit + square * precision;
            determinant = determinant * (variance * USUAL_PRECISION);
            let (gain_x, gain_a) = (xx * precision, xa * precision);
            x = x + gain_x * innovation;
            a = a + gain_a * innovation;
            aa = aa - gain_a * xa;
            xa = xa - gain_a * xx;
            xx = xx - gain_x * xx;
        }
        // Prior × likelihood, the unknown factor of all variances integrated out (Student's t).
        let own = f64::from(SCATTER_WEIGHT);
        let odds = (Grid::all(1.0) / (misfit * (1.0 / own) + 1.0)).sqrt().power(SCATTER_WEIGHT + count);
        let weights = self.weights * odds / determinant.sqrt();
        let factor = (misfit + own) * (1.0 / (own + f64::from(count)));
        Some(Fit {
            model: self,
            weights: weights * (1.0 / weights.sum()),
            mature: a,
            below: a - x,
            // The variance of x after the decay g: the constant, g and g².
            variance: [aa + self.pushes, (xa - aa) * 2.0, xx - xa * 2.0 + aa - self.pushes]
                .map(|part| part * factor),
            factor,
            last: last - first.day,
        })
    }
}

/// The curves that fit an animal's weighings.
#[derive(Clone, Debug)]
pub struct Fit<'a> {
    model: &'a Model,
    weights: Grid,
    /// `ln A`, and how far below it the animal is.
    mature: Grid,
    below: Grid,
    variance: [Grid; 3],
    /// The variances' factor by the animal's own scatter.
    factor: Grid,
    /// Day of the last weighing.
    last: f64,
}

/// A weight to reach.
struct Target {
    log_kg: f64,
    /// Of `ln W`, by the scatter of a weighing there.
    variance: f64,
}

/// Returns the expectation for a day.
#[derive(Clone, Copy)]
struct Outlook {
    day: f64,
    /// Mean of `ln W` less the target.
    above: f64,
    /// Its standard deviation.
    deviation: f64,
    /// Its rise a day.
    slope: f64,
}

impl Fit<'_> {
    fn target(&self, kg: f64) -> Target {
        Target { log_kg: libm::log(kg), variance: self.model.scatter.variance(kg) }
    }

    /// The probability that a weighing shows at least `kg` on a day, counted from the first weighing.
    pub fn chance(&self, day: f64, kg: f64) -> f64 {
        let outlook = self.outlook(day, &self.target(kg));
        0.5 * libm::erfc(-outlook.above / outlook.deviation * core::f64::consts::FRAC_1_SQRT_2)
    }

    /// At each rate `ln W` is normal, and over the grid nearly so: the mixture's first two moments are enough.
    #[cfg_attr(target_family = "wasm", target_feature(enable = "simd128"))]
    fn outlook(&self, day: f64, target: &Target) -> Outlook {
        let decay = self.model.decay(larger(day - self.last, 0.0));
        let left = self.below * decay;
        let above = self.mature - target.log_kg - left;
        let [constant, linear, square] = self.variance;
        let variance = constant + self.factor * target.variance + (linear + square * decay) * decay;
        let mean = (self.weights * above).sum();
        let second = (self.weights * (variance + above * above)).sum();
        let slope = (self.weights * left * self.model.rates).sum();
        Outlook { day, above: mean, deviation: larger(second - mean * mean, 0.0).sqrt(), slope }
    }

    /// By the likeliest curve, the day on which it passes the target: where to begin to look.
    fn guess(&self, target: &Target) -> f64 {
        let likelier = |a: &usize, b: &usize| self.weights.0[*a].total_cmp(&self.weights.0[*b]);
        let place = (0..RATES).max_by(likelier).unwrap_or(0);
        let left = self.mature.0[place] - target.log_kg;
        let days = if left > 0.0 {
            libm::log(larger(self.below.0[place], left) / left) / self.model.rates.0[place]
        } else {
            HORIZON / 4.0
        };
        self.last + days.min(HORIZON)
    }

    /// The day on which `ln W` less so many standard deviations passes the target, within the horizon.
    fn passes(&self, deviations: f64, from: Outlook, target: &Target) -> f64 {
        let end = self.last + HORIZON;
        let miss = |outlook: &Outlook| outlook.above - deviations * outlook.deviation;
        let (mut here, mut missed, mut slope) = (from, miss(&from), from.slope);
        for _ in 0..STEPS {
            if missed.abs() < NEAR {
                return here.day;
            }
            let next = (here.day - missed / slope).clamp(self.last, end);
            // Nothing rises: then it never gets there. Or the end of what is looked at is reached.
            if slope <= 0.0 || next == here.day {
                return if missed < 0.0 { end } else { self.last };
            }
            if missed.abs() < NEARLY {
                return next;
            }
            let there = self.outlook(next, target);
            let missed_there = miss(&there);
            let secant = (missed_there - missed) / (next - here.day);
            slope = if secant > 0.0 { secant } else { there.slope };
            (here, missed) = (there, missed_there);
        }
        here.day
    }

    /// When the animal reaches `kg`: the median, and an interval that holds the day with a probability of 90 %.
    ///
    /// Days are counted from the first weighing, not before the last weighing and at most [`HORIZON`] after it.
    pub fn reaches(&self, kg: f64) -> Forecast {
        let target = self.target(kg);
        let near = self.outlook(self.guess(&target), &target);
        let day = self.passes(0.0, near, &target);
        let low = self.passes(-FIVE_PERCENT, near, &target).min(day);
        let high = self.passes(FIVE_PERCENT, near, &target).max(day);
        Forecast { low, day, high }
    }
}
