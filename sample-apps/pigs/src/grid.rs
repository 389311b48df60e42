//! Numbers for each rate of maturing on the grid, and arithmetic on all of them at once.
//!
//! Written as loops over an array, which compilers turn into vector instructions. In the sandbox that matters: there each
//! floating-point operation is followed by one that makes the same NaN on every machine, and vectors halve their number.

use core::ops::{Add, Div, Mul, Sub};

/// Rates on the grid.
pub const RATES: usize = 8;

/// A number for each rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid(pub [f64; RATES]);

impl Grid {
    /// The same number for each rate.
    #[inline(always)]
    pub fn all(value: f64) -> Self {
        Self([value; RATES])
    }

    /// A number for each rate, by its place on the grid.
    #[inline(always)]
    pub fn by(number: impl FnMut(usize) -> f64) -> Self {
        Self(core::array::from_fn(number))
    }

    /// `first`, `first · ratio`, `first · ratio²` and so on.
    #[inline(always)]
    pub fn geometric(first: f64, ratio: f64) -> Self {
        let square = ratio * ratio;
        let fourth = square * square;
        let low = [first, first * ratio, first * square, first * (square * ratio)];
        Self([
            low[0],
            low[1],
            low[2],
            low[3],
            low[0] * fourth,
            low[1] * fourth,
            low[2] * fourth,
            low[3] * fourth,
        ])
    }

    /// The square roots.
    #[inline(always)]
    pub fn sqrt(self) -> Self {
        Self::by(|place| self.0[place].sqrt())
    }

    /// The larger of two for each rate.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self::by(|place| if other.0[place] > self.0[place] { other.0[place] } else { self.0[place] })
    }

    /// Whole powers.
    #[inline(always)]
    pub fn power(mut self, mut exponent: u32) -> Self {
        let mut power = Self::all(1.0);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = power * self;
            }
            self = self * self;
            exponent >>= 1;
        }
        power
    }

    /// The sum over the rates, always in the same order.
    #[inline(always)]
    pub fn sum(self) -> f64 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $operator:tt) => {
        impl $trait for Grid {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self::by(|place| self.0[place] $operator other.0[place])
            }
        }

        impl $trait<f64> for Grid {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: f64) -> Self {
                Self::by(|place| self.0[place] $operator other)
            }
        }
    };
}

operator!(Add, add, +);
operator!(Sub, sub, -);
operator!(Mul, mul, *);
operator!(Div, div, /);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_that_of_each_number() {
        let numbers = Grid::by(|place| place as f64 + 1.0);
        assert_eq!((numbers * numbers - numbers) / numbers, numbers - 1.0);
        assert_eq!(numbers.power(3), numbers * numbers * numbers);
        assert_eq!(numbers.power(0), Grid::all(1.0));
        assert_eq!((numbers * numbers).sqrt(), numbers);
        assert_eq!(numbers.sum(), 36.0);
        assert_eq!(numbers.max(Grid::all(4.5)).0, [4.5, 4.5, 4.5, 4.5, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(Grid::geometric(3.0, 2.0).0, [3.0, 6.0, 12.0, 24.0, 48.0, 96.0, 192.0, 384.0]);
    }
}
