-- The links of the private network that was measured, in one word (docs/lab.md); NULL if it had none.
ALTER TABLE measurements ADD COLUMN links TEXT;
