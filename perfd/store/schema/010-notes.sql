-- What the operator wants remembered of a time, so that charts show it and comparisons warn of it.

CREATE TABLE notes (
    -- Times are seconds since the epoch (UTC).
    -- The columns are the fields of perfd/record.py: Note.
    id TEXT NOT NULL PRIMARY KEY, -- unique
    source TEXT NOT NULL, -- the name of this instance
    at DOUBLE PRECISION NOT NULL, -- when it was
    text TEXT NOT NULL -- what it was
);

CREATE INDEX notes_by_time ON notes (at, id);
