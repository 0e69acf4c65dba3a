-- What OnionPerf's analysis documents say beside their runs, circuits and streams, as it was imported.

-- A column that is added has its comment before its end: behind it, the rest of the table would be a comment.
ALTER TABLE circuits ADD COLUMN
    filtered_out BOOLEAN /* a filter of OnionPerf's has left it out of graphs; NULL if none was used */;

ALTER TABLE circuits ADD COLUMN
    current_guards TEXT /* tor's guards at its launch (JSON array of arrays, as documents.guards); NULL if not told */;

CREATE TABLE documents (
    -- Times are seconds since the epoch (UTC). What is missing is NULL, never 0.
    -- The columns are the fields of perfd/record.py: Document.
    id TEXT NOT NULL PRIMARY KEY, -- made of source and day
    source TEXT NOT NULL, -- the instance that measured
    day DOUBLE PRECISION NOT NULL, -- the begin of the UTC day
    filters TEXT, -- the filters that were used (JSON object, as in the document); NULL if there were none
    guards TEXT -- tor's guards (JSON array of [fingerprint, nickname, country, new, up, down, dropped]); NULL if none
);

CREATE INDEX documents_by_day ON documents (day, id);
