"""The names of the formats that measurements are written in, and a sentence about each.

Apart from ``outputs``, which has all their writers: a command line can be explained without those.
"""

from __future__ import annotations

FORMATS = {
    "tpf": (
        "Torperf's lines (`@type torperf 1.1`), with six decimals; into a directory, as a file for each "
        "source, size and day"
    ),
    "onionperf": "OnionPerf's analysis documents 3.1, one for each source and day; needs a directory",
    "data": "the `.data` and `.extradata` files of Torperf before 2016; needs a directory",
    "log": "the lines of perfd.log, without their time and system",
    "csv": "a table with a header; its columns are those of the data dictionary (`perfd export --dictionary`)",
    "json": "one JSON object for each line",
    "parquet": "the same as Apache Parquet, with units and descriptions; needs the extra `parquet` (pyarrow)",
}
