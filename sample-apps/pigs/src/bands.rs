//! Published facts about the growth of breeds: the curve to start a forecast with, and the band to stay in.
//!
//! The band is on the speed of growth, not on weight for age: it needs no date of birth, and an
//! animal that came small but grows well raises no alarm. The Gompertz curve says how long the breed takes from one
//! weight to another, whenever that is: its relative growth is `k · ln(A / W)`, a function of the weight alone.

use crate::grid::larger;
use crate::growth::Prior;

/// A breed's published growth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breed {
    /// As in the setting `breed`.
    pub name: &'static str,
    /// Mature weight `A`, kg.
    pub mature: f64,
    /// Rate of maturing `k`, for each day.
    pub rate: f64,
    /// The source of the figures.
    pub source: &'static str,
}

/// Spread of `ln A` and `ln k` between animals and between a farm and the publication: the published
/// herds below differ by that much in `k`.
const SPREAD: f64 = 0.15;

/// An animal this far below its mature weight is full-grown; as a difference of logarithms.
const FULL_GROWN: f64 = 0.05;

/// The breeds, in the order of their names.
///
/// Where only growth is published and no curve, `A` is that of the crossbred and `k` follows from it: from an
/// age at 90 kg by `k = ln(ln(A / 1.5) / ln(A / 90)) / age` (1.5 kg at birth), from a daily gain over 30 to 90 kg by
/// `k = gain / 60 · ln(ln(A / 30) / ln(A / 90))`.
pub const BREEDS: [Breed; 6] = [
    Breed {
        name: "crossbred",
        mature: 230.0,
        rate: 0.0126,
        source: "Gompertz fit to the gilts of Shull (2013, PhD thesis, University of Illinois) in Lewis and \
                 Emmans, J. Anim. Sci. 98 (2020) skaa087, table 1: A 230 kg, 0.0126/d",
    },
    Breed {
        name: "duroc",
        mature: 230.0,
        rate: 0.0119,
        source: "Philippine national boar performance test 1990-2016 (Philipp. J. Vet. Anim. Sci.): 922.9 g/d on test",
    },
    Breed {
        name: "landrace",
        mature: 230.0,
        rate: 0.0116,
        source: "As large-white: no difference in growth left by 1991 (Sheridan, Mabey and Gordon, Aust. J. Exp. \
                 Agric. 33 (1993) 13-19)",
    },
    Breed {
        name: "large-white",
        mature: 230.0,
        rate: 0.0116,
        source: "Philippine national boar performance test 1990-2016 (Philipp. J. Vet. Anim. Sci.): 144.6 d at 90 kg",
    },
    Breed {
        name: "nero-di-parma",
        mature: 225.0,
        rate: 0.0077,
        source: "Gompertz fit of Sabbioni et al., Ital. J. Anim. Sci. 8 (2009): 229.0 and 221.3 kg, 7.38e-3/d and \
                 7.99e-3/d for castrated males and females; the mean of both",
    },
    Breed {
        name: "pietrain",
        mature: 230.0,
        rate: 0.0119,
        source: "Pietrain x Large White in the Philippine national boar performance test 1990-2016: 141.2 d at 90 kg",
    },
];

/// An animal's growth compared with its breed's band.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Grows as the breed does.
    Within,
    /// Slower than the band: the fraction of the breed's speed, below zero where it lost weight.
    Slow(f64),
    /// Faster than the band: more likely another animal on the scale than a wonder.
    Fast(f64),
}

impl Breed {
    /// The breed of this name; `yorkshire` is `large-white`.
    pub fn find(name: &str) -> Option<&'static Breed> {
        let name = if name == "yorkshire" { "large-white" } else { name };
        BREEDS.iter().find(|breed| breed.name == name)
    }

    /// The knowledge about an animal's curve before it was weighed.
    pub fn prior(&self) -> Prior {
        Prior { mature: self.mature, mature_spread: SPREAD, rate: self.rate, rate_spread: SPREAD }
    }

    /// Days that the breed takes from one weight to another, both as the logarithm of kg; negative from a heavier to a
    /// lighter one.
    pub fn days(&self, from: f64, to: f64) -> f64 {
        let mature = libm::log(self.mature);
        // At its mature weight an animal hardly grows: there is nothing to compare with.
        let left = |log_kg: f64| larger(mature - log_kg, FULL_GROWN);
        libm::log(left(from) / left(to)) / self.rate
    }

    /// Compares growth from one weight to another, both as the logarithm of kg, in so many days with the breed's; `tolerance` is the half
    /// width of the band, such as 0.35.
    pub fn judge(&self, from: f64, to: f64, days: f64, tolerance: f64) -> Standing {
        let speed = self.days(from, to) / days;
        if speed < 1.0 - tolerance {
            Standing::Slow(speed)
        } else if speed > 1.0 + tolerance {
            Standing::Fast(speed)
        } else {
            Standing::Within
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rates_follow_from_the_published_figures() {
        let by_age = |age: f64| ((230.0_f64 / 1.5).ln() / (230.0_f64 / 90.0).ln()).ln() / age;
        let by_gain = |gain: f64| gain / 60.0 * ((230.0_f64 / 30.0).ln() / (230.0_f64 / 90.0).ln()).ln();
        let rate = |name: &str| Breed::find(name).unwrap().rate;
        assert!((rate("large-white") - by_age(144.6)).abs() < 5e-5);
        assert!((rate("pietrain") - by_age(141.2)).abs() < 5e-5);
        assert!((rate("duroc") - by_gain(0.9229)).abs() < 5e-5);
        assert!((rate("nero-di-parma") - (7.38e-3 + 7.99e-3) / 2.0).abs() < 5e-5);
        assert_eq!(Breed::find("yorkshire"), Breed::find("large-white"));
        assert_eq!(Breed::find("Duroc"), None);
    }

    #[test]
    fn days_are_those_of_the_curve() {
        let breed = Breed::find("crossbred").unwrap();
        let kg = |day: f64| 230.0 * (-(230.0_f64 / 25.0).ln() * (-0.0126 * day).exp()).exp();
        assert!((breed.days(kg(10.0).ln(), kg(45.0).ln()) - 35.0).abs() < 1e-9);
        assert!((breed.days(kg(45.0).ln(), kg(10.0).ln()) + 35.0).abs() < 1e-9);
    }

    #[test]
    fn the_band_knows_slow_and_fast() {
        let breed = Breed::find("crossbred").unwrap();
        let judge = |from: f64, to: f64, days| breed.judge(from.ln(), to.ln(), days, 0.35);
        let expected = breed.days(40.0_f64.ln(), 60.0_f64.ln());
        assert_eq!(judge(40.0, 60.0, expected), Standing::Within);
        assert!(
            matches!(judge(40.0, 60.0, expected * 2.0), Standing::Slow(speed) if (speed - 0.5).abs() < 1e-12)
        );
        assert!(matches!(judge(40.0, 60.0, expected / 2.0), Standing::Fast(_)));
        assert!(matches!(judge(60.0, 55.0, 21.0), Standing::Slow(speed) if speed < 0.0));
        // Near and above its mature weight an animal hardly grows, and nothing divides by zero.
        assert!(matches!(judge(240.0, 260.0, 21.0), Standing::Slow(speed) if speed == 0.0));
    }
}
