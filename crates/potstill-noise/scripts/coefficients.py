"""Chebyshev interpolants of the logarithm, sine and cosine in src/elementary.rs. Run: python coefficients.py (mpmath)."""

from mpmath import chebyfit, factorial, mp, mpf, nstr, pi, sqrt

mp.dps = 60


def show(name, function, end, terms):
    coefficients, error = chebyfit(function, [mpf(0), end], terms, error=True)
    print(f"{name}: error {nstr(error, 3)}")
    for coefficient in reversed(coefficients):
        print(f"    {float(coefficient)!r},")


quarter = pi / 2
# (2·atanh(s)/s − 2)/s² over z = s², for mantissas in [√½, √2): |s| ≤ (√2 − 1)/(√2 + 1).
largest = ((sqrt(mpf(2)) - 1) / (sqrt(mpf(2)) + 1)) ** 2 * mpf("1.0001")
show("LN", lambda z: sum(mpf(2) / (2 * k + 3) * z**k for k in range(60)), largest, 7)
# sin(πf/2)/f and (cos(πf/2) − 1)/f² over z = f², |f| ≤ ½.
show("SIN", lambda z: sum((-1) ** k * quarter ** (2 * k + 1) * z**k / factorial(2 * k + 1) for k in range(30)), mpf("0.25"), 7)
show("COS", lambda z: sum((-1) ** (k + 1) * quarter ** (2 * k + 2) * z**k / factorial(2 * k + 2) for k in range(30)), mpf("0.25"), 7)
