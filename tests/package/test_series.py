import re

import pytest

from numlstm import datasets, series

PLAIN = "date,a,b\n2012-01-01,1,x\n2012-01-02,2.5,y\n2012-01-03,-3e2,z\n"


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a CSV file of this content."""

    def run(content, **options):
        path = tmp_path / "f.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return series.read(path, **options)

    return run


def _same(found):
    assert found.numeric_columns() == ["a"]
    assert found.column("a").tolist() == [1, 2.5, -300]
    assert [found.time_text(row) for row in range(5)] == [f"2012-01-0{day}" for day in range(1, 6)]
    assert str(found.step) == "1 day"
    assert (found.rows, found.date_name) == (3, "date")


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", " | "),
        PLAIN.replace(",", ";").replace("2.5", "2,5"),
        PLAIN.rstrip("\n"),
        "\n" + PLAIN.replace("\n", "\n\n"),
        re.sub(r"([^,\n]+)", r'"\1"', PLAIN),
        PLAIN.replace("x", '"x, ""1""\n2"'),
        re.sub(r"^", ",", PLAIN, flags=re.M).replace("\n,", "\n0,").removesuffix("0,"),  # an index without a name
    ],
)
def test_files_that_hold_the_same(read, content):
    _same(read(content))


def test_dates_are_found_by_name_and_by_look(read):
    assert read("day,when,a\nMon,2012-01-01,1\nTue,2012-01-02,2\n").date_name == "when"
    assert read("made,Date,a\n2011-01-01,2012-01,1\n2011-01-01,2012-02,2\n").date_name == "Date"
    unnamed = read(",a\n2012-01-01,1\n2012-01-02,2\n")
    assert (unnamed.date_name, unnamed.numeric_columns()) == ("column 1", ["a"])
    without = read("month,a\n1,1\n2,2\n")
    assert (without.date_name, without.dates, without.step) == ("row", None, None)
    assert without.numeric_columns() == ["month", "a"]
    assert [without.time_text(row) for row in (0, 1, 2)] == ["1", "2", "3"]


def test_one_row_has_no_step(read):
    only = read("date,a\n2012-01-01,1\n")
    assert (only.rows, only.step) == (1, None)


def test_columns_of_numbers(read):
    found = read("a,b,c,d\n1,x,,NA\n2,2,,3\n,3,,nan\nx,,,4\n5,,,\n6,,,\n")
    assert found.numeric_columns() == ["a", "b", "d"]
    assert found.text_columns() == ["c"]
    assert found.has("c")
    assert not found.has("e")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", " is empty: it needs a line that names the columns, and rows"),
        (b" \n\n", " is empty: it needs a line that names the columns, and rows"),
        (b"date,a\n", " has a line that names the columns, but no rows below it"),
        (b"a,\xe9\n1,2\n", " is no UTF-8 text: save it as CSV in UTF-8"),
        (b"PK\x03\x04\x14\0\xe9", " looks like an Excel or zip file: save it as CSV"),
        (b"\xd0\xcf\x11\xe0\0", " looks like an Excel file: save it as CSV"),
        (b"\xff\xfea", " is no UTF-8 text: save it as CSV in UTF-8"),
        (b"a,b\n1,\0\n", " is no text, it holds zero bytes: save it as CSV in UTF-8"),
        (b"a,b\n1,2\n1,2,3\n", ", line 3: the first line names 2 columns, but this one has 3"),
        (b"a,b\n1,2\n\n1\n", ", line 4: the first line names 2 columns, but this one has 1"),
        (b"a,b,a\n1,2,3\n", ", line 1: two columns are named 'a': rename one"),
        (b"\n2012-01-01,2\n2012-01-02,2\n", ", line 2: it must name the columns, but holds data: put a line of names above"),
        (b"a\n" + b"x" * 200_000, ", line 2: field larger than field limit (131072): save it as CSV anew"),
        (
            b"date,a\n2012-01-01,1\nJan 1 2000,2\n",
            ", line 3, column 'date': 'Jan 1 2000' is no ISO date: write it like 2012-01-31 or 2012-01-31 18:30, "
            "or have the dates ignored (--ignore-dates), which takes the rows as equally spaced",
        ),
        (b"timestamp,a\n1325376000,1\n", ", line 2, column 'timestamp': '1325376000' is no ISO date: "),
        (b"date,a\n2012-01-01,1\n,2\n", ", line 3, column 'date': '' is no ISO date: "),
        (
            b"a;Datum\n1;01.01.2020\n",
            ", line 2, column 'Datum': '01.01.2020' is no ISO date: write it like 2012-01-31 or 2012-01-31 18:30, "
            "or have the dates ignored (--ignore-dates)",
        ),
        (b"Tag,a\n12/31/2019,1\n", ", line 2, column 'Tag': '12/31/2019' is no ISO date: "),
        (b"Tag,a\n2019/12/31 18:30,1\n", ", line 2, column 'Tag': '2019/12/31 18:30' is no ISO date: "),
        (b"date,a\n2012-01-01,1\n2012-01-01,2\n", ", line 3: 2012-01-01 is there twice: keep one row of each date, "),
        (
            b"date,a\n2012-01-02,1\n2012-01-01,2\n",
            ", line 3: 2012-01-01 comes after 2012-01-02: sort the rows by date, the oldest first",
        ),
        (
            b"date,a\n2012-01-01,1\n2012-01-02,1\n2012-01-03,1\n2012-01-06,1\n2012-01-09,1\n",
            ", line 5: 2012-01-06 follows 2012-01-03, a gap, as most rows are 1 day apart: give each step its row, or have ",
        ),
        (
            b"date,a\n2012-01-01 00:00,1\n2012-01-02 00:00,1\n2012-01-02 12:00,1\n2012-01-03 12:00,1\n",
            ", line 4: 2012-01-02 12:00 follows 2012-01-02 00:00, an irregular step, as most rows are 1 day apart: ",
        ),
        (
            b"date,a\n2012-01-01T00:00Z,1\n2012-01-02T00:00,2\n",
            ", line 3: '2012-01-02T00:00' and the first date differ in having a time zone: write all dates alike",
        ),
    ],
)
def test_files_that_are_refused(read, tmp_path, content, message):
    with pytest.raises(ValueError, match="^" + re.escape(f"{tmp_path / 'f.csv'}{message}")):
        read(content)


def test_dates_may_be_ignored(read):
    found = read("date,a\n2012-01-02,1\nJan,2\n2012-01-01,3\n", ignore_dates=True)
    assert (found.dates, found.numeric_columns(), found.time_text(3)) == (None, ["a"], "4")
    found = read("Datum;a\n01.01.2020;1\n02.01.2020;2\n", ignore_dates=True)
    assert (found.dates, found.numeric_columns(), found.text_columns()) == (None, ["a"], [])


def test_dates_of_another_order_beside_iso_dates_are_text(read):
    found = read("Tag,when,a\n01.01.2020,2020-01-01,1\n02.01.2020,2020-01-02,2\n")
    assert (found.date_name, found.text_columns()) == ("when", ["Tag"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a", r", line 5, column 'a': the cell is empty: put a number there, or do without this column \(--features\)$"),
        ("b", ", line 3, column 'b': the cell is 'NA', not a number: "),
        ("c", ", line 4, column 'c': the cell is 'inf', not finite: "),
        ("d", ", line 2, column 'd': the cell is 'nan', not finite: "),
        ("wnd", " has no column 'wnd' of numbers, only a, b, c, d, wind: did you mean 'wind'[?]$"),
        ("text", " has no column 'text' of numbers, only a, b, c, d, wind$"),
    ],
)
def test_columns_that_are_refused(read, name, message):
    found = read("a,b,c,d,wind,text\n1,1,1,nan,1,x\n1,NA,1,1,1,y\n1,1,inf,1,1,z\n,1,1,1,1,1\n")
    with pytest.raises(ValueError, match=message):
        found.column(name)


def test_a_column_from_a_row_on_needs_no_numbers_before_it(read):
    found = read("a\n1\nNA\n3\n4\n")
    assert found.column("a", 2).tolist() == found.column("a", -2).tolist() == [3, 4]
    with pytest.raises(series.SeriesError, match="line 3, column 'a': the cell is 'NA', not a number") as refused:
        found.column("a", -3)
    assert str(refused.value) == f"{refused.value.plain}, or do without this column (--features)"
    assert refused.value.plain.endswith(": put a number there")


@pytest.mark.parametrize("cells", [["1.297", "987"], ["1.297", "NA", "987,5"], ["-12.297", "987"]])
def test_dots_that_may_part_thousands(read, cells):
    found = read("\n".join(["a;b", *(f"1;{cell}" for cell in cells)]))
    message = f"line 2, column 'b': '{cells[0]}' may be {cells[0].replace('.', '')} or {cells[0].replace('.', ',')}: remove "
    with pytest.raises(ValueError, match=re.escape(message)):
        found.column("b")


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        ("a;b\n1.297;\n2.5;\n3;\n", [1.297, 2.5, 3]),
        ("a;b\n0.125;\n1;\n", [0.125, 1]),
        ("a;b\n1.297;\n2.298;\n", [1.297, 2.298]),
        ("a,b\n1.297,\n987,\n", [1.297, 987]),
        ("a;b\n1,297;\n987;\n", [1.297, 987]),
    ],
)
def test_dots_that_are_decimal(read, content, numbers):
    assert read(content).column("a").tolist() == numbers


@pytest.mark.parametrize(
    ("content", "cell"),
    [
        ('a,b\n1,"1,296.54"\n1,"1,300.00"\n', "1,296.54"),
        ("a;b\n1;1.296,54\n1;980,5\n", "1.296,54"),
        ("a;b\n1;1.296.540\n1;980\n", "1.296.540"),
        ("a,b\n1,1 296\n1,980\n", "1 296"),
        ("a,b\n1,12'296.5\n1,980\n", "12'296.5"),
    ],
)
def test_thousands_separators(read, content, cell):
    found = read(content)
    assert found.numeric_columns() == ["a", "b"]
    with pytest.raises(
        ValueError, match=re.escape(f"line 2, column 'b': the cell is {cell!r}: remove thousands separators")
    ):
        found.column("b")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        series.read(tmp_path / "none.csv")


def test_the_weather_that_ships():
    weather = datasets.seattle_weather()
    assert (weather.rows, weather.time_text(0), weather.time_text(1460)) == (1461, "2012-01-01", "2015-12-31")
    assert weather.numeric_columns() == ["precipitation", "temp_max", "temp_min", "wind"]
    assert weather.column("temp_max")[:2].tolist() == [12.8, 10.6]
    assert weather.label("temp_max") == "temp_max (°C)"
    assert weather.label("unknown") == "unknown"
