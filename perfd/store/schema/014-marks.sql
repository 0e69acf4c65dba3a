-- Notes of what changes by itself, and what was so the last time.

-- The columns are fields of perfd/record.py: Note.
ALTER TABLE notes ADD COLUMN kind TEXT;
ALTER TABLE notes ADD COLUMN subject TEXT;

CREATE TABLE known_states (
    -- Times are seconds since the epoch (UTC).
    -- The columns are the fields of perfd/store/known.py: KnownState.
    id TEXT NOT NULL PRIMARY KEY, -- unique
    source TEXT NOT NULL, -- the name of this instance
    at DOUBLE PRECISION NOT NULL, -- since when it has been so
    kind TEXT NOT NULL, -- that of the note which a change makes
    subject TEXT, -- that of the note; NULL: it is of all
    state TEXT NOT NULL -- what it is: a version, a digest, a JSON object of digests
);
