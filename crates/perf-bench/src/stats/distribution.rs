//! Student's t and the standard normal distribution: tails and quantiles.
//!
//! Tails are computed as such and not as one minus the rest, so that small ones
//! keep their relative precision. Everything is good to 1e-12 or better.

use std::f64::consts::PI;

/// Density of the standard normal distribution.
#[must_use]
pub fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// P(Z ≤ x) of the standard normal distribution; NaN for NaN.
#[must_use]
pub fn normal_cdf(x: f64) -> f64 {
    if x < 0.0 {
        normal_upper_tail(-x)
    } else {
        1.0 - normal_upper_tail(x)
    }
}

/// P(Z > x) for x ≥ 0.
fn normal_upper_tail(x: f64) -> f64 {
    // Where the series below needs no cancellation to speak of, and where the
    // continued fraction converges in few steps.
    const SWITCH: f64 = 2.5;
    if x < SWITCH {
        // Φ(x) − ½ = φ(x) Σ x^(2k+1) / (2k+1)!!: every term is positive.
        let (mut term, mut sum, mut k) = (x, x, 1.0);
        while term > sum * 1e-17 {
            term *= x * x / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        0.5 - normal_density(x) * sum
    } else if x.is_finite() {
        // Laplace: φ(x) / (x + 1/(x + 2/(x + 3/(x + …)))), from the inside out.
        let fraction = (1..=200).rev().fold(x, |inner, k| x + f64::from(k) / inner);
        normal_density(x) / fraction
    } else {
        // 0 for infinity, NaN for NaN.
        1.0 / x
    }
}

/// The x with P(Z ≤ x) = `p`; infinite at 0 and 1.
///
/// # Panics
/// If `p` is not within 0 to 1.
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    symmetric_quantile(p, normal_upper_tail, normal_density)
}

/// P(T > t) of Student's distribution with `df` degrees of freedom, which need
/// not be whole.
///
/// # Panics
/// If `df` is not positive.
#[must_use]
pub fn student_t_upper_tail(t: f64, df: f64) -> f64 {
    assert!(df > 0.0, "Student's t with {df} degrees of freedom");
    if t < 0.0 {
        return 1.0 - student_t_upper_tail(-t, df);
    }
    if t.is_infinite() {
        return 0.0;
    }
    // P(T > t) = ½ I_x(df/2, ½) with x = df/(df + t²); Abramowitz and Stegun 26.7.1.
    // Both x and its complement are computed directly: either may be tiny.
    let (x, complement) = (df / (df + t * t), t * t / (df + t * t));
    0.5 * incomplete_beta_half(0.5 * df, x, complement)
}

/// P(T ≤ t); see [`student_t_upper_tail`].
///
/// # Panics
/// If `df` is not positive.
#[must_use]
pub fn student_t_cdf(t: f64, df: f64) -> f64 {
    student_t_upper_tail(-t, df)
}

/// The t with P(T ≤ t) = `p`; infinite at 0 and 1.
///
/// # Panics
/// If `p` is not within 0 to 1 or `df` is not positive.
#[must_use]
pub fn student_t_quantile(p: f64, df: f64) -> f64 {
    assert!(df > 0.0, "Student's t with {df} degrees of freedom");
    let scale = gamma_ratio(0.5 * df) / (df * PI).sqrt();
    symmetric_quantile(
        p,
        |t| student_t_upper_tail(t, df),
        |t| scale * (-0.5 * (df + 1.0) * (t * t / df).ln_1p()).exp(),
    )
}

/// Quantile of a distribution symmetric about 0 by Newton's method, kept inside
/// a bracket that shrinks with every evaluation.
fn symmetric_quantile(
    p: f64,
    upper_tail: impl Fn(f64) -> f64,
    density: impl Fn(f64) -> f64,
) -> f64 {
    assert!((0.0..=1.0).contains(&p), "probability {p} is not in 0..=1");
    if p == 0.5 {
        return 0.0;
    }
    let (tail, sign) = if p < 0.5 { (p, -1.0) } else { (1.0 - p, 1.0) };
    if tail == 0.0 {
        return sign * f64::INFINITY;
    }
    let (mut lo, mut hi) = (0.0_f64, 1.0_f64);
    while upper_tail(hi) > tail {
        lo = hi;
        hi *= 2.0;
    }
    let mut x = 0.5 * (lo + hi);
    for _ in 0..200 {
        let excess = upper_tail(x) - tail;
        if excess > 0.0 {
            lo = x;
        } else {
            hi = x;
        }
        let newton = x + excess / density(x);
        // Bisection where Newton leaves the bracket, as it does far out.
        let next = if newton > lo && newton < hi {
            newton
        } else {
            0.5 * (lo + hi)
        };
        let step = (next - x).abs();
        x = next;
        if step <= x * 1e-15 {
            break;
        }
    }
    sign * x
}

/// The regularised incomplete beta function I_x(a, ½). `complement` is 1 − x.
fn incomplete_beta_half(a: f64, x: f64, complement: f64) -> f64 {
    const B: f64 = 0.5;
    if x <= 0.0 {
        return 0.0;
    }
    if complement <= 0.0 {
        return 1.0;
    }
    // x^a (1−x)^½ / B(a, ½); 1/B(a, ½) = Γ(a+½) / (Γ(a) √π).
    let ln_x = if x < 0.5 {
        x.ln()
    } else {
        (-complement).ln_1p()
    };
    let front = (a * ln_x).exp() * complement.sqrt() * gamma_ratio(a) / PI.sqrt();
    // The fraction converges fast below the mean of the beta distribution; above
    // it I_x(a, b) = 1 − I_(1−x)(b, a).
    if x < (a + 1.0) / (a + B + 2.0) {
        front * beta_fraction(a, B, x) / a
    } else {
        1.0 - front * beta_fraction(B, a, complement) / B
    }
}

/// Continued fraction of the incomplete beta function (Abramowitz and Stegun
/// 26.5.8), evaluated by Lentz's method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let nonzero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    // About √max(a, b) steps are needed; the bound is there for NaN.
    for m in 1..100_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for coefficient in [even, odd] {
            d = 1.0 / nonzero(1.0 + coefficient * d);
            c = nonzero(1.0 + coefficient / c);
            change = c * d;
            result *= change;
        }
        if (change - 1.0).abs() < 1e-16 {
            break;
        }
    }
    result
}

/// Γ(a + ½) / Γ(a) for a > 0.
///
/// A ratio, because the two logarithms would cancel for large `a`.
fn gamma_ratio(a: f64) -> f64 {
    // Γ(a+½)/Γ(a) = a/(a+½) · Γ(a+3/2)/Γ(a+1): upwards until the series holds.
    const SERIES_FROM: f64 = 20.0;
    let (mut a, mut factor) = (a, 1.0);
    while a < SERIES_FROM {
        factor *= a / (a + 0.5);
        a += 1.0;
    }
    // Asymptotic series of the logarithm in 1/a; the next term is below 1e-16.
    let inverse = 1.0 / a;
    let square = inverse * inverse;
    let series = inverse
        * (-1.0 / 8.0
            + square
                * (1.0 / 192.0
                    + square
                        * (-1.0 / 640.0 + square * (17.0 / 14336.0 - square * 31.0 / 18432.0))));
    factor * a.sqrt() * series.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64) {
        let error = (found - expected).abs() / expected.abs().max(1e-300);
        assert!(error < 1e-13, "found {found:e}, expected {expected:e}");
    }

    #[test]
    fn closed_forms_of_few_degrees_of_freedom() {
        for t in [0.001_f64, 0.3, 1.0, 4.5, 1e4, 1e9] {
            // Cauchy: ½ − atan(t)/π, which is atan(1/t)/π without cancellation.
            close(student_t_upper_tail(t, 1.0), (1.0 / t).atan() / PI);
            // df 2: ½ (1 − t/√(t²+2)) = 1/((t²+2) + t√(t²+2)).
            let s = t * t + 2.0;
            close(student_t_upper_tail(t, 2.0), 1.0 / (s + t * s.sqrt()));
        }
    }

    #[test]
    fn the_gamma_ratio_at_halves() {
        close(gamma_ratio(0.5), 1.0 / PI.sqrt());
        close(gamma_ratio(1.0), PI.sqrt() / 2.0);
        close(gamma_ratio(1.5), 2.0 / PI.sqrt());
    }

    #[test]
    fn quantiles_invert_tails() {
        for df in [0.5, 1.0, 3.7, 30.0, 1e3, 1e6] {
            for p in [1e-12, 1e-4, 0.2, 0.5, 0.8, 0.9967] {
                let t = student_t_quantile(p, df);
                let back = student_t_cdf(t, df);
                assert!((back - p).abs() < 1e-12 * p.max(1e-3), "{df} {p} {back}");
            }
        }
        assert_eq!(student_t_quantile(1.0, 3.0), f64::INFINITY);
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
    }

    #[test]
    fn many_degrees_of_freedom_are_normal() {
        for p in [0.01, 0.3, 0.975] {
            assert!((student_t_quantile(p, 1e9) - normal_quantile(p)).abs() < 1e-7);
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        assert!(normal_cdf(f64::NAN).is_nan());
        assert!(student_t_upper_tail(f64::NAN, 3.0).is_nan());
        assert_eq!(normal_cdf(f64::INFINITY), 1.0);
        assert_eq!(student_t_cdf(f64::NEG_INFINITY, 3.0), 0.0);
    }
}
