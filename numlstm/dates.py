"""Dates of a regular series: reading them, the step between them, and going on with it."""

import calendar
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["Step", "infer_step", "parse", "positions_a_year_before", "resembles_date", "text_like"]

# Narrower than some versions of `fromisoformat`, so that all of them read the same.
_ISO = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{3}(\d{3})?)?)?(Z|[+-]\d\d:\d\d)?)?)?", re.ASCII)
_OTHER = re.compile(r"(\d{1,2}([./-])\d{1,2}\2\d{4}|\d{4}([./-])\d{1,2}\3\d{1,2})([ T]\d.*)?", re.ASCII)
_MONTH, _DAY = len("2012-01"), len("2012-01-31")


def parse(text: str) -> datetime | None:
    """Return the date of an ISO 8601 text (2012-01, 2012-01-31, 2012-01-31T18:30:00+01:00), or None if it is none."""
    if not _ISO.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(f"{text}-01" if len(text) == _MONTH else text.replace("Z", "+00:00"))
    except ValueError:  # the 31st of February
        return None


def resembles_date(text: str) -> bool:
    """Return whether a text looks like a date in any order (31.01.2012, 1/31/2012, 2012/01/31), with or without a time."""
    return _OTHER.fullmatch(text) is not None


def text_like(date: datetime, example: str) -> str:
    """Return a date as text, as precise as an example that `parse` reads."""
    if len(example) <= _DAY:
        return date.isoformat()[: len(example)]
    has_seconds = example[16:17] == ":"
    return date.isoformat(example[_DAY], timespec="auto" if has_seconds else "minutes")


@dataclass(frozen=True)
class Step:
    """What lies between two rows: a number of months, or a length of time.

    months : 0 for a length of time
    at_month_end : whether the day is each month's last
    """

    months: int = 0
    length: timedelta = timedelta()
    at_month_end: bool = False

    def after(self, date: datetime, count: int = 1) -> datetime:
        """Return the date so many steps later, or earlier if it is negative."""
        if not self.months:
            return date + count * self.length
        year, month = divmod(date.year * 12 + date.month - 1 + count * self.months, 12)
        last = calendar.monthrange(year, month + 1)[1]
        return date.replace(year=year, month=month + 1, day=last if self.at_month_end else min(date.day, last))

    def times(self, count: int) -> "Step":
        """Return so many steps as one."""
        return Step(self.months * count, self.length * count, self.at_month_end)

    def __str__(self) -> str:
        units = [("year", 12), ("month", 1)] if self.months else [("day", 86400), ("hour", 3600), ("minute", 60)]
        size = self.months or self.length.total_seconds()
        unit, each = next(((unit, each) for unit, each in units if size % each == 0), ("second", 1))
        return f"{size / each:g} {unit}{'' if size == each else 's'}"

    @property
    def is_within_a_year(self) -> bool:
        """Whether it is shorter than a year."""
        return self.months < 12 and self.length < timedelta(days=365)


def infer_step(dates: Sequence[datetime]) -> Step:
    """Return the most frequent step between ascending dates, at least two."""
    at_month_end = all(date.day == calendar.monthrange(date.year, date.month)[1] for date in dates)
    pairs = list(itertools.pairwise(dates))
    if (at_month_end or len({date.day for date in dates}) == 1) and len({date.time() for date in dates}) == 1:
        months = Counter((b.year - a.year) * 12 + b.month - a.month for a, b in pairs)
        if min(months) > 0:
            return Step(months=months.most_common(1)[0][0], at_month_end=at_month_end)
    return Step(length=Counter(b - a for a, b in pairs).most_common(1)[0][0])


def positions_a_year_before(dates: Sequence[datetime], step: Step) -> list[int]:
    """Return for each of regular dates the position of the same day and time one year earlier, or the nearest to it.

    -1 where the dates begin later than that. The step must be less than a year.
    """
    found: list[int] = []
    at = 0  # both dates only go forward
    for date in dates:
        wanted = _a_year_before(date)
        while abs(dates[at + 1] - wanted) < abs(dates[at] - wanted):
            at += 1
        is_nearest = abs(dates[at] - wanted) <= abs(step.after(dates[at], -1) - wanted)  # unless it is the first
        found.append(at if is_nearest else -1)
    return found


def _a_year_before(date: datetime) -> datetime:
    try:
        return date.replace(year=date.year - 1)
    except ValueError:  # the 29th of February
        return date.replace(year=date.year - 1, day=28)
