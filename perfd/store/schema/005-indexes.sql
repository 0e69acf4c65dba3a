-- What is asked for and rare is found without reading all rows.

CREATE INDEX measurements_by_outcome ON measurements (outcome, start, id) WHERE outcome <> 'ok';

CREATE INDEX measurements_by_errorcode ON measurements (errorcode, start, id) WHERE errorcode IS NOT NULL;

CREATE INDEX measurements_by_guard ON measurements (guard, start, id) WHERE guard IS NOT NULL;
