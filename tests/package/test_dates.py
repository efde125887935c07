from datetime import datetime, timedelta, timezone

import pytest

from numlstm import dates
from numlstm.dates import Step

DAY = Step(length=timedelta(days=1))


def _days(*texts):
    return [dates.parse(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2012-01", datetime(2012, 1, 1)),
        ("2012-02-29", datetime(2012, 2, 29)),
        ("2012-01-31 18:30", datetime(2012, 1, 31, 18, 30)),
        ("2012-01-31T18:30:05", datetime(2012, 1, 31, 18, 30, 5)),
        ("2012-01-31 18:30:05.250", datetime(2012, 1, 31, 18, 30, 5, 250_000)),
        ("2012-01-31T18:30:00Z", datetime(2012, 1, 31, 18, 30, tzinfo=timezone.utc)),
        ("2012-01-31T18:30-02:00", datetime(2012, 1, 31, 18, 30, tzinfo=timezone(timedelta(hours=-2)))),
    ],
)
def test_dates_are_read_and_written_alike(text, date):
    assert dates.parse(text) == date
    assert dates.parse(dates.text_like(date, text)) == date
    assert len(dates.text_like(date, text)) in (len(text), len(text.replace("Z", "+00:00")), len(text) + 3)


# What some versions of Python read and others do not is none for all of them.
@pytest.mark.parametrize(
    "text",
    ["", "2012", "20120131", "2012-W05-2", "2012-01-31T18", "31.01.2012", "Jan 1 2000", "2011-02-29", "2012-13", "2012-1-31",
     "0000-01-01", "٢٠١٢-01-31", "2012-01-31 25:00", "2012-01-31 "],
)  # fmt: skip
def test_what_is_no_date(text):
    assert dates.parse(text) is None


@pytest.mark.parametrize("text", ["31.01.2012", "1/31/2012", "2012/01/31", "2012-1-31", "31-1-2012", "31.01.2012 18:30"])
def test_dates_in_another_order(text):
    assert dates.resembles_date(text)
    assert dates.parse(text) is None


@pytest.mark.parametrize(
    "text", ["", "1.297", "1.297.540", "2012", "31.01", "31.01/2012", "1.2.3", "on 31.01.2012", "31.01.2012x"]
)
def test_what_resembles_no_date(text):
    assert not dates.resembles_date(text)


@pytest.mark.parametrize(
    ("texts", "step", "words", "after"),
    [
        (("2012-02-28", "2012-02-29", "2012-03-01"), DAY, "1 day", "2012-03-02"),
        (("2012-01", "2012-02", "2012-03"), Step(months=1), "1 month", "2012-04"),
        (("2012-01-31", "2012-02-29", "2012-03-31"), Step(months=1, at_month_end=True), "1 month", "2012-04-30"),
        (("2011-01-15", "2011-04-15", "2011-07-15"), Step(months=3), "3 months", "2011-10-15"),
        (("2011-06-01", "2012-06-01"), Step(months=12), "1 year", "2013-06-01"),
        (("2012-02-23", "2012-03-01", "2012-03-08"), Step(length=timedelta(days=7)), "7 days", "2012-03-15"),
        (("2012-01-01 22:00", "2012-01-01 23:00"), Step(length=timedelta(hours=1)), "1 hour", "2012-01-02 00:00"),
        (("2012-01-01 00:00", "2012-01-01 00:15"), Step(length=timedelta(minutes=15)), "15 minutes", "2012-01-01 00:30"),
        (
            ("2012-01-01 00:00:00", "2012-01-01 00:01:30"),
            Step(length=timedelta(seconds=90)),
            "90 seconds",
            "2012-01-01 00:03:00",
        ),
        # A time zone whose clock was put forward between two rows a day apart.
        (("2012-03-24T23:00+01:00", "2012-03-26T00:00+02:00"), DAY, "1 day", "2012-03-27T00:00+02:00"),
    ],
)
def test_the_step_between_dates(texts, step, words, after):
    found = dates.infer_step(_days(*texts))
    assert found == step
    assert str(found) == words
    following = found.after(dates.parse(texts[-1]))
    assert dates.text_like(following, texts[-1]) == after
    assert found.after(following, -1) == dates.parse(texts[-1])


def test_the_most_frequent_step_is_the_step():
    assert dates.infer_step(_days("2012-01-01", "2012-01-02", "2012-01-05", "2012-01-06", "2012-01-07")) == DAY
    assert dates.infer_step(_days("2012-01", "2012-02", "2012-05", "2012-06")) == Step(months=1)


def test_many_steps_are_one():
    assert str(DAY.times(7)) == "7 days"
    assert str(Step(months=1).times(24)) == "2 years"
    assert str(Step(length=timedelta(minutes=30)).times(4)) == "2 hours"


def test_a_year_before_by_days():
    first = datetime(2011, 1, 1)
    days = [first + timedelta(days=i) for i in range(800)]
    earlier = dates.positions_a_year_before(days, DAY)
    assert earlier[:365] == [-1] * 365
    assert earlier[365] == 0
    assert days[earlier[days.index(datetime(2012, 2, 29))]] == datetime(2011, 2, 28)
    assert days[earlier[days.index(datetime(2013, 3, 1))]] == datetime(2012, 3, 1)


def test_a_year_before_by_weeks_is_the_nearest():
    first = datetime(2011, 1, 3)
    weeks = [first + timedelta(weeks=i) for i in range(60)]
    earlier = dates.positions_a_year_before(weeks, dates.infer_step(weeks))
    assert earlier[:52] == [-1] * 52  # 2 January 2012 is nearest to 3 January 2011, but one year before is the 2nd
    assert [i - before for i, before in enumerate(earlier[53:], 53)] == [52] * 7


def test_a_year_before_by_months():
    months = [datetime(2011 + i // 12, i % 12 + 1, 1) for i in range(30)]
    assert dates.positions_a_year_before(months, Step(months=1)) == [-1] * 12 + list(range(18))
