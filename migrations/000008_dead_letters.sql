-- Dead letters as a surface: each change once, however often it is delivered, with what a replay that failed said; and an event for each.

alter table pgquorum.dead_letter add column change text;
alter table pgquorum.dead_letter add column code text;
alter table pgquorum.dead_letter add column commit_time timestamptz;
alter table pgquorum.dead_letter add column tries integer not null default 0;
alter table pgquorum.dead_letter add column tried_at timestamptz;
-- With the payload: a whole state that was read again is more than the write of the same name.
create unique index dead_letter_change on pgquorum.dead_letter (origin, change, sha256(payload));
create index dead_letter_listing on pgquorum.dead_letter (at desc, id desc);
create index dead_letter_by_key on pgquorum.dead_letter (collection, key, at desc);
comment on column pgquorum.dead_letter.position is 'Where the origin committed it, in its WAL.';
comment on column pgquorum.dead_letter.change is 'Name of the change, the same however often it is delivered; null in letters of older versions.';
comment on column pgquorum.dead_letter.tries is 'Replays that failed; sqlstate and message are those of the last one.';
