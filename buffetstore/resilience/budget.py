"""How many retries a store's calls may spend together, so that an outage is not made worse by them."""

from __future__ import annotations


class RetryBudget:
    """Tokens that retries cost, and that success gives back.

    A retry costs one token. A call that succeeds at once gives `refill` back, one that succeeds by a retry what that
    retry had cost: failures now and then never use the budget up, while calls that mostly fail (about one in four or
    more) soon go without retries, and the service is asked little more than it is by its callers.

    Parameters
    ----------
    capacity:
        Tokens at most, and at first; None never runs out.
    refill:
        What a success gives back.

    Notes
    -----
    As gRPC's retry throttling (gRFC A6: `maxTokens`, `tokenRatio`) and the retry quota of the AWS SDKs (standard retry
    mode).
    """

    __slots__ = ("_capacity", "_refill", "_tokens")

    def __init__(self, capacity: float | None, refill: float) -> None:
        self._capacity = capacity
        self._refill = refill
        self._tokens = 0.0 if capacity is None else capacity

    @property
    def tokens(self) -> float | None:
        """What is left; None where it never runs out."""
        return None if self._capacity is None else self._tokens

    def spend(self) -> bool:
        """Take the price of a retry; return whether it was there."""
        if self._capacity is None:
            return True
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def succeeded(self, *, by_retry: bool = False) -> None:
        """Give back what a call that succeeded is worth."""
        if self._capacity is not None and self._tokens < self._capacity:
            self._tokens = min(self._capacity, self._tokens + (1.0 if by_retry else self._refill))
