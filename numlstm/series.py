"""A time series with named columns, read from a CSV file: whatever is wrong with it, the message names the line."""

import csv
import difflib
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from . import dates as _dates
from ._validate import Array

__all__ = ["Series", "SeriesError", "read"]

_DELIMITERS = ",;\t|"
_LONGEST_HEADER = 100_000  # characters; csv refuses longer cells
_DATE_NAMES = {"date", "datetime", "ds", "timestamp"}
_DATE_NAMES_UNLESS_NUMBERS = {"day", "month", "time"}
_EMPTY = {"", "-", "?", "n/a", "na", "nan", "none", "null"}
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}([.,' \u00a0\u202f])\d{3}(\1\d{3})*([.,]\d+)?", re.ASCII)  # 1.296,54 or 1,296.54
_NOT_TEXT = {b"PK\x03\x04": "an Excel or zip file", b"\xd0\xcf\x11\xe0": "an Excel file"}
_AS_ROWS = "have the dates ignored (--ignore-dates), which takes the rows as equally spaced"


class SeriesError(ValueError):
    """Something is wrong with a series that an option of ``numlstm train`` gets around.

    plain : str
        The message without that option.
    """

    def __init__(self, plain: str, option: str) -> None:
        super().__init__(f"{plain}, or {option}")
        self.plain = plain


class Series:
    """Columns of a CSV file, in rows at equal steps of time.

    Attributes
    ----------
    name : str
        Of the file.
    rows : int
    dates : list of datetime, or None
        None without a column of dates; then the row number is the time.
    date_name : str
        Name of the column of dates, or "row".
    step : numlstm.dates.Step, or None
        What lies between two dates.
    units : dict of str to str
        Units of columns, where they are known.
    """

    def __init__(
        self, name: str, lines: Sequence[int], columns: Mapping[str, list[str]], date_name: str | None, decimal_comma: bool
    ) -> None:
        self.name, self.rows, self.units = name, len(lines), dict[str, str]()
        self.dates: list[datetime] | None = None
        self.date_name = "row" if date_name is None else date_name
        self.step: _dates.Step | None = None
        self._lines, self._decimal_comma = lines, decimal_comma
        self._columns = {column: cells for column, cells in columns.items() if column != date_name}
        if date_name is not None:
            self._example = columns[date_name][0]
            self.dates = self._parsed_dates(columns[date_name])
            self.step = self._regular_step(self.dates)

    # --- columns ---

    def has(self, name: str) -> bool:
        """Return whether a column has this name."""
        return name in self._columns

    def numeric_columns(self) -> list[str]:
        """Return the names of the columns that hold numbers, in the file's order; a few cells may be anything."""
        return [name for name, cells in self._columns.items() if self._is_numeric(cells)]

    def text_columns(self) -> list[str]:
        """Return the names of all other columns."""
        return [name for name, cells in self._columns.items() if not self._is_numeric(cells)]

    def _is_numeric(self, cells: Sequence[str]) -> bool:
        filled = [cell for cell in cells if cell.lower() not in _EMPTY]
        return 2 * sum(self._number(cell) is not None or bool(_GROUPED.fullmatch(cell)) for cell in filled) > len(filled)

    def _number(self, cell: str) -> float | None:
        try:
            return float(cell.replace(",", ".") if self._decimal_comma else cell)
        except ValueError:
            return None

    def column(self, name: str, first: int = 0) -> Array:
        """Return a column from row `first` on (from the end if negative), float64.

        Raises
        ------
        ValueError
            For an unknown column, and for a cell there that is empty, no number, infinite or NaN, or may have a thousands
            separator: the message names its line.
        """
        if not (name in self._columns and self._is_numeric(self._columns[name])):
            known = self.numeric_columns()
            close = difflib.get_close_matches(name, known, 1)
            hint = f": did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{self.name} has no column {name!r} of numbers, only {', '.join(known) or 'none'}{hint}")
        self._check_dots(name)
        cells = self._columns[name][first:]
        numbers = [self._number(cell) for cell in cells]
        for line, cell, number in zip(self._lines[first:], cells, numbers, strict=True):
            if number is None or not math.isfinite(number):
                where = f"{self.name}, line {line}, column {name!r}: the cell is"
                if _GROUPED.fullmatch(cell):
                    raise ValueError(f"{where} {cell!r}: remove thousands separators")
                what = "empty" if not cell else f"{cell!r}, not a number" if number is None else f"{cell!r}, not finite"
                raise SeriesError(f"{where} {what}: put a number there", "do without this column (--features)")
        return np.array(numbers, np.float64)

    def _check_dots(self, name: str) -> None:
        """Raise ValueError if dots may part thousands: commas may be decimal, and each dot has three digits behind it."""
        cells = [cell for cell in self._columns[name] if cell.lower() not in _EMPTY and self._number(cell) is not None]
        dotted = [cell for cell in cells if "." in cell]
        if self._decimal_comma and 0 < len(dotted) < len(cells) and all(map(_GROUPED.fullmatch, dotted)):
            line = self._lines[self._columns[name].index(dotted[0])]
            raise ValueError(
                f"{self.name}, line {line}, column {name!r}: {dotted[0]!r} may be {dotted[0].replace('.', '')} "
                f"or {dotted[0].replace('.', ',')}: remove thousands separators, and write decimals with a comma"
            )

    def label(self, name: str) -> str:
        """Return a column's name with its unit, where that is known."""
        return f"{name} ({self.units[name]})" if name in self.units else name

    # --- time ---

    def time_text(self, row: int) -> str:
        """Return the date of a row as the file writes dates, or else its number from 1; rows count from 0, and on."""
        if self.dates is None or self.step is None:
            return str(row + 1)
        beyond = max(0, row - (self.rows - 1))
        return _dates.text_like(self.step.after(self.dates[row - beyond], beyond), self._example)

    def _parsed_dates(self, cells: Sequence[str]) -> list[datetime]:
        parsed: list[datetime] = []
        for line, cell in zip(self._lines, cells, strict=True):
            date = _dates.parse(cell)
            if date is None:
                where = f"{self.name}, line {line}, column {self.date_name!r}"
                what = f"{cell!r} is no ISO date: write it like 2012-01-31 or 2012-01-31 18:30"
                raise SeriesError(f"{where}: {what}", _AS_ROWS)
            if parsed and (date.tzinfo is None) != (parsed[0].tzinfo is None):
                where = f"{self.name}, line {line}: {cell!r}"
                raise ValueError(f"{where} and the first date differ in having a time zone: write all dates alike")
            parsed.append(date)
        return parsed

    def _regular_step(self, dates: Sequence[datetime]) -> _dates.Step | None:
        """Return the step between rows, or raise ValueError that names the first row that breaks it."""
        if len(dates) < 2:
            return None
        for row in range(1, len(dates)):
            if dates[row] == dates[row - 1]:
                raise SeriesError(f"{self._at(dates, row)} is there twice: keep one row of each date", _AS_ROWS)
            if dates[row] < dates[row - 1]:
                before = _dates.text_like(dates[row - 1], self._example)
                raise ValueError(f"{self._at(dates, row)} comes after {before}: sort the rows by date, the oldest first")
        step = _dates.infer_step(dates)
        for row in range(1, len(dates)):
            if dates[row] != step.after(dates[row - 1]):
                before = _dates.text_like(dates[row - 1], self._example)
                what = "a gap" if dates[row] > step.after(dates[row - 1]) else "an irregular step"
                what += f", as most rows are {step} apart"
                raise SeriesError(f"{self._at(dates, row)} follows {before}, {what}: give each step its row", _AS_ROWS)
        return step

    def _at(self, dates: Sequence[datetime], row: int) -> str:
        return f"{self.name}, line {self._lines[row]}: {_dates.text_like(dates[row], self._example)}"


def read(path: str | os.PathLike[str], ignore_dates: bool = False) -> Series:
    """Read a CSV file whose first line names the columns; the delimiter is a comma, semicolon, tab or bar.

    The dates are in the column that is named like one, or else in the first whose cells look like dates. They must be in
    ISO 8601.

    Parameters
    ----------
    path : path
        UTF-8 or UTF-16, with or without a byte order mark.
    ignore_dates : bool
        Whether to take the rows as equally spaced, whatever their dates.

    Raises
    ------
    ValueError
        If it is no such file, or its dates are not regular: in order, each once, no gap. The message names the line.
    OSError
        If it cannot be read.
    """
    name = os.fspath(path)
    text = _decoded(name, Path(path).read_bytes())
    delimiter = _delimiter(text)
    header, lines, rows = _cells(name, text, delimiter)
    names = [column or f"column {i}" for i, column in enumerate(header, 1)]
    columns = {column: [row[i] for row in rows] for i, column in enumerate(names)}
    date_name = _date_column(columns)
    for column in {named for named, given in zip(names, header, strict=True) if not given} - {date_name}:
        del columns[column]  # such as an index that pandas wrote
    if ignore_dates and date_name is not None:
        del columns[date_name]
        date_name = None
    return Series(name, lines, columns, date_name, decimal_comma=delimiter == ";")


def _decoded(name: str, content: bytes) -> str:
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    found = next((what for start, what in _NOT_TEXT.items() if content.startswith(start)), None)
    if found:
        raise ValueError(f"{name} looks like {found}: save it as CSV")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no UTF-8 text: save it as CSV in UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{name} is no text, it holds zero bytes: save it as CSV in UTF-8")
    if not text.strip():
        raise ValueError(f"{name} is empty: it needs a line that names the columns, and rows")
    return text


def _delimiter(text: str) -> str:
    """Return what cuts the first line into the most cells."""
    first = text.lstrip().splitlines()[0][:_LONGEST_HEADER]
    return max(_DELIMITERS, key=lambda delimiter: len(next(csv.reader([first], delimiter=delimiter))))


def _cells(name: str, text: str, delimiter: str) -> tuple[list[str], list[int], list[list[str]]]:
    """Return the header, and the rows with their line numbers."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    lines, rows = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                lines.append(reader.line_num)
                rows.append([cell.strip() for cell in row])
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}: save it as CSV anew") from None
    header, *rows = rows
    for line, row in zip(lines[1:], rows, strict=True):
        if len(row) != len(header):
            raise ValueError(f"{name}, line {line}: the first line names {len(header)} columns, but this one has {len(row)}")
    if all(_looks_like_data(cell) for cell in header):
        raise ValueError(f"{name}, line {lines[0]}: it must name the columns, but holds data: put a line of names above")
    repeated = next((column for column in header if column and header.count(column) > 1), None)
    if repeated is not None:
        raise ValueError(f"{name}, line {lines[0]}: two columns are named {repeated!r}: rename one")
    if not rows:
        raise ValueError(f"{name} has a line that names the columns, but no rows below it")
    return header, lines[1:], rows


def _looks_like_data(cell: str) -> bool:
    try:
        return bool(cell) and math.isfinite(float(cell))
    except ValueError:
        return _dates.parse(cell) is not None


def _date_column(columns: Mapping[str, list[str]]) -> str | None:
    """Return the name of the column of dates, or None."""
    parsed = [name for name, cells in columns.items() if _dates.parse(cells[0]) is not None]
    named = [name for name in columns if name.lower() in _DATE_NAMES]
    named += [
        n for n, cells in columns.items() if n.lower() in _DATE_NAMES_UNLESS_NUMBERS and not _looks_like_data(cells[0])
    ]
    alike = [name for name, cells in columns.items() if _dates.resembles_date(cells[0])]  # is refused for not being ISO
    return next(iter([name for name in named if name in parsed] + parsed + named + alike), None)
