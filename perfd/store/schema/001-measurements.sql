-- Measurements: one row for each run of an experiment, and for each slot of its schedule that was not run.

CREATE TABLE measurements (
    -- Times are seconds since the epoch (UTC), sizes are bytes. What is missing is NULL, never 0.
    -- The columns are the fields of perfd/record.py: Measurement, in the same order.

    -- When: Torperf's steps.
    start DOUBLE PRECISION NOT NULL, -- the run started
    socket DOUBLE PRECISION, -- the socket to the SOCKS port was created
    connect DOUBLE PRECISION, -- it was connected
    negotiate DOUBLE PRECISION, -- SOCKS 5 authentication was negotiated
    request DOUBLE PRECISION, -- the SOCKS request was sent
    response DOUBLE PRECISION, -- the SOCKS reply was received
    datarequest DOUBLE PRECISION, -- the HTTP request was sent
    dataresponse DOUBLE PRECISION, -- the first byte of the HTTP response was received
    datacomplete DOUBLE PRECISION, -- the last byte of the payload was received
    dataperc TEXT, -- JSON object n -> time at which n percent of the payload were received
    partial TEXT, -- JSON object n -> time at which n bytes of the payload were received
    "end" DOUBLE PRECISION, -- the run was over, well or not
    slot DOUBLE PRECISION, -- the slot of the schedule; none outside a schedule

    -- What.
    id TEXT NOT NULL PRIMARY KEY, -- the measurement's id
    source TEXT NOT NULL, -- the name of this instance
    experiment TEXT NOT NULL, -- the experiment's name
    type TEXT NOT NULL, -- the experiment's type
    network TEXT, -- tor, testnet or socks
    tor TEXT, -- the name of the tor that was measured
    torversion TEXT, -- its version
    server TEXT, -- the way to our server: public or onion
    filesize BIGINT NOT NULL, -- the payload asked for, in bytes

    -- How it ended.
    outcome TEXT NOT NULL, -- ok, failed, timeout, skipped or cancelled
    errorcode TEXT, -- what went wrong, as TOR/... or PERFD/...
    reason TEXT, -- the same in words
    status BIGINT, -- the HTTP status
    writebytes BIGINT, -- all bytes written after the SOCKS handshake
    readbytes BIGINT, -- all bytes read after the SOCKS handshake, headers included
    payloadbytes BIGINT, -- bytes of the payload read

    -- Where.
    endpointlocal TEXT, -- our end of the connection to the proxy, host:ip:port
    endpointproxy TEXT, -- the SOCKS port, host:ip:port
    endpointremote TEXT, -- the server as asked for, host:ip:port
    hostnamelocal TEXT, -- the client's host name
    hostnameremote TEXT, -- the server's host name
    sourceaddress TEXT, -- the client's public address

    -- The server's view of the same exchange, by the same clock.
    serverrequest DOUBLE PRECISION, -- the server saw the request
    serverresponse DOUBLE PRECISION, -- the server handed the first byte to the socket
    servercomplete DOUBLE PRECISION, -- the server handed the last byte to the socket

    -- Tor's view, joined by local port.
    used_by BIGINT, -- tor's stream id
    used_at DOUBLE PRECISION, -- tor's stream ended
    circ_id BIGINT, -- tor's circuit id
    launch DOUBLE PRECISION, -- the circuit was launched
    path TEXT, -- its relays, as $fingerprint (JSON array)
    buildtimes TEXT, -- seconds from launch until each hop was built (JSON array)
    timeout BIGINT, -- the circuit build timeout, in ms
    quantile DOUBLE PRECISION, -- the quantile of build times that it stands for
    cbt_set BOOLEAN, -- tor had learnt its circuit build timeout
    guard TEXT, -- the circuit's first relay, as $fingerprint
    conflux BOOLEAN, -- the circuit was one leg of a Conflux set
    conflux_id TEXT, -- the Conflux set
    conflux_circ_ids TEXT, -- the circuits of the Conflux set (JSON array)
    conflux_rtt DOUBLE PRECISION, -- its round-trip time, in seconds
    cc_ss BOOLEAN, -- congestion control was in slow start when last reported
    cc_cwnd BIGINT, -- the congestion window when last reported, in cells
    cc_rtt DOUBLE PRECISION, -- the circuit's round-trip time when last reported, in seconds
    cc_min_rtt DOUBLE PRECISION, -- the smallest one, in seconds
    transport TEXT, -- the pluggable transport of the bridge

    -- What belongs to one type of experiment only.
    extra TEXT -- JSON object of keys of the experiment's type
);

-- Pages of results, newest or oldest first: start, and the id where two starts are equal.
CREATE INDEX measurements_by_start ON measurements (start, id);

-- The same for one experiment.
CREATE INDEX measurements_by_experiment ON measurements (experiment, start, id);

-- The last success of an experiment, however long ago it was.
CREATE INDEX measurements_successes ON measurements (experiment, start) WHERE outcome = 'ok';
