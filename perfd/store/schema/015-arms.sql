-- Of comparisons, hours are summed up for each arm.

ALTER TABLE hours ADD COLUMN arm TEXT; -- that of a comparison

INSERT INTO stale_hours SELECT DISTINCT CAST(start / 3600 AS INTEGER) FROM measurements
    WHERE CASE WHEN json_valid(extra) THEN json_extract(extra, '$.ARM') END IS NOT NULL
    ON CONFLICT DO NOTHING;
