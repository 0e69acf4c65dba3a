-- How measurements went over their time, in a few hundred samples at most.

CREATE TABLE curves (
    -- Times are seconds since the epoch (UTC).
    -- The columns are the fields of perfd/record.py: Curve.
    id TEXT NOT NULL PRIMARY KEY, -- made of the measurement's id and the name
    source TEXT NOT NULL, -- the name of the instance
    measurement TEXT NOT NULL, -- the id of the measurement
    at DOUBLE PRECISION NOT NULL, -- when the measurement started
    name TEXT NOT NULL, -- what is shown: arrival, tcp-server, tcp-client, circuit-N or flow
    columns TEXT NOT NULL, -- what the values of a sample are (JSON array)
    samples TEXT NOT NULL -- the samples, by their time (JSON array of arrays)
);

CREATE INDEX curves_by_time ON curves (at, id);

CREATE INDEX curves_by_measurement ON curves (measurement);
