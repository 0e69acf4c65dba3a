-- Comparisons that the daemon makes: how each is designed, so that it goes on after a restart as it would have.

CREATE TABLE comparisons (
    -- Times are seconds since the epoch (UTC).
    -- The columns are the fields of perfd/record.py: StoredComparison.
    id TEXT NOT NULL PRIMARY KEY, -- its name
    source TEXT NOT NULL, -- the name of this instance
    begun DOUBLE PRECISION NOT NULL, -- it began
    seed BIGINT NOT NULL, -- of its random order
    design TEXT NOT NULL -- its arms and what decides (JSON object)
);

-- A number that is not finite makes JSON that SQLite does not read.
CREATE INDEX measurements_by_comparison
    ON measurements (json_extract(CASE WHEN json_valid(extra) THEN extra END, '$.COMPARISON'), start)
    WHERE json_extract(CASE WHEN json_valid(extra) THEN extra END, '$.COMPARISON') IS NOT NULL;
