-- Rows that older versions stored wrongly say so, where that can be known; docs/records.md has the words.

-- What is known to be wrong with a row; NULL if nothing is.
ALTER TABLE circuits ADD COLUMN suspect TEXT;

-- JSON with a number that is not finite cannot be read by SQLite, so what has that is passed over.

-- Given up by tor, measured on, and taken for built at its later end.
UPDATE circuits SET suspect = 'built' WHERE purpose = 'MEASURE_TIMEOUT' AND built IS NOT NULL;

-- Of a leg of a Conflux set, hops without their time, as a snapshot had come before the event.
UPDATE circuits SET suspect = 'hops'
WHERE suspect IS NULL AND conflux_id IS NOT NULL AND launch IS NOT NULL AND built IS NOT NULL AND EXISTS (
    SELECT 1 FROM json_each(circuits.path) WHERE json_extract(value, '$[2]') IS NULL
);

-- Went well, though tor never told of its stream: what answered may have been something else.
UPDATE measurements SET extra = json_set(COALESCE(extra, '{}'), '$.SUSPECT', 'stream')
WHERE outcome = 'ok' AND network IN ('tor', 'testnet') AND tor <> 'none' AND used_by IS NULL AND circ_id IS NULL
    AND type IN ('download', 'upload', 'request') AND (extra IS NULL OR json_valid(extra));

-- Of a series that has no record: its tor was lost, and the series got another id.
UPDATE measurements SET extra = json_set(COALESCE(extra, '{}'), '$.SUSPECT', 'series')
WHERE type = 'request' AND network IS NOT NULL AND json_extract(CASE WHEN json_valid(extra) THEN extra END, '$.SERIES') IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM measurements AS series WHERE series.id = json_extract(CASE WHEN json_valid(measurements.extra) THEN measurements.extra END, '$.SERIES'));

-- A slot that has two runs of one variant: a hold-up ended shortly before it.
UPDATE measurements SET extra = json_set(COALESCE(extra, '{}'), '$.SUSPECT', 'slot')
WHERE (extra IS NULL OR json_valid(extra)) AND id IN (
    SELECT id FROM (
        SELECT id, ROW_NUMBER() OVER (
            PARTITION BY source, experiment, tor, server, slot,
                json_extract(CASE WHEN json_valid(extra) THEN extra END, '$.OPTIMISTIC'), json_extract(CASE WHEN json_valid(extra) THEN extra END, '$.BROWSER'), json_extract(CASE WHEN json_valid(extra) THEN extra END, '$.REPEATED')
            ORDER BY start, id
        ) AS place
        FROM measurements WHERE slot IS NOT NULL AND type <> 'request'
    ) WHERE place > 1
);
