-- Changes for others than the masters, where the change log is the WAL.
create table pgquorum.change_anchor (
  only_row boolean not null default true,
  slot text not null,
  generation text not null,
  publication oid not null,
  used_at timestamptz not null,
  constraint change_anchor_pkey primary key (only_row),
  constraint change_anchor_only_row check (only_row)
);
comment on table pgquorum.change_anchor is 'The slot that keeps this node''s changes for those who come back for them; nobody reads it, streams read copies of it. Made by the first stream, dropped when none has come for long.';
comment on column pgquorum.change_anchor.generation is 'Positions belong to one life of the slot.';
