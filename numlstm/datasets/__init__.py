"""Data that ships with numlstm, free for any use.

``seattle-weather.csv``: daily weather at Seattle-Tacoma airport, 2012 to 2015. Source: NOAA (United States National Oceanic
and Atmospheric Administration), public domain in the United States; brought to metric units for the Vega datasets.
"""

from pathlib import Path

from numlstm.series import Series, read

__all__ = ["seattle_weather"]


def seattle_weather(ignore_dates: bool = False) -> Series:
    """Return 1,461 days of weather in Seattle: precipitation (mm), temp_max and temp_min (°C), wind (m/s).

    Source: NOAA, public domain in the United States.

    ignore_dates : as for `numlstm.series.read`
    """
    series = read(Path(__file__).with_name("seattle-weather.csv"), ignore_dates)
    series.name = "Seattle weather"
    series.units = {"precipitation": "mm", "temp_max": "°C", "temp_min": "°C", "wind": "m/s"}
    return series
