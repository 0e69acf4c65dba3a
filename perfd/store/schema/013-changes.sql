-- What pages need so that they can be kept until a measurement changes, and say when a tor changed.

-- How often measurements of an experiment were added, changed or deleted.
CREATE TABLE changes (
    experiment TEXT NOT NULL PRIMARY KEY, -- the name of the experiment
    number BIGINT NOT NULL -- how often; it only grows
);

-- The versions of tors; they stay when the measurements are deleted.
CREATE TABLE versions (
    source TEXT NOT NULL, -- the name of the instance
    tor TEXT NOT NULL, -- the name of the tor
    torversion TEXT NOT NULL, -- its version
    first DOUBLE PRECISION NOT NULL -- the start of the first measurement with it, in seconds since the epoch
);

CREATE UNIQUE INDEX versions_by_tor ON versions (source, tor, torversion);

CREATE TRIGGER change_added AFTER INSERT ON measurements BEGIN
    INSERT INTO changes VALUES (new.experiment, 1) ON CONFLICT DO UPDATE SET number = number + 1;
END;

CREATE TRIGGER change_deleted AFTER DELETE ON measurements BEGIN
    INSERT INTO changes VALUES (old.experiment, 1) ON CONFLICT DO UPDATE SET number = number + 1;
END;

CREATE TRIGGER change_changed AFTER UPDATE ON measurements BEGIN
    INSERT INTO changes VALUES (old.experiment, 1) ON CONFLICT DO UPDATE SET number = number + 1;
    INSERT INTO changes VALUES (new.experiment, 1) ON CONFLICT DO UPDATE SET number = number + 1;
END;

CREATE TRIGGER version_added AFTER INSERT ON measurements
WHEN new.tor IS NOT NULL AND new.torversion IS NOT NULL BEGIN
    INSERT INTO versions VALUES (new.source, new.tor, new.torversion, new.start)
        ON CONFLICT DO UPDATE SET first = excluded.first WHERE excluded.first < first;
END;

INSERT INTO versions SELECT source, tor, torversion, MIN(start) FROM measurements
    WHERE tor IS NOT NULL AND torversion IS NOT NULL GROUP BY source, tor, torversion;
