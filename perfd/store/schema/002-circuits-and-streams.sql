-- What tor said about circuits and streams, also about those that carried no measurement.

CREATE TABLE circuits (
    -- Times are seconds since the epoch (UTC). What is missing is NULL, never 0.
    -- The columns are the fields of perfd/record.py: Circuit, and the first one.
    first_seen DOUBLE PRECISION NOT NULL, -- the earliest time in this row, for order and retention
    id TEXT NOT NULL PRIMARY KEY, -- unique over restarts of tor
    source TEXT NOT NULL, -- the name of this instance
    tor TEXT NOT NULL, -- the name of the tor
    circ_id BIGINT NOT NULL, -- tor's circuit id
    launch DOUBLE PRECISION, -- it was launched; NULL if it existed before Perfd listened
    built DOUBLE PRECISION, -- it was built
    "end" DOUBLE PRECISION, -- it was closed or failed
    status TEXT NOT NULL, -- the last CircStatus
    purpose TEXT, -- the last PURPOSE
    build_flags TEXT, -- BUILD_FLAGS (JSON array); NULL if there were none
    hs_state TEXT, -- HS_STATE
    rend_query TEXT, -- REND_QUERY
    path TEXT, -- its hops (JSON array of [$fingerprint, nickname, time at which it was reached])
    failure_local TEXT, -- REASON
    failure_remote TEXT, -- REMOTE_REASON
    timeout BIGINT, -- the circuit build timeout, in ms
    quantile DOUBLE PRECISION, -- the quantile of build times that it stands for
    cbt_set BOOLEAN, -- tor had learnt its circuit build timeout
    conflux_id TEXT, -- the Conflux set
    conflux_rtt DOUBLE PRECISION, -- its round-trip time, in seconds
    cc_ss BOOLEAN, -- congestion control was in slow start when last reported
    cc_cwnd BIGINT, -- the congestion window when last reported, in cells
    cc_rtt DOUBLE PRECISION, -- the round-trip time when last reported, in seconds
    cc_min_rtt DOUBLE PRECISION, -- the smallest one, in seconds
    events TEXT -- what happened to it (JSON array of [time, name]); NULL if nothing did
);

CREATE INDEX circuits_by_time ON circuits (first_seen, id);

CREATE TABLE streams (
    -- Times are seconds since the epoch (UTC). What is missing is NULL, never 0.
    -- The columns are the fields of perfd/record.py: Stream, and the first one.
    first_seen DOUBLE PRECISION NOT NULL, -- the earliest time in this row, for order and retention
    id TEXT NOT NULL PRIMARY KEY, -- unique over restarts of tor
    source TEXT NOT NULL, -- the name of this instance
    tor TEXT NOT NULL, -- the name of the tor
    stream_id BIGINT NOT NULL, -- tor's stream id
    new DOUBLE PRECISION, -- it was new; NULL if it existed before Perfd listened
    "end" DOUBLE PRECISION, -- it was closed or failed
    status TEXT NOT NULL, -- the last StreamStatus
    purpose TEXT, -- PURPOSE
    target TEXT, -- host:port
    source_addr TEXT, -- ip:port of the client
    measurement TEXT, -- measurements.id of the measurement that it carried
    circuit TEXT, -- circuits.id of the last circuit that it was attached to
    attaches TEXT, -- JSON array of [circ_id, time, time of detaching, reason, remote reason]; NULL if none
    failure_local TEXT, -- REASON
    failure_remote TEXT, -- REMOTE_REASON
    events TEXT -- what happened to it (JSON array of [time, name]); NULL if nothing did
);

CREATE INDEX streams_by_time ON streams (first_seen, id);

CREATE INDEX streams_by_measurement ON streams (measurement) WHERE measurement IS NOT NULL;
