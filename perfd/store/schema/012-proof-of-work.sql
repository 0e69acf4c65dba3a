-- The effort of a circuit's proof of work for an onion service (HS_POW of CIRC); NULL without one.
-- The column is a field of perfd/record.py: Circuit.
ALTER TABLE circuits ADD COLUMN hs_pow_effort BIGINT;
