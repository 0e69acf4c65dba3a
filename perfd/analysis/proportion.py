"""How often does something happen? An exact interval for a share of independent trials."""

from __future__ import annotations

from perfd.analysis.quantiles import beta_distribution


def exact_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share, which holds at least as often as it says, however few the
    trials.

    Its ends are the quantile (1 - confidence) / 2 of Beta(x, n - x + 1), and that of 1 less it of
    Beta(x + 1, n - x), for x successes in n trials: "The use of confidence or fiducial limits", Biometrika 26
    (1934). Raises ValueError if there are more successes than trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} trials is no share")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _beta_quantile(successes, trials - successes + 1, tail)
    high = 1.0 if successes == trials else _beta_quantile(successes + 1, trials - successes, 1 - tail)
    return low, high


def _beta_quantile(a: float, b: float, p: float) -> float:
    """By secants; an end that stays counts half, so that both ends come closer (the Illinois method)."""
    low, high = 0.0, 1.0
    below, above = -p, 1.0 - p
    side = 0
    while high - low > 1e-10:
        x = (low * above - high * below) / (above - below)
        if not low < x < high:
            x = (low + high) / 2
        found = beta_distribution(a, b, x) - p
        if abs(found) < 1e-13:
            return x
        if found < 0:
            low, below = x, found
            above = above / 2 if side < 0 else above
            side = -1
        else:
            high, above = x, found
            below = below / 2 if side > 0 else below
            side = 1
    return (low + high) / 2
