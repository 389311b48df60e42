//! Numbers for each rate of maturing on the grid, and arithmetic on all of them at once.
//!
//! Written so that compilers make vector instructions of it: half as many.

use core::ops::{Add, Div, Mul, Sub};

/// Rates on the grid.
pub const RATES: usize = 4;

/// The larger of two numbers; the second where they are equal or one isn't a number. (`f64::max` asks more of
/// NaN, and is a call in the sandbox.)
#[inline(always)]
pub fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// A number for each rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid(pub [f64; RATES]);

impl Grid {
    /// The same number for each rate.
    #[inline(always)]
    pub fn all(value: f64) -> Self {
        Self([value; RATES])
    }

    /// The third to the sixth power of a number.
    #[inline(always)]
    pub fn powers(value: f64) -> Self {
        let square = value * value;
        let third = square * value;
        Self([third, square * square, square * third, third * third])
    }

    /// The square roots.
    #[inline(always)]
    pub fn sqrt(self) -> Self {
        let [a, b, c, d] = self.0;
        Self([a.sqrt(), b.sqrt(), c.sqrt(), d.sqrt()])
    }

    /// The larger of two for each rate.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([larger(a, e), larger(b, f), larger(c, g), larger(d, h)])
    }

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
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $operator:tt) => {
        impl $trait for Grid {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
                Self([a $operator e, b $operator f, c $operator g, d $operator h])
            }
        }

        impl $trait<f64> for Grid {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: f64) -> Self {
                let [a, b, c, d] = self.0;
                Self([a $operator other, b $operator other, c $operator other, d $operator other])
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
        let numbers = Grid([1.0, 2.0, 3.0, 4.0]);
        assert_eq!((numbers * numbers - numbers) / numbers, numbers - 1.0);
        assert_eq!(numbers.power(3), numbers * numbers * numbers);
        assert_eq!(numbers.power(0), Grid::all(1.0));
        assert_eq!((numbers * numbers).sqrt(), numbers);
        assert_eq!(numbers.sum(), 10.0);
        assert_eq!(numbers.max(Grid::all(2.5)).0, [2.5, 2.5, 3.0, 4.0]);
        assert_eq!(Grid::powers(2.0).0, [8.0, 16.0, 32.0, 64.0]);
    }
}
