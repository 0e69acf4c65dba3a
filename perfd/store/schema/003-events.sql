-- What tor said about itself, and what Perfd did not understand, in tor's words.

CREATE TABLE events (
    -- Times are seconds since the epoch (UTC).
    -- The columns are the fields of perfd/record.py: TorEvent.
    at DOUBLE PRECISION NOT NULL, -- it arrived
    source TEXT NOT NULL, -- the name of this instance
    tor TEXT NOT NULL, -- the name of the tor
    keyword TEXT NOT NULL, -- the event's name, such as STATUS_CLIENT
    text TEXT NOT NULL, -- the rest of its line, cut if it was very long
    id TEXT NOT NULL PRIMARY KEY -- unique
);

CREATE INDEX events_by_time ON events (at, id);
