-- What the measurements of an hour come to, so that pages about a long time need not read each of them.

CREATE TABLE hours (
    -- The columns are the fields of perfd/summaries/hour.py: Hour. NULL is what the measurements do not have.
    hour BIGINT NOT NULL, -- it began so many hours after the epoch
    source TEXT NOT NULL, -- the name of the instance
    experiment TEXT NOT NULL, -- the name of the experiment
    type TEXT NOT NULL, -- its type
    filesize BIGINT NOT NULL, -- the payload asked for, in bytes
    variant TEXT NOT NULL, -- tor, server and so on (JSON array, in the order of perfd/variant.py)
    outcomes TEXT NOT NULL, -- JSON object outcome -> slots
    errors TEXT NOT NULL, -- JSON object error code -> runs that failed
    last_success DOUBLE PRECISION, -- the start of the last one, in seconds since the epoch
    sizes TEXT NOT NULL, -- JSON object measure -> how many values of successes there were
    samples BLOB NOT NULL -- the values, sorted, of one measure behind the other: float64, the least byte first
);

CREATE INDEX hours_by_hour ON hours (hour);

CREATE INDEX hours_by_experiment ON hours (experiment, hour);

-- Hours whose rows in hours do not tell what is in measurements: something was added, changed or deleted since.
CREATE TABLE stale_hours (
    hour BIGINT NOT NULL PRIMARY KEY -- it began so many hours after the epoch
);

CREATE TRIGGER measurement_added AFTER INSERT ON measurements BEGIN
    INSERT INTO stale_hours VALUES (CAST(new.start / 3600 AS INTEGER)) ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER measurement_deleted AFTER DELETE ON measurements BEGIN
    INSERT INTO stale_hours VALUES (CAST(old.start / 3600 AS INTEGER)) ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER measurement_changed AFTER UPDATE ON measurements BEGIN
    INSERT INTO stale_hours VALUES (CAST(old.start / 3600 AS INTEGER)) ON CONFLICT DO NOTHING;
    INSERT INTO stale_hours VALUES (CAST(new.start / 3600 AS INTEGER)) ON CONFLICT DO NOTHING;
END;

INSERT INTO stale_hours SELECT DISTINCT CAST(start / 3600 AS INTEGER) FROM measurements;
