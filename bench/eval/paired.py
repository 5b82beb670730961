"""Paired statistics over seeds: bootstrap intervals, TOST, exact sign flips, Holm. The unit is a seed, not a token."""
import itertools
import math
import random

RESAMPLES = 10_000


def mean(values):
    return sum(values) / len(values)


def deviation(values):
    centre = mean(values)
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))


def bootstrap(values, level=0.95):
    """Percentile interval of the mean; the same values give the same interval. None for one value, or where
    one is no finite number."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    generator = random.Random(1)
    means = sorted(mean(generator.choices(values, k=len(values))) for _ in range(RESAMPLES))
    tail = (1 - level) / 2
    return means[int(tail * RESAMPLES)], means[int((1 - tail) * RESAMPLES) - 1]


def incomplete_beta(x, a, b):
    """Regularised incomplete beta function by its continued fraction (Abramowitz & Stegun 26.5.8, Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 400):
        for term in (m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m)),
                     -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 / (1 + term * x * d)
            c = 1 + term * x / c
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * fraction


def t_upper_tail(t, freedom):
    """P(T > t) of Student's t."""
    tail = incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
    return tail if t > 0 else 1 - tail


def t_quantile(p, freedom):
    low, high = -1e3, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - t_upper_tail(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def tost(differences, margin, alpha=0.05):
    """Schuirmann's two one-sided tests: equivalent iff the (1 - 2 alpha) interval lies within (-margin, margin)."""
    n = len(differences)
    if n < 2:
        return {"margin": margin, "n": n, "verdict": "one pair says nothing"}
    centre, spread = mean(differences), deviation(differences)
    error = max(spread / math.sqrt(n), 1e-12)
    reach = t_quantile(1 - alpha, n - 1) * error
    p_lower, p_upper = (t_upper_tail((centre + margin) / error, n - 1), t_upper_tail((margin - centre) / error, n - 1))
    return {"margin": margin, "n": n, "mean": centre, "sd": spread, "ci90": [centre - reach, centre + reach],
            "p_lower": p_lower, "p_upper": p_upper,
            "verdict": "equivalent" if max(p_lower, p_upper) < alpha else "not shown to be equivalent"}


def sign_flip(differences):
    """Exact two-sided p of a mean difference of zero, over all 2^n signs. None beyond 16 pairs."""
    if not 1 < len(differences) <= 16:
        return None
    observed = abs(mean(differences))
    signs = itertools.product((1, -1), repeat=len(differences))
    extreme = sum(abs(mean([s * d for s, d in zip(flip, differences)])) >= observed - 1e-15 for flip in signs)
    return extreme / 2 ** len(differences)


def holm(p_values):
    """Adjusted p values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted
