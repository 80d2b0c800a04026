-- A write that is dropped as a repeat of its request must not be forgotten as the one that had seen an operation on CRDT fields.
alter table pgquorum.request add column clock jsonb;
comment on column pgquorum.request.clock is 'What the write had seen, in collections with CRDT fields; null for operations on them.';
